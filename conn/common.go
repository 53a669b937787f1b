package conn

import (
	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
)

// Where nothing waits, what SendShared queues is the same for every connection: one
// payload, and nothing beside it. So those that wait for the same payload have one
// outbound in common, and a message to a thousand costs one. It is never changed while
// somebody has it: who needs to, for a second message or after a short send, has a
// copy of its own from then on.

// joinCommon has c wait for s with the others, and reports whether it does.
func (c *Conn) joinCommon(s *buf.Shared) bool {
	h := c.host
	if c.out != nil || c.dial != nil || h.share != nil || h.cfg.SlowPeer == DropOldest || h.zeroCopy > 0 && s.Len() >= h.zeroCopy {
		return false
	}
	o := h.common
	if o == nil || o.q.list[0].shared != s {
		o = h.outbound()
		o.q.push(entry{ext: s.Bytes(), shared: s.Retain()})
		o.op.Out, o.asked, _ = o.q.gather(o.op.Out[:0], 1, s.Len(), 0)
		h.common = o
	}
	o.sharers++
	c.out = o
	return true
}

// leaveCommon leaves c without an outbound.
func (c *Conn) leaveCommon() {
	o, h := c.out, c.host
	c.out = nil
	if o.sharers--; o.sharers > 0 {
		return
	}
	if h.common == o {
		h.common = nil
	}
	o.q.drop()
	if !o.tainted {
		clear(o.op.Out)
	}
	h.keep(o)
}

// own has c have its outbound, if it has one, for itself, so that it may be changed.
func (c *Conn) own() *outbound {
	o, h := c.out, c.host
	if o == nil || o.sharers == 0 {
		return o
	}
	if h.common == o {
		h.common = nil
	}
	if o.sharers == 1 && !o.tainted {
		o.sharers = 0
	} else {
		mine := h.outbound()
		e := o.q.list[0]
		mine.q.push(entry{ext: e.ext, shared: e.shared.Retain()})
		mine.op.Out, mine.asked = append(mine.op.Out[:0], o.op.Out...), o.asked
		o.tainted = o.tainted || c.sending // The list that was submitted is the engine's until the first completion.
		c.leaveCommon()
		c.out, o = mine, mine
	}
	o.op = aio.Op{Token: c.token, Kind: aio.Send, FD: c.fd, Out: o.op.Out}
	return o
}

// sendCommon submits the payload, unless that takes more than a plain send.
func (c *Conn) sendCommon() bool {
	if c.awaited() {
		return false
	}
	c.sending = true
	c.submit(aio.Op{Kind: aio.Send, Out: c.out.op.Out})
	if c.clock != nil {
		c.clock.submitted(c, 0)
	}
	return true
}

// sentCommon settles a send of all that the outbound has, if c has it in common with
// others.
func (c *Conn) sentCommon(done *aio.Completion) bool {
	n := int(done.Res)
	if o := c.out; o.sharers == 0 || n != o.asked {
		return false
	}
	c.sending = false
	c.leaveCommon()
	c.bytesOut += uint64(n)
	c.settle(n, 0)
	return true
}
