package conn_test

import (
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// purse is a budget and connections that share it, whose peers do not read.
type purse struct {
	*rig
	b   *conn.Budget
	all []*rig
}

func newPurse(t *testing.T, size int, policy conn.BudgetPolicy, conns int, cfg conn.Config) *purse {
	t.Helper()
	p := &purse{b: conn.NewBudget(size, policy)}
	cfg.Budget = p.b
	p.rig = newRig(t, 64, cfg, nil)
	p.all = append(p.all, p.rig)
	for range conns - 1 {
		p.all = append(p.all, p.second(cfg, nil))
	}
	for _, r := range p.all {
		if err := r.write(64); err != nil {
			t.Fatal(err)
		}
		r.Turns(2)
	}
	if n := p.b.Stats().Total; n != 0 {
		t.Fatalf("%d bytes of the budget are used, and nothing is pending", n)
	}
	return p
}

// want checks the account against what is pending.
func (p *purse) want(total int) {
	p.T.Helper()
	sum := 0
	for _, r := range p.all {
		if !r.isClosed() {
			sum += r.c.Pending()
		}
	}
	if got := p.b.Stats().Total; got != total || sum != total {
		p.T.Fatalf("total is %d and %d bytes are pending, want %d", got, sum, total)
	}
}

// end closes all, and wants the budget back.
func (p *purse) end() {
	p.T.Helper()
	for _, r := range p.all {
		if !r.isClosed() {
			r.c.Close()
		}
		if !r.peer.WasReset() {
			r.peer.AutoRead(true)
			r.peer.CloseWrite()
		}
		p.Settle("close", r.isClosed)
	}
	if s := p.b.Stats(); s.Total != 0 || s.Returning != 0 {
		p.T.Errorf("at the end: %+v", s)
	}
	p.Finish()
}

// TestBudgetBoundaries holds when the budget takes a message, for each way to send.
func TestBudgetBoundaries(t *testing.T) {
	for _, m := range methods {
		for _, tc := range []struct {
			others, own, n int
			want           conn.Status
		}{
			{0, 0, 5000, conn.Full}, {998, 0, 1, conn.Full}, {999, 0, 1, conn.Full}, {999, 0, 5000, conn.Full}, // An empty queue, below the size.
			{1000, 0, 1, conn.Rejected}, {5000, 0, 1, conn.Rejected}, // At the size, also to an empty queue.
			{0, 498, 1, conn.Queued}, {0, 499, 1, conn.Full}, {0, 499, 5000, conn.Full}, {0, 500, 1, conn.Rejected}, // Half of it for one alone.
			{600, 198, 1, conn.Queued}, {600, 199, 1, conn.Full}, {600, 200, 1, conn.Rejected}, {600, 201, 1, conn.Rejected}, // As much as is free.
			{600, 300, 1, conn.Rejected}, {600, 500, 1, conn.Rejected},
		} {
			t.Run(name("%s/%d,%d+%d", m.name, tc.others, tc.own, tc.n), func(t *testing.T) {
				p := newPurse(t, 1000, conn.BudgetReject, 2, marks(2000, 0, 2000))
				if tc.own > 0 {
					_ = p.write(tc.own)
				}
				if tc.others > 0 {
					_ = p.all[1].write(tc.others)
				}
				p.want(tc.own + tc.others)
				got := m.send(p.rig, tc.n)
				if got == conn.Queued && p.c.IsFull() {
					got = conn.Full // An io.Writer does not say so.
				}
				if got != tc.want {
					t.Fatalf("answered %v, want %v", got, tc.want)
				}
				taken, refused := tc.n, uint64(0)
				if tc.want == conn.Rejected {
					taken, refused = 0, 1
				}
				p.want(tc.own + tc.others + taken)
				p.Turns(2)
				p.want(tc.own + tc.others + taken)
				if s := p.b.Stats(); s.Rejected != refused || s.RejectedBytes != refused*uint64(tc.n) || s.Peak != tc.own+tc.others+taken {
					t.Errorf("%+v", s)
				}
				if s := p.c.Stats(); s.Rejected != refused || s.RejectedBytes != refused*uint64(tc.n) {
					t.Errorf("%+v", s)
				}
				p.end()
			})
		}
	}
}

// TestBudgetIsShared fills the queues of n stalled connections as far as they
// go: each holds about size/(n+1), in whatever order they come, and as much is
// left for the next.
func TestBudgetIsShared(t *testing.T) {
	const size, conns, message = 100_000, 9, 100
	p := newPurse(t, size, conn.BudgetReject, conns, marks(1<<20, 0, 1<<20))
	for range 2 * size / message / conns {
		for _, r := range p.all {
			_ = r.write(message)
		}
	}
	for i, r := range p.all {
		if n := r.c.Pending(); n < size/(conns+1)-message || n > size/(conns+1)+message {
			t.Errorf("connection %d holds %d bytes, want about %d", i, n, size/(conns+1))
		}
	}
	if free := size - p.b.Stats().Total; free < size/(conns+1)-conns*message {
		t.Errorf("%d bytes are left, want about %d", free, size/(conns+1))
	}
	late := p.second(conn.Config{HighWater: 1 << 20, Budget: p.b}, nil)
	p.all = append(p.all, late)
	if err := late.write(size / 20); err != nil {
		t.Errorf("the next one: %v", err)
	}
	p.end()
}

// TestBudgetIsHard sends messages of all sizes from everywhere to peers that
// do not read: total never passes the size less one and the longest message.
func TestBudgetIsHard(t *testing.T) {
	const size, longest = 50_000, 9000
	for _, policy := range []conn.BudgetPolicy{conn.BudgetReject, conn.BudgetClose} {
		p := newPurse(t, size, policy, 20, marks(20_000, 0, 30_000))
		for i := range 2000 {
			r := p.all[p.Rand.IntN(len(p.all))]
			if r.isClosed() {
				continue
			}
			n := 1 + p.Rand.IntN(longest)
			if i%2 == 0 {
				r.c.Ref().Write(make([]byte, n))
			} else {
				_ = r.write(n)
			}
			if p.Rand.IntN(10) == 0 {
				p.Turn()
			}
		}
		if s := p.b.Stats(); s.Peak > size-1+longest || s.Peak < size {
			t.Errorf("policy %d: %+v", policy, s)
		}
		p.end()
	}
}

// TestBudgetSpeaksOfThePeer sends far more than the budget in one turn, over many
// connections whose peers read: nothing is refused, since what the turn has
// collected is offered to the kernel before.
func TestBudgetSpeaksOfThePeer(t *testing.T) {
	const size, conns, message = 10_000, 8, 900
	cfg := marks(1<<20, 0, 1<<20)
	cfg.Budget = conn.NewBudget(size, conn.BudgetReject)
	r := newRig(t, 1<<20, cfg, nil)
	all := []*rig{r}
	for range conns - 1 {
		all = append(all, r.second(cfg, nil))
	}
	for i := range 100 * conns {
		r := all[i%conns]
		r.peer.AutoRead(true)
		if err := r.write(message); err != nil {
			t.Fatalf("message %d: %v", i, err)
		}
	}
	if s := cfg.Budget.Stats(); s.Rejected != 0 || s.Peak > size-1+message {
		t.Errorf("%+v", s)
	}
	if most := 100*conns*message*(conns+1)/size + conns; r.calls.tries > most {
		t.Errorf("%d offers, want at most %d", r.calls.tries, most)
	}
	for _, r := range all {
		r.c.Close()
		r.peer.CloseWrite()
		r.Settle("close", r.isClosed)
	}
	r.Finish()
}

// TestBudgetRefusedTwice holds that refusals cost no offers to those who are stuck.
func TestBudgetRefusedTwice(t *testing.T) {
	p := newPurse(t, 1000, conn.BudgetReject, 10, marks(2000, 0, 2000))
	for _, r := range p.all[1:] {
		_ = r.write(500)
	}
	p.Turns(2)
	p.calls.tries = 0
	for range 1000 {
		if s := p.c.Admit(1); s != conn.Rejected {
			t.Fatal(s)
		}
	}
	if n := p.calls.tries; n > 0 {
		t.Errorf("%d offers", n)
	}
	p.end()
}

// TestBudgetClosesTheLargest holds that the policy BudgetClose ends whoever holds
// the most, and takes the message, in the same call; the memory is back with it.
func TestBudgetClosesTheLargest(t *testing.T) {
	for _, m := range methods {
		t.Run(name("%s", m.name), func(t *testing.T) {
			p := newPurse(t, 100_000, conn.BudgetClose, 5, marks(200_000, 0, 200_000))
			for i, n := range []int{0, 20_000, 30_000, 25_000, 20_000} {
				if n > 0 {
					_ = p.all[i].write(n)
				}
			}
			_ = p.all[1].c.WriteReserved(make([]byte, conn.Reserve))
			if m.send(p.rig, 5000) != conn.Queued { // Below the size yet: nobody is closed.
				t.Fatal("refused below the size")
			}
			p.want(100_000 + conn.Reserve)
			p.Turns(2)
			before := p.Small.InUse() + p.Bulk.InUse()
			if s := m.send(p.rig, 7000); s != conn.Queued {
				t.Fatalf("answered %v", s)
			}
			if s := p.b.Stats(); s.Total != 100_000+conn.Reserve-30_000+7000 || s.Closed != 1 || s.ClosedBytes != 30_000 || s.Rejected != 0 {
				t.Errorf("%+v", s)
			}
			if after := p.Small.InUse() + p.Bulk.InUse(); !m.ref && after > before-4 {
				t.Errorf("%d blocks before and %d after", before, after)
			}
			p.Settle("close", p.all[2].isClosed)
			p.all[2].wantReason(conn.MemoryLimit, 30_000)
			for i, r := range p.all {
				if r.isClosed() != (i == 2) {
					t.Errorf("connection %d is closed: %v", i, r.isClosed())
				}
			}
			if s := p.b.Stats(); s.Returning != 0 {
				t.Errorf("%+v", s)
			}
			p.end()
		})
	}
}

// TestBudgetReservedBesideOthers holds that what a protocol must say is taken, whatever
// another loop does with the budget meanwhile.
func TestBudgetReservedBesideOthers(t *testing.T) {
	for _, policy := range []conn.BudgetPolicy{conn.BudgetReject, conn.BudgetClose} {
		p := newPurse(t, 1000, policy, 1, marks(2000, 0, 2000))
		p.peer.AutoRead(true)
		stop, ended := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(ended)
			for {
				select {
				case <-stop:
					return
				default:
					conn.Spend(p.b, 1000)
					conn.Spend(p.b, -1000)
				}
			}
		}()
		for i := range 5000 {
			for range 10 {
				s := p.c.WriteReserved(make([]byte, 10))
				if s <= conn.Full {
					s = p.c.EncodeReserved(10, func(dst []byte) ([]byte, error) { return append(dst, 0), nil })
				}
				if s > conn.Full {
					t.Fatalf("answered %v in round %d", s, i)
				}
			}
			p.Settle("sent", func() bool { return p.c.Pending() == 0 })
		}
		close(stop)
		<-ended
		p.end()
	}
}

// TestBudgetClosesTheCaller holds that a connection which holds the most itself is
// the one that goes.
func TestBudgetClosesTheCaller(t *testing.T) {
	for _, m := range methods {
		t.Run(name("%s", m.name), func(t *testing.T) {
			p := newPurse(t, 1000, conn.BudgetClose, 2, marks(20_000, 0, 20_000))
			_ = p.all[1].write(400)
			_ = p.write(900)
			if s := m.send(p.rig, 10); s != conn.Closed {
				t.Fatalf("answered %v", s)
			}
			p.Settle("close", p.isClosed)
			p.wantReason(conn.MemoryLimit, 900)
			p.want(400)
			p.end()
		})
	}
}

// TestBudgetLimitIsNotTheBudget holds that a connection at its own Limit, or at
// its share, costs no other its life.
func TestBudgetLimitIsNotTheBudget(t *testing.T) {
	p := newPurse(t, 1000, conn.BudgetClose, 3, marks(300, 0, 300))
	_ = p.write(300)
	if err := p.write(1); err == nil {
		t.Error("taken at the limit")
	}
	_ = p.all[1].write(290)
	_ = p.all[1].write(400) // 990 now, and the share of each is 10.
	_ = p.all[2].write(9)
	if s := p.b.Stats(); s.Total != 999 || s.Rejected != 0 {
		t.Fatalf("%+v", s)
	}
	if s := p.all[2].c.Ref().Write([]byte("x")); s != conn.Rejected {
		t.Errorf("above its share: %v", s)
	}
	if err := p.all[2].write(1); err == nil {
		t.Error("taken above the share")
	}
	p.Turns(3)
	if s := p.b.Stats(); s.Closed != 0 || s.Rejected != 2 {
		t.Errorf("%+v", s)
	}
	p.end()
}

// TestBudgetIsNoSlowPeer holds that a connection of which nothing waits is not
// ended as slow when others have used the budget up.
func TestBudgetIsNoSlowPeer(t *testing.T) {
	for _, m := range methods {
		cfg := marks(2000, 0, 2000)
		cfg.SlowPeer = conn.CloseSlow
		p := newPurse(t, 1000, conn.BudgetReject, 3, cfg)
		_ = p.all[1].write(990)
		_ = p.all[2].write(10)
		if s := m.send(p.rig, 1); s != conn.Rejected {
			t.Fatalf("%s: %v", m.name, s)
		}
		p.Turns(3)
		if p.isClosed() {
			t.Fatalf("%s: closed with %v", m.name, p.err)
		}
		_ = m.send(p.all[2], 1)
		p.Settle("close", p.all[2].isClosed)
		p.all[2].wantReason(conn.SlowPeer, 10)
		p.end()
	}
}

// TestBudgetComesBack ends connections in each way and at each step: what they
// held is free again.
func TestBudgetComesBack(t *testing.T) {
	for means, end := range map[string]func(p *purse){
		"read":  func(p *purse) { p.peer.AutoRead(true) },
		"close": func(p *purse) { p.c.Close(); p.peer.AutoRead(true) },
		"abort": func(p *purse) { p.c.Abort() },
		"reset": func(p *purse) { p.peer.Reset() },
		"panic": func(p *purse) { p.c.Ref().Do(func(*conn.Conn) { panic("handler") }) },
		"mail":  func(p *purse) { p.c.Ref().Write(make([]byte, 100)); p.c.Abort() },
	} {
		p := newPurse(t, 1000, conn.BudgetReject, 1, marks(2000, 0, 2000))
		_ = p.write(300)
		p.c.SendBytes(make([]byte, 100), nil)
		end(p)
		p.Turns(30)
		if n := p.b.Stats().Total; n != 0 {
			t.Errorf("%s: %d bytes are not back", means, n)
		}
		p.end()
	}
}

// TestBudgetAcrossLoops has a connection on one loop close another on a second.
func TestBudgetAcrossLoops(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		testAcrossLoops(t, g)
	})
}

func testAcrossLoops(t *testing.T, g *reactor.Group) {
	const size = 8 << 20
	b := conn.NewBudget(size, conn.BudgetClose)
	type opened struct {
		ref  conn.Ref
		loop int
	}
	opens, ends := make(chan opened, 64), make(chan error, 64)
	l := listen(t, g, &conn.Funcs{
		Open:  func(c *conn.Conn) { opens <- opened{c.Ref(), c.Loop().ID()} },
		Close: func(_ *conn.Conn, err error) { ends <- err },
	}, conn.Config{HighWater: 1 << 30, SendBuffer: 64 << 10, Budget: b})
	on := map[int]conn.Ref{}
	for len(on) < 2 {
		c := dial(t, l)
		defer c.Close()
		_ = c.SetReadBuffer(64 << 10)
		o := <-opens
		on[o.loop] = o.ref
	}
	one, two := on[0], on[1]
	// The kernel takes some hundred KiB of each, and then nothing more.
	for _, w := range []struct {
		ref conn.Ref
		n   int
	}{{one, 6 << 20}, {two, 1 << 20}, {two, 3 << 20}} {
		if s := w.ref.Write(make([]byte, w.n)); s > conn.Full {
			t.Fatal(s)
		}
		stalled(t, w.ref)
	}
	held := one.Pending()
	answer := make(chan conn.Status, 1)
	two.Do(func(c *conn.Conn) {
		p := make([]byte, 1000)
		s := c.SendBytes(p, nil)
		answer <- s
	})
	if s := <-answer; s > conn.Full {
		t.Errorf("answered %v, %+v", s, b.Stats())
	}
	var ce *conn.CloseError
	if err := <-ends; !errors.As(err, &ce) || ce.Reason != conn.MemoryLimit || ce.LostBytes > held {
		t.Errorf("closed with %v of %d bytes", err, held)
	}
	testutil.Eventually(t, 5*time.Second, "what it held", func() bool { return b.Stats().Returning == 0 })
	_ = g.Close()
	if s := b.Stats(); s.Total != 0 || s.Closed == 0 {
		t.Errorf("%+v", s)
	}
}

// stalled waits until the kernel takes no more of what is pending.
func stalled(t *testing.T, ref conn.Ref) {
	t.Helper()
	last, same := -1, 0
	testutil.Eventually(t, 20*time.Second, "stall", func() bool {
		time.Sleep(10 * time.Millisecond)
		if n := ref.Pending(); n != last {
			last, same = n, 0
		}
		same++
		return same > 4
	})
}

// TestBudgetFull holds that a queue is full, once, when the budget will refuse the
// next message, and drained when half of it has gone and the budget has room.
func TestBudgetFull(t *testing.T) {
	p := newPurse(t, 1000, conn.BudgetReject, 2, marks(5000, 4000, 5000))
	for range 4 {
		_ = p.write(100)
	}
	p.wantLog("")
	_ = p.write(100) // As much is free as it has.
	p.wantLog("full")
	if err := p.write(1); err == nil {
		t.Error("taken above the share")
	}
	p.Turns(3)
	p.wantLog("full")
	p.read(64)
	p.read(64)
	p.Turns(3)
	p.wantLog("full") // 372 of 500.
	p.read(64)
	p.read(64)
	p.wantLog("full drain")
	p.end()
	p.wantLog("full drain close")
}

// TestBudgetDrainWithoutBytes refuses a message to an empty queue: its handler hears
// of room when another connection gives it, and not before.
func TestBudgetDrainWithoutBytes(t *testing.T) {
	for what, free := range map[string]func(r *rig){
		"read":  func(r *rig) { r.peer.AutoRead(true) },
		"abort": func(r *rig) { r.c.Abort() },
	} {
		p := newPurse(t, 1000, conn.BudgetReject, 3, marks(5000, 0, 5000))
		_ = p.all[1].write(2000)
		if err := p.write(10); err == nil {
			t.Fatal("taken above the size")
		}
		p.wantLog("full")
		p.Turns(10)
		before := p.calls.tries + p.calls.sends
		p.Turns(10)
		if p.wantLog("full"); p.calls.tries+p.calls.sends > before {
			t.Errorf("%s: asked again and again", what)
		}
		p.all[1].log = p.all[1].log[:1]
		free(p.all[1])
		p.Turns(50)
		p.wantLog("full drain")
		if err := p.write(10); err != nil {
			t.Errorf("%s: behind the drain: %v", what, err)
		}
		p.end()
	}
}

// TestBudgetProducers has producers that stop at Full and go on at the drain share a
// small budget with connections that are stalled: nothing of theirs is refused once
// they have begun, and all arrives.
func TestBudgetProducers(t *testing.T) {
	const total, message = 200_000, 700
	p := newPurse(t, 20_000, conn.BudgetReject, 9, marks(50_000, 0, 50_000))
	for range 20 {
		for _, r := range p.all[:6] { // Stalled.
			_ = r.write(message)
		}
	}
	left := map[*rig]int{}
	for _, r := range p.all[6:] {
		left[r] = total
		pump := func(c *conn.Conn) {
			for left[r] > 0 && !c.IsFull() {
				if err := r.write(message); err == nil {
					left[r] -= message
				}
			}
		}
		r.onDrain = pump
		pump(r.c)
		r.peer.AutoRead(true)
	}
	p.Settle("all", func() bool {
		for _, n := range left {
			if n > 0 {
				return false
			}
		}
		return true
	})
	for r := range left {
		if s := r.c.Stats(); s.Starved == 0 || s.Rejected > 2 || r.c.Pending() > 50_000 {
			t.Errorf("%+v", s)
		}
	}
	p.end()
	for r := range left {
		if full, drain := r.count("full"), r.count("drain"); full != drain || uint64(full) != r.c.Stats().Starved {
			t.Errorf("%d fulls, %d drains, %+v", full, drain, r.c.Stats())
		}
	}
}

// TestBudgetPassesReaders has one connection hold more than the budget for good: one
// whose peer reads is served all the same, from its socket's own buffer, whoever
// produces for it, and costs the budget nothing.
func TestBudgetPassesReaders(t *testing.T) {
	const size, total = 1 << 20, 6 << 20
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		b := conn.NewBudget(size, conn.BudgetReject)
		opens := make(chan conn.Ref, 2)
		var stats conn.Stats
		ended := make(chan bool)
		l := listen(t, g, &conn.Funcs{
			Open: func(c *conn.Conn) { opens <- c.Ref() },
			Data: func(c *conn.Conn, _ *buf.Buf) {
				left := total
				c.SetUser(func() {
					for left > 0 && !c.IsFull() {
						n := min(left, 1+left%40_000)
						if _, err := c.Write(make([]byte, n)); err == nil {
							left -= n
						}
					}
					if left == 0 {
						c.Close()
					}
				})
				c.User().(func())()
			},
			Drain: func(c *conn.Conn) {
				if pump, ok := c.User().(func()); ok {
					pump()
				}
			},
			Close: func(c *conn.Conn, _ error) {
				if c.User() != nil {
					stats = c.Stats()
					close(ended)
				}
			},
		}, conn.Config{Budget: b, SendBuffer: 128 << 10})
		slow := dial(t, l)
		defer slow.Close()
		(<-opens).Write(make([]byte, 4<<20))
		reader := dial(t, l)
		defer reader.Close()
		ref := <-opens
		testutil.Eventually(t, 10*time.Second, "stall", func() bool { n := b.Stats().Total; return n >= size && n < 4<<20 })
		peak := b.Stats().Peak
		_, _ = reader.Write([]byte("?"))
		if n, err := io.Copy(io.Discard, reader); n != total || err != nil {
			t.Errorf("the one that reads got %d bytes, %v", n, err)
		}
		_ = reader.Close()
		<-ended
		if s := b.Stats(); s.Peak != peak || s.Total < size {
			t.Errorf("%+v, the peak was %d before", s, peak)
		}
		if stats.BytesOut != total || ref.Pending() != 0 {
			t.Errorf("%+v", stats)
		}
	})
}

// TestBudgetEmptyMessages holds that no connection ends for a message without bytes,
// by whatever policy.
func TestBudgetEmptyMessages(t *testing.T) {
	for _, slow := range []conn.Policy{conn.Reject, conn.CloseSlow} {
		cfg := marks(200_000, 0, 200_000)
		cfg.SlowPeer = slow
		p := newPurse(t, 10_000, conn.BudgetClose, 2, cfg)
		_ = p.all[0].write(200)
		_ = p.all[1].write(9_800)
		if s := p.c.SendFrom(strings.NewReader("more"), 4, nil); s != conn.Rejected {
			t.Errorf("%v: SendFrom is answered %v", slow, s)
		}
		_, _ = p.c.Write(nil)
		p.Turns(3)
		if s := p.b.Stats(); s.Closed != 0 || p.all[0].isClosed() || p.all[1].isClosed() {
			t.Errorf("%v: %+v", slow, s)
		}
		p.end()
	}
}

// TestBudgetForgetsLoops holds that a budget which outlives many groups keeps nothing
// of their loops.
func TestBudgetForgetsLoops(t *testing.T) {
	b := conn.NewBudget(1000, conn.BudgetReject)
	use := func() {
		r := newRig(t, 64, conn.Config{Budget: b}, nil)
		r.peer.CloseWrite()
		r.gone()
	}
	for range 20 {
		use()
	}
	runtime.GC()
	runtime.GC()
	if use(); conn.Shares(b) > 10 {
		t.Errorf("%d loops are remembered", conn.Shares(b))
	}
}
