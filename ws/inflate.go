package ws

import (
	"bytes"
	"io"

	"github.com/klauspost/compress/flate"
)

// inflater decompresses the messages of a lane, one after another: whole, or for a
// FragmentHandler piece by piece, so that what they inflate to is in no memory.
type inflater struct {
	reader io.ReadCloser
	in     bytes.Reader
	data   []byte // the message, and endTail
	out    []byte // what it inflates to, or the piece of that which is next
	size   int    // how much that is so far
	seen   []byte // what was before a block, where that had to be put together

	// Of a message that is told in pieces.
	to    *Conn // nil: it is wanted whole
	hear  func(*Conn, *Fragment)
	op    Op
	told  bool   // a piece was
	again bool   // it is inflated once more, and nobody hears it
	check text   // of the pieces that were
	past  []byte // the end of them
}

func newInflater() *inflater { return &inflater{reader: flate.NewReader(bytes.NewReader(nil))} }

// endTail is put behind a message: what the sender has cut off, and an empty last
// block, at which the reader ends.
var endTail = []byte{0x00, 0x00, 0xff, 0xff, 0x01, 0x00, 0x00, 0xff, 0xff}

const (
	// maxFinals bounds how many last blocks a message may have: each makes the
	// reader begin anew, with the window, which costs as much as a long message.
	maxFinals = 8
	// freeOutput is how much a message may inflate to whatever its length: so by
	// default none that is within MaxMessage is refused for being repetitive.
	freeOutput = DefaultMaxMessage
	// pieceBytes is how much of a message is told at once to a FragmentHandler.
	pieceBytes = 64 << 10
)

// errOver says that the handler has ended the connection in the middle of a message.
var errOver = &failure{text: "the connection is closed"}

// inflate delivers a message that came compressed.
func (c *Conn) inflate(op Op, p []byte) {
	l, w := c.lane, c.windows
	if l.inflater == nil {
		l.inflater = newInflater()
	}
	var before []byte
	if w.recvTakeover {
		before = w.received.block.Bytes()
	}
	cfg := &l.ep.cfg
	most := cfg.MaxMessage
	if r := cfg.Deflate.MaxRatio; r > 0 && len(p) < most/r {
		most = min(most, max(freeOutput, r*len(p)))
	}
	f := l.inflater
	if f.to = nil; c.hooks.fragment != nil {
		f.to, f.hear, f.op = c, c.hooks.fragment, op
	}
	err := f.message(p, before, most)
	switch {
	case err == errOver:
	case err != nil:
		if err == errTooBig && most < cfg.MaxMessage {
			err = errRatio
		}
		c.fail(err)
	case f.to == nil && op == Text && !isUTF8(f.out):
		c.fail(errText)
	default:
		if w.recvTakeover && !(w.received.add(l, f.past, w.recvBits) && w.received.add(l, f.out, w.recvBits)) {
			c.conn.Abort() // No memory.
			break
		}
		if f.to == nil {
			l.message = Message{Op: op, data: f.out}
			c.deliver(&l.message)
		} else if err := f.tell(true); err != nil && err != errOver {
			c.fail(err)
		}
	}
	f.idle()
}

// idle lets go of what a message has left behind: the connection, and memory beyond
// what a lane keeps.
func (f *inflater) idle() {
	f.to, f.hear = nil, nil
	if cap(f.out) > keepBytes {
		f.out = nil
	}
	if cap(f.data) > keepBytes {
		f.data = nil
	}
}

// message inflates one message, to at most that many bytes, behind what went
// before. The result, or the last piece of it, is in f.out.
func (f *inflater) message(p, before []byte, most int) *failure {
	return f.messageWith(endTail, p, before, most)
}

func (f *inflater) messageWith(tail, p, before []byte, most int) *failure {
	f.data = append(append(f.data[:0], p...), tail...)
	f.in.Reset(f.data)
	f.out, f.size = f.out[:0], 0
	f.told, f.check, f.past = false, text{}, f.past[:0]
	seen := before
	for range maxFinals {
		if f.reader.(flate.Resetter).Reset(&f.in, seen) != nil {
			return errInflate
		}
		if err := f.readAll(most); err != nil {
			return err
		}
		switch f.in.Len() {
		case 0:
			if !f.again && f.endsAsTail() && !f.endsOtherwise(p, before, most) {
				return errInflate
			}
			return nil
		case len(tail): // A last block of the sender's own, without the empty one behind it.
			return nil
		}
		seen = f.behind(before)
	}
	return errInflate
}

// otherTail serves as endTail does, and makes the message a byte longer.
var otherTail = []byte{0x01, 0x00, 0xfe, 0xff, 'x', 0x01, 0x00, 0x00, 0xff, 0xff}

// endsAsTail reports whether what has come out ends as the tail does. It may be the
// tail: in a stored block that is longer than what has come of it.
func (f *inflater) endsAsTail() bool {
	end := f.out
	if len(end) < len(endTail) {
		end = append(f.past[max(0, len(f.past)-len(endTail)):len(f.past):len(f.past)], end...)
	}
	return bytes.HasSuffix(end, endTail) || bytes.HasSuffix(end, endTail[:4])
}

// endsOtherwise reports whether the message, with another tail, comes out as that
// makes it.
func (f *inflater) endsOtherwise(p, before []byte, most int) bool {
	was := *f
	f.again, f.out, f.past, f.seen, f.data = true, nil, nil, nil, nil
	err := f.messageWith(otherTail, p, before, max(most, most+1)) // Unless that is beyond every int.
	size := f.size
	*f = was
	return err == nil && size == was.size+1
}

// behind returns what precedes the next block, when a last block was not the end:
// the end of what was before the message and of what it has inflated to.
func (f *inflater) behind(before []byte) []byte {
	const most = 1 << maxBits
	if len(f.out) >= most {
		return f.out[len(f.out)-most:]
	}
	f.seen = append(append(append(f.seen[:0], before...), f.past...), f.out...)
	return f.seen[max(0, len(f.seen)-most):]
}

// readAll reads to the end of the reader's stream.
func (f *inflater) readAll(most int) *failure {
	for {
		if len(f.out) == cap(f.out) || f.piecemeal() && len(f.out) >= pieceBytes {
			if err := f.room(most); err != nil {
				return err
			}
		}
		end := cap(f.out)
		if f.piecemeal() {
			end = min(end, pieceBytes)
		}
		n, err := f.reader.Read(f.out[len(f.out):end])
		f.out = f.out[:len(f.out)+n]
		f.size += n
		switch {
		case f.size > most:
			return errTooBig
		case err == io.EOF:
			return nil
		case err != nil:
			return errInflate
		}
	}
}

// piecemeal reports whether what comes out is not collected.
func (f *inflater) piecemeal() bool { return f.to != nil || f.again }

// room makes room in f.out, which is full: by telling it, or by growing.
func (f *inflater) room(most int) *failure {
	if f.piecemeal() && len(f.out) >= pieceBytes {
		f.past = append(f.past[:0], f.out[max(0, len(f.out)-1<<maxBits):]...)
		var err *failure
		if !f.again {
			err = f.tell(false)
		}
		f.out = f.out[:0]
		return err
	}
	larger := make([]byte, len(f.out), min(max(2*len(f.out), 4<<10)-1, most)+1)
	copy(larger, f.out)
	f.out = larger
	return nil
}

// tell hands on a piece of the message, which is the handler's to write to.
func (f *inflater) tell(last bool) *failure {
	c := f.to
	if f.op == Text && (!f.check.accept(f.out) || last && !f.check.whole()) {
		return errText
	}
	first := !f.told
	if f.told = true; c.phase == open { // Somebody who has said goodbye hears no messages.
		l := c.lane
		l.fragment = Fragment{Op: f.op, First: first, Last: last, data: f.out}
		f.hear(c, &l.fragment)
		l.fragment = Fragment{}
	}
	if c.phase > closing || !c.conn.Connected() {
		return errOver
	}
	return nil
}
