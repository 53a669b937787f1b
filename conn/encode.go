package conn

import (
	"syscall"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/reactor"
)

// Encode is Write for a message that is made only once it was admitted: encode
// appends it to dst and returns the result, as append does. n is about how long
// it will be, in bytes; what outgrows n costs a copy more. A refused message has
// never been seen by encode, so a compressor stays in step with the peer.
//
// When encode fails, nothing is queued, and the connection closes, behind what
// was queued before, with reason ProtocolError and that error; the answer is
// Closed. When it panics, the connection ends as for any panic of a handler.
// When it appends nothing, nothing is sent.
//
// Thread: encode runs inside Encode, and may send by itself.
func (c *Conn) Encode(n int, encode func(dst []byte) ([]byte, error)) Status {
	n = max(n, 1) // Its length is not known: room is made for it all the same.
	return c.encode(c.admit(n), n, encode)
}

// TryEncode is Encode for a producer that waits rather than be refused, as TrySend
// is Send.
func (c *Conn) TryEncode(n int, encode func(dst []byte) ([]byte, error)) Status {
	c.patient = true
	s := c.admit(n)
	c.patient = false
	return c.encode(s, n, encode)
}

// EncodeReserved is Encode even past the limit, out of the reserve of
// WriteReserved; n is how long the message is at the most.
func (c *Conn) EncodeReserved(n int, encode func(dst []byte) ([]byte, error)) Status {
	if c.state != open || n > Reserve {
		return c.Encode(n, encode)
	}
	s, past := c.admitReserved(n)
	if !past {
		return c.encode(s, n, encode)
	}
	size := 0
	s = c.encode(Queued, n, func(dst []byte) ([]byte, error) {
		p, err := encode(dst)
		size = len(p)
		return p, err
	})
	if s <= Full && c.out != nil && !c.out.q.empty() { // Else it has gone.
		c.reserve(size)
	}
	return s
}

// encode is Encode for a message that was decided on.
func (c *Conn) encode(s Status, n int, encode func(dst []byte) ([]byte, error)) Status {
	if s != Queued {
		return s
	}
	b, ok := c.blockFor(n)
	if !ok {
		return c.refund(n)
	}
	charged := n
	defer func() { // Of what was not queued, and when encode panics.
		b.Release()
		if charged > 0 {
			c.credit(charged)
		}
	}()
	p, err := encode(b.Room()[:0])
	switch {
	case c.state != open: // encode has closed it.
		return c.late(n)
	case err != nil:
		c.closeFor(ProtocolError, err)
		return Closed
	case len(p) == 0:
		return Queued
	}
	c.charge(len(p) - charged)
	charged = len(p)
	if len(p) <= len(b.Room()) && &p[0] == &b.Room()[0] {
		b.Extend(len(p))
		c.join(&b)
	} else if !c.store(len(p), c.host.single(p)) {
		// encode has made what the peer will not have: all behind it is void.
		c.end(IOError, "send", syscall.ENOBUFS, true)
		return Closed
	}
	charged = 0
	return c.admitted()
}

// blockFor returns a block with room for n bytes, or the zero Buf where there is
// none so large. It is not ok when there is no memory.
func (c *Conn) blockFor(n int) (b buf.Buf, ok bool) {
	switch {
	case n <= reactor.SmallBlock:
		b = c.loop.Small().Get()
	case n <= reactor.BulkBlock:
		b = c.loop.Bulk().Get()
	default:
		return b, true
	}
	return b, !b.IsZero()
}
