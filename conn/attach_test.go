package conn_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// pair is a connection of package net, for tcp or unix.
func pair(t testing.TB, network string) (near, far net.Conn) {
	t.Helper()
	at := "127.0.0.1:0"
	if network == "unix" {
		at = filepath.Join(t.TempDir(), "s")
	}
	l, err := net.Listen(network, at)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if far, err = net.Dial(network, l.Addr().String()); err == nil {
		near, err = l.Accept()
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = far.SetDeadline(time.Now().Add(testutil.Timeout(30 * time.Second)))
	t.Cleanup(func() { _ = near.Close(); _ = far.Close() })
	return near, far
}

// TestAttach puts sockets of package net on a loop, with what was read of them
// before: that is heard first.
func TestAttach(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		for _, network := range []string{"tcp", "unix", "file"} {
			var near, far net.Conn
			var s io.Closer
			if network == "file" {
				near, far = pair(t, "tcp")
				f, err := near.(*net.TCPConn).File()
				if err != nil {
					t.Fatal(err)
				}
				_ = near.Close()
				s = f
			} else {
				near, far = pair(t, network)
				s = near
			}
			if err := conn.Attach(g.Loop(0), s, echo(), conn.Config{}, []byte("already read, ")); err != nil {
				t.Fatal(err)
			}
			if _, err := near.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
				t.Errorf("%s: a write after Attach: %v", network, err)
			}
			_, _ = far.Write([]byte("then sent"))
			_ = far.(interface{ CloseWrite() error }).CloseWrite()
			if got, err := io.ReadAll(far); string(got) != "already read, then sent" || err != nil {
				t.Errorf("%s: %q, %v", network, got, err)
			}
		}
	})
}

// TestAttachRefuses holds that what is no stream socket stays with the caller.
func TestAttachRefuses(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		near, _ := pair(t, "tcp")
		udp, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
		if err != nil {
			t.Fatal(err)
		}
		defer udp.Close()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer w.Close()
		for _, s := range []io.Closer{tls.Server(near, nil), udp, l, r} {
			if err := conn.Attach(g.Loop(0), s, echo(), conn.Config{}, nil); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("%T: %v", s, err)
			}
		}
		if err := conn.Attach(g.Loop(0), near, echo(), conn.Config{HighWater: -1}, nil); err == nil {
			t.Error("a wrong Config was taken")
		}
		if _, err := near.Write([]byte("x")); err != nil {
			t.Errorf("after a refused Attach: %v", err)
		}
		if err := r.Close(); err != nil {
			t.Errorf("after a refused Attach: %v", err)
		}
		_ = g.Close()
		if err := conn.Attach(g.Loop(0), near, echo(), conn.Config{}, nil); err != reactor.ErrEnded {
			t.Errorf("on a group that has ended: %v", err)
		}
		if _, err := near.Write([]byte("x")); err != nil {
			t.Errorf("after a refused Attach: %v", err)
		}
	})
}

// TestDetachMoves moves a connection between package net and two loops while its
// peer sends and reads all the time: the echo is whole.
func TestDetachMoves(t *testing.T) {
	const total, hops = 2 << 20, 12
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		for _, network := range []string{"tcp", "unix"} {
			near, far := pair(t, network)
			data := make([]byte, total)
			_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
			go func() {
				_, _ = far.Write(data)
				_ = far.(interface{ CloseWrite() error }).CloseWrite()
			}()
			m := &mover{g: g, closed: make(chan error, 1)}
			if err := conn.Attach(g.Loop(0), near, m.handler(), m.cfg(), nil); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(far)
			if !bytes.Equal(got, data) || err != nil {
				t.Errorf("%s: %d bytes of %d came back, or others; %v", network, len(got), total, err)
			}
			if err := <-m.closed; err != io.EOF || m.hops < hops {
				t.Errorf("%s: closed with %v after %d moves", network, err, m.hops)
			}
		}
	})
}

// mover echoes, and after each so many bytes goes on to the other loop.
type mover struct {
	g      *reactor.Group
	hops   int
	closed chan error
}

func (*mover) cfg() conn.Config { return conn.Config{PauseOnFull: true, HighWater: 256 << 10} }

func (m *mover) handler() conn.Handler {
	moving, n := false, 0
	return &conn.Funcs{
		Data: func(c *conn.Conn, in *buf.Buf) {
			n += in.Len()
			if c.Send(in); n < 64<<10 {
				return
			}
			moving = true
			m.hops++
			next := m.g.Loop(m.hops % 2)
			c.Detach(func(d conn.Departure, err error) {
				if err == nil {
					err = conn.AttachFD(next, d.FD, m.handler(), m.cfg(), d.Input)
				}
				if err != nil {
					m.closed <- err
				}
			})
		},
		Close: func(_ *conn.Conn, err error) {
			if !moving {
				m.closed <- err
			}
		},
	}
}
