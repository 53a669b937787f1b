package conn_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// TestAttacher attaches sockets of both kinds, over two loops: each is heard with its
// User, and those of one kind on one loop share their host.
func TestAttacher(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		type met struct {
			c    *conn.Conn
			user any
		}
		opened := make(chan met, 8)
		h := &conn.Funcs{
			Open: func(c *conn.Conn) { opened <- met{c, c.User()} },
			Data: func(c *conn.Conn, in *buf.Buf) { c.Send(in) },
		}
		a, err := conn.NewAttacher(g, h, conn.Config{})
		if err != nil {
			t.Fatal(err)
		}
		var all []*conn.Conn
		for i, network := range []string{"tcp", "tcp", "tcp", "unix", "unix", "unix"} {
			near, far := pair(t, network)
			if err := a.Attach(near, []byte("heard, "), i); err != nil {
				t.Fatal(err)
			}
			m := <-opened
			if m.user != i {
				t.Errorf("%s: user %v, want %d", network, m.user, i)
			}
			all = append(all, m.c)
			_, _ = io.WriteString(far, "sent")
			_ = far.(interface{ CloseWrite() error }).CloseWrite()
			if got, err := io.ReadAll(far); string(got) != "heard, sent" || err != nil {
				t.Errorf("%s: %q, %v", network, got, err)
			}
		}
		for i, c := range all {
			for j, d := range all {
				if want := i/3 == j/3 && i%2 == j%2; conn.SameHost(c, d) != want {
					t.Errorf("connections %d and %d: one host is %v", i, j, !want)
				}
			}
		}
	})
}

// TestAttacherLimit holds that MaxConns bounds what is attached, that whoever is too
// many stays with its owner, and that a place is free when a connection has closed, or
// could not be attached.
func TestAttacherLimit(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		limit, err := conn.NewConnLimit(3)
		if err != nil {
			t.Fatal(err)
		}
		for _, cfg := range []conn.Config{{MaxConns: 3}, {ConnLimit: limit}} {
			a, err := conn.NewAttacher(g, echo(), cfg)
			if err != nil {
				t.Fatal(err)
			}
			var fars []net.Conn
			for range 3 {
				near, far := pair(t, "tcp")
				if err := a.Attach(near, nil, nil); err != nil {
					t.Fatal(err)
				}
				fars = append(fars, far)
			}
			near, far := pair(t, "tcp")
			if err := a.Attach(near, nil, nil); !errors.Is(err, conn.ErrMaxConns) {
				t.Fatalf("a fourth of three: %v", err)
			}
			go func() { _, _ = io.WriteString(near, "still yours") }()
			p := make([]byte, 11)
			if _, err := io.ReadFull(far, p); err != nil || string(p) != "still yours" {
				t.Errorf("%q, %v", p, err)
			}
			_ = fars[0].Close()
			testutil.Eventually(t, 10*time.Second, "a place", func() bool { return a.Limit().Used() == 2 })
			r, w := io.Pipe() // No socket.
			_ = w.Close()
			if err := a.Attach(r, nil, nil); !errors.Is(err, errors.ErrUnsupported) || a.Limit().Used() != 2 {
				t.Errorf("a pipe: %v, %d places taken", err, a.Limit().Used())
			}
			if err := a.Attach(near, nil, nil); err != nil {
				t.Errorf("the place that is free: %v", err)
			}
			for _, c := range append(fars, far) {
				_ = c.Close()
			}
			testutil.Eventually(t, 10*time.Second, "all places", func() bool { return a.Limit().Used() == 0 })
		}
		if _, err := conn.NewAttacher(g, echo(), conn.Config{MaxConns: 3, ConnLimit: limit}); err == nil {
			t.Error("MaxConns and ConnLimit were taken together")
		}
	})
}
