package conn_test

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/reactor"
)

// TestBlame has handlers open something else and panic then: it is they who end.
func TestBlame(t *testing.T) {
	cfg, err := conn.Config{}.Check()
	if err != nil {
		t.Fatal(err)
	}
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		for what, open := range map[string]func(l *reactor.Loop, ended chan string, last *func()){
			"New": func(l *reactor.Loop, ended chan string, last *func()) {
				fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					t.Error(err)
					return
				}
				t.Cleanup(func() { _ = unix.Close(fds[1]) })
				c := conn.New(l, fds[0], &conn.Funcs{Close: func(*conn.Conn, error) { ended <- "the other" }}, cfg)
				*last = c.Abort
			},
			"DialPacket": func(l *reactor.Loop, ended chan string, last *func()) {
				h := &conn.PacketFuncs{Close: func(*conn.PacketConn, error) { ended <- "the other" }}
				p, err := conn.DialPacket(l, "udp", "127.0.0.1:9", h, conn.PacketConfig{})
				if err != nil {
					t.Error(err)
					return
				}
				*last = p.Abort
			},
		} {
			ended := make(chan string, 2)
			var last func()
			near, far := pair(t, "tcp")
			h := &conn.Funcs{
				Data: func(c *conn.Conn, _ *buf.Buf) {
					open(c.Loop(), ended, &last)
					panic("mine")
				},
				Close: func(_ *conn.Conn, err error) {
					var e *conn.CloseError
					if !errors.As(err, &e) || e.Reason != conn.HandlerPanic {
						t.Errorf("%s: closed with %v", what, err)
					}
					ended <- "who panicked"
				},
			}
			if err := conn.Attach(g.Loop(0), near, h, conn.Config{}, nil); err != nil {
				t.Fatal(err)
			}
			_, _ = far.Write([]byte("x"))
			if who := <-ended; who != "who panicked" {
				t.Errorf("%s: it was %s that ended", what, who)
			}
			onLoop(t, g, func(*reactor.Loop) { last() })
			<-ended
		}
	})
}

// TestNewWhileEnding opens a connection when the loop has asked all others to end.
func TestNewWhileEnding(t *testing.T) {
	cfg, err := conn.Config{}.Check()
	if err != nil {
		t.Fatal(err)
	}
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fds[1])
		closed := make(chan error, 1)
		late := &conn.Funcs{Close: func(_ *conn.Conn, err error) { closed <- err }}
		near, _ := pair(t, "tcp")
		h := &conn.Funcs{Close: func(c *conn.Conn, _ error) { conn.New(c.Loop(), fds[0], late, cfg) }}
		if err := conn.Attach(g.Loop(0), near, h, conn.Config{}, nil); err != nil {
			t.Fatal(err)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
		var e *conn.CloseError
		if err := <-closed; !errors.As(err, &e) || e.Reason != conn.Shutdown {
			t.Errorf("it closed with %v", err)
		}
	})
}
