package conn_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// unused returns an address on which nobody listens.
func unused(t testing.TB, network, address string) string {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// TestDial connects by every network, from the loop and from elsewhere; what was
// sent before is the first that arrives.
func TestDial(t *testing.T) {
	for _, tc := range []struct{ network, address, dial string }{
		{"tcp", "127.0.0.1:0", "tcp"}, {"tcp", "[::1]:0", "tcp6"}, {"tcp4", "127.0.0.1:0", "tcp4"},
		{"unix", "file", "unix"}, {"unix", "@abstract", "unix"},
	} {
		t.Run(name("%s %s", tc.dial, tc.address), func(t *testing.T) {
			address := tc.address
			switch address {
			case "file":
				address = filepath.Join(t.TempDir(), "socket")
			case "@abstract":
				address = "@penstock/" + t.Name()
			}
			looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
				l, err := net.Listen(tc.network, address)
				if err != nil {
					t.Fatal(err)
				}
				defer l.Close()
				go func() {
					for {
						c, err := l.Accept()
						if err != nil {
							return
						}
						go func() {
							defer c.Close()
							b := make([]byte, 100)
							for {
								n, err := c.Read(b)
								if err != nil {
									return
								}
								_, _ = c.Write(b[:n])
							}
						}()
					}
				}()
				got, ended := make(chan string, 10), make(chan error, 10)
				h := &conn.Funcs{
					Open: func(c *conn.Conn) { _, _ = c.Write([]byte("two")) },
					Data: func(c *conn.Conn, in *buf.Buf) {
						got <- string(in.Bytes())
						c.Close()
					},
					Close: func(_ *conn.Conn, err error) { ended <- err },
				}
				d := &conn.Dialer{}
				onLoop(t, g, func(loop *reactor.Loop) {
					c, err := d.Dial(loop, tc.dial, l.Addr().String(), h)
					if err != nil {
						t.Error(err)
						return
					}
					_, _ = c.Write([]byte("one "))
				})
				if s, err := <-got, <-ended; s != "one two" || err != nil {
					t.Errorf("got %q, %v", s, err)
				}
				ref, err := d.DialContext(t.Context(), g.Loop(0), tc.dial, l.Addr().String(), h)
				if err != nil || ref.ID() == 0 {
					t.Fatal(err)
				}
				if s, err := <-got, <-ended; s != "two" || err != nil {
					t.Errorf("got %q, %v", s, err)
				}
			})
		})
	}
}

// TestDialRefused holds what nobody at the other end is told as.
func TestDialRefused(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		d := &conn.Dialer{}
		for _, tc := range []struct {
			network, address string
			errno            syscall.Errno
		}{
			{"tcp", testutil.Refusing(t, "127.0.0.1"), syscall.ECONNREFUSED},
			{"tcp", testutil.Refusing(t, "::1"), syscall.ECONNREFUSED},
			{"unix", "@penstock/nobody", syscall.ECONNREFUSED},
			{"unix", filepath.Join(t.TempDir(), "nobody"), syscall.ENOENT},
		} {
			ended := make(chan error, 1)
			_, err := d.DialContext(context.Background(), g.Loop(0), tc.network, tc.address, &conn.Funcs{
				Open:  func(*conn.Conn) { t.Error("OnOpen") },
				Close: func(c *conn.Conn, err error) { ended <- err },
			})
			var de *conn.DialError
			if !errors.As(err, &de) || de.Reason != conn.Refused || !errors.Is(err, tc.errno) || de.Timeout() {
				t.Errorf("%s: %v", tc.address, err)
			}
			var ce *conn.CloseError
			if err := <-ended; !errors.As(err, &ce) || ce.Reason != conn.Refused || !errors.As(err, &de) || !errors.Is(err, tc.errno) {
				t.Errorf("%s: closed with %v", tc.address, err)
			}
		}
	})
}

// TestDialCancelledSaysWhy has nobody listen until the context of a connection with
// Reconnect is done: the error says what its attempts have met.
func TestDialCancelledSaysWhy(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		h := &conn.Funcs{Retry: func(_ *conn.Conn, r conn.Retry) {
			if r.Attempt == 2 {
				cancel()
			}
		}}
		d := &conn.Dialer{Reconnect: &conn.Reconnect{Least: time.Millisecond, Most: time.Hour}}
		_, err := d.DialContext(ctx, g.Loop(0), "tcp", unused(t, "tcp", "127.0.0.1:0"), h)
		wantDial(t, err, conn.Cancelled, context.Canceled)
		if want := "cancelled: context canceled; connect: connection refused"; !errors.Is(err, syscall.ECONNREFUSED) || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%v, want it to end with %q", err, want)
		}
	})
}
