package conn_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
)

// numbered is message k of n bytes, from 8 on.
func numbered(k, n int) []byte {
	p := bytes.Repeat([]byte{byte(k)}, n)
	binary.BigEndian.PutUint32(p, uint32(k))
	binary.BigEndian.PutUint32(p[4:], uint32(n))
	return p
}

// numbers returns the messages in got, and fails where one is not whole.
func numbers(t *testing.T, got []byte) (list []int) {
	t.Helper()
	for len(got) > 0 {
		if len(got) < 8 {
			t.Fatalf("%d bytes at the end", len(got))
		}
		k, n := int(binary.BigEndian.Uint32(got)), int(binary.BigEndian.Uint32(got[4:]))
		if n < 8 || n > len(got) || !bytes.Equal(got[:n], numbered(k, n)) {
			t.Fatalf("message %d of %d bytes is not whole; %d are left", k, n, len(got))
		}
		list = append(list, k)
		got = got[n:]
	}
	return list
}

// carrier is one way to send given bytes.
type carrier struct {
	name string
	ref  bool
	send func(c *conn.Conn, p []byte) conn.Status
}

var carriers = []carrier{
	{"Send", false, func(c *conn.Conn, p []byte) conn.Status {
		b := c.Loop().Bulk().Get()
		b.Append(p)
		s := c.Send(&b)
		b.Release()
		return s
	}},
	{"Write", false, func(c *conn.Conn, p []byte) conn.Status { _, err := c.Write(p); return statusOf(err) }},
	{"Writev", false, func(c *conn.Conn, p []byte) conn.Status {
		_, err := c.Writev([][]byte{p[:3], p[3:]})
		return statusOf(err)
	}},
	{"SendShared", false, func(c *conn.Conn, p []byte) conn.Status {
		s := buf.NewShared(p)
		defer s.Release()
		return c.SendShared(s)
	}},
	{"SendBytes", false, func(c *conn.Conn, p []byte) conn.Status { return c.SendBytes(p, func() {}) }},
	{"Encode", false, func(c *conn.Conn, p []byte) conn.Status {
		return c.Encode(len(p), func(dst []byte) ([]byte, error) { return append(dst, p...), nil })
	}},
	{"Ref.Write", true, func(c *conn.Conn, p []byte) conn.Status { return c.Ref().Write(p) }},
	{"Ref.Writev", true, func(c *conn.Conn, p []byte) conn.Status { return c.Ref().Writev([][]byte{p[:3], p[3:]}) }},
	{"Ref.SendShared", true, func(c *conn.Conn, p []byte) conn.Status {
		s := buf.NewShared(p)
		defer s.Release()
		return c.Ref().SendShared(s)
	}},
	{"Ref.SendBytes", true, func(c *conn.Conn, p []byte) conn.Status { return c.Ref().SendBytes(p, func() {}) }},
}

func feed(high, limit int) conn.Config {
	cfg := marks(high, 0, limit)
	cfg.SlowPeer = conn.DropOldest
	return cfg
}

// TestDropOldest sends more than the limit to a peer that does not read: all is
// taken, and what the peer finds later are the newest messages, whole, and the one
// that was begun.
func TestDropOldest(t *testing.T) {
	for _, turns := range []int{0, 1, 3} {
		for _, m := range carriers {
			t.Run(name("%s/%d", m.name, turns), func(t *testing.T) {
				r := newRig(t, 64, feed(400, 1000), nil)
				r.stuff()
				for k := range 100 {
					if s := m.send(r.c, numbered(k, 50)); s > conn.Full {
						t.Fatalf("message %d: %v", k, s)
					}
					if n := r.c.Pending(); !m.ref && n > 1000-1+50 {
						t.Fatalf("%d bytes pending", n)
					}
					r.Turns(turns)
				}
				r.Turn()
				s := r.c.Stats()
				if s.Dropped != 80 || s.DroppedBytes != 80*50 || s.Rejected != 0 || r.c.Pending() != 1000 {
					t.Errorf("%+v, %d pending", s, r.c.Pending())
				}
				r.gone()
				got := numbers(t, r.peer.Received()[64:])
				if len(got) != 20 || got[1] != 81 || got[19] != 99 || got[0] != 0 && got[0] != 80 {
					t.Errorf("the peer got %v", got)
				}
				if turns > 0 && got[0] != 0 {
					t.Errorf("the first message was begun, and dropped: %v", got)
				}
			})
		}
	}
}

// TestDropOldestOfAReader holds that nothing is dropped for a peer that reads,
// however much comes in one turn.
func TestDropOldestOfAReader(t *testing.T) {
	for _, m := range carriers {
		r := newRig(t, 1<<20, feed(400, 1000), nil)
		r.peer.AutoRead(true)
		for k := range 19 { // The mailbox counts what it holds, up to its limit.
			m.send(r.c, numbered(k, 100))
			if m.ref && k%5 == 4 {
				r.Turn()
			}
		}
		r.Turns(2)
		if got := numbers(t, r.peer.ReadAll()); len(got) != 19 && len(numbers(t, r.peer.Received())) != 19 {
			t.Errorf("%s: %v", m.name, got)
		}
		if s := r.c.Stats(); s.Dropped != 0 {
			t.Errorf("%s: %+v", m.name, s)
		}
		r.gone()
	}
}

// TestDropOldestMailbox fills the mailbox of a loop that is busy: it holds the
// limit once more, of the newest messages.
func TestDropOldestMailbox(t *testing.T) {
	for _, m := range carriers {
		if !m.ref {
			continue
		}
		r := newRig(t, 64, feed(400, 1000), nil)
		r.stuff()
		for k := range 30 {
			m.send(r.c, numbered(k, 50))
		}
		r.Turns(2)
		ref, ran := r.c.Ref(), 0
		ref.Do(func(*conn.Conn) { ran++ })
		for k := 30; k < 5000; k++ {
			if s := m.send(r.c, numbered(k, 50)); s != conn.Full {
				t.Fatalf("%s: message %d: %v", m.name, k, s)
			}
			if n := ref.Pending(); n > 2000 {
				t.Fatalf("%s: %d bytes pending", m.name, n)
			}
		}
		ref.Do(func(*conn.Conn) { ran++ })
		r.Turns(2)
		if s := r.c.Stats(); s.Dropped != 4980 || r.c.Pending() != 1000 || ran != 2 {
			t.Errorf("%s: %+v, %d pending, %d functions ran", m.name, s, r.c.Pending(), ran)
		}
		r.gone()
		if got := numbers(t, r.peer.Received()[64:]); len(got) != 20 || got[1] != 4981 || got[19] != 4999 {
			t.Errorf("%s: the peer got %v", m.name, got)
		}
	}
}

// TestDropOldestKeeps holds that what a protocol must say is not dropped, and that
// nothing is dropped in vain.
func TestDropOldestKeeps(t *testing.T) {
	r := newRig(t, 64, feed(400, 1000), nil)
	r.stuff()
	for k := range 20 {
		_, _ = r.c.Write(numbered(k, 50))
	}
	if s := r.c.WriteReserved(numbered(20, 100)); s != conn.Full {
		t.Fatal(s)
	}
	for k := 21; k < 100; k++ {
		_, _ = r.c.Write(numbered(k, 50))
	}
	if n := r.c.Pending(); n < 1000 || n >= 1050 {
		t.Errorf("%d pending", n)
	}
	r.gone()
	if got := numbers(t, r.peer.Received()[64:]); len(got) != 19 || got[0] != 20 || got[1] != 82 || got[18] != 99 {
		t.Errorf("the peer got %v", got)
	}
	// One message above the limit is begun: to drop the rest would not make room.
	r = newRig(t, 64, feed(400, 1000), nil)
	r.stuff()
	_, _ = r.c.Write(numbered(0, 990))
	r.Turns(2)
	_, _ = r.c.Write(numbered(1, 5000))
	r.read(64)
	r.Turns(2)
	for r.c.Pending() > 5000-100 {
		r.read(64)
	}
	before := r.c.Pending()
	if _, err := r.c.Write(numbered(2, 50)); !errors.Is(err, conn.ErrSendBufferFull) {
		t.Errorf("behind a begun message above the limit: %v", err)
	}
	if s := r.c.Stats(); s.Dropped != 0 || s.Rejected != 1 || r.c.Pending() != before {
		t.Errorf("%+v", s)
	}
	r.gone()
}

// TestDropOldestTellsLenders holds that memory lent for a message that is dropped
// comes back, and that what is left at the end is counted once. Shorter ones are copied.
func TestDropOldestTellsLenders(t *testing.T) {
	r := newRig(t, 64, feed(4800, 12000), nil)
	r.stuff()
	told := 0
	for k := range 50 {
		if k%2 == 0 {
			r.c.SendBytes(numbered(k, 600), func() { told++ })
		} else {
			r.c.Ref().SendBytes(numbered(k, 600), func() { told++ })
		}
		r.Turn()
	}
	if told != 30 {
		t.Errorf("%d lenders were told, want 30", told)
	}
	r.c.Ref().SendBytes(numbered(50, 600), func() { told++ })
	r.c.Ref().SendBytes(nil, func() { told++ })
	r.c.Abort()
	r.Settle("close", r.isClosed)
	if told != 52 {
		t.Errorf("%d lenders were told at the end, want 52", told)
	}
	if s := r.c.Stats(); s.BytesOut+s.DroppedBytes+s.LostBytes != 64+51*600 {
		t.Errorf("%+v", s)
	}
	r.wantReason(conn.Aborted, int(51*600-r.c.Stats().DroppedBytes))
	r.Finish()
}

// TestDropOldestInBudget holds that a feed makes room in its own queue when the
// budget has none for it, and takes nothing from others.
func TestDropOldestInBudget(t *testing.T) {
	p := newPurse(t, 2000, conn.BudgetReject, 2, feed(5000, 5000))
	_, _ = p.all[1].c.Write(numbered(0, 600))
	for k := range 100 {
		if _, err := p.c.Write(numbered(k, 100)); err != nil {
			t.Fatalf("message %d: %v", k, err)
		}
		p.Turn()
	}
	if n := p.c.Pending(); n < 600 || n > 800 {
		t.Errorf("%d bytes pending, want about the half of what is free", n)
	}
	if n := p.all[1].c.Stats().Dropped; n != 0 {
		t.Errorf("%d messages of the other were dropped", n)
	}
	// All of the budget is with another: nothing to gain.
	_, _ = p.all[1].c.Write(numbered(1, 700))
	_, _ = p.all[1].c.Write(numbered(2, 3000))
	before := p.c.Stats()
	if _, err := p.c.Write(numbered(100, 100)); !errors.Is(err, conn.ErrSendBufferFull) {
		t.Errorf("beside one that holds it all: %v", err)
	}
	if s := p.c.Ref().Write(numbered(100, 100)); s != conn.Rejected {
		t.Errorf("through a Ref: %v", s)
	}
	if s := p.c.Stats(); s.Dropped != before.Dropped || s.Rejected != before.Rejected+1 {
		t.Errorf("%+v", s)
	}
	p.end()
}

// TestDropOldestForNothing holds that no message has to go for one without bytes, whose
// answer says that another would be taken; but for one whose length is not known.
func TestDropOldestForNothing(t *testing.T) {
	r := newRig(t, 64, feed(500, 500), nil)
	r.stuff()
	for k := range 10 {
		r.c.SendBytes(numbered(k, 50), nil)
	}
	for _, by := range carriers {
		if by.name == "Encode" || by.name == "Writev" || by.name == "Ref.Writev" {
			continue
		}
		if s := by.send(r.c, nil); s > conn.Full {
			t.Errorf("%s of nothing: %v", by.name, s)
		}
	}
	if s := r.c.Admit(0); s != conn.Queued {
		t.Errorf("Admit of nothing: %v", s)
	}
	r.Turns(3)
	if s := r.c.Stats(); s.Dropped != 0 || s.Rejected != 0 || r.c.Pending() != 500 {
		t.Errorf("%+v, %d pending", s, r.c.Pending())
	}
	for k := range 20 {
		r.c.Encode(0, func(dst []byte) ([]byte, error) { return append(dst, numbered(10+k, 50)...), nil })
	}
	if s := r.c.Stats(); s.Dropped != 20 || r.c.Pending() > 550 {
		t.Errorf("%+v, %d pending", s, r.c.Pending())
	}
	r.peer.AutoRead(true)
	r.gone()
}

// TestDropOldestBesideStreams drops messages before and behind streams: of the
// streams nothing is missing, and each keeps its place.
func TestDropOldestBesideStreams(t *testing.T) {
	r := newRig(t, 64, feed(400, 1000), nil)
	r.stuff()
	one, two := bytes.Repeat([]byte("A"), 3000), bytes.Repeat([]byte("B"), 200_000)
	k, dones := 0, 0
	some := func(n int) {
		for range n {
			if s := r.c.SendBytes(numbered(k, 50), nil); s > conn.Full {
				t.Fatalf("message %d: %v", k, s)
			}
			k++
		}
	}
	for _, data := range [][]byte{one, two} {
		some(12)
		s := r.c.SendFrom(bytes.NewReader(data), -1, func(sent int64, err error) {
			if dones++; int(sent) != len(data) || err != nil {
				t.Errorf("%d bytes sent, %v", sent, err)
			}
		})
		if s > conn.Full {
			t.Fatalf("a stream: %v", s)
		}
		r.Turns(2)
	}
	some(5) // 29 messages, 9 too many.
	r.Turns(2)
	if s := r.c.Stats(); s.Dropped != 9 || r.c.Pending() != 1000 {
		t.Errorf("%+v, %d pending", s, r.c.Pending())
	}
	r.peer.AutoRead(true)
	r.Turns(50)
	r.Settle("all sent", func() bool { return r.c.Pending() == 0 && dones == 2 })
	some(5)
	r.gone()
	got := r.peer.Received()[64:]
	a, b := bytes.Index(got, one), bytes.Index(got, two)
	if a < 0 || b < a {
		t.Fatalf("the streams are at %d and %d of %d bytes", a, b, len(got))
	}
	list := numbers(t, got[:a])
	list = append(list, numbers(t, got[a+len(one):b])...)
	list = append(list, numbers(t, got[b+len(two):])...)
	if len(list) != 25 || list[0] != 0 || list[1] != 10 || list[24] != 33 {
		t.Errorf("the messages are %v", list)
	}
}

// TestDropOldestLeavesPipes pipes a stream into a connection that drops its oldest
// messages: those are its handler's, and of the stream nothing is missing.
func TestDropOldestLeavesPipes(t *testing.T) {
	to := newRig(t, 64, feed(400, 1000), nil)
	to.stuff()
	from := to.second(marks(1000, 0, 1000), nil)
	if _, err := conn.Pipe(from.c, to.c, conn.PipeConfig{}); err != nil {
		t.Fatal(err)
	}
	data := bytes.Repeat([]byte{0xff}, 300)
	for range 3 {
		from.peer.Feed(data[:100])
		to.Turns(5)
	}
	for k := range 100 {
		_, _ = to.c.Write(numbered(k, 50))
		to.Turn()
	}
	if s := to.c.Stats(); s.Dropped < 80 {
		t.Errorf("%+v", s)
	}
	from.peer.CloseWrite()
	to.peer.AutoRead(true)
	to.Turns(50)
	to.peer.CloseWrite()
	from.peer.AutoRead(true)
	to.Settle("close", func() bool { return to.isClosed() && from.isClosed() })
	to.Finish()
	if n := bytes.Count(to.peer.Received(), []byte{0xff}); n < len(data) {
		t.Errorf("%d bytes of the stream arrived, want %d", n, len(data))
	}
}
