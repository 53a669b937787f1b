package conn

// Fits reports whether a message would be taken now, be it long or short: Queued
// if it would, else Rejected or Closed. Unlike Admit it counts nothing and has no
// policy applied: it is for a producer that rather waits than is refused. The
// kernel is asked before the answer is Rejected.
//
// OnDrain tells when there is room again. What a Budget has free depends on other
// connections, and another loop may take it before the message comes.
func (c *Conn) Fits() Status {
	if c.state == open && c.refuses() {
		c.offer()
	}
	switch {
	case c.state != open:
		return Closed
	case c.refuses() && !c.passes(usualMessage):
		return Rejected
	}
	return Queued
}

// refuses is isBlocked, but for a budget that would make room.
func (c *Conn) refuses() bool {
	b := c.host.cfg.Budget
	return c.isBlocked() && (c.atLimit() || b.policy != BudgetClose || !b.full())
}
