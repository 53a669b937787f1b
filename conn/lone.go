package conn

import (
	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/reactor"
)

// lone is what an outbound has in place of a queue when one message is all there is:
// one block, or one payload. Neither is ever changed while somebody has it, and that the
// queue of the outbound is empty says nothing then. So who has to change something, for
// a second message or after a short send, has a queue from then on (see own); all others,
// and these are most, pay for none.
//
// What SendShared queues is the same for every connection on which nothing waits. So
// those that wait for the same payload have one outbound in common, and a message to a
// thousand costs one.
type lone struct {
	block   buf.Buf
	payload *buf.Shared
	out     [1][]byte // the bytes, as a send has them
	sharers int       // connections that have it; 0: there is a queue
}

// lonely reports whether a message of n bytes may be all that an outbound has: it
// may be for a connection on which nothing waits and no policy counts messages.
func (c *Conn) lonely(n int) bool {
	return c.out == nil && c.dial == nil && n < c.host.alone
}

// joinAlone has c wait for b, which is all there is.
func (c *Conn) joinAlone(b *buf.Buf) {
	o := c.host.outbound()
	o.lone.block = b.Take()
	o.lone.out[0] = o.lone.block.Bytes()
	o.asked, o.lone.sharers = len(o.lone.out[0]), 1
	c.out = o
}

// storeAlone is joinAlone with a copy of the n bytes of v, if they fit a small block
// and there is one.
func (c *Conn) storeAlone(n int, v [][]byte) bool {
	if n > reactor.SmallBlock || !c.lonely(n) {
		return false
	}
	b := c.loop.Small().Get()
	if b.IsZero() {
		return false
	}
	for _, p := range v {
		b.Append(p)
	}
	c.joinAlone(&b)
	return true
}

// joinCommon has c wait for s with the others, and reports whether it does.
func (c *Conn) joinCommon(s *buf.Shared) bool {
	if !c.lonely(s.Len()) {
		return false
	}
	h := c.host
	o := h.common
	if o == nil || o.lone.payload != s {
		o = h.outbound()
		o.lone.payload, o.lone.out[0], o.asked = s.Retain(), s.Bytes(), s.Len()
		h.common = o
	}
	o.lone.sharers++
	c.out = o
	return true
}

// vacateLone leaves c without an outbound, which is lone.
func (c *Conn) vacateLone() {
	o, h := c.out, c.host
	c.out = nil
	l := &o.lone
	if l.sharers--; l.sharers > 0 {
		return
	}
	l.block.Release()
	if s := l.payload; s != nil {
		if h.common == o {
			h.common = nil
		}
		l.payload = nil
		s.Release()
	}
	if !o.tainted { // Else the list in it is still the engine's.
		l.out[0], o.prompt = nil, false // Nobody is to keep what was sent alive.
		h.lay(o)
	}
}

// own has c have its outbound, if it has one, with a queue and for itself, so that it
// may be changed.
func (c *Conn) own() *outbound {
	o, h := c.out, c.host
	if o == nil || o.lone.sharers == 0 {
		return o
	}
	if h.common == o {
		h.common = nil
	}
	e := entry{block: o.lone.block.Take()}
	if s := o.lone.payload; s != nil {
		e = entry{ext: s.Bytes(), shared: s.Retain()}
		if o.lone.sharers == 1 && !o.tainted {
			s.Release()
			o.lone.payload = nil
		}
	}
	if o.lone.sharers == 1 && !o.tainted {
		o.lone.sharers = 0
	} else {
		mine := h.outbound()
		mine.asked = o.asked
		o.tainted = o.tainted || c.sending // The list that was submitted is the engine's until the first completion.
		c.vacateLone()
		c.out, o = mine, mine
	}
	if !c.sending {
		o.lone.out[0] = nil
	}
	o.q.push(e)
	o.op = aio.Op{Token: c.token, Kind: aio.Send, FD: c.fd, Out: o.op.Out}
	return o
}

// flushLone flushes what has nothing but one message to send, or nothing at all.
func (c *Conn) flushLone() bool {
	return c.out == nil || c.out.lone.sharers > 0 && !c.sending && c.sendLone()
}

// sendLone sends the only message, unless that takes more than a plain send, and reports
// whether nothing is left to submit. If not, there is a queue, or the connection has failed.
func (c *Conn) sendLone() bool {
	if c.full || c.state != open || c.awaitsRoom() {
		return false
	}
	o := c.out
	op := &c.host.op // Set field by field, since a copy of it all costs more than it looks.
	op.Token, op.Kind, op.Flags, op.Batch = c.token, aio.Send, 0, 0
	op.FD, op.Out = c.fd, o.lone.out[:]
	if c.host.tries {
		return c.tryLone(c.loop.Try(op))
	}
	if o.prompt || c.Pending() > o.asked {
		op.Flags = aio.Prompt
	}
	c.sending = true
	c.loop.Submit(op)
	if c.clock != nil {
		c.clock.submitted(c, 0)
	}
	return true
}

// tryLone settles what the kernel has taken, n bytes or an errno, of the only message. It
// reports whether that was all.
func (c *Conn) tryLone(n int) bool {
	switch {
	case n == c.out.asked:
		c.goneLone(n)
		return true
	case n < 0:
		c.fail("send", n)
	default:
		c.own().stuck = true
		c.took(n)
	}
	return false
}

// sentLone settles a send of all that the outbound has, if that is one message.
func (c *Conn) sentLone(done *aio.Completion) bool {
	n := int(done.Res)
	if o := c.out; o.lone.sharers == 0 || n != o.asked {
		return false
	}
	c.sending = false
	c.goneLone(n)
	return true
}

// goneLone settles that the kernel has the only message, of n bytes.
func (c *Conn) goneLone(n int) {
	c.vacateLone()
	c.bytesOut += uint64(n)
	c.settle(n, 0)
}
