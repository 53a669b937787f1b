package conn_test

import (
	"context"
	"io"
	"net"
	"testing"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// counted is who counts for many connections, one of which is there.
type counted struct {
	far    net.Conn // its peer
	queues func() conn.QueueStats
	closed func() (closed conn.Stats, open int64)
}

// TestQueueStats has a peer that does not read, which is seen while it does not; then it
// reads, and at last it goes with a full queue. What is counted at once is what the
// connection has counted in the end.
func TestQueueStats(t *testing.T) {
	const much = 16 << 20 // more than sockets hold
	cfg := conn.Config{HighWater: 64 << 10, SendBuffer: 4096}
	for name, begin := range map[string]func(*testing.T, *reactor.Group, conn.Handler, conn.Config) counted{
		"listener": countedByListener, "dialer": countedByDialer, "attacher": countedByAttacher,
	} {
		t.Run(name, func(t *testing.T) {
			looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
				opened := make(chan conn.Ref, 1)
				s := begin(t, g, &conn.Funcs{Open: func(c *conn.Conn) { opened <- c.Ref() }}, cfg)
				ref := <-opened
				fill := func() {
					ref.Do(func(c *conn.Conn) {
						_, _ = c.Write(make([]byte, much))
						_, _ = c.Write(make([]byte, 100))
					})
				}
				reach := func(what string, want conn.QueueStats) {
					t.Helper()
					testutil.Eventually(t, 10*time.Second, what, func() bool { return s.queues() == want })
				}
				fill()
				reach("the full queue", conn.QueueStats{FullNow: 1, Full: 1, Rejected: 1, RejectedBytes: 100})
				if closed, open := s.closed(); closed != (conn.Stats{}) || open != 1 {
					t.Errorf("%d are open, and of those that have closed %+v", open, closed)
				}
				if n, err := io.CopyN(io.Discard, s.far, much); err != nil {
					t.Fatalf("%d bytes came: %v", n, err)
				}
				reach("the drain", conn.QueueStats{Full: 1, Drain: 1, Rejected: 1, RejectedBytes: 100})
				fill()
				reach("another", conn.QueueStats{FullNow: 1, Full: 2, Drain: 1, Rejected: 2, RejectedBytes: 200})
				ref.Abort()
				reach("the end", conn.QueueStats{Full: 2, Drain: 1, Rejected: 2, RejectedBytes: 200})
				var closed conn.Stats
				testutil.Eventually(t, 10*time.Second, "the close", func() bool {
					var open int64
					closed, open = s.closed()
					return open == 0
				})
				if closed.Full != 2 || closed.Drain != 1 || closed.Rejected != 2 || closed.RejectedBytes != 200 {
					t.Errorf("in the end %+v", closed)
				}
			})
		})
	}
}

func countedByListener(t *testing.T, g *reactor.Group, h conn.Handler, cfg conn.Config) counted {
	l, err := conn.Listen(g, "tcp", "127.0.0.1:0", h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	return counted{
		far, func() conn.QueueStats { return l.Stats().Queues },
		func() (conn.Stats, int64) { s := l.Stats(); return s.Closed, s.Open },
	}
}

func countedByDialer(t *testing.T, g *reactor.Group, h conn.Handler, cfg conn.Config) counted {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := &conn.Dialer{Config: cfg}
	if _, err = d.DialGroup(context.Background(), g, "tcp", l.Addr().String(), h); err != nil {
		t.Fatal(err)
	}
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	return counted{
		far, func() conn.QueueStats { return d.Stats().Queues },
		func() (conn.Stats, int64) { s := d.Stats(); return s.Closed, s.Open },
	}
}

func countedByAttacher(t *testing.T, g *reactor.Group, h conn.Handler, cfg conn.Config) counted {
	a, err := conn.NewAttacher(g, h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	near, far := pair(t, "tcp")
	if err := a.Attach(near, nil, nil); err != nil {
		t.Fatal(err)
	}
	return counted{
		far, func() conn.QueueStats { return a.Stats().Queues },
		func() (conn.Stats, int64) { s := a.Stats(); return s.Closed, s.Open },
	}
}
