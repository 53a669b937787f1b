package conn_test

import (
	"context"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

func listen(t *testing.T, g *reactor.Group, h conn.Handler, cfg conn.Config) *conn.Listener {
	t.Helper()
	l, err := conn.Listen(g, "tcp", "127.0.0.1:0", h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dial(t testing.TB, l *conn.Listener) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(testutil.Timeout(30 * time.Second)))
	return c.(*net.TCPConn)
}

// echo sends back what it gets.
func echo() *conn.Funcs {
	return &conn.Funcs{Data: func(c *conn.Conn, in *buf.Buf) { c.Send(in) }}
}

func inUse(g *reactor.Group) (n int) {
	for _, s := range g.Stats() {
		n += s.InUse
	}
	return n
}

// TestLateInTheTurn sends and closes from a hook that runs when the engine has
// been given what this turn brought: neither waits for another event.
func TestLateInTheTurn(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		var out *conn.Conn
		cfg := conn.Config{CloseTimeout: time.Hour, Linger: time.Hour}
		to := listen(t, g, &conn.Funcs{Open: func(c *conn.Conn) { out = c }}, cfg)
		reader := dial(t, to)
		defer reader.Close()
		var opened atomic.Bool
		from := listen(t, g, &conn.Funcs{
			Open: func(*conn.Conn) { opened.Store(true) },
			Data: func(_ *conn.Conn, in *buf.Buf) { _, _ = out.Write(in.Bytes()) },
			EOF: func(*conn.Conn) {
				_, _ = out.Write([]byte(" and the end"))
				out.Close()
			},
		}, cfg)
		writer := dial(t, from)
		defer writer.Close()
		testutil.Eventually(t, 5*time.Second, "open", opened.Load)
		time.Sleep(50 * time.Millisecond) // The loop sleeps, so both come in one turn.
		stop := make(chan struct{})
		if !g.Loop(0).Post(func(*reactor.Loop) { <-stop }) {
			t.Fatal("the loop has ended")
		}
		if _, err := writer.Write([]byte("the middle")); err != nil {
			t.Fatal(err)
		}
		_ = writer.CloseWrite()
		time.Sleep(20 * time.Millisecond)
		close(stop)
		_ = reader.SetReadDeadline(time.Now().Add(testutil.Timeout(3 * time.Second)))
		got, err := io.ReadAll(reader)
		if string(got) != "the middle and the end" || err != nil {
			t.Errorf("got %q, %v", got, err)
		}
	})
}

// TestUnwatchedSend writes far more than a socket holds, with nobody waiting
// for any hook and no other event on the loop: all of it goes out.
func TestUnwatchedSend(t *testing.T) {
	const total = 8 << 20
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		l := listen(t, g, &conn.Funcs{Open: func(c *conn.Conn) {
			_, _ = c.Write(make([]byte, total))
		}}, conn.Config{HighWater: 1 << 30})
		c := dial(t, l)
		defer c.Close()
		if n, err := io.CopyN(io.Discard, c, total); n != total || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
}

// TestOnRoomOfSleeper waits for room behind a send that the kernel takes at once,
// with no other event on the loop: the engine must not sit on its completion.
func TestOnRoomOfSleeper(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		told := make(chan int, 1)
		l := listen(t, g, &conn.Funcs{Open: func(c *conn.Conn) {
			_, _ = c.Write([]byte("hello"))
			c.OnRoom(0, func(c *conn.Conn) { told <- c.Pending() })
		}}, conn.Config{})
		defer dial(t, l).Close()
		select {
		case n := <-told:
			if n != 0 {
				t.Errorf("told with %d bytes pending", n)
			}
		case <-time.After(testutil.Timeout(3 * time.Second)):
			t.Error("nobody is told")
		}
	})
}

// TestShutdownFlushes holds that a shutdown in the middle of a transfer to
// readers delivers it whole.
func TestShutdownFlushes(t *testing.T) {
	const total = 4 << 20
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		var opened atomic.Int32
		l := listen(t, g, &conn.Funcs{Open: func(c *conn.Conn) {
			_, _ = c.Write(make([]byte, total))
			opened.Add(1)
		}}, conn.Config{})
		const readers = 8
		results := make(chan int64, readers)
		for range readers {
			c := dial(t, l)
			go func() {
				defer c.Close()
				time.Sleep(20 * time.Millisecond)
				n, _ := io.Copy(io.Discard, c)
				results <- n
			}()
		}
		testutil.Eventually(t, 5*time.Second, "open", func() bool { return opened.Load() == readers })
		ctx, cancel := context.WithTimeout(context.Background(), testutil.Timeout(20*time.Second))
		defer cancel()
		if err := g.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		for range readers {
			if n := <-results; n != total {
				t.Errorf("a reader got %d bytes of %d", n, total)
			}
		}
		if _, err := conn.Listen(g, "tcp", "127.0.0.1:0", echo(), conn.Config{}); err == nil {
			t.Error("listened on a group that has ended")
		}
	})
}

// TestShutdownByForce holds that what a shutdown could not flush is told.
func TestShutdownByForce(t *testing.T) {
	const total = 32 << 20
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		ends := make(chan error, 1)
		var opened atomic.Bool
		var stats conn.Stats
		l := listen(t, g, &conn.Funcs{
			Open:  func(c *conn.Conn) { _, _ = c.Write(make([]byte, total)); opened.Store(true) },
			Close: func(c *conn.Conn, err error) { stats = c.Stats(); ends <- err },
		}, conn.Config{})
		c := dial(t, l)
		defer c.Close()
		testutil.Eventually(t, 5*time.Second, "open", opened.Load)
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if err := g.Shutdown(ctx); err != context.DeadlineExceeded {
			t.Errorf("Shutdown: %v", err)
		}
		ce, ok := (<-ends).(*conn.CloseError)
		if !ok || ce.Reason != conn.Shutdown || ce.LostBytes == 0 || uint64(ce.LostBytes)+stats.BytesOut != total {
			t.Errorf("closed with %v; %d bytes taken of %d", ce, stats.BytesOut, total)
		}
	})
}

// TestForcedCloseIsPrompt holds that Close of a group does not wait for those
// who were still in the listener's queue.
func TestForcedCloseIsPrompt(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		large := buf.NewShared(make([]byte, 32<<20))
		defer large.Release()
		l := listen(t, g, &conn.Funcs{Open: func(c *conn.Conn) { c.SendShared(large) }},
			conn.Config{CloseTimeout: time.Hour, Linger: time.Hour, SendBuffer: 4096})
		stop := make(chan struct{})
		g.Loop(0).Post(func(*reactor.Loop) { <-stop })
		for range 600 { // More than one turn accepts.
			defer dial(t, l).Close()
		}
		ended := make(chan error)
		go func() { ended <- g.Close() }()
		time.Sleep(20 * time.Millisecond)
		close(stop)
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(testutil.Timeout(5 * time.Second)):
			t.Fatal("the group is still there")
		}
	})
}
