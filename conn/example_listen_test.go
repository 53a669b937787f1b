package conn_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// A unix socket for its own user alone, who is told his process.
func ExampleListen_unix() {
	group, err := reactor.Start(reactor.Config{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer group.Close()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	name := filepath.Join(dir, "s")
	l, err := conn.Listen(group, "unix", name, &conn.Funcs{Open: func(c *conn.Conn) {
		if peer, err := c.PeerCred(); err == nil && peer.PID == os.Getpid() {
			_, _ = c.Write([]byte("it is me"))
		}
		c.Close()
	}}, conn.Config{Mode: 0o600, MaxConns: 100})
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := net.Dial("unix", name)
	if err != nil {
		fmt.Println(err)
		return
	}
	answer, err := io.ReadAll(client)
	fmt.Printf("%s, %v\n", answer, err)
	_ = client.Close()
	l.Close()
	<-l.Done()
	_, err = os.Lstat(name)
	fmt.Println("the file is gone:", os.IsNotExist(err))
	// Output:
	// it is me, <nil>
	// the file is gone: true
}

// A login that has to be done in time, and a silence that is bridged once by a ping.
func ExampleTimeoutHandler() {
	group, err := reactor.Start(reactor.Config{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer group.Close()
	pinged := false
	handler := &conn.Funcs{
		Data: func(c *conn.Conn, in *buf.Buf) {
			if string(in.Bytes()) == "secret" {
				c.Established()
			}
		},
		Timeout: func(c *conn.Conn, which conn.Reason) (extend bool) {
			if which == conn.IdleTimeout && !pinged {
				pinged = true
				_, _ = c.Write([]byte("ping"))
				return true
			}
			return false
		},
		Close: func(_ *conn.Conn, err error) { fmt.Println(err) },
	}
	l, err := conn.Listen(group, "tcp", "127.0.0.1:0", handler,
		conn.Config{HandshakeTimeout: time.Minute, IdleTimeout: 30 * time.Millisecond})
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	_, _ = client.Write([]byte("secret"))
	heard, _ := io.ReadAll(client)
	fmt.Printf("the client has heard %q\n", heard)
	_ = client.Close()
	l.Close()
	<-l.Done()
	// Output:
	// conn: closed: idle_timeout
	// the client has heard "ping"
}
