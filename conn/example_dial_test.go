package conn_test

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// A client that connects again when its connection is lost.
func ExampleDialer() {
	group, err := reactor.Start(reactor.Config{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer group.Close()
	served := 0
	server := &conn.Funcs{Data: func(c *conn.Conn, in *buf.Buf) {
		if served++; served == 1 {
			c.Abort() // The first one is dropped.
			return
		}
		c.Send(in)
	}}
	l, err := conn.Listen(group, "tcp", "127.0.0.1:0", server, conn.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	done := make(chan struct{})
	client := &conn.Funcs{
		Open: func(c *conn.Conn) { _, _ = c.Write([]byte("hello")) }, // Each time.
		Data: func(c *conn.Conn, in *buf.Buf) {
			fmt.Printf("answer: %s\n", in.Bytes())
			c.Close()
		},
		Retry: func(_ *conn.Conn, r conn.Retry) { fmt.Println("down, attempt", r.Attempt) },
		Close: func(_ *conn.Conn, err error) { fmt.Println("closed:", err); close(done) },
	}
	dialer := &conn.Dialer{Reconnect: &conn.Reconnect{Least: time.Millisecond}}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if _, err = dialer.DialContext(ctx, group.Loop(0), "tcp", l.Addr().String(), client); err != nil {
		fmt.Println(err)
		return
	}
	<-done
	// Output:
	// down, attempt 1
	// answer: hello
	// closed: <nil>
}

// A server of datagrams, and a client of it.
func ExampleListenPacket() {
	group, err := reactor.Start(reactor.Config{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer group.Close()
	server := &conn.PacketFuncs{Packet: func(p *conn.PacketConn, in *buf.Buf, from conn.Source) {
		p.Send(from, in) // To who sent it, from the address that was asked.
	}}
	l, err := conn.ListenPacket(group, "udp", "127.0.0.1:0", server, conn.PacketConfig{})
	if err != nil {
		fmt.Println(err)
		return
	}
	answers := make(chan string)
	client := &conn.PacketFuncs{Packet: func(p *conn.PacketConn, in *buf.Buf, _ conn.Source) {
		answers <- string(in.Bytes())
	}}
	ref, err := (&conn.Dialer{}).DialPacketContext(context.Background(), group.Loop(0), "udp", l.Addr().String(), client)
	if err != nil {
		fmt.Println(err)
		return
	}
	ref.Write(conn.Source{}, []byte("hello"))
	fmt.Println(<-answers)
	// Output: hello
}
