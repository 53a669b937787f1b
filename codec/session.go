package codec

import (
	"errors"
	"io"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
)

// session is the handler of one connection that has had a piece of a message.
type session[M any] struct {
	*Protocol[M]
	held piece
}

// OnData implements conn.Handler.
func (s *session[M]) OnData(c *conn.Conn, in *buf.Buf) {
	me, most := c.Handler(), s.cfg.Burst
	if s.held.len() > 0 {
		if !s.complete(c, in) {
			return
		}
		most--
	}
	if need, piece := s.cut(c, in, me, most); piece {
		s.held.begin(c, in.Bytes(), need)
	}
}

// OnOpen implements conn.Handler: the connection was lost, and is there again.
func (s *session[M]) OnOpen(c *conn.Conn) {
	s.held.drop()
	s.Protocol.OnOpen(c)
}

// OnLeave implements conn.LeaveHandler. What the handler gives back comes first.
func (s *session[M]) OnLeave(c *conn.Conn) {
	s.held.unread(c)
	s.left(c)
}

// OnClose implements conn.Handler.
func (s *session[M]) OnClose(c *conn.Conn, err error) {
	if n := s.held.len(); n > 0 && err == io.EOF {
		err = &conn.CloseError{Reason: conn.ProtocolError, Err: &Incomplete{Bytes: n}}
	}
	s.held.drop()
	s.Protocol.OnClose(c, err)
}

// errBack says that a codec breaks its contract.
var errBack = errors.New("codec: Split found an end in bytes for which it had answered 0")

// leastLook is how many bytes are at least put behind a piece before Split is
// asked again, as far as they are there.
const leastLook = 256

// complete puts bytes of in behind the piece that is held until they make a
// message, and hands that over. It reports whether it could.
func (s *session[M]) complete(c *conn.Conn, in *buf.Buf) bool {
	h := &s.held
	for h.need == 0 || h.len() < h.need {
		if in.Len() == 0 {
			return false
		}
		if h.need > 0 {
			in.Advance(h.add(c, in.Bytes(), h.need-h.len(), h.need))
			continue
		}
		// In steps that grow, so that what is put behind in vain costs no more
		// than the message itself.
		seen := h.len()
		added := h.add(c, in.Bytes(), min(max(seen, leastLook), s.cfg.Limit-seen), s.cfg.Limit)
		n, err := s.codec.Split(h.bytes(), seen)
		if err = s.judge(n, h.len(), err); err == nil && n > 0 && n <= seen {
			err = errBack
		}
		if err != nil {
			h.drop()
			s.fail(c, err)
			return false
		}
		if h.need = n; n > 0 && n < h.len() {
			added -= h.len() - n // What lies behind the message stays in the block.
		}
		in.Advance(added)
	}
	whole := h.take()
	defer whole.drop()
	s.deliver(c, whole.bytes()[:whole.need:whole.need])
	return true
}

// piece is the beginning of a message, in a block as long as one holds it.
type piece struct {
	block buf.Buf
	heap  []byte
	need  int // length of the message, once known
}

func (h *piece) len() int { return h.block.Len() + len(h.heap) }

func (h *piece) bytes() []byte {
	if h.heap != nil {
		return h.heap
	}
	return h.block.Bytes()
}

// begin holds the first bytes of a message.
func (h *piece) begin(c *conn.Conn, p []byte, need int) {
	h.need = need
	h.add(c, p, len(p), max(need, len(p)))
}

// add puts bytes of p behind the others, at most so many, and returns how many.
// There will never be more than limit.
func (h *piece) add(c *conn.Conn, p []byte, most, limit int) int {
	p = p[:min(most, len(p))]
	if h.heap == nil && len(p) > len(h.block.Room()) {
		h.move(c, h.len()+len(p))
	}
	if h.heap == nil {
		return h.block.Append(p)
	}
	if n := len(h.heap) + len(p); n > cap(h.heap) {
		h.heap = append(make([]byte, 0, min(max(2*cap(h.heap), n), max(limit, n))), h.heap...)
	}
	h.heap = append(h.heap, p...)
	return len(p)
}

// move has room for n bytes: a larger block, or memory of the heap where there is
// no such block.
func (h *piece) move(c *conn.Conn, n int) {
	was := h.block.Take()
	defer was.Release()
	switch l := c.Loop(); {
	case n <= l.Small().BlockSize():
		h.block = l.Small().Get()
	case n <= l.Bulk().BlockSize():
		h.block = l.Bulk().Get()
	}
	if h.block.IsZero() {
		h.heap = make([]byte, 0, n)
		h.heap = append(h.heap, was.Bytes()...)
	} else {
		h.block.Append(was.Bytes())
	}
}

func (h *piece) take() piece {
	t := *h
	*h = piece{}
	return t
}

func (h *piece) drop() {
	h.block.Release()
	*h = piece{}
}

// unread gives what is held to the connection's next handler.
func (h *piece) unread(c *conn.Conn) {
	t := h.take()
	c.Unread(&t.block)
	for p := t.heap; len(p) > 0; {
		b := c.Loop().Bulk().Get()
		if b.IsZero() {
			c.CloseError(conn.IOError, errors.New("codec: no memory to pass on a piece of a message"), nil)
			return
		}
		at := max(0, len(p)-b.Cap())
		b.Append(p[at:])
		c.Unread(&b)
		p = p[:at]
	}
}
