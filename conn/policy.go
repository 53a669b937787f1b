package conn

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
