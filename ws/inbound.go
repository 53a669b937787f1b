package ws

import (
	"math"

	"github.com/penstock-go/penstock/buf"
)

// inbound is what a connection needs while a frame or a message is unfinished.
// It comes from its lane's spares and goes back there.
type inbound struct {
	frame   header
	part    [maxHeader]byte // of a header that is not whole
	have    uint8
	inFrame bool
	left    uint64 // payload of the frame that is to come

	// The message that the frames belong to.
	op       Op // 0: none has begun
	deflated bool
	tell     func(*Conn, *Fragment) // who hears it in pieces, to its end; nil: whole
	told     bool                   // a piece was
	check    text
	size     uint64 // of the frames so far, in whole

	// What was collected of it: in a block, behind room for a header, or where
	// that is too small, on the heap.
	block buf.Buf
	front int
	heap  []byte

	control  [maxControl]byte // payload of a control frame
	nControl uint8
}

// idle reports whether nothing is unfinished.
func (in *inbound) idle() bool { return in.op == 0 && !in.inFrame && in.have == 0 }

// receive hears what the peer says, for as long as it is to be heard.
func (c *Conn) receive(in *buf.Buf) {
	l := c.lane
	for in.Len() > 0 && c.phase <= closing {
		if !c.conn.Reading() {
			c.conn.Unread(in)
			return
		}
		if c.in == nil {
			behind := in.Len()
			l.moved = false
			if n := c.wholeFrame(in); l.moved {
				in = &l.rest
				continue
			} else if n > 0 {
				in.Advance(in.Len() - (behind - n))
				continue
			}
			if c.phase > closing {
				return
			}
			c.in = l.inbound()
		}
		c.partOfFrame(in)
	}
}

// settle gives back what a receive has left behind: a block in the place of one
// that was sent on, and one that a handler panicked with.
func (l *lane) settle() {
	l.rest.Release()
	l.whole.Release()
}

// wholeFrame hears one frame that is whole and, unless it is a control frame, a
// message by itself. It returns its length, or 0 when there is no such frame.
func (c *Conn) wholeFrame(in *buf.Buf) int {
	var h header
	p := in.Bytes()
	n := parseHeader(p, &h)
	if n < 0 {
		c.misshapen(&h, 0)
		return 0
	}
	if n == 0 || h.length > uint64(len(p)-n) || !h.fin && !h.op.control() {
		return 0
	}
	if err := c.judge(&h, 0); err != nil {
		c.fail(err)
		return 0
	}
	size := n + int(h.length)
	payload := p[n:size:size]
	if h.masked {
		mask(payload, h.key)
	}
	if h.op.control() {
		c.control(h.op, payload)
		return size
	}
	if h.rsv != 0 {
		c.inflate(h.op, payload)
		return size
	}
	if h.op == Text && !isUTF8(payload) {
		c.fail(errText)
		return size
	}
	m := &c.lane.message
	m.Op, m.data, m.block, m.front, m.tail = h.op, payload, in, n, len(p)-size
	c.deliver(m)
	return size
}

// deliver hands a message, which is the lane's, to the handler.
func (c *Conn) deliver(m *Message) {
	if c.phase == open { // Somebody who has said goodbye hears no messages.
		if fragment := c.hooks.fragment; fragment == nil {
			c.hooks.handler.OnMessage(c, m)
		} else {
			c.lane.fragment = Fragment{Op: m.Op, First: true, Last: true, data: m.data}
			fragment(c, &c.lane.fragment)
		}
	}
	m.data, m.block = nil, nil
}

// judge looks at a header, in the order of its bytes, so that the answer is the same
// however it came. op is that of the message that has begun, or 0.
func (c *Conn) judge(h *header, op Op) *failure {
	switch {
	case h.rsv != 0 && (h.rsv != bitRSV1 || c.windows == nil || h.op != Text && h.op != Binary):
		return errReserved
	case h.op > opPong, h.op > Binary && !h.op.control():
		return errOpcode
	case h.op.control() && !h.fin:
		return errControlPart
	case h.op == opContinuation && op == 0:
		return errContinuation
	case (h.op == Text || h.op == Binary) && op != 0:
		return errInterrupted
	case h.masked && c.lane.ep.client:
		return errMasked
	case !h.masked && !c.lane.ep.client:
		return errUnmasked
	case h.op.control():
		if h.length > maxControl {
			return errControlLong
		}
	case h.length > c.most(h.rsv != 0 || h.op == opContinuation && c.in != nil && c.in.deflated):
		return errTooBig
	}
	return nil
}

// most is how many bytes of a message may come: those of a compressed one, which
// may be longer than what it inflates to, only a little more.
func (c *Conn) most(deflated bool) uint64 {
	n := uint64(c.lane.ep.cfg.MaxMessage)
	if deflated {
		n += n/1000 + 64
	}
	return min(n, math.MaxInt)
}

// misshapen refuses a header with a length in the wrong form, unless something is
// wrong before that.
func (c *Conn) misshapen(h *header, op Op) {
	err := errLength
	if h.length = 0; h.op.control() {
		h.length = maxControl + 1
	}
	if before := c.judge(h, op); before != nil {
		err = before
	}
	c.fail(err)
}

// partOfFrame takes what there is of a frame.
func (c *Conn) partOfFrame(in *buf.Buf) {
	b, skip := c.in, 0
	if !b.inFrame {
		if skip = c.beginFrame(in); skip == 0 {
			return
		}
	}
	n := int(min(b.left, uint64(in.Len()-skip)))
	p := in.Bytes()[skip : skip+n : skip+n]
	if b.frame.masked {
		b.frame.key = mask(p, b.frame.key)
	}
	if b.left -= uint64(n); b.left == 0 {
		b.inFrame = false
	}
	if !b.frame.op.control() {
		c.partOfMessage(in, p, skip)
		return
	}
	b.nControl += uint8(copy(b.control[b.nControl:], p))
	in.Advance(skip + n)
	if !b.inFrame {
		p, b.nControl = b.control[:b.nControl], 0
		c.control(b.frame.op, p)
		c.rest()
	}
}

// beginFrame reads a header and returns how many bytes of it are in front of in:
// 0 when it is not whole, or wrong.
func (c *Conn) beginFrame(in *buf.Buf) int {
	b := c.in
	p := in.Bytes()
	was := int(b.have)
	if was > 0 {
		b.have += uint8(copy(b.part[was:], p))
		p = b.part[:b.have]
	}
	h := &b.frame
	n := parseHeader(p, h)
	switch {
	case n < 0:
		c.misshapen(h, b.op)
		return 0
	case n == 0 && was == 0:
		b.have = uint8(copy(b.part[:], p))
		fallthrough
	case n == 0:
		c.early(b.part[:b.have])
		in.Advance(in.Len())
		return 0
	}
	if err := c.judge(h, b.op); err != nil {
		c.fail(err)
		return 0
	}
	b.have, b.inFrame, b.left = 0, true, h.length
	if h.op.control() {
		return n - was
	}
	if h.op != opContinuation {
		b.op, b.deflated, b.check, b.size, b.told, b.tell = h.op, h.rsv != 0, text{}, 0, false, nil
		if !b.deflated {
			b.tell = c.hooks.fragment
		}
	}
	if b.size += h.length; b.size > c.most(b.deflated) {
		c.fail(errTooBig)
		return 0
	}
	return n - was
}

// early refuses a header at the first byte that is wrong, rather than when the
// rest of it has come.
func (c *Conn) early(p []byte) {
	h := header{op: Op(p[0] & 0x0f), fin: p[0]&bitFin != 0, rsv: p[0] & bitsRSV, masked: !c.lane.ep.client}
	if len(p) > 1 {
		h.masked, h.length = p[1]&bitMask != 0, uint64(p[1]&0x7f)
		if !h.op.control() {
			h.length = 0 // Not known yet.
		}
	}
	err := c.judge(&h, c.in.op)
	if n, known := announced(p); err == nil && known && !h.op.control() && c.exceeds(&h, n) {
		err = errTooBig
	}
	if err != nil {
		c.fail(err)
	}
}

// announced returns the length of the payload, or less, once its bytes are among those of
// a header without its masking key.
func announced(p []byte) (n uint64, known bool) {
	var h header
	var with [maxHeader + 4]byte // With zeros for the key.
	known = parseHeader(with[:copy(with[:], p)+4], &h) > 0
	return h.length, known
}

// exceeds reports whether a frame of n bytes makes a message longer than it may be.
func (c *Conn) exceeds(h *header, n uint64) bool {
	if b := c.in; h.op == opContinuation {
		return b.size+n > c.most(b.deflated)
	}
	return n > c.most(h.rsv != 0)
}

// rest gives the inbound back when nothing is unfinished.
func (c *Conn) rest() {
	if c.in != nil && c.in.idle() {
		c.lane.release(c.in)
		c.in = nil
	}
}

// partOfMessage takes p for the message: it is behind the first skip bytes of in.
func (c *Conn) partOfMessage(in *buf.Buf, p []byte, skip int) {
	b := c.in
	whole := !b.inFrame && b.frame.fin
	if b.op == Text && !b.deflated && (!b.check.accept(p) || whole && !b.check.whole()) {
		c.fail(errText)
		return
	}
	if b.tell != nil {
		c.tellFragment(p, whole)
		in.Advance(skip + len(p))
		return
	}
	if !c.collect(in, p, skip) {
		c.conn.Abort() // No memory.
		return
	}
	if whole {
		c.wholeMessage()
	}
}

// tellFragment hands on a piece of a message as it came.
func (c *Conn) tellFragment(p []byte, whole bool) {
	b, l := c.in, c.lane
	op, first, tell := b.op, !b.told, b.tell
	if len(p) == 0 && !whole {
		return
	}
	if b.told = true; whole {
		b.op = 0
		c.rest()
	}
	if c.phase != open {
		return
	}
	l.fragment = Fragment{Op: op, First: first, Last: whole, data: p}
	tell(c, &l.fragment)
	l.fragment = Fragment{}
}

// wholeMessage delivers what was collected.
func (c *Conn) wholeMessage() {
	b, l := c.in, c.lane
	m := &l.message
	*m = Message{Op: b.op, data: b.heap}
	if b.heap == nil && !b.block.IsZero() {
		l.whole = b.block.Take()
		m.data, m.block, m.front = l.whole.Bytes()[b.front:], &l.whole, b.front
	}
	deflated, heap := b.deflated, b.heap
	b.op, b.heap = 0, nil
	c.rest()
	if deflated {
		c.inflate(m.Op, m.data)
	} else {
		c.deliver(m)
	}
	l.whole.Release()
	l.keep(heap)
}

// collect keeps p, which is behind the first skip bytes of in, with what came
// before of its message. It is false when there is no memory.
func (c *Conn) collect(in *buf.Buf, p []byte, skip int) bool {
	b := c.in
	if b.heap == nil && b.block.IsZero() && len(p) > 0 {
		if !c.firstBlock(in, len(p), skip) {
			return false
		}
		if in.IsZero() {
			return true
		}
	} else if b.heap == nil && len(p) > len(b.block.Room()) {
		c.outgrow(len(p))
	}
	if b.heap != nil {
		c.appendHeap(p)
	} else {
		b.block.Append(p)
	}
	in.Advance(skip + len(p))
	return true
}

// firstBlock finds the place for a message of which the first n bytes are behind
// skip others in in: that very block, when nothing else is in it, the rest of the
// message fits, and it is not large for what has come. What is only announced takes no
// other block than what has come does.
func (c *Conn) firstBlock(in *buf.Buf, n, skip int) bool {
	b, small, bulk := c.in, c.lane.loop.Small(), c.lane.loop.Bulk()
	fits := skip+n == in.Len() && b.size <= uint64(n+len(in.Room())) && (in.Cap() <= small.BlockSize() || n >= in.Cap()/4)
	if fits && b.frame.fin && c.mayKeep() {
		b.block, b.front = in.Take(), skip
		return true
	}
	switch {
	case maxHeader+n <= small.BlockSize():
		b.block = small.Get()
	case maxHeader+n <= bulk.BlockSize():
		b.block = bulk.Get()
	default:
		c.outgrow(n)
		return true
	}
	if b.block.IsZero() {
		return false
	}
	b.block.Extend(maxHeader)
	b.front = maxHeader
	return true
}

// mayKeep reports whether a received block may be kept while the rest is awaited:
// not where conn.Config.RecvLimit would stop reading for that.
func (c *Conn) mayKeep() bool { return c.conn.Kept() == 0 }

// outgrow moves what was collected to where n bytes more have room: from a small
// block to a large one, or to the heap.
func (c *Conn) outgrow(n int) {
	b, l := c.in, c.lane
	var have []byte
	if !b.block.IsZero() {
		have = b.block.Bytes()[b.front:]
	}
	if bulk := l.loop.Bulk(); len(have) > 0 && max(int(b.size), len(have)+n) <= bulk.BlockSize()-maxHeader {
		if larger := bulk.Get(); !larger.IsZero() {
			larger.Extend(maxHeader)
			larger.Append(have)
			b.block.Release()
			b.block, b.front = larger, maxHeader
			return
		}
	}
	b.heap, l.heap = l.heap, nil
	if b.heap == nil {
		b.heap = make([]byte, 0, 2*(len(have)+n))
	}
	c.appendHeap(have)
	b.block.Release()
}

// appendHeap appends p to what was collected on the heap. For what is only
// announced no more is taken than came already: the peer may never send it. Where
// frames are to follow it is doubled as well, or each of them would copy all before it.
func (c *Conn) appendHeap(p []byte) {
	b := c.in
	if need := len(b.heap) + len(p); need > cap(b.heap) {
		most := b.size
		if !b.frame.fin {
			most = c.most(b.deflated)
		}
		larger := make([]byte, len(b.heap), max(need, min(int(most), 2*need)))
		copy(larger, b.heap)
		b.heap = larger
	}
	b.heap = append(b.heap, p...)
}
