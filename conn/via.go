package conn

import "context"

// Via makes a message of a protocol of p, the bytes given to WriteVia, and sends it, on
// the loop of c.
//
// Ownership: p is lent until it returns.
type Via func(c *Conn, p []byte)

// WriteVia copies p and posts it as one message of a protocol: on the loop, via is
// called with it, and sends what the protocol makes of it. It is admitted here, as
// by Write, with the more bytes that the protocol adds; what via sends is taken there
// without being asked about again, up to that length. Once the connection takes no
// more sends, via is not called.
//
// Give the same pointer for all messages of a kind: then nothing is allocated for a
// message, and it waits as little more than its bytes.
func (r Ref) WriteVia(p []byte, more int, via *Via) Status {
	return r.send(item{n: len(p) + more, more: more, via: via}, p, nil)
}

// WriteViaBlock is WriteVia that waits for room, as WriteBlock does.
func (r Ref) WriteViaBlock(ctx context.Context, p []byte, more int, via *Via) error {
	return r.block(ctx, item{n: len(p) + more, more: more, via: via}, p)
}

// CloseVia posts via, with which a protocol begins its close, to run on the loop with
// the connection. Like a Close it is never turned away: the mailbox holds one at the
// most, and of more the first runs.
func (r Ref) CloseVia(via func(c *Conn)) {
	if r.g != nil {
		r.g.closeVia(via)
	}
}

// mailedVia has a message made that was admitted when it was posted.
func (c *Conn) mailedVia(it item, p []byte) {
	g := c.gate
	if c.state != open {
		g.charge(-int64(it.n))
		c.late(it.n)
		return
	}
	g.paid = it.n
	defer func() {
		rest := g.paid
		g.paid = 0
		if c.credit(rest); rest > 0 && c.clock != nil {
			c.clock.took(c, 0) // It may have been all that was pending.
		}
	}()
	if (*it.via)(c, p); g.paid < it.n && c.out != nil {
		c.out.prompt = true // As for any mail: who sends from elsewhere waits for it.
	}
}

// prepaid reports whether a via sends n bytes that were admitted before, and are
// charged.
func (c *Conn) prepaid(n int) bool {
	g := c.gate
	if g == nil || g.paid == 0 || g.paid < n {
		return false
	}
	g.paid -= n
	return true
}

// Keep says whether DropOldest has to leave what is sent from now on: parts of a
// whole that is of no use with a gap in it. It holds until it is called again, but
// not for what OnFull sends: set it back behind what it is for.
func (c *Conn) Keep(on bool) {
	if c.vital = on; c.out != nil {
		c.out.bounds.keep(on)
	}
}
