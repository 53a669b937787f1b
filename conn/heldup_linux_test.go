package conn_test

import (
	"net"
	"testing"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/reactor"
)

// TestLoopHeldUp has a loop stand still for longer than the deadlines of its connections,
// as a process does that is stopped. Peers have sent meanwhile, more than one turn hears:
// none was silent, and none is closed.
func TestLoopHeldUp(t *testing.T) {
	const peers, deadline = 600, 50 * time.Millisecond
	for _, tc := range []struct {
		name      string
		deadlines conn.Deadlines
	}{{"idle", conn.Deadlines{Idle: deadline}}, {"read", conn.Deadlines{Read: deadline}}} {
		t.Run(tc.name, func(t *testing.T) {
			looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
				var conns []*conn.Conn // of the loop
				heard, closed := make(chan bool, 2*peers), make(chan error, peers)
				l := listen(t, g, &conn.Funcs{
					Open: func(c *conn.Conn) { conns = append(conns, c) },
					Data: func(c *conn.Conn, _ *buf.Buf) {
						_ = c.SetDeadlines(conn.Deadlines{})
						heard <- true
					},
					Close: func(_ *conn.Conn, err error) { closed <- err },
				}, conn.Config{})
				say := func(far []net.Conn) {
					for _, c := range far {
						_, _ = c.Write([]byte("x"))
					}
				}
				far := make([]net.Conn, peers)
				for i := range far {
					far[i] = dial(t, l)
				}
				say(far)
				for range far {
					<-heard
				}
				holdUp(g, func() {
					for _, c := range conns {
						_ = c.SetDeadlines(tc.deadlines)
					}
				}, func() {
					say(far)
					time.Sleep(2 * deadline)
				})
				for range far {
					select {
					case <-heard:
					case err := <-closed:
						t.Fatalf("closed with %v", err)
					}
				}
			})
		})
	}
}

// holdUp has the loop run first and then stand still while more runs.
func holdUp(g *reactor.Group, first, more func()) {
	stands, goOn := make(chan bool), make(chan bool)
	g.Loop(0).Post(func(*reactor.Loop) {
		first()
		stands <- true
		<-goOn
	})
	<-stands
	more()
	goOn <- true
}
