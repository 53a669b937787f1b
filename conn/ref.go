package conn

import (
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/reactor"
)

// maxDo bounds the functions of one connection that wait in its mailbox.
const maxDo = 1 << 16

// Ref names a connection from any goroutine. Once the connection has closed it
// names nobody; it never names another connection.
//
// What one goroutine asks of a Ref happens in the order of its calls, Close
// included.
type Ref struct{ g *gate }

// Ref returns the handle to keep on other goroutines.
func (c *Conn) Ref() Ref {
	if c.gate == nil {
		g := &gate{remote: c.loop.Remote(), token: c.token, id: c.id, shut: c.state != open, closed: c.state == closed, whole: c.dial.keeps()}
		g.fn = g.deliver
		g.pending.Store(int64(c.pending))
		g.setMarks(*c.marks)
		c.gate = g
		if g.budget = c.host.cfg.Budget; g.budget != nil && c.state < closed {
			g.budget.join(g)
		}
	}
	return Ref{c.gate}
}

// ID returns the number of the connection.
func (r Ref) ID() uint64 { return r.g.id }

// Pending returns the bytes that were admitted and, as far as the loop has
// heard, not taken by the kernel.
func (r Ref) Pending() int { return r.g.held() }

// Write copies p and posts it as one message. It is admitted against the same
// Limit as a Send on the loop, at once, so that a goroutine that outruns the
// loop is refused; a refusal is also told to OnError, as a *SendError.
//
// Full says that pending, the mailbox included, is at or above HighWater. It
// promises no OnDrain, since the loop may find that the peer takes everything:
// who wants to wait looks at Pending, or goes on until it is refused.
func (r Ref) Write(p []byte) Status { return r.g.put(item{n: len(p)}, p) }

// SendShared posts the bytes of s as one message; the caller keeps its count.
func (r Ref) SendShared(s *buf.Shared) Status {
	status := r.g.put(item{n: s.Len(), shared: s.Retain()}, nil)
	if status >= Rejected || s.Len() == 0 {
		s.Release()
	}
	return status
}

// Close posts a Close.
func (r Ref) Close() { r.g.put(item{kind: itemClose}, nil) }

// Do posts fn to run on the loop with the connection, or not at all once it
// has closed. It reports false when it is known already that it will not run:
// the connection has closed, or 65536 functions wait.
func (r Ref) Do(fn func(*Conn)) bool {
	return r.g.put(item{kind: itemDo, do: fn}, nil) == Queued
}

// item is one thing in the mailbox of a connection.
type item struct {
	kind   itemKind
	n      int // bytes: of shared, or the next ones of gate.data
	shared *buf.Shared
	do     func(*Conn)
}

// copied reports whether the item is bytes in gate.data.
func (i *item) copied() bool { return i.kind == itemSend && i.shared == nil }

type itemKind uint8

const (
	itemSend itemKind = iota
	itemClose
	itemDo
)

// gate is where other goroutines meet a connection. It exists from the first
// Ref on, counts pending for the connection from then on, and outlives it.
type gate struct {
	remote reactor.Remote
	token  aio.Token
	id     uint64
	fn     func(*reactor.Loop) // deliver, made once

	pending     atomic.Int64 // and gone
	high, limit atomic.Int64

	budget *Budget // nil = none
	index  int     // in Budget.gates, under its mu
	doomed int64   // of Budget.returning, under its mu

	mu       sync.Mutex
	shut     bool // takes no more sends: a Close is under way
	closed   bool
	posted   bool   // fn is in the loop's mailbox
	whole    bool   // messages must not be merged
	items    []item // and data: what has come, in order
	data     []byte
	spare    []item // done with
	spareBuf []byte
	refused  SendError
	slow     bool   // one of them while something was pending
	after    uint64 // sends after the close
	waiting  int    // functions in items
}

// setMarks changes both at once for those who come through a Ref, who hold mu.
func (g *gate) setMarks(m Marks) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.high.Store(int64(m.High))
	g.limit.Store(int64(m.Limit))
}

// held returns the bytes that are pending.
func (g *gate) held() int { return int(g.pending.Load() &^ gone) }

// chargeWithin counts n bytes as pending unless the queue is at its limit, or
// the budget at its own. The budget counts first: it never knows too little.
func (g *gate) chargeWithin(n int) bool {
	for {
		p := g.pending.Load()
		if p > 0 && p >= g.limit.Load() || g.budget != nil && !g.budget.charge(p, int64(n)) {
			return false
		}
		if g.pending.CompareAndSwap(p, p+int64(n)) {
			return true
		}
		if g.budget != nil {
			g.budget.total.Add(-int64(n))
		}
	}
}

// charge counts n bytes as pending, whatever the limits say; below 0 it counts
// them off.
func (g *gate) charge(n int64) {
	if p := g.pending.Add(n); g.budget != nil && p < gone {
		if t := g.budget.total.Add(n); n > 0 {
			g.budget.note(t)
		}
	}
}

// atLimit reports whether the connection's own Limit refuses the next message.
func (g *gate) atLimit() bool {
	p := g.pending.Load()
	return p > 0 && p >= g.limit.Load()
}

func (g *gate) put(i item, data []byte) Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed && i.kind != itemSend:
		return Closed
	case g.shut && i.kind == itemSend:
		g.after++
		return Closed
	case i.kind == itemDo && g.waiting == maxDo:
		return Rejected
	case i.kind == itemDo:
		g.waiting++
	case i.kind == itemClose && g.shut:
		return Closed
	case i.kind == itemClose:
		g.shut = true // What comes behind a Close is turned away by it.
	case i.kind == itemSend && !g.chargeWithin(i.n) && !g.press(i.n):
		g.refused.Messages++
		g.refused.Bytes += i.n
		g.post()
		return Rejected
	case i.kind == itemSend && i.n == 0:
		return g.answer() // Taken: no limit counts it, so it must not wait here.
	}
	if n := len(g.items); n > 0 && i.copied() && g.items[n-1].copied() && !g.whole {
		g.items[n-1].n += i.n // A stream: they go out as one, and cost no more than their bytes.
	} else {
		g.items = append(g.items, i)
	}
	g.data = append(g.data, data...)
	g.post()
	if i.kind != itemSend {
		return Queued
	}
	return g.answer()
}

// press is Conn.press for those who come through a Ref.
func (g *gate) press(n int) bool {
	if b := g.budget; b != nil && !g.atLimit() {
		for b.full() && b.evict(nil) {
			if g.chargeWithin(n) {
				return true
			}
		}
		b.refuse(n)
	}
	g.slow = g.slow || g.held() > 0
	return false
}

// answer is that to a message that was taken.
func (g *gate) answer() Status {
	if g.pending.Load() >= g.high.Load() {
		return Full
	}
	return Queued
}

// shutSends turns later sends away. Those that were admitted before are in
// time, and are flushed.
func (g *gate) shutSends() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
}

// post puts the gate into the loop's mailbox, once until it is emptied.
func (g *gate) post() {
	if !g.posted {
		g.posted = true
		g.remote.Post(g.fn)
	}
}

// close turns later callers away. The connection counts what is left as lost.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut, g.closed = true, true
	for i := range g.items {
		if s := g.items[i].shared; s != nil {
			s.Release()
		}
	}
	g.items, g.data, g.spare, g.spareBuf = nil, nil, nil, nil
}

func (g *gate) late() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.after
}

// empty takes what has come. give hands the memory back for what comes.
func (g *gate) empty() (items []item, data []byte, refused SendError) {
	g.mu.Lock()
	defer g.mu.Unlock()
	items, data, refused = g.items, g.data, g.refused
	refused.slow, g.slow = g.slow, false
	g.items, g.data, g.refused = g.spare[:0], g.spareBuf[:0], SendError{}
	g.spare, g.spareBuf = nil, nil
	g.posted, g.waiting = false, 0
	return items, data, refused
}

// keepData and keepItems bound the memory that an idle mailbox keeps: bytes, and
// messages of 32 bytes each.
const (
	keepData  = 64 << 10
	keepItems = 1 << 10
)

// give ends the reading of a mailbox; its memory serves again.
func (g *gate) give(items []item, data []byte) {
	for i := range items {
		if s := items[i].shared; s != nil {
			s.Release() // Not reached: a function before it has panicked.
		}
	}
	clear(items)
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed && cap(data) <= keepData && cap(items) <= keepItems {
		g.spare, g.spareBuf = items, data
	}
}

// deliver empties the mailbox on the loop.
func (g *gate) deliver(l *reactor.Loop) {
	c, ok := l.Lookup(g.token).(*Conn)
	if !ok || c.id != g.id {
		return // It has closed, and released what was here.
	}
	l.As(c)
	items, data, refused := g.empty()
	defer g.give(items, data)
	c.touch()
	for i := range items {
		it := items[i]
		items[i] = item{}
		switch it.kind {
		case itemSend:
			var p []byte
			if it.shared == nil {
				p, data = data[:it.n], data[it.n:]
			}
			c.mailed(it, p)
		case itemClose:
			c.Close()
		case itemDo:
			it.do(c)
		}
	}
	c.mailDone(&refused)
}

// mailed queues one message that was admitted when it was posted.
func (c *Conn) mailed(it item, p []byte) {
	taken := false
	switch {
	case c.state >= ending: // Stays pending, and is lost with the rest.
	case it.shared != nil:
		c.outbox().next(it.n).push(entry{ext: it.shared.Bytes(), shared: it.shared})
		it.shared, taken = nil, true
	default:
		taken = c.store(it.n, c.host.single(p))
	}
	if it.shared != nil {
		it.shared.Release()
	}
	switch {
	case taken:
		c.out.prompt = true
	case c.state < ending:
		// There is no memory for what was promised, and a stream with a hole in
		// it is none.
		c.end(IOError, "send", syscall.ENOBUFS, true)
	}
}

// mailDone runs the hooks that a mailbox asks for.
func (c *Conn) mailDone(refused *SendError) {
	pending := c.Pending()
	c.pendingMax = max(c.pendingMax, pending)
	if pending >= c.marks.High && c.state == open {
		if !c.full {
			c.offer()
			pending = c.Pending()
		}
		if pending >= c.marks.High {
			c.fill()
		}
	}
	if refused.Messages == 0 {
		return
	}
	c.counts.rejected += uint32(refused.Messages)
	c.counts.rejectedBytes += uint64(refused.Bytes)
	if c.host.cfg.SlowPeer == CloseSlow && refused.slow {
		c.end(SlowPeer, "", ErrSendBufferFull, true)
	}
	if c.hooks.err != nil {
		told := *refused // A copy: else every mailbox would cost an allocation.
		told.Err = ErrSendBufferFull
		c.hooks.err(c, &told)
	}
}
