// Command chat is rooms for people with telnet or nc: a line for a name, and then
// every line goes to all who are in the same room.
//
//	go run ./examples/chat
//	nc 127.0.0.1 8484        # or telnet; twice, in two terminals
//
// Who does not read what others say does not hold them up. With -slow drop, the
// default, the oldest lines that wait for such a guest make room for newer ones;
// with -slow close the guest is put out.
package main

import (
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
)

// patience is how long guests may take at the end to read what was said.
const patience = 5 * time.Second

type options struct {
	listen, engine, slow string
	loops                int
}

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:8484", "`address` to listen on; port 0 takes a free one")
	flag.StringVar(&o.engine, "engine", "auto", "`engine`: auto, uring or epoll")
	flag.StringVar(&o.slow, "slow", "drop", "what becomes of a guest who does not read: drop or close")
	flag.IntVar(&o.loops, "loops", 0, "`number` of loops; 0 is one for each CPU")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

// serve is the service, until ctx is done.
func serve(ctx context.Context, o options, out io.Writer) error {
	cfg := conn.Config{HighWater: 64 << 10, HandshakeTimeout: time.Minute, CloseTimeout: patience}
	switch o.slow {
	case "drop":
		cfg.SlowPeer = conn.DropOldest
	case "close":
		cfg.SlowPeer = conn.CloseSlow
	default:
		return fmt.Errorf("-slow %s: it is drop or close", o.slow)
	}
	kind, err := reactor.ParseEngine(o.engine)
	if err != nil {
		return err
	}
	if o.loops == 0 {
		o.loops = reactor.CPUs()
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), o.loops+2)) // A loop that waits keeps its processor.
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	group, err := reactor.Start(reactor.Config{Loops: o.loops, Engine: kind, Logger: logger})
	if err != nil {
		return err
	}
	defer group.Close()
	handler, err := newHouse(group)
	if err != nil {
		return err
	}
	l, err := conn.Listen(group, "tcp", o.listen, handler, cfg)
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is taken: stop what listens there, or choose another address; -listen 127.0.0.1:0 takes a free port", o.listen)
	} else if err != nil {
		return err
	}
	fmt.Fprintf(out, "serving tcp://%s on %s\n", l.Addr(), group.Info().Engine)
	<-ctx.Done()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = group.Shutdown(ctx)
	fmt.Fprintln(out, "stopped")
	return err
}
