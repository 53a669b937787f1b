package conn

import (
	"math"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/internal/invariants"
	"github.com/penstock-go/penstock/reactor"
)

// small is up to how many bytes a copy beside other bytes is cheaper than a
// piece of its own, and tiny up to how many it is where it takes a new block: a piece has
// a record of 88 bytes, for which no limit counts anything.
const (
	small = 2 << 10
	tiny  = 512
)

// Send queues the bytes of b as one message. When the answer is Queued or
// Full, b was taken and is zero; else it is still the caller's.
//
// Ownership: b is a block of this connection's loop. Nothing is copied unless
// that is cheaper, or saves memory while the peer does not read.
func (c *Conn) Send(b *buf.Buf) Status { return c.send(b, c.admit(b.Len())) }

// send queues a message that was decided on.
func (c *Conn) send(b *buf.Buf, s Status) Status {
	n := b.Len()
	if s != Queued || n == 0 {
		if s == Queued {
			b.Release()
		}
		return s
	}
	if invariants.Enabled && !b.Of(c.loop.Bulk()) && !b.Of(c.loop.Small()) {
		invariants.Broken("conn: Send of a block of another loop")
	}
	c.join(b)
	return c.admitted()
}

// join puts the bytes of b at the end of the queue: by a copy into the last block
// where that is cheaper, or saves memory.
func (c *Conn) join(b *buf.Buf) {
	if c.lonely(b.Len()) {
		c.joinAlone(b)
		return
	}
	o := c.outbox()
	q := o.next(b.Len())
	if tail := q.room(); tail != nil && (b.Len() <= small || o.stuck || q != &o.q) && b.Len() <= len(tail.Room()) {
		tail.Append(b.Bytes())
		b.Release()
	} else {
		e := entry{block: b.Take()}
		if o.stuck {
			e.shrink(e.bytes(), c.smallBlock)
		}
		q.push(e)
	}
}

// Write copies p and queues it as one message. It never takes a part: n is
// len(p), or 0 with ErrSendBufferFull or ErrClosed. It is also refused when
// the loop's pools are at reactor.Config.PoolBytes.
func (c *Conn) Write(p []byte) (n int, err error) {
	if s := c.write(p); s >= Rejected {
		return 0, s.Err()
	}
	return len(p), nil
}

func (c *Conn) write(p []byte) Status {
	s := c.admit(len(p))
	if s != Queued || len(p) == 0 {
		return s
	}
	if !c.store(len(p), c.host.single(p)) {
		return c.refund(len(p))
	}
	return c.admitted()
}

// single makes a vector of one piece without allocating it.
func (h *host) single(p []byte) [][]byte {
	h.one[0] = p
	return h.one[:]
}

// Writev copies the pieces of v and queues them as one message; see Write.
func (c *Conn) Writev(v [][]byte) (n int, err error) {
	if s := c.SendVec(v); s >= Rejected {
		return 0, s.Err()
	}
	for _, p := range v {
		n += len(p)
	}
	return n, nil
}

// SendVec is Writev with the answer of a Send.
func (c *Conn) SendVec(v [][]byte) Status {
	n := 0
	for _, p := range v {
		n += len(p)
	}
	s := c.admit(n)
	if s != Queued || n == 0 {
		return s
	}
	if !c.store(n, v) {
		return c.refund(n)
	}
	return c.admitted()
}

// SendHeaded is SendVec of a header and what it is the header of. It is the cheapest
// way for small messages, many of which go out together.
func (c *Conn) SendHeaded(head, p []byte) Status {
	n := len(head) + len(p)
	if o := c.own(); o != nil && n > 0 && c.state == open {
		if tail := o.end().room(); tail != nil && n <= len(tail.Room()) && c.chargeWithin(n) {
			o.bounds.add(n)
			room := tail.Room()
			copy(room[copy(room, head):], p)
			tail.Extend(n)
			return c.admitted()
		}
	}
	v := [2][]byte{head, p}
	return c.SendVec(v[:])
}

// SendShared queues the bytes of s, which is counted until they have been
// sent, as one message. The caller keeps its own count. A short one that waits
// behind others is copied, so that what is pending costs about its bytes.
func (c *Conn) SendShared(s *buf.Shared) Status {
	status := c.admit(s.Len())
	if status != Queued || s.Len() == 0 {
		return status
	}
	if !c.joinCommon(s) && !c.joinShared(s) {
		return c.refund(s.Len())
	}
	return c.admitted()
}

// joinShared puts s at the end of the queue. It reports false when there is no memory.
func (c *Conn) joinShared(s *buf.Shared) bool {
	o := c.outbox()
	if o.copies(s.Len()) {
		return c.store(s.Len(), c.host.single(s.Bytes()))
	}
	o.next(s.Len()).push(entry{ext: s.Bytes(), shared: s.Retain()})
	return true
}

// SendBytes queues p, which it borrows, as one message. done runs on the loop
// when nobody reads from p any more, or when the connection has closed,
// before OnClose; it does not run when the answer is Rejected or Closed. That says
// nothing of the peer: what is short and waits behind others is copied, and done runs
// at the end of the turn, before that of longer messages in front of it.
//
// Ownership: p must not change before done has run. It must be memory that
// does not move: off-heap, or pinned by runtime.Pinner.
func (c *Conn) SendBytes(p []byte, done func()) Status {
	s := c.admit(len(p))
	if s != Queued {
		return s
	}
	o := c.outbox()
	if o.prompt = true; len(p) == 0 {
		o.q.dones = append(o.q.dones, done)
		c.touch()
		return Queued
	}
	if !c.joinBytes(p, done) {
		return c.refund(len(p))
	}
	return c.admitted()
}

// joinBytes is joinShared for lent memory.
func (c *Conn) joinBytes(p []byte, done func()) bool {
	o := c.outbox()
	if !o.copies(len(p)) {
		o.next(len(p)).push(entry{ext: p, done: done})
		return true
	}
	if !c.store(len(p), c.host.single(p)) {
		return false
	}
	if done != nil {
		o.q.dones = append(o.q.dones, done)
	}
	return true
}

// copies reports whether a message of n bytes of somebody else's memory is copied to
// the end of the queue, as it is short and something waits there already.
func (o *outbound) copies(n int) bool {
	q := o.end()
	return n <= small && !q.empty() && (n <= tiny || n <= len(roomOf(q.room())))
}

// WriteReserved copies p and queues it even past the limit, from a reserve of
// Reserve bytes that is there again when the kernel has taken what was queued from
// it: for what a protocol must say, such as a close frame or an alert. DropOldest does not drop
// it. Beyond the reserve it is a Write.
func (c *Conn) WriteReserved(p []byte) Status {
	n := len(p)
	if c.state != open || n == 0 || n > Reserve {
		return c.write(p)
	}
	s, past := c.admitReserved(n)
	if s != Queued {
		return s
	}
	o := c.outbox()
	was := o.bounds.keep(true)
	stored := c.store(n, c.host.single(p))
	o.bounds.keep(was)
	if !stored {
		return c.refund(n)
	}
	if past {
		c.reserve(n)
	}
	return c.admitted()
}

// admitReserved is admit, past the limit where that is needed and the reserve has as
// much. The charge itself tells whether it is: after a look, another goroutine may take
// what is free.
func (c *Conn) admitReserved(n int) (s Status, past bool) {
	switch {
	case c.prepaid(n) || c.chargeWithin(n):
		return Queued, false
	case c.outbox().reserved+n <= Reserve:
		c.charge(n)
		return Queued, true
	}
	return c.admit(n), false
}

// reserve counts n bytes at the end of the queue to the reserve.
func (c *Conn) reserve(n int) {
	o := c.outbox()
	o.reserved += n
	if o.lastWord = c.bytesOut + uint64(c.Pending()+o.ahead); len(o.streams) > 0 {
		o.lastWord = math.MaxUint64 // How long a stream is shows at its end: when all is sent.
	}
}

// Spare reports whether n bytes may be queued by WriteReserved so that keep bytes of
// the reserve are left: there is room for them, or the reserve has as much.
func (c *Conn) Spare(n, keep int) bool {
	return !c.isBlocked() || c.outbox().reserved+n+keep <= Reserve
}

// store copies the n bytes of v to the end of the queue: all of them, or
// nothing when there is no memory.
func (c *Conn) store(n int, v [][]byte) bool {
	if c.storeAlone(n, v) {
		return true
	}
	q := c.outbox().end()
	tail := q.room()
	fresh, ok := c.blocks(n-len(roomOf(tail)), tail == nil)
	if !ok {
		return false
	}
	c.out.next(n)
	for _, p := range v {
		for len(p) > 0 {
			if len(roomOf(tail)) == 0 {
				q.push(entry{block: fresh[0].Take()})
				fresh = fresh[1:]
				tail = q.room()
			}
			p = p[tail.Append(p):]
		}
	}
	return true
}

func roomOf(b *buf.Buf) []byte {
	if b == nil {
		return nil
	}
	return b.Room()
}

// blocks gets empty blocks for n bytes: small ones as long as little waits, and for
// the first bytes behind what no copy joins, since the same may follow at once. They
// are in the host's scratch space until the next call.
func (c *Conn) blocks(n int, first bool) (fresh []buf.Buf, ok bool) {
	h := c.host
	h.fresh = h.fresh[:0]
	for n > 0 {
		pool := c.loop.Bulk()
		if n <= reactor.SmallBlock && (first || c.Pending() <= 8*reactor.SmallBlock) || n < reactor.BulkBlock && c.isPacked() {
			pool = c.loop.Small()
		}
		b := pool.Get()
		if b.IsZero() {
			for i := range h.fresh {
				h.fresh[i].Release()
			}
			return nil, false
		}
		h.fresh = append(h.fresh, b)
		n -= pool.BlockSize()
	}
	return h.fresh, true
}

func (c *Conn) smallBlock(n int) buf.Buf {
	if n > reactor.SmallBlock {
		return buf.Buf{}
	}
	return c.loop.Small().Get()
}
