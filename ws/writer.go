package ws

import (
	"errors"

	"github.com/klauspost/compress/flate"

	"github.com/penstock-go/penstock/conn"
)

// ErrWriting says that a Writer is at a message already.
var ErrWriting = errors.New("ws: another message is being written")

// Writer sends one message in fragments, as it comes to be. It is an
// io.WriteCloser for the loop: it never waits. Between its fragments only control
// frames go out; other messages are Rejected until it is closed, since one message
// cannot be inside another.
//
// Thread: that of the connection.
type Writer struct {
	c      *Conn
	op     Op
	begun  bool // a fragment was sent
	packer *flate.Writer
	held   int      // bytes that packer was given since the last fragment
	out    appender // what packer has made, and was not sent
	stream *stream  // that it is for, or nil
}

// heldMost is how many bytes the compressor may hold back: the marks do not know of
// them.
const heldMost = 16 << 10

// NewWriter begins a message. The error is ErrWriting, or conn.ErrClosed.
func (c *Conn) NewWriter(op Op) (*Writer, error) {
	checkOp(op)
	switch {
	case c.phase != open:
		return nil, conn.ErrClosed
	case c.writer != nil:
		return nil, ErrWriting
	}
	w := &Writer{c: c, op: op}
	if win := c.windows; win != nil {
		w.packer = c.lane.deflate().borrow(win.sendBits)
		w.packer.ResetDict(&w.out, win.context())
	}
	c.writer = w
	return w, nil
}

// Write sends p as a fragment; with compression it joins those before it until
// there are 16 KiB, or until Flush. It never takes a part: n is len(p), or 0 with
// conn.ErrSendBufferFull, after which the same p may be tried again, or
// conn.ErrClosed. Follow Conn.IsFull to stop before that.
//
// Ownership: p is lent until Write returns.
func (w *Writer) Write(p []byte) (n int, err error) {
	c := w.c
	if !w.active() {
		return 0, conn.ErrClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	if w.packer == nil {
		if s := w.fragment(p, 0); s >= conn.Rejected {
			return 0, s.Err()
		}
		return len(p), nil
	}
	if s := c.conn.Admit(headerLen(len(p), c.lane.ep.client) + len(p)); s != conn.Queued {
		return 0, s.Err()
	}
	_, _ = w.packer.Write(p) // An appender does not fail.
	if win := c.windows; win.sendTakeover {
		win.sent.add(c.lane, p, win.sendBits)
	}
	if w.held += len(p); w.held >= heldMost {
		_ = w.Flush() // If it is not taken now, it goes with the next.
	}
	return len(p), nil
}

// Flush sends what the compressor holds back, so that the peer can read all that
// was written. It does nothing without compression. The error is that of Write.
func (w *Writer) Flush() error {
	if !w.active() {
		return conn.ErrClosed
	}
	if w.packer == nil {
		return nil
	}
	if w.held > 0 {
		_ = w.packer.Flush()
		w.held = 0
	}
	return w.fragment(nil, 0).Err()
}

// Close ends the message, past the limit of the queue if need be. When it fails
// with conn.ErrSendBufferFull the message is still open, and Close may be called
// again; after conn.ErrClosed there is none.
func (w *Writer) Close() error {
	if !w.active() {
		return conn.ErrClosed
	}
	if w.packer != nil {
		_ = w.packer.Flush()
		w.out.data = cutTail(w.out.data)
	}
	w.c.writer = nil // A hook that runs when the end is queued may send again.
	s := w.fragment(nil, bitFin)
	if s == conn.Rejected {
		w.c.writer = w
	} else {
		w.drop()
	}
	return s.Err()
}

// active reports whether the message is open.
func (w *Writer) active() bool { return w.c.writer == w && w.c.phase == open }

// drop gives back what the writer holds.
func (w *Writer) drop() {
	if w.packer != nil {
		w.packer.ResetDict(nil, nil) // It must not keep the connection alive.
		w.c.lane.deflate().giveBack(w.packer, w.c.windows.sendBits)
		w.packer = nil
	}
}

// fragment sends p, or what the packer has made, as one frame.
func (w *Writer) fragment(p []byte, fin byte) conn.Status {
	c := w.c
	if w.packer != nil {
		if p = w.out.data; len(p) == 0 && fin == 0 {
			return conn.Queued
		}
	}
	first, was := fin, w.begun
	if !was {
		if first |= byte(w.op); w.packer != nil {
			first |= bitRSV1
		}
	}
	// The bytes are copied before a hook runs that may write more.
	w.begun, w.out.data = true, w.out.data[:0]
	c.conn.Keep(true)
	defer c.conn.Keep(false)
	var s conn.Status
	if fin != 0 && len(p) <= maxControl {
		s = c.say(first, p)
	} else {
		s = c.frame(first, p)
	}
	if s == conn.Rejected {
		w.begun = was
		if w.packer != nil {
			w.out.data = p
		}
	}
	return s
}
