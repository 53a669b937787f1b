package conn

import (
	"syscall"

	"github.com/penstock-go/penstock/reactor"
)

// deliver empties the mailbox on the loop.
func (g *gate) deliver(l *reactor.Loop) {
	c, ok := l.Lookup(g.token).(*Conn)
	if !ok || c.id != g.id {
		return // It has closed, and released what was here.
	}
	l.As(c)
	m := g.collect()
	defer g.give(c, m.items, m.data)
	c.count(&m) // Here, since a function among them may panic.
	c.touch()
	c.tellCopied(m.dones)
	last, data := 0, m.data
	for i := range m.items {
		it := m.items[i]
		m.items[i] = item{}
		switch it.kind {
		case itemSend:
			if n := c.mailedAll(it, data[:it.size]); n > 0 {
				last = n
			}
			data = data[it.size:]
		case itemGone:
			c.tellLater(it.lent)
		case itemClose:
			c.asked(it.how)
		case itemDo:
			it.do(c)
		}
	}
	c.mailDone(&m, last)
}

func (g *gate) collect() mail {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.posted = false
	return g.box.empty()
}

// give ends the reading of a mailbox; its memory serves again.
func (g *gate) give(c *Conn, items []item, data []byte) {
	for i := range items { // Those not reached: a function before them has panicked.
		if s := items[i].shared; s != nil {
			s.Release()
		}
		c.tellLater(items[i].lent)
	}
	clear(items)
	g.mu.Lock()
	defer g.mu.Unlock()
	bytes, messages := keepData, keepItems
	if g.budget != nil { // It counts what is pending, not what is kept for later.
		bytes, messages = keepData/32, keepItems/32
	}
	if !g.closed && cap(data) <= bytes && cap(items) <= messages {
		g.box.spare, g.box.spareBuf = items, data
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
