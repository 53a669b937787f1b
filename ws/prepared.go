package ws

import (
	"sync"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
)

// Prepared is one message for many: framed once, and compressed once for all who
// take it compressed. With context takeover it is compressed without the context,
// so that all get the same bytes.
//
// Thread: any. It need not be given back.
type Prepared struct {
	op    Op
	data  []byte
	plain *buf.Shared

	mu     sync.Mutex
	packed [maxBits + 1]*buf.Shared // by the bits of the window; plain where that is shorter
}

// Prepare copies p into a message. A Text must be UTF-8: it is not checked.
func Prepare(op Op, p []byte) *Prepared {
	checkOp(op)
	frame := make([]byte, headerLen(len(p), false), maxHeader+len(p))
	putHeader(frame, byte(op)|bitFin, len(p), false, 0)
	at := len(frame)
	m := &Prepared{op: op, plain: buf.NewShared(append(frame, p...))}
	m.data = m.plain.Bytes()[at:]
	return m
}

// Op returns the type of the message.
func (m *Prepared) Op() Op { return m.op }

// Len returns the length of its payload in bytes.
func (m *Prepared) Len() int { return len(m.data) }

// framed returns the bytes that a server sends on c, and whether the window of the
// peer will have seen the message.
func (m *Prepared) framed(c *Conn) (s *buf.Shared, seen bool) {
	w := c.windows
	if w == nil || len(m.data) < c.lane.ep.cfg.Deflate.Threshold {
		return m.plain, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.packed[w.sendBits] == nil {
		m.packed[w.sendBits] = m.pack(c.lane.deflate(), w.sendBits)
	}
	s = m.packed[w.sendBits]
	return s, s != m.plain
}

// pack compresses the message for a window, if that makes it shorter.
func (m *Prepared) pack(d *deflater, bits uint8) *buf.Shared {
	p := d.append(make([]byte, maxHeader, maxHeader+len(m.data)), m.data, nil, bits)
	size := len(p) - maxHeader
	if size >= len(m.data) {
		return m.plain
	}
	n := headerLen(size, false)
	p = p[maxHeader-n:]
	putHeader(p, byte(m.op)|bitFin|bitRSV1, size, false, 0)
	return buf.NewShared(p)
}

// SendPrepared is Send for a prepared message. A server copies nothing but
// what is short and waits behind others. A client has to mask what it sends, and sends a
// copy.
func (c *Conn) SendPrepared(m *Prepared) conn.Status {
	if c.lane.ep.client {
		return c.Send(m.op, m.data)
	}
	if s := c.admit(); s != conn.Queued {
		return s
	}
	frame, seen := m.framed(c)
	seen = seen && c.windows.sendTakeover
	if !seen {
		return c.conn.SendShared(frame)
	}
	// Hooks run inside SendShared, and may send: the window must be as it will be. And
	// where another loop has been faster to the budget, it is refused yet: so what they
	// send does not refer to the window.
	if s := c.conn.Admit(frame.Len()); s != conn.Queued {
		return s
	}
	w := c.windows
	w.sent.add(c.lane, m.data, w.sendBits)
	was := w.unsure
	w.unsure = true
	c.conn.Keep(true)
	defer func() {
		c.conn.Keep(false)
		w.unsure = was // Also when a hook panics.
	}()
	s := c.conn.SendShared(frame)
	if s >= conn.Rejected {
		w.sent.forget() // To refer to nothing is always right.
	}
	return s
}
