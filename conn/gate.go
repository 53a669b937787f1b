package conn

import (
	"sync"
	"sync/atomic"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/reactor"
)

// gate is where other goroutines meet a connection. It exists from the first
// Ref on, or with a budget from the first message on, counts pending for the
// connection from then on, and outlives it.
type gate struct {
	remote reactor.Remote
	token  aio.Token
	id     uint64
	policy Policy
	whole  bool                // messages must not be merged
	fn     func(*reactor.Loop) // deliver, made once

	account
	paid    int          // on the loop: bytes that a via may still send
	blocked atomic.Int32 // len(waiters)

	hungry atomic.Bool // the loop waits for the budget

	index  int    // in Budget.gates: this and what follows under its mu
	doomed int64  // of Budget.returning
	place  int    // in Budget.waiting, or -1
	needs  int64  // what it had pending when it came there
	turn   uint32 // and in which turn

	mu      sync.Mutex
	asked   how  // to end, by a Ref or on the loop: it takes no more sends
	closed  bool // OnClose is due
	posted  bool // fn is in the loop's mailbox
	box     mailbox
	waiters []*waiter
	after   amount // sends after the close
}

// how a connection is asked to end. The harder way wins.
type how uint8

const (
	notYet how = iota
	byCloseWrite
	byClose
	byAbort
)

// asks is what a state means to those who come through a Ref.
func (s state) asks() how { return [...]how{notYet, byCloseWrite, byClose, byAbort, byAbort}[s] }

// amount is a number of messages and of their bytes.
type amount struct{ messages, bytes uint64 }

// message is the amount of one of n bytes.
func message(n int) amount { return amount{1, uint64(n)} }

func (t *amount) add(n int) {
	t.messages++
	t.bytes += uint64(n)
}

func (t *amount) sum(o amount) {
	t.messages += o.messages
	t.bytes += o.bytes
}

func newGate(c *Conn) *gate {
	g := &gate{
		remote: c.loop.Remote(), token: c.token, id: c.id, policy: c.host.cfg.SlowPeer,
		whole: c.host.cfg.SlowPeer == DropOldest || c.dial.keeps(),
		asked: c.state.asks(), closed: c.state == closed, place: -1,
	}
	g.fn = g.deliver
	g.budget = c.host.cfg.Budget
	g.pending.Store(int64(c.pending))
	g.setMarks(*c.marks())
	if g.budget != nil && !g.closed {
		g.budget.join(g)
	}
	return g
}

// setMarks changes both at once for those who come through a Ref, who hold mu.
func (g *gate) setMarks(m Marks) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.high.Store(int64(m.High))
	g.limit.Store(int64(m.Limit))
	g.grant()
}

// headroom returns the bytes that may come until the queue is full. It is below 1
// when it is full.
func (g *gate) headroom() int {
	pending := g.held()
	n := int(g.high.Load()) - pending
	if g.budget != nil {
		n = min(n, g.budget.headroom(pending))
	}
	return n
}

// isDoomed reports whether the budget has chosen the connection to make room.
func (g *gate) isDoomed() bool { return g.pending.Load() >= gone }

// put takes a message, or has its caller wait for w: when mayWait is set, or the
// policy is Block and the caller is no loop. Its bytes are p and the pieces of v.
func (g *gate) put(i item, p []byte, v [][]byte, mayWait bool) (s Status, w *waiter) {
	if g.budget != nil {
		defer g.budget.tell() // Behind the unlocking: it may come to another gate.
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.asked > notYet || g.isDoomed() {
		g.after.add(i.n)
		return Closed, nil
	}
	if i.n == 0 {
		return g.putEmpty(i), nil
	}
	inLine := len(g.waiters) > 0 && (mayWait || g.policy == Block)
	switch {
	case !inLine && g.room(&i):
	case mayWait, g.policy == Block && !reactor.OnLoop():
		return Queued, g.enqueue(i, p, v)
	case inLine && g.room(&i): // A loop does not wait in line.
	case g.isDoomed(): // It was this one that held the most.
		g.after.add(i.n)
		return Closed, nil
	default:
		g.refuse(i.n)
		return Rejected, nil
	}
	g.keep(i, p, v)
	return g.answer(), nil
}

// putEmpty takes a message without bytes. No limit counts it, so it must not
// wait here, unless somebody is to be told.
func (g *gate) putEmpty(i item) Status {
	if i.lent != nil {
		if g.box.waiting == maxDo {
			g.refuse(0)
			return Rejected
		}
		g.box.waiting++
		g.box.items = append(g.box.items, i)
		g.post()
	}
	return g.answer()
}

// keep puts a message that is charged into the mailbox.
func (g *gate) keep(i item, p []byte, v [][]byte) {
	g.box.put(i, p, v, g.whole)
	g.post()
}

// room charges a message, unless there is no room for it and none can be made.
// One that must not be dropped drops none: who sends a stream has to wait for it.
func (g *gate) room(i *item) bool {
	n := i.n
	if i.lent != nil && g.policy == DropOldest && g.box.lenders() >= maxLent {
		return false
	}
	if g.chargeWithin(n) || g.policy == DropOldest && !i.vital && g.replace(n) {
		return true
	}
	if b := g.budget; b != nil && !g.atLimit() {
		for b.full() && b.evict(nil) {
			if g.chargeWithin(n) {
				return true
			}
		}
	}
	return false
}

// replace charges n bytes although the queue is at its limit: the loop will drop
// older messages for them. The mailbox holds as much as the limit besides; past
// that, what is oldest in it goes at once, which the loop would have dropped too.
func (g *gate) replace(n int) bool {
	for {
		m := &g.box
		fits := m.bytes == 0 || int64(m.bytes) < g.limit.Load()
		if fits && (g.budget == nil || g.budget.charge(0, int64(n))) {
			if g.pending.Add(int64(n)) < gone {
				return true
			}
			g.pending.Add(-int64(n)) // The budget has just closed it.
			g.budget.total.Add(-int64(n))
			return false
		}
		dropped, ok := m.drop()
		if !ok {
			return false
		}
		g.charge(-int64(dropped))
	}
}

// refuse counts a message that was not taken. The loop hears of it.
func (g *gate) refuse(n int) {
	g.box.refused.add(n)
	g.box.slow = g.box.slow || g.held() > 0
	if g.budget != nil && !g.atLimit() {
		g.budget.refuse(n)
	}
	g.post()
}

// answer is that to a message that was taken.
func (g *gate) answer() Status {
	p := g.pending.Load()
	if p >= g.high.Load() || g.budget != nil && !g.budget.welcomes(p) {
		return Full
	}
	return Queued
}

// ask posts the wish to end the connection, unless it is asked for already.
func (g *gate) ask(why how) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.asked < why {
		g.shut(why)
		g.box.items = append(g.box.items, item{kind: itemClose, how: why})
		g.post()
	}
}

// do posts fn.
func (g *gate) do(fn func(*Conn)) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed || g.box.waiting == maxDo {
		return false
	}
	g.box.waiting++
	g.box.items = append(g.box.items, item{kind: itemDo, do: fn})
	g.post()
	return true
}

// closeVia posts via, unless another waits.
func (g *gate) closeVia(via func(*Conn)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed && !g.box.closes {
		g.box.closes = true
		g.box.items = append(g.box.items, item{kind: itemDo, do: via})
		g.post()
	}
}

// shut turns later sends away, and those who wait. What was admitted before is in
// time, and is flushed. The caller holds mu.
func (g *gate) shut(why how) {
	g.asked = max(g.asked, why)
	for _, w := range g.waiters {
		g.after.add(w.n)
		w.done <- Closed
	}
	g.waiters = nil
	g.blocked.Store(0)
}

// shutSends is shut for the loop.
func (g *gate) shutSends(to state) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut(to.asks())
}

// post puts the gate into the loop's mailbox, once until it is emptied.
func (g *gate) post() {
	if !g.posted {
		g.posted = true
		g.remote.Post(g.fn)
	}
}

// close turns later callers away, and returns what is left. The connection
// counts its bytes as lost.
func (g *gate) close() mail {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut(byAbort)
	g.closed = true
	left := g.box.empty()
	g.box = mailbox{}
	return left
}

func (g *gate) late() (messages, bytes uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.after.messages, g.after.bytes
}
