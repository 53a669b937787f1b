// Command drain sends a large file to everybody who opens a WebSocket, as fast as each
// of them reads: it stops when a send queue is full, and goes on when it has drained.
//
//	go run ./examples/drain -file FILE
//	go run ./examples/drain -get ws://127.0.0.1:8484 > COPY
//
// However many slow clients there are, none of them holds more memory than the marks
// say, and none holds up another. Without -file it sends itself.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
	"github.com/penstock-go/penstock/ws"
)

// patience is how long clients may take at the end to read what was queued.
const patience = 5 * time.Second

type options struct {
	listen, engine, file, get string
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:8484", "`address` to listen on; port 0 takes a free one")
	flag.StringVar(&o.engine, "engine", "auto", "`engine`: auto, uring or epoll")
	flag.StringVar(&o.file, "file", "", "`file` to send; default: this program")
	flag.StringVar(&o.get, "get", "", "be a client of `address`, and write what comes to stdout")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	run := serve
	if o.get != "" {
		run = get
	}
	if err := run(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "drain:", err)
		os.Exit(1)
	}
}

// start starts the loops.
func start(o options) (*reactor.Group, error) {
	kind, err := reactor.ParseEngine(o.engine)
	if err != nil {
		return nil, err
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), reactor.CPUs()+2)) // A loop that waits keeps its processor.
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	return reactor.Start(reactor.Config{Engine: kind, Logger: logger})
}

// serve is the service, until ctx is done.
func serve(ctx context.Context, o options, out io.Writer) error {
	if o.file == "" {
		var err error
		if o.file, err = os.Executable(); err != nil {
			return err
		}
	}
	f, err := os.Open(o.file)
	if err != nil {
		return err
	}
	defer f.Close()
	group, err := start(o)
	if err != nil {
		return err
	}
	defer group.Close()
	_, l, err := ws.Listen(group, "tcp", o.listen, &sender{file: f},
		ws.Config{Origins: []string{"*"}, PingAfter: time.Minute},
		conn.Config{HighWater: 256 << 10, LowWater: 64 << 10, CloseTimeout: patience})
	if err != nil {
		return err
	}
	fmt.Fprintf(out, "serving ws://%s on %s\n", l.Addr(), group.Info().Engine)
	select {
	case <-group.Done():
		return group.Close()
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	if err := group.Shutdown(last); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

// get is a client: it writes what comes, and reads no faster than that.
func get(ctx context.Context, o options, out io.Writer) error {
	group, err := start(o)
	if err != nil {
		return err
	}
	defer group.Close()
	buffered := bufio.NewWriter(out)
	closed := make(chan *ws.CloseError, 1)
	h := &ws.Funcs{
		Message: func(c *ws.Conn, m *ws.Message) {
			if _, err := buffered.Write(m.Bytes()); err != nil {
				c.Close(ws.Internal, err.Error())
			}
		},
		Close: func(_ *ws.Conn, err *ws.CloseError) { closed <- err },
	}
	ref, err := ws.Dial(ctx, group, o.get, h, ws.ClientConfig{})
	if err != nil {
		return err
	}
	select {
	case err := <-closed:
		if err.Code != ws.Normal {
			return err
		}
	case <-ctx.Done():
		ref.Close(ws.GoingAway, "")
		<-closed
	}
	return buffered.Flush()
}
