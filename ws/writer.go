package ws

import (
	"errors"

	"github.com/penstock-go/penstock/conn"
)

// ErrWriting says that a Writer is at a message already.
var ErrWriting = errors.New("ws: another message is being written")

// Writer sends one message in fragments, as it comes to be. It is an
// io.WriteCloser for the loop: it never waits. Between its fragments only control
// frames go out; other messages are Rejected until it is closed, since one message
// cannot be inside another.
//
// With compression it holds what makes no fragment yet, less than 16 KiB, and without
// takeover the last 4 KiB that were sent of the message, which the next fragment may
// refer to.
//
// Thread: that of the connection.
type Writer struct {
	c      *Conn
	op     Op
	begun  bool    // a fragment was sent
	held   []byte  // with compression: what was written since the last fragment
	before []byte  // the end of what was sent of it, where the connection has no window
	stream *stream // that it is for, or nil
}

// heldMost is from how many bytes on a fragment is compressed and sent: the marks do
// not know of what is held back.
const heldMost = 16 << 10

// beforeBits bounds the window of a message by itself. A larger one takes longer to be
// shown than it saves.
const beforeBits = 12

// NewWriter begins a message. The error is ErrWriting, or conn.ErrClosed.
func (c *Conn) NewWriter(op Op) (*Writer, error) {
	checkOp(op)
	switch {
	case c.phase != open:
		return nil, conn.ErrClosed
	case c.writer != nil:
		return nil, ErrWriting
	}
	c.writer = &Writer{c: c, op: op}
	return c.writer, nil
}

// Write sends p as a fragment; with compression it joins those before it until
// there are 16 KiB, or until Flush. It never takes a part: n is len(p), or 0 with
// conn.ErrSendBufferFull, after which the same p may be tried again, or
// conn.ErrClosed. Follow Conn.IsFull to stop before that.
//
// Ownership: p is lent until Write returns.
func (w *Writer) Write(p []byte) (n int, err error) {
	if !w.active() {
		return 0, conn.ErrClosed
	}
	if len(p) == 0 {
		return 0, nil
	}
	whole := p
	if len(w.held) > 0 {
		whole = append(w.held, p...) // Held only once it was taken.
	}
	if w.c.windows == nil || len(whole) >= w.most() {
		if s := w.fragment(whole, 0); s >= conn.Rejected {
			return 0, s.Err()
		}
		return len(p), nil
	}
	if w.stream == nil { // A stream has asked already.
		if s := w.c.conn.Admit(maxHeader + len(whole)); s != conn.Queued {
			return 0, s.Err()
		}
	}
	if len(w.held) > 0 {
		w.held = whole
	} else {
		w.held = append(w.held, p...)
	}
	return len(p), nil
}

// most is from how many bytes on a fragment is made.
func (w *Writer) most() int {
	if w.stream != nil {
		return min(heldMost, w.stream.most())
	}
	return heldMost
}

// Flush sends what is held back, so that the peer can read all that was written. It
// does nothing without compression. The error is that of Write.
func (w *Writer) Flush() error {
	if !w.active() {
		return conn.ErrClosed
	}
	if len(w.held) == 0 {
		return nil
	}
	return w.fragment(w.held, 0).Err()
}

// Close ends the message, past the limit of the queue if need be. When it fails
// with conn.ErrSendBufferFull the message is still open, and Close, Write and Flush may
// be called again; after conn.ErrClosed there is none.
func (w *Writer) Close() error {
	if !w.active() {
		return conn.ErrClosed
	}
	return w.fragment(w.held, bitFin).Err()
}

// active reports whether the message is open.
func (w *Writer) active() bool { return w.c.writer == w && w.c.phase == open }

// fragment sends p as one frame. It is compressed when it was admitted, and what it
// changes is changed then: a frame that is refused leaves no trace, and hooks find all
// as it will be.
func (w *Writer) fragment(p []byte, fin byte) conn.Status {
	c := w.c.conn
	c.Keep(true)
	defer c.Keep(false)
	size := maxHeader + len(p)
	encode := func(dst []byte) ([]byte, error) { return w.frame(dst, p, fin), nil }
	switch {
	case w.stream != nil:
		return c.TryEncode(size, encode)
	case fin != 0 && len(p) <= maxControl-packMore && c.Spare(size+packMore, closeRoom):
		return c.EncodeReserved(size+packMore, encode)
	}
	return c.Encode(size, encode)
}

// frame appends p as a frame to dst, which is empty.
func (w *Writer) frame(dst, p []byte, fin byte) []byte {
	c, first := w.c, fin
	if !w.begun {
		first |= byte(w.op)
	}
	at, more := headerLen(len(p), c.lane.ep.client), 0
	if c.windows != nil {
		at, more = maxHeader, packMore // Its length shows when it is packed.
	}
	if size := at + len(p) + more; cap(dst) < size {
		dst = c.lane.bytes(size)
	}
	dst = dst[:at]
	if c.windows == nil {
		dst = append(dst, p...)
	} else {
		if !w.begun {
			first |= bitRSV1
		}
		dst = w.pack(dst, p, fin)
	}
	if w.begun = true; fin != 0 {
		c.writer = nil // A hook that runs when the end is queued may send again.
	}
	return c.lane.seal(dst, at, first)
}

// pack appends p to dst, compressed behind what was sent of the message, and notes it.
func (w *Writer) pack(dst, p []byte, fin byte) []byte {
	l, win := w.c.lane, w.c.windows
	before := w.before
	if win.sendTakeover {
		before = win.context()
	}
	if len(p) == 0 { // The end of a message that was flushed: an empty block, as far as it is sent.
		dst = append(dst, 0)
	} else {
		dst = l.deflate().append(dst, p, before, win.sendBits)
	}
	if fin == 0 {
		dst = append(dst, flushTail...)
	}
	if win.sendTakeover {
		win.sent.add(l, p, win.sendBits)
	} else {
		w.remember(p, 1<<min(win.sendBits, beforeBits))
	}
	if w.held = w.held[:0]; cap(w.held) > 2*heldMost {
		w.held = nil
	}
	return dst
}

// remember keeps the last bytes of what was sent of the message.
func (w *Writer) remember(p []byte, most int) {
	p = p[max(0, len(p)-most):]
	if over := len(w.before) + len(p) - most; over > 0 {
		w.before = w.before[:copy(w.before, w.before[over:])]
	}
	w.before = append(w.before, p...)
}
