package conn_test

import (
	"net"
	"testing"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// TestListenerAddsUp compares the listener's sums with what its clients did.
func TestListenerAddsUp(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		h := &conn.Funcs{Data: func(c *conn.Conn, in *buf.Buf) { c.Send(in) }}
		l, err := conn.Listen(g, "tcp", "127.0.0.1:0", h, conn.Config{})
		if err != nil {
			t.Fatal(err)
		}
		const clients, size = 10, 1000
		for range clients {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = c.Write(make([]byte, size))
			for got := 0; got < size; {
				n, err := c.Read(make([]byte, size))
				if err != nil {
					t.Fatal(err)
				}
				got += n
			}
			c.Close()
		}
		testutil.Eventually(t, 10*time.Second, "all connections closed", func() bool { return l.Stats().Open == 0 })
		s := l.Stats()
		if s.Accepted != clients || s.Closed.BytesIn != clients*size || s.Closed.BytesOut != clients*size || s.Closed.PendingMax == 0 {
			t.Errorf("%+v", s)
		}
	})
}
