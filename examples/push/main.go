// Command push keeps long-lived connections of users, and lets another program
// send to one of them, or to all, through an inner HTTP port.
//
//	go run ./examples/push
//
// A client connects to the outer port, 127.0.0.1:8484, and sends its uid as the
// first line: up to 64 letters, digits and -_.@ . It gets "OK uid", and then a
// line for each message. What else it sends is ignored, and serves as a heartbeat.
// One uid may have several connections, on several loops; each gets every message.
//
//	nc 127.0.0.1 8484
//	alice
//
// The other program speaks HTTP to the inner port, 127.0.0.1:8485. The body of a
// request is one line of up to 64 KiB, with or without its end. The answer counts
// the connections by what became of the message: taken, refused because the client
// does not read, or gone meanwhile.
//
//	curl -d 'you have mail' http://127.0.0.1:8485/users/alice    # 404 if she is not here
//	curl -d 'back in a minute' http://127.0.0.1:8485/all
//	curl http://127.0.0.1:8485/users                             # how many are here
//
// Who reaches the inner port can write to everybody, and anybody can claim a uid:
// a real service checks a token in the first line, and keeps the inner port to
// itself.
//
// It stops with Ctrl-C: the clients get a last line, "BYE".
package main

import (
	"context"
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
)

// stopTime bounds the end.
const stopTime = 10 * time.Second

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	if err := run(os.Args[1:], os.Stdout, signals); err != nil {
		fmt.Fprintln(os.Stderr, "push:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer, stop <-chan os.Signal) error {
	var listen, inner, engine string
	f := flag.NewFlagSet("push", flag.ExitOnError)
	f.StringVar(&listen, "listen", "127.0.0.1:8484", "`address` for the clients; port 0 takes a free one")
	f.StringVar(&inner, "inner", "127.0.0.1:8485", "`address` of the inner HTTP port")
	f.StringVar(&engine, "engine", "auto", "`engine`: auto, uring or epoll")
	_ = f.Parse(args) // It exits by itself.
	kind, err := reactor.ParseEngine(engine)
	if err != nil {
		return err
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(reactor.CPUs() + 2) // A loop that waits keeps its processor.
	}

	group, err := reactor.Start(reactor.Config{Engine: kind,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))})
	if err != nil {
		return err
	}
	defer group.Close() // Does nothing after a Shutdown.
	p := newPush(group)
	clients, err := conn.Listen(group, "tcp", listen, p, clientConfig)
	if err != nil {
		return err
	}
	door, err := net.Listen("tcp", inner)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: p.routes(), ReadTimeout: stopTime, IdleTimeout: time.Minute}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(door) }()
	fmt.Fprintf(out, "clients at %v, HTTP at http://%v\n", clients.Addr(), door.Addr())

	select {
	case <-stop:
	case err = <-failed:
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTime)
	defer cancel()
	// First who sends, then who is sent to.
	err = errors.Join(err, server.Shutdown(ctx))
	_, bye := p.toAll(ctx, []byte("BYE\n"))
	return errors.Join(err, bye, group.Shutdown(ctx))
}
