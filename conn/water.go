package conn

import "math"

// Pending returns the bytes that were admitted and that the kernel has not
// taken: those in the mailbox, in the queue and in flight.
func (c *Conn) Pending() int {
	if c.gate != nil {
		return c.gate.held()
	}
	return c.pending
}

// Lent returns the bytes that zero-copy sends still read from. They are not
// pending, and never hold the queue up.
func (c *Conn) Lent() int {
	if c.out == nil {
		return 0
	}
	return c.out.lent
}

// IsFull reports whether OnFull has run and OnDrain is still to come.
func (c *Conn) IsFull() bool { return c.full }

// Marks returns the marks in force.
func (c *Conn) Marks() Marks { return *c.marks() }

func (c *Conn) marks() *Marks {
	if b := c.beside; b != nil && b.marks != nil {
		return b.marks
	}
	return &c.host.marks
}

// SetMarks changes the marks of this connection, all at once, with effect on
// the next Send. If pending is on the other side of a new mark, the hook that
// it asks for runs, once, at the end of the turn. Marks that contradict one
// another are refused and change nothing.
func (c *Conn) SetMarks(m Marks) error {
	if err := m.check(); err != nil {
		return err
	}
	c.aside().marks = &m
	if c.gate != nil {
		c.gate.setMarks(m)
	}
	c.remark = true
	c.touch()
	return nil
}

// Admit reports whether a message of n bytes would be taken now: Queued if it
// would, else Rejected or Closed, which is counted as if it had been sent. Ask
// before the work of making a message that may be refused; a compressor that
// has seen a refused message is out of step with the peer for ever. Queued is a
// promise until the next call, where there is neither a Budget, of which another loop may
// take what it had, nor a Ref by which another goroutine sends meanwhile: see Encode then.
// A message of a Ref.WriteVia was admitted when it was posted.
func (c *Conn) Admit(n int) Status {
	if g := c.gate; g != nil && g.paid > 0 && g.paid >= n && c.state == open {
		return Queued // It stays paid for what is sent now.
	}
	s := c.admit(n)
	if s == Queued {
		c.credit(n)
	}
	return s
}

// admit decides on a message of n bytes, and charges it when it is taken. It
// may only be refused for a peer that does not read, so the kernel is asked
// before.
func (c *Conn) admit(n int) Status {
	if c.pending == 0 && c.gate == nil && c.state == open && c.host.share == nil {
		c.pending = n // An empty queue takes any message, and nobody else has a say.
		return Queued
	}
	return c.weigh(n)
}

// weigh is admit where there is something to decide.
func (c *Conn) weigh(n int) Status {
	if c.state != open {
		return c.late(n)
	}
	if c.prepaid(n) || c.chargeWithin(n) {
		return Queued
	}
	c.offer()
	if c.state != open {
		return c.late(n)
	}
	if c.chargeWithin(n) {
		return Queued
	}
	return c.press(n)
}

// refuse counts a message that was not taken. A peer of which nothing waits is
// not slow: then it was the budget, which others have used up.
func (c *Conn) refuse(n int) Status {
	if c.patient {
		return Rejected
	}
	c.countRejected(message(n))
	if c.host.cfg.SlowPeer == CloseSlow && n > 0 && c.Pending() > 0 {
		c.end(SlowPeer, "", ErrSendBufferFull, true)
	}
	return Rejected
}

// refund takes back a charge for a message for which there is no memory. That
// is no fault of the peer's, so no policy is applied.
func (c *Conn) refund(n int) Status {
	c.credit(n)
	c.countRejected(message(n))
	return Rejected
}

// chargeWithin counts n bytes as pending unless the queue is at its limit. An
// empty queue takes any message, unless the budget is used up.
func (c *Conn) chargeWithin(n int) bool {
	if c.gated() {
		if s := c.host.share; s != nil {
			s.last = n
		}
		return c.gate.chargeWithin(n)
	}
	if c.pending > 0 && c.pending >= c.marks().Limit {
		return false
	}
	c.pending += n
	return true
}

// headroom returns the bytes that may be queued until the connection is full, of its
// own marks and of the budget. It is below 1 when it is full.
func (c *Conn) headroom() int {
	if c.gate != nil {
		return c.gate.headroom()
	}
	n := c.marks().High - c.Pending()
	if b := c.host.cfg.Budget; b != nil {
		n = min(n, b.headroom(0))
	}
	return n
}

// gated reports whether the gate counts what is pending: from the first Ref on,
// and with a budget from the first message on.
func (c *Conn) gated() bool {
	if c.gate == nil && c.host.cfg.Budget != nil {
		c.Ref()
	}
	return c.gate != nil
}

func (c *Conn) charge(n int) {
	if c.gated() {
		c.gate.charge(int64(n))
	} else {
		c.pending += n
	}
}

// credit counts n bytes off, and lets those in who have waited for that.
func (c *Conn) credit(n int) {
	if c.gate == nil {
		c.pending -= n // With a budget, what was charged has made the gate.
		return
	}
	c.repay(n)
}

// repay is credit where the gate counts.
func (c *Conn) repay(n int) {
	if o := c.out; o != nil && o.bypass > 0 {
		k := min(n, o.bypass)
		o.bypass -= k
		c.gate.pending.Add(-int64(k))
		n -= k
	}
	g := c.gate
	g.charge(-int64(n))
	if g.blocked.Load() > 0 {
		g.granted()
	}
	if g.budget != nil {
		g.budget.tell()
	}
}

// late counts a message of n bytes that came after the close.
func (c *Conn) late(n int) Status {
	c.aside().late.add(n)
	return Closed
}

// admitted answers for a message that was just queued.
func (c *Conn) admitted() Status {
	c.touch()
	pending := c.Pending()
	if c.host.share == nil && pending < c.marks().High {
		c.peak(pending)
		return Queued
	}
	return c.nearFull()
}

// nearFull is admitted where the queue may be full, or a budget counts.
func (c *Conn) nearFull() Status {
	c.host.share.add(c)
	if c.out.bypass > 0 {
		c.offerBypass()
	}
	high := c.isHigh()
	c.peak(c.Pending())
	switch {
	case high:
		c.fill(false)
	case c.isShort():
		c.starve(c.host.share.last)
	default:
		return Queued
	}
	return Full
}

// isHigh reports whether HighWater or more is pending. Full speaks of the peer, not of
// our batching: so a queue that is not full is offered to the kernel before.
func (c *Conn) isHigh() bool {
	if c.Pending() >= c.marks().High && !c.full {
		c.offer()
	}
	return c.Pending() >= c.marks().High
}

// peak notes how much is pending, if it is the most so far.
func (c *Conn) peak(pending int) {
	if n := uint64(pending); n > uint64(c.pendingMax) {
		c.pendingMax = uint32(min(n, math.MaxUint32))
	}
}

// fill runs OnFull, unless it has run since the last OnDrain. It is short for want
// of budget.
func (c *Conn) fill(short bool) {
	if c.full || c.state > closing {
		return
	}
	c.full, c.starved = true, short
	c.countFull()
	if c.host.cfg.PauseOnFull && !c.readsOn && !c.piped() {
		c.hold(byFull)
	}
	if c.hooks.full != nil {
		if c.vital { // Keep is for the send that this runs in, not for what the handler sends.
			c.Keep(false)
			defer c.Keep(true)
		}
		c.as(c.hooks.full)
	}
}

// as runs a hook of c inside a call that the handler of another may have made: c is
// the one that ends if the hook panics.
func (c *Conn) as(hook func(*Conn)) {
	was := c.loop.As(c)
	hook(c)
	c.loop.As(was) // Of who panicked inside nobody comes here.
}

// edges runs the hooks that pending and the marks ask for now. It is called
// from the loop, never inside a Send.
func (c *Conn) edges() {
	if c.state > closing {
		return
	}
	if c.remark {
		if c.remark = false; c.isHigh() {
			c.fill(false)
		}
	}
	pending := c.Pending()
	if c.awaitsRoom() {
		c.beside.ripen(c, pending)
	}
	o := c.out
	emptied := o != nil && o.backlog && pending == 0 // The mailbox included: what is in it may not be taken at once.
	if emptied {
		o.backlog = false
	}
	if c.full && pending <= c.marks().Low && c.isFed(pending) || emptied && c.host.cfg.DrainAlways {
		c.countDrain(c.full)
		c.full = false
		c.resume(byFull)
		c.touch() // Reading goes on, and what the handler sends goes out.
		if c.hooks.drain != nil {
			c.hooks.drain(c)
		}
		c.starved = c.starved && c.full // The handler may have filled it again.
	}
	if c.beside != nil {
		c.tellRooms()
	}
}
