package conn_test

import (
	"fmt"
	"testing"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
)

// quote is a protocol that puts a message in quotes.
var quote conn.Via = func(c *conn.Conn, p []byte) { c.SendVec([][]byte{[]byte("<"), p, []byte(">")}) }

func via(fn func(c *conn.Conn, p []byte)) *conn.Via { return (*conn.Via)(&fn) }

// TestWriteVia holds that a message which is made on the loop is admitted when it
// is posted, in the order of the posts, and taken then whatever is pending.
func TestWriteVia(t *testing.T) {
	r := newRig(t, 64, marks(100, 0, 100), nil)
	r.stuff()
	ref := r.c.Ref()
	var answers []conn.Status
	for i := range 6 {
		p := fmt.Appendf(nil, "%020d", i)
		if i%2 == 0 {
			answers = append(answers, ref.Write(p))
		} else {
			answers = append(answers, ref.WriteVia(p, 2, &quote))
		}
	}
	if got := fmt.Sprint(answers); got != "[queued queued queued queued full rejected]" || ref.Pending() != 104 {
		t.Fatalf("answers %v, %d pending", got, ref.Pending())
	}
	r.Turn()
	if r.c.Pending() != 104 {
		t.Errorf("%d pending on the loop", r.c.Pending())
	}
	ref.WriteVia([]byte("late"), 0, via(func(*conn.Conn, []byte) { t.Error("made although it was refused") }))
	r.gone()
	want := ""
	for i := range 5 {
		if want += fmt.Sprintf("%020d", i); i%2 == 1 {
			want = want[:len(want)-20] + "<" + want[len(want)-20:] + ">"
		}
	}
	if got := string(r.peer.Received()[64:]); got != want {
		t.Errorf("the peer has %q, want %q", got, want)
	}
}

// TestWriteViaTooLate holds that a message of a protocol which was posted, and then
// overtaken by a close on the loop, is not made, and holds nothing up.
func TestWriteViaTooLate(t *testing.T) {
	r := newRig(t, 1000, marks(100, 0, 200), nil)
	ref := r.c.Ref()
	ref.Do(func(c *conn.Conn) { c.CloseWith([]byte("bye")) })
	if s := ref.WriteVia([]byte("behind"), 2, via(func(*conn.Conn, []byte) { t.Error("made") })); s != conn.Queued {
		t.Fatal(s)
	}
	r.Turn()
	r.gone()
	if got := string(r.peer.Received()); got != "bye" || r.err != nil {
		t.Errorf("the peer has %q, closed with %v", got, r.err)
	}
}

// TestKeep holds that DropOldest leaves what was sent while Keep was on.
func TestKeep(t *testing.T) {
	cfg := marks(10, 0, 10)
	cfg.SlowPeer = conn.DropOldest
	r := newRig(t, 4, cfg, nil)
	r.stuff()
	for i := range 8 {
		r.c.Keep(i == 1 || i == 2)
		_, _ = r.c.Write(fmt.Appendf(nil, "%d%d%d%d", i, i, i, i))
	}
	r.c.Keep(false)
	r.gone()
	if got := string(r.peer.Received()[4:]); got != "111122227777" {
		t.Errorf("the peer has %q", got)
	}
}

// TestKeepInsideOnFull holds that what OnFull sends inside a send that Keep is for may
// be dropped.
func TestKeepInsideOnFull(t *testing.T) {
	cfg := marks(10, 0, 30)
	cfg.SlowPeer = conn.DropOldest
	r := newRig(t, 4, cfg, nil)
	r.stuff()
	r.onFull = func(c *conn.Conn) {
		_, _ = c.Write([]byte("1111"))
		_, _ = c.Write([]byte("2222"))
	}
	r.c.Keep(true)
	_, _ = r.c.Write([]byte("first and full."))
	_, _ = r.c.Write([]byte("kept"))
	r.c.Keep(false)
	_, _ = r.c.Write([]byte("0123456789"))
	_, _ = r.c.Write([]byte("abcdefghij"))
	r.gone()
	if got := string(r.peer.Received()[4:]); got != "first and full.kept0123456789abcdefghij" {
		t.Errorf("the peer has %q", got)
	}
}

// TestAdmitInsideVia holds that a via which asks before it sends is not refused what was
// admitted when it was posted.
func TestAdmitInsideVia(t *testing.T) {
	r := newRig(t, 1<<20, marks(100, 0, 100), nil)
	ref, sent := r.c.Ref(), 0
	for _, size := range []int{99, 100} {
		shared := buf.NewShared(make([]byte, size))
		defer shared.Release()
		if s := ref.WriteVia(nil, size, via(func(c *conn.Conn, _ []byte) {
			if c.Admit(size) == conn.Queued && c.SendShared(shared) <= conn.Full {
				sent++
			}
		})); s >= conn.Rejected {
			t.Fatal(s)
		}
	}
	r.Turn()
	if s := r.c.Stats(); sent != 2 || s.Rejected > 0 {
		t.Errorf("%d sent, %d rejected", sent, s.Rejected)
	}
	r.gone()
}

// TestCloseVia holds that the close of a protocol is not turned away by functions that
// wait in as great a number as may, runs in its place, and once.
func TestCloseVia(t *testing.T) {
	r := newRig(t, 1000, marks(100, 0, 100), nil)
	ref, ran, behind := r.c.Ref(), 0, false
	for ref.Do(func(*conn.Conn) { ran++ }) {
	}
	var at []int
	for range 3 {
		ref.CloseVia(func(c *conn.Conn) { at = append(at, ran); c.CloseWith([]byte("bye")) })
	}
	ref.WriteVia([]byte("behind"), 0, via(func(*conn.Conn, []byte) { behind = true }))
	r.Turn()
	if fmt.Sprint(at) != fmt.Sprint([]int{ran}) || ran != 1<<16 || behind {
		t.Errorf("%d ran, the close behind %v, what was behind it: %v", ran, at, behind)
	}
	ref.CloseVia(func(*conn.Conn) { at = nil })
	r.Turn()
	if at != nil {
		t.Error("another, when the first has run, did not")
	}
	r.gone()
	ref.CloseVia(func(*conn.Conn) { t.Error("ran behind OnClose") })
	conn.Ref{}.CloseVia(nil)
}

// TestKeepHolds holds that Keep is in force until it is called again, also when the
// queue was empty in between.
func TestKeepHolds(t *testing.T) {
	cfg := marks(1000, 0, 1000)
	cfg.SlowPeer = conn.DropOldest
	r := newRig(t, 64, cfg, nil)
	r.c.Keep(true)
	r.stuff()
	r.read(64)
	for range 20 {
		_ = r.write(100)
	}
	if s := r.c.Stats(); s.Dropped != 0 || s.Rejected == 0 {
		t.Errorf("%d messages dropped, %d refused", s.Dropped, s.Rejected)
	}
	r.c.Keep(false)
	r.gone()
}
