package conn

import (
	"container/heap"
	"fmt"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/penstock-go/penstock/reactor"
)

// BudgetPolicy is what a [Budget] that is used up does with the next message.
type BudgetPolicy uint8

// The policies of a budget.
const (
	// BudgetReject refuses the message.
	BudgetReject BudgetPolicy = iota
	// BudgetClose closes the connection that holds the most, with reason
	// MemoryLimit, on whatever loop it is, and takes the message.
	BudgetClose
)

// String returns the name of the policy.
func (p BudgetPolicy) String() string { return nameIn(int(p), "reject", "close") }

// Budget bounds the bytes that are pending on all connections that share it,
// of any listeners, loops and groups: the send memory of the process. Set it
// as Config.Budget, and as PacketConfig.Budget of sockets of datagrams.
//
// It is hard and fair at once, by the dynamic threshold that switches use
// (Choudhury and Hahne, 1998). Let total be what is pending on all of them. A
// connection's limit is the smaller of its own Limit and of what is free, the
// size of the budget less total; and when total is at or above the size, every
// message is refused, also one to an empty queue. So n connections whose peers
// do not read hold about size/(n+1) each, and leave as much to the next.
// Total never passes the size less 1, plus the longest message, plus the
// Reserve of each connection that uses it, and the little else that docs/send-queue.md names.
//
// What is counted are bytes of messages. What they lie in is rounded up to
// blocks: see docs/send-queue.md for the memory that this comes to.
//
// Thread: any, for every method.
type Budget struct {
	size   int64
	policy BudgetPolicy

	total        atomic.Int64
	peak         atomic.Int64
	refused      atomic.Uint64
	refusedBytes atomic.Uint64
	evicted      atomic.Uint64
	evictedBytes atomic.Uint64
	returning    atomic.Int64 // off the account, and not yet given back; changed under mu
	mu           sync.Mutex
	gates        []*gate // of all connections that have ever had something pending
	shares       map[weak.Pointer[reactor.Loop]]*share
	waiting      line         // for room
	turn         uint32       // of who has come last
	awaited      atomic.Int32 // len(waiting)
}

// BudgetStats is what a budget has counted.
type BudgetStats struct {
	Size          int    // as given to NewBudget
	Total         int    // bytes that are pending now
	Peak          int    // most bytes that were pending at once
	Returning     int    // bytes of connections that were closed for others, not yet given back
	Rejected      uint64 // messages refused for want of budget, not for a Limit
	RejectedBytes uint64
	Closed        uint64 // connections closed by BudgetClose
	ClosedBytes   uint64 // what they had pending
}

// NewBudget returns a budget of so many bytes, above 0: else Config.Check fails.
func NewBudget(bytes int, policy BudgetPolicy) *Budget {
	return &Budget{size: int64(bytes), policy: policy, shares: map[weak.Pointer[reactor.Loop]]*share{}}
}

// Stats returns the counters.
func (b *Budget) Stats() BudgetStats {
	return BudgetStats{
		Size: int(b.size), Total: int(b.total.Load()), Peak: int(b.peak.Load()), Returning: int(b.returning.Load()),
		Rejected: b.refused.Load(), RejectedBytes: b.refusedBytes.Load(),
		Closed: b.evicted.Load(), ClosedBytes: b.evictedBytes.Load(),
	}
}

func (b *Budget) check() error {
	switch {
	case b == nil:
		return nil
	case b.size <= 0:
		return fmt.Errorf("conn: a budget of %d bytes is not positive", b.size)
	case b.policy > BudgetClose:
		return fmt.Errorf("conn: unknown policy %d of a budget", b.policy)
	}
	return nil
}

// full reports whether every message is refused now.
func (b *Budget) full() bool { return b.total.Load() >= b.size }

// headroom returns the bytes that may still come for a connection that has pending
// until the budget makes it full: each takes one of what is free, and adds one to what
// the connection has.
func (b *Budget) headroom(pending int) int {
	free := min(b.size-b.total.Load(), math.MaxInt32)
	return (int(free) - pending) / 2
}

// fits reports whether a message would be taken for a connection that has pending,
// if less were pending in all.
func (b *Budget) fits(pending, less int64) bool {
	t := b.total.Load() - less
	return t < b.size && (pending == 0 || pending < b.size-t)
}

// welcomes reports whether the budget is no reason for a connection that has
// pending to be full: the next message fits, or another connection goes for it.
func (b *Budget) welcomes(pending int64) bool {
	return b.fits(pending, 0) || b.policy == BudgetClose && b.full()
}

// charge counts n bytes more for a connection that has pending, unless the
// budget refuses them. Nothing comes between the question and the count.
func (b *Budget) charge(pending, n int64) bool {
	for {
		t := b.total.Load()
		if t >= b.size || pending > 0 && pending >= b.size-t {
			return false
		}
		if b.total.CompareAndSwap(t, t+n) {
			b.note(t + n)
			return true
		}
	}
}

func (b *Budget) note(total int64) {
	for {
		p := b.peak.Load()
		if total <= p || b.peak.CompareAndSwap(p, total) {
			return
		}
	}
}

// refuse counts a message that was refused for want of budget.
func (b *Budget) refuse(n int) {
	b.refused.Add(1)
	b.refusedBytes.Add(uint64(n))
}

// gone is set in gate.pending when the bytes are off the account of the budget:
// by whoever closes the connection to make room, or by its end. A charge to it
// is refused, as pending is above any limit.
const gone = 1 << 62

// join has the budget know a connection that is about to have bytes pending.
func (b *Budget) join(g *gate) {
	b.mu.Lock()
	defer b.mu.Unlock()
	g.index = len(b.gates)
	b.gates = append(b.gates, g)
}

// leave takes what a connection still has pending off the account: its memory
// has been given back.
func (b *Budget) leave(g *gate) {
	b.mu.Lock()
	defer b.mu.Unlock()
	last := len(b.gates) - 1
	b.gates[g.index] = b.gates[last]
	b.gates[g.index].index = g.index
	b.gates[last] = nil
	b.gates = b.gates[:last]
	if g.place >= 0 {
		heap.Remove(&b.waiting, g.place)
		b.awaited.Store(int32(len(b.waiting)))
	}
	if old := g.pending.Or(gone); old < gone {
		b.total.Add(-old)
	} else {
		b.giveBack(g, g.doomed)
	}
}

// returned notes that n bytes of a connection that was closed for others are free.
func (b *Budget) returned(g *gate, n int64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.giveBack(g, n)
}

func (b *Budget) giveBack(g *gate, n int64) {
	n = min(n, g.doomed)
	g.doomed -= n
	b.returning.Add(-n)
}

// evict makes room: it closes the connection that holds the most, and reports
// whether there is cause to ask again. l is the loop of the caller, nil for other
// goroutines. No handler runs inside.
//
// The bytes are off the account at once. On the caller's loop the memory is
// given back at once too, but for what the kernel reads at the moment; elsewhere
// as soon as that loop comes to it.
func (b *Budget) evict(l *reactor.Loop) bool {
	if b.policy != BudgetClose {
		return false
	}
	g, again := b.choose()
	switch {
	case g == nil:
		return again
	case l != nil && g.remote == l.Remote():
		g.evict(l)
	case !g.remote.Post(g.evict):
		b.returned(g, gone) // The loop has ended, and what it held with it.
	}
	return true
}

// victim returns who would go for a message of another connection now, or nil. The
// caller holds mu. It is nobody while much is still to come back, since the memory
// would be used twice: more than an eighth of the budget, but for one connection alone.
func (b *Budget) victim() (g *gate) {
	if b.policy != BudgetClose || !b.full() {
		return nil
	}
	held := int64(0)
	for _, o := range b.gates {
		if p := o.pending.Load(); p < gone && p > held {
			g, held = o, p
		}
	}
	if r := b.returning.Load(); g != nil && r > 0 && r+held > b.size/8 {
		return nil
	}
	return g
}

// yields reports whether a message of a connection that has pending would be taken
// now, if need be for another connection. It knows better than welcomes, and costs more.
func (b *Budget) yields(pending int64) bool {
	if b.fits(pending, 0) {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.victim() != nil
}

// choose takes the largest account off the total.
func (b *Budget) choose() (g *gate, again bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.full() {
		return nil, true // Somebody was faster.
	}
	if g = b.victim(); g == nil {
		return nil, false
	}
	g.doomed = g.pending.Or(gone) // It may have changed meanwhile.
	b.total.Add(-g.doomed)
	b.returning.Add(g.doomed)
	b.evicted.Add(1)
	b.evictedBytes.Add(uint64(g.doomed))
	return g, true
}

// evict ends the connection of g, which the budget has chosen.
func (g *gate) evict(l *reactor.Loop) {
	c, ok := l.Lookup(g.token).(*Conn)
	if !ok || c.id != g.id {
		return // It has closed.
	}
	c.end(MemoryLimit, "", nil, true)
	if c.out != nil {
		g.budget.returned(g, int64(c.out.shed(c.sending)))
		g.budget.tell() // The next may be chosen now.
	}
}

// shed gives back what waits and what no send in flight reads, and returns how
// many bytes that were. They stay pending, and are lost with the rest.
func (o *outbound) shed(sending bool) int {
	from := o.q.next
	if sending {
		from += len(o.op.Out)
	}
	n := o.q.messages(o.q.waiting())
	o.q.shed(from)
	n -= o.q.messages(o.q.waiting())
	for _, s := range o.streams {
		n += s.behind.shed(s.behind.next)
	}
	return n
}

// share is the part of one loop in a budget: its connections with bytes that
// nobody has offered to the kernel. When the budget refuses a message they are, so
// that it speaks of peers, and not of what this turn has collected.
type share struct {
	fresh []*Conn
	last  int // bytes of the last message that was asked for
}

// shareOf returns the share of l.
func (b *Budget) shareOf(l *reactor.Loop) *share {
	if b == nil {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	key := weak.Make(l) // A budget may outlive many groups.
	s := b.shares[key]
	if s == nil {
		maps.DeleteFunc(b.shares, func(l weak.Pointer[reactor.Loop], _ *share) bool { return l.Value() == nil })
		s = &share{}
		b.shares[key] = s
	}
	return s
}

// add notes that c has queued something.
func (s *share) add(c *Conn) {
	if o := c.out; s != nil && o.fresh == 0 && !c.sending && !o.stuck {
		s.fresh = append(s.fresh, c)
		o.fresh = len(s.fresh)
	}
}

// del notes that what c has queued was offered, or is lost.
func (s *share) del(c *Conn) {
	o := c.out
	if s == nil || o == nil || o.fresh == 0 {
		return
	}
	at, last := o.fresh-1, len(s.fresh)-1
	s.fresh[at] = s.fresh[last]
	s.fresh[at].out.fresh = at + 1
	s.fresh[last] = nil
	s.fresh = s.fresh[:last]
	o.fresh = 0
}

// offer offers what this loop has collected to the kernel, until that is enough,
// and reports whether it was.
func (s *share) offer(enough func() bool) bool {
	for len(s.fresh) > 0 {
		s.fresh[len(s.fresh)-1].offer()
		if enough() {
			return true
		}
	}
	return false
}
