package conn_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
)

// shareOne sends n bytes that nobody else has.
func shareOne(n int, send func(*buf.Shared) conn.Status) conn.Status {
	s := buf.NewShared(make([]byte, n))
	defer s.Release()
	return send(s)
}

var (
	nobody          = func() {}
	plain  conn.Via = func(c *conn.Conn, p []byte) { _, _ = c.Write(p) }
)

// tinies are ways to send messages of n bytes without end. Some take turns with a
// message of another kind or length.
var tinies = []struct {
	name string
	ref  bool
	send func(c *conn.Conn, n, i int) conn.Status
}{
	{"SendShared", false, func(c *conn.Conn, n, _ int) conn.Status { return shareOne(n, c.SendShared) }},
	{"SendBytes", false, func(c *conn.Conn, n, _ int) conn.Status { return c.SendBytes(make([]byte, n), nobody) }},
	{"Write and SendShared", false, func(c *conn.Conn, n, i int) conn.Status {
		if i%2 == 0 {
			return write(c, n)
		}
		return shareOne(n, c.SendShared)
	}},
	{"Write and long SendShared", false, func(c *conn.Conn, n, i int) conn.Status {
		if i%2 == 0 {
			return write(c, n)
		}
		return shareOne(2049, c.SendShared)
	}},
	{"Send and long SendShared", false, func(c *conn.Conn, n, i int) conn.Status {
		if i%2 == 1 {
			return shareOne(2049, c.SendShared)
		}
		b := c.Loop().Bulk().Get()
		defer b.Release()
		b.Extend(n)
		return c.Send(&b)
	}},
	{"SendShared behind streams", false, func(c *conn.Conn, n, i int) conn.Status {
		if i < 10 {
			c.SendFrom(conn.Inline(forever{}), -1, nil)
		}
		return shareOne(n, c.SendShared)
	}},
	{"Ref.Write", true, func(c *conn.Conn, n, _ int) conn.Status { return c.Ref().Write(make([]byte, n)) }},
	{"Ref.SendShared", true, func(c *conn.Conn, n, _ int) conn.Status { return shareOne(n, c.Ref().SendShared) }},
	{"Ref.WriteVia", true, func(c *conn.Conn, n, _ int) conn.Status { return c.Ref().WriteVia(make([]byte, n), 0, &plain) }},
	{"Ref.SendBytes", true, func(c *conn.Conn, n, _ int) conn.Status { return c.Ref().SendBytes(make([]byte, n), nobody) }},
	{"Ref.Write and Ref.SendBytes", true, func(c *conn.Conn, n, i int) conn.Status {
		if i%2 == 0 {
			return c.Ref().Write(make([]byte, n))
		}
		return c.Ref().SendBytes(make([]byte, n), nobody)
	}},
}

// forever is a stream of which nothing comes after the first bytes.
type forever struct{}

func (forever) Read(p []byte) (int, error) { return len(p), nil }

func write(c *conn.Conn, n int) conn.Status {
	_, err := c.Write(make([]byte, n))
	return statusOf(err)
}

// TestSmallMessagesMemory holds that what waits costs about its bytes, however short
// the messages are and whoever owns them, on the loop and in the mailbox. A message
// behind the first was a record of a hundred bytes, for which no limit counted anything.
func TestSmallMessagesMemory(t *testing.T) {
	const limit = 128 << 10
	for _, policy := range []conn.Policy{conn.Reject, conn.DropOldest} {
		for _, by := range tinies {
			for _, n := range []int{4, 32, 600} {
				for _, turns := range []bool{false, true} {
					t.Run(name("%v %s %d %v", policy, by.name, n, turns), func(t *testing.T) {
						cfg := marks(limit, 0, limit)
						cfg.SlowPeer = policy
						fillSmall(t, cfg, n, by.ref, turns, by.send)
					})
				}
			}
		}
	}
}

// fillSmall sends messages of n bytes until they are refused, or would be dropped, and
// looks at the memory: at that of the mailbox too, with mail. turns says that the loop
// goes on meanwhile.
func fillSmall(t *testing.T, cfg conn.Config, n int, mail, turns bool, send func(*conn.Conn, int, int) conn.Status) {
	r := newRig(t, 64, cfg, nil)
	r.stuff()
	before := r.Held()
	for i := 0; r.c.Pending() < cfg.Limit; i++ {
		if s := send(r.c, n, i); s >= conn.Rejected {
			t.Fatalf("message %d: %v", i, s)
		}
		if turns && i%100 == 0 {
			r.Turn()
		}
	}
	if !mail {
		r.Turn()
	}
	for range 2 { // In the mailbox, and on the loop.
		r.Costs(before, r.c.Pending())
		r.Turns(2)
	}
	runtime.KeepAlive(r)
	r.c.Abort()
	r.gone()
}

// TestSmallMessagesInBudget holds what docs/send-queue.md states of a budget for
// messages that were published to connections that do not read.
func TestSmallMessagesInBudget(t *testing.T) {
	const size, members = 1 << 20, 20
	for _, n := range []int{2, 64} {
		cfg := conn.Config{Budget: conn.NewBudget(size, conn.BudgetReject)}
		ts, rigs := crowd(t, members, 64, cfg, nil)
		for _, r := range rigs {
			r.stuff()
		}
		join(t, ts, "tick", rigs...)
		r, p := rigs[0], make([]byte, n)
		before := r.Held()
		for sent := uint64(0); ts.Stats().Refused == 0; {
			for range 50 {
				ts.PublishBytes("tick", p)
				sent += members
			}
			for s := ts.Stats(); s.Taken+s.Refused < sent; s = ts.Stats() {
				r.Turn()
			}
		}
		held, total := r.Held()-before, cfg.Budget.Stats().Total
		t.Logf("messages of %d bytes: total %d KiB, %d KiB in memory", n, total>>10, held>>10)
		if most := size + members*(12<<10) + 256<<10; held > most || total < size/2 {
			t.Errorf("messages of %d bytes: total %d, and %d bytes in memory, %d are stated", n, total, held, most)
		}
		endAll(rigs)
	}
}

// TestSmallIsCopied holds that a short message behind others leaves the memory to its
// owner at the end of the turn, and that a first or a long one is not copied.
func TestSmallIsCopied(t *testing.T) {
	r := newRig(t, 64, marks(1<<20, 0, 1<<20), nil)
	r.stuff()
	log := ""
	lend := func(name string, n int) []byte {
		p := []byte(fmt.Sprintf("%s%0*d", name, n-len(name), 0))
		if s := r.c.SendBytes(p, func() { log += name }); s != conn.Queued {
			t.Fatal(s)
		}
		return p
	}
	first, long := lend("a", 10), lend("b", 3000)
	short := lend("c", 10)
	if log != "" {
		t.Errorf("%q were told inside a send", log)
	}
	r.Turn()
	if log != "c" {
		t.Errorf("%q were told at the end of the turn", log)
	}
	want := string(first) + string(long) + string(short)
	clear(short)
	if r.gone(); log != "cab" {
		t.Errorf("%q were told", log)
	}
	if got := string(r.peer.Received()[64:]); got != want {
		t.Errorf("the peer has %d bytes, which are not those that were sent", len(got))
	}
}

// TestDropOldestInRuns has messages of all kinds wait in a mailbox, and older ones go
// for newer ones: each is whole or gone, in order, those that must stay are there, and
// what was admitted adds up.
func TestDropOldestInRuns(t *testing.T) {
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		limit := 1 + rnd.IntN(5000)
		r := newRig(t, 64, feed(limit, limit), nil)
		r.stuff()
		ref, admitted, stay := r.c.Ref(), 64, []int(nil)
		for k := range 1 + rnd.IntN(300) {
			p := numbered(k, 8+rnd.IntN(1+rnd.IntN(800)))
			s := conn.Queued
			switch rnd.IntN(7) {
			case 0, 1:
				s = ref.Write(p)
			case 2:
				s = ref.WriteVia(p, 0, &plain)
			case 3:
				s = ref.WriteVia(p[2:], 2, &restore)
			case 4:
				s = ref.SendBytes(p, nobody)
			case 5:
				shared := buf.NewShared(p)
				s = ref.SendShared(shared)
				shared.Release()
			case 6:
				if stay = append(stay, k); k%5 > 0 { // Now and then, or nothing is left to drop.
					stay = stay[:len(stay)-1]
					s = ref.Write(p)
				} else {
					s = conn.Force(ref, p)
				}
			}
			if s <= conn.Full {
				admitted += len(p)
			}
			if rnd.IntN(40) == 0 {
				r.Turn()
			}
		}
		r.Turn() // The mailbox is before the close.
		r.gone()
		if s := r.c.Stats(); int(s.BytesOut+s.DroppedBytes+s.LostBytes) != admitted || s.LostBytes > 0 {
			t.Fatalf("seed %d: %d bytes admitted, %+v", seed, admitted, s)
		}
		got := numbers(t, r.peer.Received()[64:])
		if !slices.IsSorted(got) {
			t.Fatalf("seed %d: the peer has %v", seed, got)
		}
		for _, k := range stay {
			if !slices.Contains(got, k) {
				t.Fatalf("seed %d: the peer has %v, without %d", seed, got, k)
			}
		}
	}
}

// restore puts back the first two bytes of a numbered message.
var restore conn.Via = func(c *conn.Conn, p []byte) { c.SendVec([][]byte{{0, 0}, p}) }

// TestLendersOfDropped holds that who lent memory for messages which a mailbox has
// dropped waits in a bounded number for the loop to tell him, and is told.
func TestLendersOfDropped(t *testing.T) {
	for _, n := range []int{10, 1000} {
		r := newRig(t, 64, feed(n, n), nil)
		r.stuff()
		ref, p := r.c.Ref(), make([]byte, n)
		told, taken := 0, 0
		for range 1<<16 + 100 {
			if ref.SendBytes(p, func() { told++ }) <= conn.Full {
				taken++
			}
		}
		if taken < 1<<16-2 || taken > 1<<16+2 {
			t.Errorf("%d messages of %d bytes were taken", taken, n)
		}
		r.Turn()
		if r.gone(); told != taken {
			t.Errorf("%d lenders of %d were told", told, taken)
		}
	}
}
