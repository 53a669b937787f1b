package conn_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// serveOne serves h on one loop to one client, which sends ask and reads all.
func serveOne(h conn.Handler, cfg conn.Config, ask string) (answer string, err error) {
	group, err := reactor.Start(reactor.Config{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return "", err
	}
	defer group.Shutdown(context.Background())
	l, err := conn.Listen(group, "tcp", "127.0.0.1:0", h, cfg)
	if err != nil {
		return "", err
	}
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		return "", err
	}
	defer c.Close()
	if _, err := io.WriteString(c, ask); err != nil {
		return "", err
	}
	_ = c.(*net.TCPConn).CloseWrite()
	b, err := io.ReadAll(c)
	return string(b), err
}

// All queues of the process together hold at most 64 MiB. An echo that pauses while
// its queue is full needs nothing more to live within that.
func ExampleNewBudget() {
	memory := conn.NewBudget(64<<20, conn.BudgetReject)
	cfg := conn.Config{Budget: memory, PauseOnFull: true} // The same for every listener.

	answer, err := serveOne(&conn.Funcs{
		Data: func(c *conn.Conn, in *buf.Buf) { c.Send(in) },
	}, cfg, "hello")
	fmt.Println(answer, err, memory.Stats().Total)
	// Output: hello <nil> 0
}

// A request is answered by work that may block, on a goroutine; what the client asks
// meanwhile waits.
func ExampleConn_Go() {
	lookUp := func(name string) string { return strings.ToUpper(name) } // A database, say.

	answer, err := serveOne(&conn.Funcs{
		Data: func(c *conn.Conn, in *buf.Buf) {
			name := string(in.Bytes())
			var found string
			c.Go(func() {
				found = lookUp(name)
			}, func(c *conn.Conn) {
				_, _ = c.Write([]byte(found))
			})
		},
	}, conn.Config{}, "penstock")
	fmt.Println(answer, err)
	// Output: PENSTOCK <nil>
}

// A goroutine sends as fast as the peer reads, and no faster: it waits for room.
func ExampleRef_WriteBlock() {
	produce := func(ref conn.Ref) {
		for i := range 1000 {
			if err := ref.WriteBlock(context.Background(), fmt.Appendf(nil, "line %d\n", i)); err != nil {
				return // The connection takes no more.
			}
		}
		ref.Close()
	}

	answer, err := serveOne(&conn.Funcs{
		Open: func(c *conn.Conn) { go produce(c.Ref()) },
		EOF:  func(*conn.Conn) {}, // The client has said all; it still reads.
	}, conn.Config{HighWater: 4 << 10}, "")
	fmt.Println(strings.Count(answer, "\n"), err)
	// Output: 1000 <nil>
}
