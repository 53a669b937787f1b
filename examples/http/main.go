// Command http serves net/http over the loops of penstock, until Ctrl-C. Its
// handlers are ordinary ones; only the listener is another.
//
//	go run ./examples/http
//	curl http://127.0.0.1:8484/
//	curl http://127.0.0.1:8484/bytes/1000000 | wc -c
//	head -c 1000000 /dev/urandom | curl -T - http://127.0.0.1:8484/sum
//
// With -engine net it listens by package net instead, to compare.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
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
)

// patience is how long requests under way at the end may take.
const patience = 10 * time.Second

func main() {
	listen := flag.String("listen", "127.0.0.1:8484", "`address` to listen on; port 0 takes a free one")
	engine := flag.String("engine", "auto", "`engine`: auto, uring or epoll; net for package net")
	loops := flag.Int("loops", 0, "`number` of loops; 0 is one for each CPU")
	flag.Parse()
	if err := serve(*listen, *engine, *loops); err != nil {
		fmt.Fprintln(os.Stderr, "http:", err)
		os.Exit(1)
	}
}

// serve serves until a signal comes, and then lets requests under way finish.
func serve(address, engine string, loops int) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	l, group, err := listen(address, engine, loops)
	if err != nil {
		return err
	}
	if group != nil {
		defer group.Close()
	}
	srv := &http.Server{Handler: handler(), ReadHeaderTimeout: time.Minute, IdleTimeout: 2 * time.Minute}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	if group != nil {
		engine = group.Info().Engine
	}
	fmt.Printf("serving http://%s on %s\n", l.Addr(), engine)
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	stop() // A second signal ends it at once.
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	// First the server, which knows what a request is, then what it stands on.
	if err = srv.Shutdown(ctx); err == nil && group != nil {
		err = group.Shutdown(ctx)
	}
	fmt.Println("stopped")
	return err
}

// listen returns the listener, and the group whose loops it is on.
func listen(address, engine string, loops int) (net.Listener, *reactor.Group, error) {
	if engine == "net" {
		l, err := net.Listen("tcp", address)
		return l, nil, taken(address, err)
	}
	kind, err := reactor.ParseEngine(engine)
	if err != nil {
		return nil, nil, err
	}
	if loops == 0 {
		loops = reactor.CPUs()
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(loops + 2) // A loop that waits keeps its processor.
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	group, err := reactor.Start(reactor.Config{Loops: loops, Engine: kind, Logger: logger})
	if err != nil {
		return nil, nil, err
	}
	l, err := conn.NetListen(group, "tcp", address, conn.Config{})
	if err != nil {
		_ = group.Close()
		return nil, nil, taken(address, err)
	}
	return l, group, nil
}

func taken(address string, err error) error {
	if errors.Is(err, syscall.EADDRINUSE) {
		return fmt.Errorf("%s is taken: stop what listens there, or choose another address; -listen 127.0.0.1:0 takes a free port", address)
	}
	return err
}
