package ws

import (
	"fmt"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
)

// Send queues a message. The answer is that of the connection's send queue, which
// counts the frame: Queued, Full, Rejected or Closed; see conn.Status. It is also
// Closed once a close frame was sent. A message that is refused was neither framed nor compressed.
//
// A Text must be UTF-8: it is not checked.
//
// Ownership: p is lent until Send returns.
func (c *Conn) Send(op Op, p []byte) conn.Status {
	checkOp(op)
	if s := c.admit(); s != conn.Queued {
		return s
	}
	if c.windows != nil && len(p) >= c.lane.ep.cfg.Deflate.Threshold {
		return c.sendDeflated(op, p)
	}
	return c.frame(byte(op)|bitFin, p)
}

func checkOp(op Op) {
	if op != Text && op != Binary {
		panic(fmt.Sprintf("ws: a message of opcode %d, %v", op, op))
	}
}

// admit answers for messages as long as the WebSocket, rather than its queue, has
// the say.
func (c *Conn) admit() conn.Status {
	switch {
	case c.phase != open:
		return conn.Closed
	case c.writer != nil:
		return conn.Rejected
	}
	return conn.Queued
}

// frame queues one frame; first is its first byte.
func (c *Conn) frame(first byte, p []byte) conn.Status {
	l := c.lane
	if l.ep.client {
		return c.conn.Encode(headerLen(len(p), true)+len(p), func(dst []byte) ([]byte, error) {
			return l.appendMasked(dst, first, p), nil
		})
	}
	n := putHeader(l.header[:], first, len(p), false, 0)
	return c.conn.SendHeaded(l.header[:n], p)
}

// appendMasked appends a frame as a client sends it.
func (l *lane) appendMasked(dst []byte, first byte, p []byte) []byte {
	size := headerLen(len(p), true) + len(p)
	if cap(dst)-len(dst) < size {
		dst = append(l.bytes(len(dst)+size), dst...)
	}
	key := l.keys.next()
	n := putHeader(l.header[:], first, len(p), true, key)
	dst = append(append(dst, l.header[:n]...), p...)
	mask(dst[len(dst)-len(p):], key)
	return dst
}

// SendReceived sends a message back as it came, in OnMessage, and answers as Send
// does. The block that it was received in is sent itself where that is possible,
// and the message is empty then: nothing is copied, but what may be behind it in
// the block.
func (c *Conn) SendReceived(m *Message) conn.Status {
	if s := c.admit(); s != conn.Queued {
		return s
	}
	size := len(m.data)
	n := headerLen(size, false)
	switch {
	case c.windows != nil && size >= c.lane.ep.cfg.Deflate.Threshold:
		return c.sendDeflated(m.Op, m.data)
	case m.tail > 0 && (size < copyMost || m.tail > size), m.block == nil, n > m.front, c.lane.ep.client:
		return c.frame(byte(m.Op)|bitFin, m.data)
	}
	return c.move(m, n)
}

// copyMost is up to how many bytes a message is copied rather than sent in its
// block, when others are behind it there.
const copyMost = 2 << 10

// move sends the block of a message, with a header of n bytes in the place of the
// one that it came with, which was longer.
func (c *Conn) move(m *Message, n int) conn.Status {
	l, size := c.lane, len(m.data)
	if s := c.conn.Admit(n + size); s != conn.Queued { // OnFull runs in it, and may panic.
		return s
	}
	var rest buf.Buf
	if m.tail > 0 {
		pool := l.loop.Small()
		if m.tail > pool.BlockSize() {
			pool = l.loop.Bulk()
		}
		if rest = pool.Get(); rest.IsZero() {
			return c.Send(m.Op, m.data)
		}
	}
	received := m.block != &l.whole // Else what is behind is in another block.
	b := m.block.Take()
	if m.tail > 0 {
		rest.Append(b.Bytes()[m.front+size:])
		b.Truncate(m.front + size)
	}
	if received {
		l.rest, l.moved = rest, true
	}
	b.Advance(m.front - n)
	putHeader(b.Bytes(), byte(m.Op)|bitFin, size, false, 0)
	m.block, m.data = nil, nil
	s := c.conn.Send(&b)
	if !b.IsZero() { // The budget has gone to another loop since.
		l.whole.Release() // Of a message before, that was refused so too.
		l.whole = b.Take()
		m.block, m.data, m.front, m.tail = &l.whole, l.whole.Bytes()[n:], n, 0
	}
	return s
}

// Ping sends a ping with a payload of at most 125 bytes; what is longer is cut.
// The peer's answer goes to a PongHandler. The answer is that of Send.
func (c *Conn) Ping(payload []byte) conn.Status {
	if c.phase != open {
		return conn.Closed
	}
	return c.frame(byte(opPing)|bitFin, payload[:min(len(payload), maxControl)])
}

// say queues a frame of at most maxControl bytes, past the limit of the queue if
// need be.
func (c *Conn) say(first byte, payload []byte) conn.Status {
	l := c.lane
	p := l.control[:0]
	if l.ep.client {
		p = l.appendMasked(p, first, payload)
	} else {
		n := putHeader(l.control[:], first, len(payload), false, 0)
		p = append(l.control[:n], payload...)
	}
	return c.conn.WriteReserved(p)
}
