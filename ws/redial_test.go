package ws_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
	"github.com/penstock-go/penstock/ws"
)

// redialer is a client that connects again, and what it has heard.
type redialer struct {
	ref   ws.Ref
	heard chan string
	why   chan error // of each close and retry
}

// dialAgain dials a server that is played by hand: serve has the connections, one after
// the other, behind their handshakes, but for those of refuse, which are dropped.
func dialAgain(t *testing.T, g *reactor.Group, refuse func(i int, c net.Conn) bool, serve func(c net.Conn)) *redialer {
	t.Helper()
	l := listenTCP(t)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for i := 0; ; i++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p := make([]byte, 4096)
			n, _ := c.Read(p) // A request of this length comes at once.
			if n > 0 && bytes.HasSuffix(p[:n], []byte("\r\n\r\n")) && !refuse(i, c) {
				_, _ = c.Write(answerTo(string(p[:n])))
				serve(c)
			}
			_ = c.Close()
		}
	}()
	r := &redialer{heard: make(chan string, 100), why: make(chan error, 100)}
	h := &ws.Funcs{
		Open:  func(*ws.Conn) { r.heard <- "open" },
		Close: func(_ *ws.Conn, err *ws.CloseError) { r.why <- err; r.heard <- fmt.Sprint("close ", err.Code) },
		Retry: func(_ *ws.Conn, how conn.Retry) { r.why <- how.Err; r.heard <- "retry" },
	}
	d := &conn.Dialer{Reconnect: &conn.Reconnect{Least: time.Millisecond, Most: time.Millisecond}}
	ref, err := ws.Dial(within(t, 10*time.Second), g, "ws://"+l.Addr().String(), h, ws.ClientConfig{Dialer: d})
	if err != nil {
		t.Fatal(err)
	}
	r.ref = ref
	return r
}

// next waits for what is heard next.
func (r *redialer) next(t *testing.T, want string) {
	t.Helper()
	select {
	case got := <-r.heard:
		if got != want {
			t.Fatalf("heard %q, want %q", got, want)
		}
	case <-time.After(testutil.Timeout(10 * time.Second)):
		t.Fatalf("no %q", want)
	}
}

// over waits until the connection has gone for good, and holds that no more was heard.
func (r *redialer) over(t *testing.T) {
	t.Helper()
	testutil.Eventually(t, 10*time.Second, "the end", func() bool { return !r.ref.Do(func(*ws.Conn) {}) })
	if len(r.heard) > 0 {
		t.Errorf("heard %q behind the end", <-r.heard)
	}
}

// TestClosedIsNotRedialed holds that a client which has closed its WebSocket does not
// connect again when the server ends the connection instead of answering.
func TestClosedIsNotRedialed(t *testing.T) {
	for _, reset := range []bool{false, true} {
		looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
			r := dialAgain(t, g, never, func(c net.Conn) { drop(c, reset) })
			r.next(t, "open")
			r.ref.Close(ws.Normal, "")
			r.next(t, "close 1000")
			r.over(t)
		})
	}
}

// TestShutdownIsNotRedialed holds that a group ends although the servers of its clients
// do not answer its goodbye, but end the connection.
func TestShutdownIsNotRedialed(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		r := dialAgain(t, g, never, func(c net.Conn) { drop(c, true) })
		r.next(t, "open")
		ctx, cancel := context.WithTimeout(context.Background(), testutil.Timeout(10*time.Second))
		defer cancel()
		if err := g.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		r.next(t, "close 1001")
		r.over(t)
	})
}

// TestCloseWhileDown holds that Ref.Close ends a client that is between two WebSockets:
// down, or at its handshake.
func TestCloseWhileDown(t *testing.T) {
	for _, greeting := range []bool{false, true} {
		looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
			lost, asked := make(chan bool), make(chan bool)
			refuse := func(i int, c net.Conn) bool {
				if i == 1 && greeting {
					close(asked)
					_, _ = io.Copy(io.Discard, c) // It is taken too late.
				}
				return i > 0 && !greeting
			}
			r := dialAgain(t, g, refuse, func(net.Conn) { <-lost })
			r.next(t, "open")
			close(lost)
			r.next(t, "close 1006")
			r.next(t, "retry")
			if greeting {
				<-asked
			}
			r.ref.Close(ws.Normal, "")
			late := time.After(testutil.Timeout(10 * time.Second))
			for got := "retry"; got == "retry"; { // The end is that of none that was open.
				select {
				case got = <-r.heard:
				case <-late:
					t.Fatal("not closed")
				}
				if got != "retry" && got != "close 1006" {
					t.Fatalf("heard %q", got)
				}
			}
			r.over(t)
		})
	}
}

func never(int, net.Conn) bool { return false }

// drop reads something, and ends the connection.
func drop(c net.Conn, reset bool) {
	_, _ = c.Read(make([]byte, 100))
	if reset {
		_ = c.(*net.TCPConn).SetLinger(0)
	}
}
