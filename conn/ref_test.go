package conn_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/testutil"
)

// TestRefOrder holds that what one goroutine asks happens in that order, the
// Close included.
func TestRefOrder(t *testing.T) {
	r := newRig(t, 1<<20, marks(1<<20, 0, 1<<20), nil)
	ref := r.c.Ref()
	var want bytes.Buffer
	var dones []int
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		for i := range 1000 {
			line := fmt.Appendf(nil, "%d\n", i)
			switch i % 3 {
			case 0:
				ref.Write(line)
			case 1:
				s := buf.NewShared(line)
				ref.SendShared(s)
				s.Release()
			default:
				ref.Do(func(c *conn.Conn) {
					dones = append(dones, i)
					_, _ = c.Write(line)
				})
			}
			want.Write(line)
		}
		ref.Close()
		if s := ref.Write([]byte("behind the close")); s != conn.Closed {
			t.Errorf("behind the close: %v", s)
		}
	}()
	for open := true; open; {
		select {
		case <-wrote:
			open = false
		default:
			r.Turn()
		}
	}
	r.peer.AutoRead(true)
	r.Settle("close", r.isClosed)
	r.Finish()
	if !bytes.Equal(r.peer.Received(), want.Bytes()) {
		t.Errorf("the peer has %d bytes of %d, or out of order", len(r.peer.Received()), want.Len())
	}
	if len(dones) != 333 || r.err != nil {
		t.Errorf("%d functions ran, closed with %v", len(dones), r.err)
	}
}

// TestRefOfManyGoroutines holds the order of each goroutine, and that nothing
// is torn or lost among them.
func TestRefOfManyGoroutines(t *testing.T) {
	const writers, messages = 8, 2000
	r := newRig(t, 1<<20, marks(4000, 0, 4000), nil)
	r.peer.AutoRead(true)
	var wg sync.WaitGroup
	ref := r.c.Ref()
	for w := range writers {
		wg.Go(func() {
			for i := range messages {
				m := binary.BigEndian.AppendUint64(nil, uint64(w)<<32|uint64(i))
				for ref.Write(m) == conn.Rejected {
					time.Sleep(10 * time.Microsecond)
				}
			}
		})
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	most := 0
	for open := true; open; {
		select {
		case <-done:
			open = false
		default:
			most = max(most, ref.Pending())
			r.Turn()
		}
	}
	r.gone()
	if most > 4000-1+8 {
		t.Errorf("%d bytes pending, want at most the limit and a message", most)
	}
	var next [writers]int
	got := r.peer.Received()
	for ; len(got) >= 8; got = got[8:] {
		v := binary.BigEndian.Uint64(got)
		if w, i := v>>32, int(uint32(v)); w >= writers || next[w] != i {
			t.Fatalf("writer %d: message %d, want %d", w, i, next[w])
		} else {
			next[w]++
		}
	}
	if len(got) > 0 || next != [writers]int{2000, 2000, 2000, 2000, 2000, 2000, 2000, 2000} {
		t.Errorf("received %v and %d bytes more", next, len(got))
	}
}

// TestRefIsRefused holds that a goroutine that outruns the loop is refused, and
// that the loop hears of it once, with the numbers.
func TestRefIsRefused(t *testing.T) {
	var told conn.SendError
	r := newRig(t, 64, marks(100, 0, 200), func(r *rig) {
		r.onError = func(c *conn.Conn, err error) {
			var se *conn.SendError
			if !errors.As(err, &se) || !errors.Is(err, conn.ErrSendBufferFull) {
				r.T.Errorf("OnError with %v", err)
				return
			}
			told = *se
		}
	})
	r.stuff()
	ref := r.c.Ref()
	for i := range 1000 {
		want := conn.Rejected
		switch {
		case i < 9:
			want = conn.Queued
		case i < 20:
			want = conn.Full
		}
		if s := ref.Write(make([]byte, 10)); s != want {
			t.Fatalf("message %d: %v, want %v", i, s, want)
		}
	}
	if ref.Pending() != 200 || r.count("full") != 0 {
		t.Errorf("%d pending; full told off the loop: %d", ref.Pending(), r.count("full"))
	}
	r.Turns(2)
	r.wantLog("full error")
	if told.Messages != 980 || told.Bytes != 9800 {
		t.Errorf("told of %+v", told)
	}
	if s := r.c.Stats(); s.Rejected != 980 || s.RejectedBytes != 9800 {
		t.Errorf("stats %+v", s)
	}
	r.gone()
}

// TestRefFullOfAReader holds that mail to a peer that reads does not make the
// queue full: the kernel is asked before.
func TestRefFullOfAReader(t *testing.T) {
	r := newRig(t, 64<<10, marks(100, 0, 10000), nil)
	r.peer.AutoRead(true)
	ref := r.c.Ref()
	for range 20 {
		ref.Write(make([]byte, 400))
	}
	r.Turns(2)
	r.wantLog("")
	if ref.Pending() != 0 {
		t.Errorf("%d pending", ref.Pending())
	}
	r.gone()
}

// TestStaleRef holds that a Ref of a connection that has gone reaches nobody,
// also when its slot has a new tenant.
func TestStaleRef(t *testing.T) {
	r := newRig(t, 1<<20, marks(1000, 0, 1000), nil)
	ref := r.c.Ref()
	if ref.ID() != r.c.ID() {
		t.Error("the Ref has another number")
	}
	r.c.Close()
	r.peer.CloseWrite()
	r.Settle("close", r.isClosed)
	for i := range 3 { // The slot has a new tenant now.
		next := r.second(marks(1000, 0, 1000), nil)
		next.peer.AutoRead(true)
		if s := ref.Write([]byte("stale")); s != conn.Closed {
			t.Errorf("Write: %v", s)
		}
		shared := buf.NewShared([]byte("stale"))
		if s := ref.SendShared(shared); s != conn.Closed {
			t.Errorf("SendShared: %v", s)
		}
		if shared.Release(); shared.Bytes() != nil {
			t.Error("a stale Ref kept a count")
		}
		if ref.Do(func(*conn.Conn) { t.Error("ran") }) {
			t.Error("Do of a stale Ref says true")
		}
		ref.Close()
		r.Turns(3)
		if n := len(next.peer.Received()); n > 0 || next.isClosed() {
			t.Errorf("connection %d got %d bytes; closed: %v", i, n, next.isClosed())
		}
		if i%2 == 0 {
			next.peer.CloseWrite()
		} else {
			next.c.Abort()
		}
		r.Settle("close", next.isClosed)
	}
	r.Finish()
}

// TestMailOvertaken ends a connection between the post and the loop: nothing
// of the mail runs later, its bytes are lost and told, its counts come back.
func TestMailOvertaken(t *testing.T) {
	r := newRig(t, 1<<20, marks(1000, 0, 1000), nil)
	next := r.second(marks(1000, 0, 1000), nil)
	shared := buf.NewShared([]byte("four"))
	r.onClose = func(c *conn.Conn, _ error) {
		if s := c.Ref().Write([]byte("x")); s != conn.Closed {
			t.Errorf("inside OnClose: %v", s)
		}
	}
	ref := r.c.Ref()
	r.c.Abort()
	r.Turn() // All operations are home; OnClose is due with the next.
	if !r.isClosed() {
		r.Settle("close", r.isClosed)
	}
	if s := ref.SendShared(shared); s != conn.Closed {
		t.Errorf("answered %v", s)
	}
	if shared.Release(); shared.Bytes() != nil {
		t.Error("a count was not given back")
	}
	next.c.Close()
	next.peer.CloseWrite()
	r.Settle("close", next.isClosed)
	r.Finish()
}

// TestDoIsBounded holds that functions wait in a bounded number.
func TestDoIsBounded(t *testing.T) {
	r := newRig(t, 64, marks(100, 0, 100), nil)
	ref, ran, taken := r.c.Ref(), 0, 0
	for range 100000 {
		if ref.Do(func(*conn.Conn) { ran++ }) {
			taken++
		}
	}
	r.Turn()
	if ran != taken || taken != 1<<16 {
		t.Errorf("%d taken, %d ran", taken, ran)
	}
	r.gone()
}

// TestRefCloseSlow ends a connection by a refusal that no caller on the loop has.
func TestRefCloseSlow(t *testing.T) {
	cfg := marks(100, 0, 100)
	cfg.SlowPeer = conn.CloseSlow
	r := newRig(t, 64, cfg, nil)
	r.stuff()
	for range 3 {
		r.c.Ref().Write(make([]byte, 100))
	}
	r.Settle("close", r.isClosed)
	r.wantReason(conn.SlowPeer, 100)
	r.Finish()
}

// TestDrainAlwaysCountsMail holds that a backlog that ends while the mailbox
// holds something is told when that has gone too.
func TestDrainAlwaysCountsMail(t *testing.T) {
	cfg := marks(1000, 0, 1000)
	cfg.DrainAlways = true
	r := newRig(t, 64, cfg, nil)
	_ = r.write(200)
	r.Turns(2)
	for r.c.Pending() > 64 {
		r.read(min(r.peer.Waiting(), 64))
	}
	r.peer.AutoRead(true)
	// The completion that empties the queue is dispatched before the mail.
	if s := r.c.Ref().Write(make([]byte, 10)); s != conn.Queued {
		t.Fatal(s)
	}
	r.Turns(4)
	r.wantLog("drain")
	r.gone()
}

// TestIdleMailboxIsSmall holds that a mailbox gives the memory of a burst back.
func TestIdleMailboxIsSmall(t *testing.T) {
	r := newRig(t, 1<<20, marks(1<<20, 0, 1<<20), nil)
	r.peer.AutoRead(true)
	ref, nothing := r.c.Ref(), func(*conn.Conn) {}
	burst := func() {
		for range 50000 {
			ref.Do(nothing)
		}
		r.Turns(2)
	}
	before := testutil.Heap()
	burst()
	burst()
	if grown := testutil.Heap() - before; grown > 512<<10 {
		t.Errorf("after 50000 functions the mailbox keeps %d bytes", grown)
	}
	r.gone()
}
