// Command proxy forwards every connection it gets to a target, both ways, with
// half-close and with flow control: who reads slowly stops who sends to it.
//
//	go run ./examples/proxy -listen 127.0.0.1:8484 -target example.com:80
//	curl -H 'Host: example.com' http://127.0.0.1:8484/
//
// An address with unix: in front is that of a unix socket.
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
	"strings"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "proxy:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	f := flag.NewFlagSet("proxy", flag.ExitOnError)
	listen := f.String("listen", "127.0.0.1:8484", "`address` to listen on")
	target := f.String("target", "", "`address` to forward to")
	engine := f.String("engine", "auto", "`engine`: auto, uring or epoll")
	loops := f.Int("loops", 0, "`number` of loops; 0 is one for each CPU")
	high := f.Int("high", 256<<10, "`bytes` that wait for one who does not read, before the other is not read")
	idle := f.Duration("idle", 0, "`time` without a byte after which a connection is ended; 0 is never")
	verbose := f.Bool("v", false, "log each connection")
	_ = f.Parse(args) // It exits by itself.
	if f.NArg() > 0 || *target == "" {
		return errors.New("a -target, and no arguments")
	}
	kind, err := reactor.ParseEngine(*engine)
	if err != nil {
		return err
	}
	if *loops == 0 {
		*loops = reactor.CPUs()
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	runtime.GOMAXPROCS(*loops + 2) // A loop that waits keeps its processor.
	group, err := reactor.Start(reactor.Config{Engine: kind, Loops: *loops})
	if err != nil {
		return err
	}
	defer group.Close() // Does nothing after a Shutdown.
	// Low above 0 begins to read again while there is something left to send.
	cfg := conn.Config{HighWater: *high, LowWater: *high / 4, IdleTimeout: *idle}
	p := &proxy{dialer: &conn.Dialer{Config: cfg}, target: *target, verbose: *verbose}
	network, address := split(*listen)
	l, err := conn.Listen(group, network, address, p, cfg)
	if err != nil {
		return err
	}
	slog.Info("proxy", "listen", l.Addr(), "target", *target)
	<-signals
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return group.Shutdown(ctx)
}

// split returns the network and the address of what was given on the command line.
func split(given string) (network, address string) {
	if path, ok := strings.CutPrefix(given, "unix:"); ok {
		return "unix", path
	}
	return "tcp", given
}

// proxy is the handler of the clients. Their bytes never come to it.
type proxy struct {
	conn.NopHandler
	dialer  *conn.Dialer
	target  string
	verbose bool
}

// OnOpen implements conn.Handler. The target is being connected on the same loop
// when the pipe begins; what the client sends meanwhile waits for it.
func (p *proxy) OnOpen(client *conn.Conn) {
	network, address := split(p.target)
	server, err := p.dialer.Dial(client.Loop(), network, address, conn.NopHandler{})
	if err == nil {
		_, err = conn.Pipe(client, server, conn.PipeConfig{})
	}
	if err != nil {
		slog.Error("dial", "error", err)
		client.Abort()
	}
}

// OnClose implements conn.Handler. A failure of the server, or to connect to it,
// comes as the cause of the client's.
func (p *proxy) OnClose(client *conn.Conn, err error) {
	if !p.verbose {
		return
	}
	if err == io.EOF {
		err = nil
	}
	s := client.Stats()
	slog.Info("closed", "client", client.ID(), "in", s.BytesIn, "out", s.BytesOut, "error", err)
}
