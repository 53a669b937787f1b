package conn_test

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// lastWord says goodbye, waits for an answer, and closes then.
type lastWord struct{ conn.Funcs }

func (h *lastWord) OnShutdown(c *conn.Conn) { _, _ = c.Write([]byte("goodbye")) }

// TestOnShutdown holds that a handler has its say at a shutdown, and that the
// connection ends when the handler ends it; or by force.
func TestOnShutdown(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		ends := make(chan error, 2)
		h := &lastWord{conn.Funcs{
			Data:  nil,
			Close: func(_ *conn.Conn, err error) { ends <- err },
		}}
		l := listen(t, g, h, conn.Config{})
		kind, mute := dial(t, l), dial(t, l)
		defer kind.Close()
		defer mute.Close()
		testutil.Eventually(t, 5*time.Second, "open", func() bool { return l.Stats().Open == 2 })
		done := make(chan error)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), testutil.Timeout(300*time.Millisecond))
			defer cancel()
			done <- g.Shutdown(ctx)
		}()
		p := make([]byte, 7)
		if _, err := io.ReadFull(kind, p); err != nil || string(p) != "goodbye" {
			t.Fatalf("%q, %v", p, err)
		}
		_ = kind.CloseWrite()
		if err := <-ends; err != io.EOF {
			t.Errorf("the one that answered closed with %v", err)
		}
		if err := <-done; err != context.DeadlineExceeded {
			t.Errorf("Shutdown: %v", err)
		}
		if ce, ok := (<-ends).(*conn.CloseError); !ok || ce.Reason != conn.Shutdown {
			t.Errorf("the mute one closed with %v", ce)
		}
	})
}

// TestOnShutdownOnce holds that a second request to end is no second event.
func TestOnShutdownOnce(t *testing.T) {
	w := newWorld(t, 1, aiotest.Config{})
	cfg, _ := conn.Config{}.Check()
	fd, peer := w.Fake.Open()
	c := conn.New(w.Loop, int(fd), &lastWord{}, cfg)
	peer.AutoRead(true)
	for range 2 {
		c.Stop(w.Loop, false)
		w.Turn()
	}
	w.Turn()
	if got := string(peer.Received()); got != "goodbye" {
		t.Errorf("the peer has %q", got)
	}
	c.Abort()
	w.Settle("the end", func() bool { return w.Fake.OpenFDs() == 0 })
	w.Finish()
}

// TestOnShutdownPanic holds that a handler that panics in its last word loses its own
// connection, whoever runs when that is asked to stop.
func TestOnShutdownPanic(t *testing.T) {
	r := newRig(t, 64, conn.Config{}, nil)
	cfg, _ := conn.Config{}.Check()
	fd, peer := r.Fake.Open()
	peer.AutoRead(true)
	var ended error
	h := &badWord{conn.Funcs{Close: func(_ *conn.Conn, err error) { ended = err }}}
	r.do(func(*conn.Conn) { conn.New(r.Loop, int(fd), h, cfg).Stop(r.Loop, false) })
	r.Turns(5)
	var ce *conn.CloseError
	if !errors.As(ended, &ce) || ce.Reason != conn.HandlerPanic || r.isClosed() {
		t.Errorf("it ended with %v, and the other one is closed: %v", ended, r.isClosed())
	}
	r.gone()
}

type badWord struct{ conn.Funcs }

func (h *badWord) OnShutdown(*conn.Conn) { panic("at the end") }

// TestCloseBeforeEOF holds that a connection which is closed before it has heard of its
// peer's end of file was closed here.
func TestCloseBeforeEOF(t *testing.T) {
	r := newRig(t, 64, conn.Config{}, nil)
	r.peer.CloseWrite()
	r.c.Ref().Do(func(c *conn.Conn) { c.Stop(r.Loop, false) })
	r.Settle("close", r.isClosed)
	if r.err != nil {
		t.Errorf("OnClose was told %v", r.err)
	}
	r.Finish()
}
