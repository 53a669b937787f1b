// Command wschat is a chat for browsers: net/http serves the page, and the WebSockets
// that it opens are moved onto the loops.
//
//	go run ./examples/wschat
//
// and then open http://127.0.0.1:8080 in two windows. A line goes to all who are in the
// same room; it is framed once for all of them, and compressed once for those who take
// it so. Who does not read is sent the newest lines when it does.
package main

import (
	"context"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
	"github.com/penstock-go/penstock/ws"
)

// patience is how long browsers may take at the end to say goodbye.
const patience = 5 * time.Second

//go:embed page.html
var page []byte

type options struct{ listen, engine string }

func main() {
	var o options
	flag.StringVar(&o.listen, "listen", "127.0.0.1:8080", "`address` to listen on; port 0 takes a free one")
	flag.StringVar(&o.engine, "engine", "auto", "`engine`: auto, uring or epoll")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := serve(ctx, o, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "wschat:", err)
		os.Exit(1)
	}
}

// serve is the service, until ctx is done.
func serve(ctx context.Context, o options, out io.Writer) error {
	kind, err := reactor.ParseEngine(o.engine)
	if err != nil {
		return err
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(max(runtime.GOMAXPROCS(0), reactor.CPUs()+2)) // A loop that waits keeps its processor.
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	group, err := reactor.Start(reactor.Config{Engine: kind, Logger: logger})
	if err != nil {
		return err
	}
	defer group.Close()
	chat, err := ws.NewUpgrader(group, &house{rooms: ws.NewTopics(group)},
		ws.Config{MaxMessage: lineMost, PingAfter: 30 * time.Second, Deflate: &ws.Deflate{}},
		conn.Config{HighWater: 64 << 10, SlowPeer: conn.DropOldest})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.Handle("GET /chat", chat)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		_, _ = w.Write(page)
	})
	l, err := net.Listen("tcp", o.listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	fmt.Fprintf(out, "serving http://%s on %s\n", l.Addr(), group.Info().Engine)
	select {
	case <-group.Done():
		_ = server.Close()
		return group.Close()
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	last, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- server.Shutdown(last) }() // It may wait for connections that browsers have in reserve.
	err = group.Shutdown(last)                       // Those on the loops are no longer the server's.
	err = errors.Join(err, server.Close(), <-stopped)
	if errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}
