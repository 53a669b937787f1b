package conn_test

import (
	"fmt"
	"io"
	"log"
	"log/slog"
	"net"
	"strings"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// A stream has its place among the sends, and Close waits for it.
func ExampleConn_SendFrom() {
	g, err := reactor.Start(reactor.Config{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	defer g.Close()
	song := "\n99 bottles of beer on the wall"
	l, err := conn.Listen(g, "tcp", "127.0.0.1:0", &conn.Funcs{Open: func(c *conn.Conn) {
		_, _ = c.Write([]byte("a song:"))
		c.SendFrom(strings.NewReader(song), int64(len(song)), func(sent int64, err error) {
			fmt.Println(sent, "bytes of it,", err)
		})
		_, _ = c.Write([]byte("\nand so on"))
		c.Close()
	}}, conn.Config{})
	if err != nil {
		log.Fatal(err)
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	all, _ := io.ReadAll(c)
	_ = c.Close()
	_ = g.Close()
	fmt.Println(string(all))
	// Output:
	// 31 bytes of it, <nil>
	// a song:
	// 99 bottles of beer on the wall
	// and so on
}

// A proxy: the target is still being connected when the pipe begins.
func ExamplePipe() {
	g, err := reactor.Start(reactor.Config{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		log.Fatal(err)
	}
	defer g.Close()
	target, err := conn.Listen(g, "tcp", "127.0.0.1:0", echo(), conn.Config{})
	if err != nil {
		log.Fatal(err)
	}
	var dialer conn.Dialer
	proxy, err := conn.Listen(g, "tcp", "127.0.0.1:0", &conn.Funcs{Open: func(client *conn.Conn) {
		server, err := dialer.Dial(client.Loop(), "tcp", target.Addr().String(), conn.NopHandler{})
		if err == nil {
			_, err = conn.Pipe(client, server, conn.PipeConfig{})
		}
		if err != nil {
			client.Abort()
		}
	}}, conn.Config{})
	if err != nil {
		log.Fatal(err)
	}
	c, err := net.Dial("tcp", proxy.Addr().String())
	if err != nil {
		log.Fatal(err)
	}
	defer c.Close()
	_, _ = io.WriteString(c, "is anybody there?")
	_ = c.(*net.TCPConn).CloseWrite()
	all, _ := io.ReadAll(c)
	fmt.Println(string(all))
	// Output: is anybody there?
}
