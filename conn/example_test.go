package conn_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// begin starts the group of an example, and serve a listener on it.
func begin() *reactor.Group {
	group, err := reactor.Start(reactor.Config{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		panic(err)
	}
	return group
}

func serve(group *reactor.Group, h conn.Handler, cfg conn.Config) string {
	l, err := conn.Listen(group, "tcp", "127.0.0.1:0", h, cfg)
	if err != nil {
		panic(err)
	}
	return l.Addr().String()
}

// A server that sends back what it gets. PauseOnFull stops reading from a peer that
// does not read the answers.
func ExampleListen() {
	group := begin()
	defer group.Shutdown(context.Background())
	echo := &conn.Funcs{Data: func(c *conn.Conn, in *buf.Buf) { c.Send(in) }}
	l, err := conn.Listen(group, "tcp", "127.0.0.1:0", echo, conn.Config{PauseOnFull: true})
	if err != nil {
		fmt.Println(err)
		return
	}

	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	fmt.Fprint(client, "hello\n")
	line, _ := bufio.NewReader(client).ReadString('\n')
	fmt.Print(line)
	// Output: hello
}

// A service that pushes sends until the queue is full, and goes on when it has
// drained: what waits for a slow reader stays within the marks.
func ExampleDrainHandler() {
	group := begin()
	defer group.Shutdown(context.Background())
	const total = 8 << 20
	sent := 0
	chunk := make([]byte, 16<<10)
	push := func(c *conn.Conn) {
		for sent < total && !c.IsFull() {
			if _, err := c.Write(chunk); err != nil {
				return
			}
			sent += len(chunk)
		}
		if sent == total {
			c.Close() // Behind what is queued.
		}
	}
	address := serve(group, &conn.Funcs{Open: push, Drain: push}, conn.Config{HighWater: 256 << 10, LowWater: 64 << 10})

	client, err := net.Dial("tcp", address)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	n, _ := io.Copy(io.Discard, client)
	fmt.Println(n, "bytes")
	// Output: 8388608 bytes
}

// Everybody who is connected hears what anybody publishes; here a goroutine.
func ExampleTopics() {
	group := begin()
	defer group.Shutdown(context.Background())
	topics := conn.NewTopics(group)
	joined := make(chan bool, 2)
	address := serve(group, &conn.Funcs{Open: func(c *conn.Conn) {
		joined <- topics.Join("news", c) == nil // Until it leaves or closes.
	}}, conn.Config{SlowPeer: conn.CloseSlow})

	var readers []net.Conn
	for range 2 {
		client, err := net.Dial("tcp", address)
		if err != nil {
			fmt.Println(err)
			return
		}
		defer client.Close()
		readers = append(readers, client)
		<-joined
	}
	reached := make(chan conn.Reach)
	news := buf.NewShared([]byte("the valve is open\n"))
	topics.Broadcast("news", conn.Publication{Shared: news, Done: func(r conn.Reach) { reached <- r }})
	news.Release()
	fmt.Println("taken by", (<-reached).Taken)
	for _, r := range readers {
		line, _ := bufio.NewReader(r).ReadString('\n')
		fmt.Print(line)
	}
	// Output:
	// taken by 2
	// the valve is open
	// the valve is open
}

// A Ref is what other goroutines keep of a connection. It reaches nobody once the
// connection has closed.
func ExampleRef() {
	group := begin()
	defer group.Shutdown(context.Background())
	refs, ends := make(chan conn.Ref, 1), make(chan bool)
	address := serve(group, &conn.Funcs{
		Open:  func(c *conn.Conn) { refs <- c.Ref() },
		Close: func(*conn.Conn, error) { close(ends) },
	}, conn.Config{})

	client, err := net.Dial("tcp", address)
	if err != nil {
		fmt.Println(err)
		return
	}
	ref := <-refs
	fmt.Println(ref.Write([]byte("from another goroutine\n")))
	line, _ := bufio.NewReader(client).ReadString('\n')
	fmt.Print(line)
	_ = client.Close()
	<-ends
	fmt.Println(ref.Write([]byte("too late\n")))
	// Output:
	// queued
	// from another goroutine
	// closed
}
