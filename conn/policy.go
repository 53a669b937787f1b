package conn

// press decides on a message of n bytes that does not fit: the policies of the
// connection and of its budget make room, or it is refused.
func (c *Conn) press(n int) Status {
	b := c.host.cfg.Budget
	if b != nil && !c.atLimit() {
		if c.host.share.offer(c, n) {
			return Queued
		}
		for b.full() && b.evict(c.loop) && c.state == open {
			if c.chargeWithin(n) {
				return Queued
			}
		}
		b.refuse(n)
	}
	return c.refuse(n)
}

// isBlocked reports whether the next message does not fit.
func (c *Conn) isBlocked() bool {
	b := c.host.cfg.Budget
	return c.atLimit() || b != nil && !b.fits(int64(c.Pending()))
}

// atLimit reports whether the connection's own Limit refuses the next message.
func (c *Conn) atLimit() bool {
	p := c.Pending()
	return p > 0 && p >= c.marks.Limit
}
