// Command files serves a directory over HTTP/1.1, with ranges and conditions, on
// connections of penstock: net/http parses the heads and does nothing else.
//
//	go run ./examples/files -root .
//	curl -r 0-99 http://127.0.0.1:8484/README.md
//
// Files go out by sendfile(2), as fast as their reader takes them: a thousand
// stopped downloads cost a thousand open files and no memory for their bytes. A
// file that is not in the page cache is waited for on the loop.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "files:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	f := flag.NewFlagSet("files", flag.ExitOnError)
	listen := f.String("listen", "127.0.0.1:8484", "`address` to listen on")
	dir := f.String("root", ".", "`directory` to serve; nothing outside of it is, whatever links say")
	engine := f.String("engine", "auto", "`engine`: auto, uring or epoll")
	loops := f.Int("loops", 0, "`number` of loops; 0 is one for each CPU")
	patience := f.Duration("timeout", time.Minute, "`time` to wait for a request, and for a reader who has stopped")
	_ = f.Parse(args) // It exits by itself.
	if f.NArg() > 0 {
		return errors.New("no arguments")
	}
	kind, err := reactor.ParseEngine(*engine)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(*dir)
	if err != nil {
		return err
	}
	defer root.Close()
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
	l, err := conn.Listen(group, "tcp", *listen, &server{root: root}, conn.Config{
		HighWater: 64 << 10, PauseOnFull: true, // Of answers without a file.
		ReadTimeout: *patience, WriteTimeout: *patience,
	})
	if err != nil {
		return err
	}
	slog.Info("files", "listen", l.Addr(), "root", *dir)
	<-signals
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return group.Shutdown(ctx)
}
