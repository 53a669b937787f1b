// Command echo sends back what it gets on 127.0.0.1:8484, until Ctrl-C.
package main

import (
	"context"
	"log"
	"os"
	"os/signal"
	"runtime"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

func main() {
	runtime.GOMAXPROCS(reactor.CPUs() + 2) // A loop that waits keeps its processor.
	group, err := reactor.Start(reactor.Config{})
	if err != nil {
		log.Fatal(err)
	}
	echo := &conn.Funcs{Data: func(c *conn.Conn, in *buf.Buf) { c.Send(in) }}
	if _, err = conn.Listen(group, "tcp", "127.0.0.1:8484", echo, conn.Config{PauseOnFull: true}); err != nil {
		log.Fatal(err)
	}
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, os.Interrupt)
	<-interrupt
	_ = group.Shutdown(context.Background())
}
