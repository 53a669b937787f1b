package conn

import "github.com/penstock-go/penstock/buf"

// small is up to how many bytes a copy beside other bytes is cheaper than a
// piece of its own, and tiny up to how many it is where it takes a new block: a piece has
// a record of 88 bytes, for which no limit counts anything.
const (
	small = 2 << 10
	tiny  = 512
)

// copies reports whether a message of n bytes of somebody else's memory is copied to
// the end of the queue, as it is short and something waits there already.
func (o *outbound) copies(n int) bool {
	q := o.end()
	return n <= small && !q.empty() && (n <= tiny || n <= len(roomOf(q.room())))
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
