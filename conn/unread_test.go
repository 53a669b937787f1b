package conn_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// TestUnread takes one byte of each block and gives the rest back: one OnData of
// them a turn, all bytes in order, the end of file behind them.
func TestUnread(t *testing.T) {
	var at []time.Duration
	var first []byte
	r := newRig(t, 64, marks(100, 0, 200), func(r *rig) {
		r.onData = func(c *conn.Conn, in *buf.Buf) {
			at = append(at, r.Now)
			first = append(first, in.Bytes()[0])
			in.Advance(1)
			c.Unread(in)
			if !in.IsZero() {
				t.Error("Unread has left the block")
			}
		}
	})
	r.peer.Feed([]byte("abc"))
	r.peer.Feed([]byte("def"))
	r.peer.CloseWrite()
	r.Settle("close", r.isClosed)
	if string(first) != "abcdef" || !errors.Is(r.err, io.EOF) {
		t.Errorf("got %q, closed with %v", first, r.err)
	}
	for i := 3; i < len(at); i++ { // What came in, and one rest at the end of the turn.
		if at[i] == at[i-2] {
			t.Errorf("turns %v: a rest came again in the same turn", at)
		}
	}
	r.gone()
}

// TestUnreadInFront holds that a second Unread comes before the first, both
// before what was parked, and none while reading is paused.
func TestUnreadInFront(t *testing.T) {
	r := newRig(t, 64, marks(100, 0, 200), func(r *rig) {
		r.onData = func(c *conn.Conn, in *buf.Buf) {
			if r.onData = nil; !c.Reading() {
				t.Error("not reading inside OnData")
			}
			r.got = r.got[:0]
			c.Unread(in)
			front := r.Bulk.Get()
			front.Append([]byte("front "))
			c.Unread(&front)
			if c.PauseRead(); c.Reading() {
				t.Error("paused, and reading")
			}
		}
	})
	r.peer.Feed([]byte("middle "))
	r.Turns(3)
	r.peer.Feed([]byte("end"))
	r.Turns(3)
	if len(r.got) > 0 {
		t.Fatalf("got %q while paused", r.got)
	}
	r.c.ResumeRead()
	r.Turns(3)
	if string(r.got) != "front middle end" {
		t.Errorf("got %q", r.got)
	}
	r.gone()
}

// TestUnreadAfterClose holds that nothing is heard or kept behind a close.
func TestUnreadAfterClose(t *testing.T) {
	for _, end := range []func(*conn.Conn){(*conn.Conn).Close, (*conn.Conn).Abort} {
		r := newRig(t, 64, marks(100, 0, 200), func(r *rig) {
			r.onData = func(c *conn.Conn, in *buf.Buf) {
				before := r.Bulk.Get()
				before.Append(in.Bytes())
				c.Unread(&before)
				end(c)
				held := r.Small.InUse()
				c.Unread(in)
				if c.Reading() || !in.IsZero() || r.Small.InUse() != held-1 {
					t.Error("reading behind the end")
				}
			}
		})
		r.peer.Feed([]byte("x"))
		r.Turns(3)
		if n := r.count("data"); n != 1 {
			t.Errorf("%d deliveries", n)
		}
		r.gone()
	}
}

// leaver holds what it has heard until another handler takes its place.
type leaver struct {
	conn.NopHandler
	held []buf.Buf
}

func (l *leaver) OnData(_ *conn.Conn, in *buf.Buf) { l.held = append(l.held, in.Take()) }

func (l *leaver) OnLeave(c *conn.Conn) {
	for _, b := range slices.Backward(l.held) {
		c.Unread(&b)
	}
}

// TestOnLeave changes the handler from outside of OnData: what the old one has
// held goes to the new one, once.
func TestOnLeave(t *testing.T) {
	r := newRig(t, 64, marks(100, 0, 200), nil)
	old := &leaver{}
	second := r.c.Handler()
	r.c.SetHandler(old)
	want := bytes.Repeat([]byte("0123456789"), 2000)
	r.peer.Feed(want)
	r.Settle("held", func() bool { return len(old.held) == (len(want)-1)/reactor.SmallBlock+1 })
	r.c.SetHandler(second)
	r.Turns(3)
	if !bytes.Equal(r.got, want) {
		t.Errorf("the new handler has %d bytes of %d", len(r.got), len(want))
	}
	r.gone()
}
