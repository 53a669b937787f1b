package conn

import "github.com/penstock-go/penstock/buf"

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
	case c.refuses() && !c.bypasses(usualMessage):
		return Rejected
	}
	return Queued
}

// refuses is isBlocked, but for a budget that would make room.
func (c *Conn) refuses() bool {
	b := c.host.cfg.Budget
	return c.isBlocked() && (c.atLimit() || b.policy != BudgetClose || !b.full())
}

// TrySend is Send for a producer that waits rather than be refused: a Rejected
// counts nowhere, and no SlowPeer policy answers it. Fits asks before a message is
// made; between the two, another loop may take what a Budget had free.
func (c *Conn) TrySend(b *buf.Buf) Status {
	c.patient = true
	s := c.admit(b.Len())
	c.patient = false
	return c.send(b, s)
}
