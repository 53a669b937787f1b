package conn

import (
	"syscall"
)

// press decides on a message of n bytes that does not fit: the policies of the
// connection and of its budget make room, or it is refused. No connection
// ends for a message without bytes.
func (c *Conn) press(n int) Status {
	b := c.host.cfg.Budget
	if b != nil && c.gate.isDoomed() { // Another loop has chosen it, and the post is on its way.
		c.gate.evict(c.loop)
		return c.late(n)
	}
	short := b != nil && !c.atLimit() // It is the budget that has no room.
	if short && c.host.share.offer(func() bool { return c.chargeWithin(n) }) || !c.patient && c.replace(n) {
		return Queued
	}
	if short && c.bypasses(n) {
		c.chargeBypass(n)
		return Queued
	}
	if short {
		for n > 0 && b.full() && b.evict(c.loop) && c.state == open {
			if c.chargeWithin(n) {
				b.tell()
				return Queued
			}
		}
		b.tell()
		if c.state != open {
			return c.late(n) // It was this one that held the most.
		}
		patient := c.patient
		if !patient {
			b.refuse(n)
		}
		c.patient = false                     // OnFull may send, and that is no TrySend.
		if n > 0 || b.policy != BudgetClose { // Somebody goes for a message with bytes: so it would drain at once.
			c.starve(n)
		}
		c.patient = patient
	}
	return c.refuse(n)
}

// isBlocked reports whether the next message does not fit.
func (c *Conn) isBlocked() bool {
	b := c.host.cfg.Budget
	return c.atLimit() || b != nil && !b.fits(int64(c.Pending()), 0)
}

// atLimit reports whether the connection's own Limit refuses the next message.
func (c *Conn) atLimit() bool {
	p := c.Pending()
	return p > 0 && p >= c.marks().Limit
}

// replace drops messages until there is room for n bytes. It drops none when that
// would not help, and none for a message without bytes, which there is room for then.
func (c *Conn) replace(n int) bool {
	o, b := c.out, c.host.cfg.Budget
	if o == nil || c.host.cfg.SlowPeer != DropOldest {
		return false
	}
	free := o.bounds.free
	rest := c.Pending() - free
	if rest > 0 && rest >= c.marks().Limit || b != nil && !b.fits(int64(rest), int64(free)) {
		return false
	}
	for n > 0 && c.dropOldest() {
		if c.chargeWithin(n) {
			return true
		}
	}
	return n == 0
}

// dropOldest drops the oldest message that is not begun.
func (c *Conn) dropOldest() bool {
	o := c.out
	from, n, ok := o.bounds.drop()
	if !ok {
		return false
	}
	o.cut(from, n)
	if o.q.empty() && len(o.streams) == 0 {
		o.prompt, o.reserved = false, 0
	}
	c.countDropped(message(n))
	c.credit(n)
	return true
}

// trim drops what has become too old through a Ref: until the newest message, of
// n bytes, would have been taken behind what is left.
func (c *Conn) trim(n int) {
	over := func() bool { p := c.Pending() - n; return p > 0 && p >= c.marks().Limit }
	if c.out == nil || c.host.cfg.SlowPeer != DropOldest || c.state != open || !over() {
		return
	}
	c.offer()
	for c.out != nil && over() && c.dropOldest() {
	}
}

// mailedAll queues the messages of an item, p its data, and returns how long the last
// one is.
func (c *Conn) mailedAll(it item, p []byte) (last int) {
	if !it.framed {
		c.mailed(it, p)
		return it.n
	}
	for len(p) > 0 {
		size, header := firstMessage(p)
		it.n = size + it.more
		c.mailed(it, p[header:header+size])
		p = p[header+size:]
	}
	return it.n
}

// mailed queues one message that was admitted when it was posted.
func (c *Conn) mailed(it item, p []byte) {
	taken := false
	if it.vital && c.state < ending {
		b := c.outbox().bounds
		defer b.keep(b.keep(true))
	}
	switch {
	case c.state >= ending: // Stays pending, and is lost with the rest.
		c.tellLater(it.lent)
	case it.n == 0:
		c.tellLater(it.lent)
		return
	case it.via != nil:
		c.mailedVia(it, p)
		return
	case it.lent != nil:
		if taken = c.joinBytes(it.lent.p, it.lent.done); !taken {
			c.tellLater(it.lent)
		}
	case it.shared != nil:
		taken = c.joinShared(it.shared)
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

// tellLater has who lent memory told that nobody reads it.
func (c *Conn) tellLater(l *lent) {
	if l != nil && l.done != nil {
		o := c.outbox()
		o.q.dones = append(o.q.dones, l.done)
		c.touch()
	}
}

// tellCopied has those told who lent bytes to a mailbox, which has copied them.
func (c *Conn) tellCopied(dones []func()) {
	if len(dones) > 0 {
		o := c.outbox()
		o.q.dones = append(o.q.dones, dones...)
		c.touch()
	}
}

// asked ends the connection as a Ref has asked for.
func (c *Conn) asked(why how) {
	switch why {
	case byCloseWrite:
		c.CloseWrite()
	case byClose:
		c.Close()
	case byAbort:
		c.Abort()
	}
}

// mailDone runs the hooks that a mailbox asks for, whose last message has n bytes: 0
// when there was none.
func (c *Conn) mailDone(m *mail, n int) {
	c.peak(c.Pending())
	if n > 0 {
		c.trim(n)
	}
	switch {
	case c.state != open:
	case c.isHigh():
		c.fill(false)
	case c.isShort():
		c.starve(usualMessage)
	}
	if m.refused.messages == 0 {
		return
	}
	if c.host.cfg.SlowPeer == CloseSlow && m.slow {
		c.end(SlowPeer, "", ErrSendBufferFull, true)
	}
	if c.hooks.err != nil {
		c.hooks.err(c, &SendError{Messages: int(m.refused.messages), Bytes: int(m.refused.bytes), Err: ErrSendBufferFull})
	}
}

// count adds up what a mailbox has counted.
func (c *Conn) count(m *mail) {
	if m.refused.messages > 0 {
		c.countRejected(m.refused)
	}
	if m.dropped.messages > 0 {
		c.countDropped(m.dropped)
	}
}

// lastMail gives back what was in the mailbox of a connection that has ended.
func (c *Conn) lastMail(m mail) {
	c.count(&m)
	for i := range m.items {
		if s := m.items[i].shared; s != nil {
			s.Release()
		}
		c.tellLater(m.items[i].lent)
	}
	c.tellCopied(m.dones)
}
