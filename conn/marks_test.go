package conn_test

import (
	"bytes"
	"errors"
	"runtime"
	"strings"
	"testing"
	"time"
	"weak"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// TestAdmission holds the boundaries of the contract, for each way to send.
func TestAdmission(t *testing.T) {
	for _, m := range methods {
		for _, tc := range []struct {
			pending, n int
			want       conn.Status
		}{
			{0, 0, conn.Queued}, {0, 1, conn.Queued},
			{0, 99, conn.Queued}, {0, 100, conn.Full}, {0, 200, conn.Full}, {0, 3 << 20, conn.Full},
			{98, 1, conn.Queued}, {99, 1, conn.Full}, {99, 500, conn.Full},
			{199, 1, conn.Full}, {199, 3 << 20, conn.Full},
			{200, 1, conn.Rejected}, {201, 1, conn.Rejected}, {200, 3 << 20, conn.Rejected}, {5000, 1, conn.Rejected},
		} {
			n := tc.n
			if m.most > 0 {
				n = min(n, m.most)
			}
			t.Run(name("%s/%d+%d", m.name, tc.pending, n), func(t *testing.T) {
				r := newRig(t, 64, marks(100, 10, 200), nil)
				r.stuff()
				if tc.pending > 0 {
					if err := r.write(tc.pending); err != nil {
						t.Fatal(err)
					}
				}
				before := r.c.Stats()
				if got := m.send(r, n); got != tc.want {
					t.Fatalf("answered %v, want %v", got, tc.want)
				}
				taken, refused := n, uint64(0)
				if tc.want == conn.Rejected {
					taken, refused = 0, 1
				}
				if got := r.c.Pending(); got != tc.pending+taken {
					t.Errorf("%d bytes pending, want %d", got, tc.pending+taken)
				}
				r.Turns(3)
				s := r.c.Stats()
				if got := s.Rejected - before.Rejected; got != refused {
					t.Errorf("counted %d refusals, want %d", got, refused)
				}
				if got := s.RejectedBytes - before.RejectedBytes; got != refused*uint64(n) {
					t.Errorf("counted %d bytes refused, want %d", got, refused*uint64(n))
				}
				if tc.pending+taken > 10000 { // All of it through so small a window takes for ever.
					r.c.Abort()
					r.gone()
					r.wantReason(conn.Aborted, tc.pending+taken)
					return
				}
				r.gone()
				if got := len(r.peer.Received()); got != r.window+tc.pending+taken {
					t.Errorf("the peer has %d bytes, want %d", got, r.window+tc.pending+taken)
				}
			})
		}
	}
}

// TestAdmitChargesNothing holds that Admit answers as a Send would.
func TestAdmitChargesNothing(t *testing.T) {
	r := newRig(t, 64, marks(100, 10, 200), nil)
	r.stuff()
	for _, step := range []struct {
		write int
		want  conn.Status
	}{{0, conn.Queued}, {199, conn.Queued}, {1, conn.Rejected}} {
		_ = r.write(step.write)
		before := r.c.Pending()
		if got := r.c.Admit(1 << 20); got != step.want {
			t.Errorf("at %d pending: %v, want %v", before, got, step.want)
		}
		if got := r.c.Pending(); got != before {
			t.Errorf("Admit changed pending from %d to %d", before, got)
		}
	}
	if s := r.c.Stats(); s.Rejected != 1 || s.RejectedBytes != 1<<20 {
		t.Errorf("counted %d refusals of %d bytes", s.Rejected, s.RejectedBytes)
	}
	r.c.Close()
	if got := r.c.Admit(1); got != conn.Closed {
		t.Errorf("after Close: %v", got)
	}
	if n := r.c.Stats().AfterClose; n != 1 {
		t.Errorf("%d sends after close counted, want 1", n)
	}
	r.gone()
}

// TestFullSpeaksOfThePeer sends far more than the marks in one turn to a peer
// that reads: no Full, no refusal, and few offers.
func TestFullSpeaksOfThePeer(t *testing.T) {
	for _, m := range methods {
		if m.ref { // The mailbox counts what it holds, see Ref.
			continue
		}
		t.Run(m.name, func(t *testing.T) {
			const high, message, total = 10000, 999, 2 << 20
			r := newRig(t, 128<<10, marks(high, 0, high), nil)
			r.peer.AutoRead(true)
			sent := 0
			for ; sent < total; sent += message {
				if s := m.send(r, message); s != conn.Queued {
					t.Fatalf("after %d bytes: %v", sent, s)
				}
			}
			if most := sent/high + 2; r.calls.tries > most {
				t.Errorf("%d offers for %d bytes, want at most %d", r.calls.tries, sent, most)
			}
			r.Turns(2)
			r.wantLog("")
			if got := len(r.peer.Received()); got != sent {
				t.Errorf("the peer has %d bytes of %d", got, sent)
			}
			r.gone()
		})
	}
}

// TestStuckIsNotAskedAgain holds that sends to a peer that does not read cost
// no system call each.
func TestStuckIsNotAskedAgain(t *testing.T) {
	r := newRig(t, 64, marks(100, 0, 200), nil)
	r.stuff()
	r.calls.tries = 0
	for range 1000 {
		_ = r.write(10)
	}
	if n := r.calls.tries; n > 1 {
		t.Errorf("the kernel was asked %d times, want once", n)
	}
	r.Turn()
	r.calls.tries, r.calls.sends = 0, 0
	for range 100 {
		_ = r.write(10)
		r.Turn()
	}
	if a, b := r.calls.tries, r.calls.sends; a+b > 0 {
		t.Errorf("%d offers and %d sends to a peer that is stuck", a, b)
	}
	r.gone()
}

// TestLowWater holds that a drain comes at the mark or below, and not above.
func TestLowWater(t *testing.T) {
	for _, low := range []int{0, 1, 50, 99} {
		t.Run(name("%d", low), func(t *testing.T) {
			r := newRig(t, 64, marks(100, low, 200), nil)
			r.stuff()
			if err := r.write(101); err != nil {
				t.Fatal(err)
			}
			r.Turns(2)
			r.wantLog("full")
			for r.c.Pending() > low+1 {
				r.read(1)
				r.wantLog("full")
			}
			r.read(1)
			r.wantLog("full drain")
			if r.c.IsFull() {
				t.Error("full after its drain")
			}
			r.gone()
		})
	}
}

// TestFullIsLatched holds that Full comes once until the drain, however the
// queue moves between.
func TestFullIsLatched(t *testing.T) {
	r := newRig(t, 64, marks(100, 0, 200), nil)
	r.stuff()
	_ = r.write(120)
	for range 5 {
		r.read(50)
		_ = r.write(50)
		r.Turn()
	}
	r.wantLog("full")
	r.read(60)
	r.read(60)
	r.wantLog("full drain")
	_ = r.write(99)
	r.wantLog("full drain")
	_ = r.write(1)
	r.wantLog("full drain full")
	r.gone()
	r.wantLog("full drain full drain close")
}

// TestSetMarks moves the marks over pending, both ways.
func TestSetMarks(t *testing.T) {
	for _, tc := range []struct {
		name    string
		pending int
		marks   conn.Marks
		hooks   string // after SetMarks
		end     string
	}{
		{"high over pending", 150, conn.Marks{High: 400, Low: 10, Limit: 400}, "full", "full drain close"},
		{"low over pending", 150, conn.Marks{High: 400, Low: 150, Limit: 400}, "full drain", "full drain close"},
		{"low up to pending", 150, conn.Marks{High: 151, Low: 150, Limit: 400}, "full drain", "full drain close"},
		{"low below pending", 150, conn.Marks{High: 151, Low: 149, Limit: 400}, "full", "full drain close"},
		{"high down to pending", 50, conn.Marks{High: 50, Low: 0, Limit: 50}, "full", "full drain close"},
		{"high above pending still", 50, conn.Marks{High: 51, Low: 0, Limit: 51}, "", "close"},
		{"nothing new", 150, conn.Marks{High: 100, Low: 10, Limit: 200}, "full", "full drain close"},
	} {
		t.Run(name("%s", tc.name), func(t *testing.T) {
			r := newRig(t, 64, marks(100, 10, 200), nil)
			r.stuff()
			_ = r.write(tc.pending)
			r.Turn()
			before := len(r.log)
			if err := r.c.SetMarks(tc.marks); err != nil {
				t.Fatal(err)
			}
			if len(r.log) != before {
				t.Error("a hook ran inside SetMarks")
			}
			r.Turns(3)
			r.wantLog(tc.hooks)
			want := conn.Queued
			if tc.pending >= tc.marks.Limit {
				want = conn.Rejected
			}
			if got := r.c.Admit(1); got != want {
				t.Errorf("a message under the new limit: %v, want %v", got, want)
			}
			if got := r.c.Ref().Pending(); got != tc.pending {
				t.Errorf("the Ref says %d pending, want %d", got, tc.pending)
			}
			r.gone()
			r.wantLog(tc.end)
		})
	}
}

// TestSetMarksReachesRefs holds that a Ref admits by the marks in force.
func TestSetMarksReachesRefs(t *testing.T) {
	r := newRig(t, 64, marks(100, 10, 200), nil)
	r.stuff()
	ref := r.c.Ref()
	_ = r.write(150)
	if err := r.c.SetMarks(conn.Marks{High: 120, Limit: 150}); err != nil {
		t.Fatal(err)
	}
	if s := ref.Write([]byte("x")); s != conn.Rejected {
		t.Errorf("at the new limit: %v", s)
	}
	if err := r.c.SetMarks(conn.Marks{High: 151, Limit: 200}); err != nil {
		t.Fatal(err)
	}
	if s := ref.Write([]byte("x")); s != conn.Full {
		t.Errorf("at the new high water: %v", s)
	}
	r.gone()
}

func TestSetMarksRefusesContradictions(t *testing.T) {
	r := newRig(t, 64, marks(100, 10, 200), nil)
	was := r.c.Marks()
	for _, m := range []conn.Marks{
		{}, {High: 100, Low: 100, Limit: 200}, {High: 100, Low: 101, Limit: 200}, {High: 100, Low: -1, Limit: 200},
		{High: 100, Limit: 99}, {High: -5, Low: -6, Limit: 10}, {High: 100},
	} {
		if err := r.c.SetMarks(m); err == nil {
			t.Errorf("%+v was taken", m)
		}
		if r.c.Marks() != was {
			t.Fatalf("%+v was refused and changed the marks to %+v", m, r.c.Marks())
		}
	}
	r.gone()
}

func TestConfigCheck(t *testing.T) {
	for _, c := range []conn.Config{
		{HighWater: -1}, {HighWater: 10, LowWater: 10}, {LowWater: -1}, {HighWater: 10, Limit: 9}, {Limit: 100},
		{CloseTimeout: -1}, {Linger: -1}, {Backlog: -1}, {SendBuffer: -1}, {RecvBuffer: -1}, {ZeroCopyMin: -1}, {SlowPeer: 9},
	} {
		if _, err := c.Check(); err == nil {
			t.Errorf("%+v was taken", c)
		}
	}
	c, err := conn.Config{HighWater: 10}.Check()
	if err != nil || c.Limit != 10 || c.CloseTimeout == 0 || c.Linger == 0 {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestReserveComesBack holds that the reserve is there again when what was said from it
// has gone, although the queue is never empty, and not before, also behind a stream.
func TestReserveComesBack(t *testing.T) {
	for _, streamed := range []int{0, 1000} {
		r := newRig(t, 64, marks(100, 10, 200), nil)
		r.stuff()
		quarter := func() conn.Status { return r.c.WriteReserved(make([]byte, conn.Reserve/4)) }
		if streamed > 0 {
			r.c.SendFrom(strings.NewReader(strings.Repeat("s", streamed)), int64(streamed), nil)
		}
		for range 10 {
			for r.write(50) == nil {
			}
			for i := range 5 {
				if s := quarter(); (s == conn.Rejected) != (i == 4) {
					t.Fatalf("%d streamed: quarter %d of the reserve: %v", streamed, i, s)
				}
			}
			for left := streamed + r.c.Pending(); left > 0; left -= min(left, 50) {
				if s := quarter(); s != conn.Rejected {
					t.Fatalf("%d streamed: %v with %d bytes before the last", streamed, s, left)
				}
				r.read(min(50, left))
				_ = r.write(50) // It is refused as long as there is a reserve to pay back.
			}
			if streamed > 0 {
				for r.c.Pending() > 0 { // Behind a stream it comes back when all has gone.
					r.read(min(50, r.peer.Waiting()))
				}
				streamed = 0
			}
		}
		r.gone()
	}
}

// TestReserve holds that a protocol's last words pass the limit, up to the
// reserve, which is there again when the queue is empty.
func TestReserve(t *testing.T) {
	r := newRig(t, 64, marks(100, 10, 200), nil)
	r.stuff()
	for range 2 {
		_ = r.write(200)
		for i, tc := range []struct {
			n    int
			want conn.Status
		}{{100, conn.Full}, {conn.Reserve - 100, conn.Full}, {1, conn.Rejected}, {0, conn.Rejected}} {
			if s := r.c.WriteReserved(make([]byte, tc.n)); s != tc.want {
				t.Errorf("step %d: %v, want %v", i, s, tc.want)
			}
		}
		if got := r.c.Pending(); got != 200+conn.Reserve {
			t.Errorf("%d bytes pending", got)
		}
		for r.c.Pending() > 0 {
			r.read(min(64, r.c.Pending()))
		}
	}
	_ = r.write(200)
	if s := r.c.WriteReserved(make([]byte, conn.Reserve+1)); s != conn.Rejected {
		t.Errorf("more than the reserve: %v", s)
	}
	if s := r.c.CloseWith(make([]byte, conn.Reserve)); s != conn.Full {
		t.Errorf("CloseWith at the limit: %v", s)
	}
	if s := r.c.CloseWith([]byte("twice")); s != conn.Closed {
		t.Errorf("CloseWith after close: %v", s)
	}
	out := r.c.Stats().BytesOut
	r.gone()
	if r.err != nil || len(r.peer.Received()) != int(out)+200+conn.Reserve {
		t.Errorf("closed with %v; the peer has %d bytes of %d", r.err, len(r.peer.Received()), int(out)+200+conn.Reserve)
	}
}

// TestReserveAfterOffer holds that an offer that empties the queue gives the
// reserve back as a send does.
func TestReserveAfterOffer(t *testing.T) {
	r := newRig(t, 1000, marks(100, 10, 200), nil)
	for i := range 20 {
		_ = r.write(150)
		_ = r.write(50) // Full would be told; the offer takes all.
		if s := r.c.WriteReserved(make([]byte, 200)); s == conn.Rejected {
			t.Fatalf("round %d: refused", i)
		}
		r.peer.ReadAll()
	}
	r.gone()
}

func TestZeroLength(t *testing.T) {
	for _, m := range methods {
		t.Run(m.name, func(t *testing.T) {
			r := newRig(t, 64, marks(100, 10, 200), nil)
			if s := m.send(r, 0); s != conn.Queued {
				t.Errorf("open: %v", s)
			}
			r.Turns(3)
			if n := r.c.Pending(); n != 0 {
				t.Errorf("%d bytes pending", n)
			}
			if r.calls.sends != 0 {
				t.Errorf("%d sends of nothing", r.calls.sends)
			}
			r.c.Close()
			if s := m.send(r, 0); s != conn.Closed {
				t.Errorf("after Close: %v", s)
			}
			r.gone()
		})
	}
}

// TestZeroLengthMail holds that empty messages, which no limit counts, do not
// fill the mailbox.
func TestZeroLengthMail(t *testing.T) {
	r := newRig(t, 64, marks(100, 10, 200), nil)
	ref, none := r.c.Ref(), buf.NewShared(nil)
	if n := testing.AllocsPerRun(10000, func() {
		ref.Write(nil)
		ref.SendShared(none)
		ref.Close()
	}); n > 0.1 {
		t.Errorf("%v allocations for messages without a byte", n)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100000 {
		ref.Write(nil)
		ref.SendShared(none)
		ref.Close()
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes allocated for messages without a byte", n)
	}
	none.Release()
	r.gone()
}

// TestSendBytesDone holds that done runs exactly once, in every ending.
func TestSendBytesDone(t *testing.T) {
	for _, tc := range []struct {
		name string
		want int
		end  func(r *rig)
	}{
		{"flushed", 1, func(r *rig) { r.peer.AutoRead(true); r.Turns(3) }},
		{"closed", 1, func(r *rig) { r.c.Close(); r.peer.AutoRead(true) }},
		{"aborted", 1, func(r *rig) { r.c.Abort() }},
		{"reset", 1, func(r *rig) { r.peer.Reset() }},
		{"close timeout", 1, func(r *rig) { r.c.Close(); r.Turn(); r.Now += 2 * time.Hour }},
		{"panic", 1, func(r *rig) { r.do(func(*conn.Conn) { panic("handler") }) }},
		{"shutdown", 1, func(r *rig) { r.c.Stop(r.Loop, true) }},
		{"rejected", 0, nil},
		{"after close", 0, nil},
	} {
		t.Run(name("%s", tc.name), func(t *testing.T) {
			r := newRig(t, 64, marks(100, 10, 100), nil)
			r.stuff()
			dones := 0
			done := func() {
				if dones++; r.isClosed() {
					t.Error("done after OnClose")
				}
			}
			switch {
			case tc.name == "rejected":
				_ = r.write(100)
			case tc.name == "after close":
				r.c.Close()
			}
			s := r.c.SendBytes(make([]byte, 500), done)
			if (tc.want == 1) != (s <= conn.Full) || dones > 0 {
				t.Fatalf("answered %v, done ran %d times", s, dones)
			}
			if tc.end != nil {
				tc.end(r)
			}
			if r.isClosed() || tc.name == "flushed" || tc.want == 0 {
				r.gone()
			} else {
				r.Settle("close", r.isClosed)
				r.Finish()
			}
			if dones != tc.want {
				t.Errorf("done ran %d times, want %d", dones, tc.want)
			}
		})
	}
}

func TestSendBytesOfNothing(t *testing.T) {
	r := newRig(t, 64, marks(100, 10, 200), nil)
	dones := 0
	if s := r.c.SendBytes(nil, func() { dones++ }); s != conn.Queued || dones != 0 {
		t.Errorf("answered %v, done ran %d times inside", s, dones)
	}
	r.Turn()
	if dones != 1 {
		t.Errorf("done ran %d times", dones)
	}
	r.gone()
}

// TestSharedIsGivenBack holds that every ending gives back the counts, and
// that nobody keeps the payload alive behind them.
func TestSharedIsGivenBack(t *testing.T) {
	for _, ref := range []bool{false, true} {
		for ending, end := range map[string]func(r *rig){
			"flushed":  func(r *rig) { r.peer.AutoRead(true); r.Turns(4) },
			"aborted":  func(r *rig) { r.c.Abort(); r.Turns(4) },
			"mailbox":  func(r *rig) { r.peer.Reset(); r.c.Abort(); r.Turns(4) },
			"rejected": func(r *rig) { r.Turns(4) },
		} {
			t.Run(name("%s/ref=%v", ending, ref), func(t *testing.T) {
				r := newRig(t, 64<<10, marks(100, 10, 100), nil)
				r.stuff()
				if ending == "rejected" {
					_ = r.write(100)
				}
				s := buf.NewShared(bytes.Repeat([]byte("x"), 100<<10))
				payload := weak.Make(&s.Bytes()[0])
				if ref {
					r.c.Ref().SendShared(s)
				} else {
					r.c.SendShared(s)
				}
				s.Release()
				end(r)
				if s.Bytes() != nil {
					t.Error("the count did not come back to zero")
				}
				runtime.GC()
				if payload.Value() != nil {
					t.Error("the payload is still reachable")
				}
				if r.isClosed() {
					r.Finish()
				} else {
					r.gone()
				}
			})
		}
	}
}

// TestDrainAlways holds that a queue that the kernel did not take at once is
// told empty, and one that it took is not.
func TestDrainAlways(t *testing.T) {
	cfg := marks(1000, 0, 1000)
	cfg.DrainAlways = true
	r := newRig(t, 64, cfg, nil)
	r.peer.AutoRead(true)
	for range 10 {
		_ = r.write(60)
		r.Turns(2)
	}
	r.wantLog("")
	r.peer.AutoRead(false)
	for range 3 {
		_ = r.write(200)
		r.Turns(2)
		for r.c.Pending() > 0 {
			r.read(min(r.peer.Waiting(), 50))
		}
		r.Turn()
		r.peer.ReadAll()
	}
	r.wantLog("drain drain drain")
	_ = r.write(1500)
	r.Turns(2)
	r.wantLog("drain drain drain full")
	for r.c.Pending() > 0 {
		r.read(r.peer.Waiting())
	}
	r.Turn()
	r.wantLog("drain drain drain full drain")
	r.gone()
}

// TestCloseSlow holds that a refusal ends the connection if that is asked for.
func TestCloseSlow(t *testing.T) {
	for _, m := range methods {
		t.Run(m.name, func(t *testing.T) {
			cfg := marks(100, 10, 200)
			cfg.SlowPeer = conn.CloseSlow
			r := newRig(t, 64, cfg, nil)
			r.stuff()
			_ = r.write(200)
			if s := m.send(r, 1); s != conn.Rejected {
				t.Fatalf("answered %v", s)
			}
			if r.isClosed() {
				t.Error("OnClose inside a send")
			}
			r.Settle("close", r.isClosed)
			r.wantReason(conn.SlowPeer, 200)
			if !errors.Is(r.err, conn.ErrSendBufferFull) {
				t.Errorf("%v does not wrap ErrSendBufferFull", r.err)
			}
			r.Finish()
		})
	}
}

// TestPendingCountsAll holds that pending is what waits in the mailbox, in the
// queue and in flight.
func TestPendingCountsAll(t *testing.T) {
	r := newRig(t, 64, marks(1000, 10, 1000), nil)
	r.stuff()
	ref := r.c.Ref()
	_ = r.write(100)
	r.Turn() // In flight, waiting for room.
	_ = r.write(20)
	ref.Write(make([]byte, 3))
	if a, b := r.c.Pending(), ref.Pending(); a != 123 || b != 123 {
		t.Errorf("%d pending, by the Ref %d, want 123", a, b)
	}
	r.Turn()
	if got := r.c.Pending(); got != 123 {
		t.Errorf("%d pending behind the mailbox", got)
	}
	r.read(50)
	if got := ref.Pending(); got != 73 {
		t.Errorf("%d pending, want 73", got)
	}
	r.gone()
}

// TestAfterClose holds that sends after the end are counted, apart from what
// was refused, and that nothing else is.
func TestAfterClose(t *testing.T) {
	for _, when := range []string{"closing", "closed"} {
		t.Run(when, func(t *testing.T) {
			r := newRig(t, 64, marks(100, 10, 200), nil)
			ref := r.c.Ref()
			r.c.Close()
			if when == "closed" {
				r.Settle("close", r.isClosed)
			}
			for i, m := range methods {
				if s := m.send(r, 5); s != conn.Closed {
					t.Errorf("%s: %v", m.name, s)
				}
				if n := r.c.Stats().AfterClose; n != uint64(i+1) {
					t.Errorf("%s: %d counted, want %d", m.name, n, i+1)
				}
			}
			ref.Close()
			ref.Do(func(*conn.Conn) {})
			if s := r.c.Stats(); s.AfterClose != uint64(len(methods)) || s.Rejected != 0 {
				t.Errorf("stats %+v", s)
			}
			if n := r.c.Pending(); n != 0 {
				t.Errorf("%d bytes pending", n)
			}
			r.gone()
			if r.lost != 0 {
				t.Errorf("%d bytes lost", r.lost)
			}
		})
	}
}

// TestPromptForTheRest holds that a send that leaves bytes in the queue asks
// for its completion, which the engine may keep from those who do not.
func TestPromptForTheRest(t *testing.T) {
	r := newRig(t, 1<<20, marks(1<<30, 0, 1<<30), nil)
	r.peer.AutoRead(true)
	shared := buf.NewShared(make([]byte, 600)) // Shorter ones are copied together.
	defer shared.Release()
	for range 100 { // More pieces than one operation has.
		r.c.SendShared(shared)
	}
	r.Turn()
	if r.calls.sends != 1 || r.calls.last.Flags&aio.Prompt == 0 {
		t.Errorf("%d sends, the last with %v: nobody waits for it, and bytes wait behind it", r.calls.sends, r.calls.last.Flags)
	}
	r.Turns(3)
	r.calls.sends = 0
	r.c.SendShared(shared)
	r.Turn()
	if r.calls.sends != 1 || r.calls.last.Flags&aio.Prompt != 0 {
		t.Errorf("%d sends, the last with %v: nothing is behind it", r.calls.sends, r.calls.last.Flags)
	}
	r.gone()
}

// TestPromptForMail holds that what came through a Ref asks for its completion, also
// where it is all there is to send: who sends from elsewhere is admitted against what
// the loop has heard of.
func TestPromptForMail(t *testing.T) {
	for name, send := range map[string]func(conn.Ref){
		"write": func(ref conn.Ref) { ref.Write([]byte("x")) },
		"via": func(ref conn.Ref) {
			ref.WriteVia([]byte("x"), 0, via(func(c *conn.Conn, p []byte) { _, _ = c.Write(p) }))
		},
	} {
		r := newRig(t, 1<<20, marks(1<<30, 0, 1<<30), nil)
		r.peer.AutoRead(true)
		send(r.c.Ref())
		r.Turns(2)
		if r.calls.sends != 1 || r.calls.last.Flags&aio.Prompt == 0 {
			t.Errorf("%s: %d sends, the last with %v", name, r.calls.sends, r.calls.last.Flags)
		}
		r.gone()
	}
}

// TestSparseBlocks holds that messages that came in a block each cost about
// their bytes when they must wait, not their blocks.
func TestSparseBlocks(t *testing.T) {
	for _, n := range []int{1, 100, 3000, 4097, 5000, 20000, 40000} {
		r := newRig(t, 64, marks(1<<30, 0, 1<<30), nil)
		r.stuff()
		for range 64 {
			b := r.Bulk.Get()
			b.Extend(n)
			if s := r.c.Send(&b); s != conn.Queued {
				t.Fatal(s)
			}
		}
		r.Turns(4)
		pending := 64 * n
		held := r.Bulk.InUse()*reactor.BulkBlock + r.Small.InUse()*reactor.SmallBlock
		if most := 2*pending + 2*reactor.BulkBlock; held > most {
			t.Errorf("%d messages of %d bytes wait in %d bytes of blocks, at most %d", 64, n, held, most)
		}
		r.c.Abort()
		r.gone()
	}
}
