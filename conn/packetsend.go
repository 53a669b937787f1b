package conn

import (
	"errors"
	"net/netip"
	"syscall"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/internal/invariants"
	"github.com/penstock-go/penstock/reactor"
)

// datagram is one that waits to be sent.
type datagram struct {
	to     Source
	data   []byte
	block  buf.Buf     // in which data is, if nothing behind this one is in it
	shared *buf.Shared // in which data is
}

// packetq is the datagrams of one socket that wait, in order.
type packetq struct {
	list    []datagram
	head    int
	pending int         // while gate is nil; else the gate counts
	tries   int         // times in a row that the head was refused
	stuck   bool        // the socket's own buffer is full
	offered bool        // what was queued in this turn was offered once
	full    bool        // OnFull has run and OnDrain has not
	ripe    bool        // in an earlier turn
	told    bool        // OnError has run in this turn
	remark  bool        // the marks have changed
	failure PacketError // what OnError is to tell
}

func (q *packetq) empty() bool { return q.head == len(q.list) }

// push puts d at the end.
func (q *packetq) push(d datagram) {
	if q.head > 32 && q.head > len(q.list)/2 {
		n := copy(q.list, q.list[q.head:])
		clear(q.list[n:])
		q.list, q.head = q.list[:n], 0
	}
	q.list = append(q.list, d)
}

// room returns the block that a datagram may join, or nil. A copy of more than a
// little is worth it only while the queue does not move: then for the memory.
func (q *packetq) room(n int) *buf.Buf {
	if q.empty() || n > small && !q.stuck {
		return nil
	}
	if b := &q.list[len(q.list)-1].block; len(b.Room()) >= n && !b.IsZero() {
		return b
	}
	return nil
}

// pop ends the first n datagrams.
func (q *packetq) pop(n int) {
	for i := range q.list[q.head : q.head+n] {
		q.list[q.head+i].end()
	}
	if q.head += n; q.head == len(q.list) {
		q.list, q.head = q.list[:0], 0
	}
	if q.empty() && cap(q.list) > packetTurn {
		q.list = nil // A burst is over.
	}
}

func (d *datagram) end() {
	d.block.Release()
	if d.shared != nil {
		d.shared.Release()
	}
	*d = datagram{}
}

// drop ends all of them, after each was told.
func (q *packetq) drop(each func(*datagram)) {
	for i := q.head; i < len(q.list); i++ {
		each(&q.list[i])
	}
	q.pop(len(q.list) - q.head)
	q.list = nil
}

// Send queues the bytes of b as one datagram to a peer, from the address that
// the peer had asked; on a connected socket to says nothing. When the answer is
// Queued or Full, b was taken and is zero; else it is still the caller's.
//
// What a turn queues leaves at its end, many datagrams by one system call. A
// datagram longer than its family carries is answered TooLong.
func (p *PacketConn) Send(to Source, b *buf.Buf) Status {
	n := b.Len()
	s := p.admit(to, n)
	if s != Queued {
		return s
	}
	if invariants.Enabled && !b.IsZero() && !b.Of(p.loop.Bulk()) && !b.Of(p.loop.Small()) {
		invariants.Broken("conn: Send of a block of another loop")
	}
	if !p.join(to, b.Bytes()) {
		p.out.push(datagram{to: to, data: b.Bytes(), block: b.Take()})
	}
	b.Release()
	return p.admitted()
}

// Write copies data and queues it as one datagram; see Send. It is also
// Rejected when the loop's pools are at reactor.Config.PoolBytes.
func (p *PacketConn) Write(to Source, data []byte) Status {
	s := p.admit(to, len(data))
	if s != Queued {
		return s
	}
	if !p.store(to, data) {
		p.credit(len(data) + PacketCost)
		return p.refuse(len(data))
	}
	return p.admitted()
}

// SendShared queues the bytes of s, which is counted until they have been sent,
// as one datagram. The caller keeps its own count.
func (p *PacketConn) SendShared(to Source, s *buf.Shared) Status {
	status := p.admit(to, s.Len())
	if status != Queued {
		return status
	}
	p.out.push(datagram{to: to, data: s.Bytes(), shared: s.Retain()})
	return p.admitted()
}

// join copies a datagram into the block of the last one that waits, if it may.
func (p *PacketConn) join(to Source, data []byte) bool {
	tail := p.out.room(len(data))
	if tail == nil {
		return false
	}
	at := tail.Len()
	tail.Append(data)
	p.out.push(datagram{to: to, data: tail.Bytes()[at:], block: tail.Take()})
	return true
}

// store copies a datagram into the queue, if there is memory.
func (p *PacketConn) store(to Source, data []byte) bool {
	if len(data) == 0 {
		p.out.push(datagram{to: to})
		return true
	}
	if p.join(to, data) {
		return true
	}
	pool := p.loop.Bulk()
	if len(data) <= reactor.SmallBlock && p.Pending() <= 8*reactor.SmallBlock {
		pool = p.loop.Small()
	}
	b := pool.Get()
	if b.IsZero() {
		return false
	}
	b.Append(data)
	p.out.push(datagram{to: to, data: b.Bytes(), block: b.Take()})
	return true
}

// tooLong reports whether no datagram can carry n bytes to a peer.
func tooLong(peer netip.AddrPort, n int) bool {
	return n > MaxPacket4 && (peer.Addr().Is4() || n > MaxPacket6)
}

// Pending returns the bytes that were admitted and that the kernel has not
// taken, PacketCost for each datagram included.
func (p *PacketConn) Pending() int {
	if p.gate != nil {
		return p.gate.held()
	}
	return p.out.pending
}

// IsFull reports whether OnFull has run and OnDrain is still to come.
func (p *PacketConn) IsFull() bool { return p.out.full }

// Marks returns the marks in force.
func (p *PacketConn) Marks() Marks { return p.marks }

// SetMarks changes the marks, as that of Conn does.
func (p *PacketConn) SetMarks(m Marks) error {
	if err := m.check(); err != nil {
		return err
	}
	p.marks = m
	if p.gate != nil {
		p.gate.setMarks(m)
	}
	p.out.remark = true
	p.touch()
	return nil
}

// admit decides on a datagram of n bytes, and charges it when it is taken.
func (p *PacketConn) admit(to Source, n int) Status {
	switch {
	case p.state != open:
		p.stats.AfterClose++
		return Closed
	case tooLong(to.Peer, n) || tooLong(p.remote, n):
		return TooLong
	case p.chargeWithin(n + PacketCost):
		return Queued
	}
	p.push() // Refused is only what the kernel does not take.
	if p.chargeWithin(n + PacketCost) {
		return Queued
	}
	if b := p.cfg.Budget; b != nil && !past(p.Pending(), p.marks.Limit) {
		b.refuse(n)
	}
	return p.refuse(n)
}

// past reports whether a queue takes no more for its own limit.
func past(pending, limit int) bool { return pending > 0 && pending >= limit }

func (p *PacketConn) refuse(n int) Status {
	p.stats.Rejected++
	p.stats.RejectedBytes += uint64(n)
	return Rejected
}

func (p *PacketConn) chargeWithin(n int) bool {
	if p.gate != nil {
		return p.gate.chargeWithin(n)
	}
	if past(p.out.pending, p.marks.Limit) {
		return false
	}
	if b := p.cfg.Budget; b != nil && !b.charge(int64(p.out.pending), int64(n)) {
		return false
	}
	p.out.pending += n
	return true
}

// credit counts n bytes less.
func (p *PacketConn) credit(n int) {
	b := p.cfg.Budget
	if p.gate != nil {
		p.gate.charge(-int64(n))
	} else if p.out.pending -= n; b != nil {
		b.total.Add(-int64(n))
	}
	if b != nil {
		b.tell()
	}
}

// admitted answers for a datagram that was just queued. The first time in a turn
// that this makes the queue full, the kernel is asked; it takes all that its
// buffer holds, and says nothing of the peer. So the second time is Full, and who
// sends until then lets others have their turn.
func (p *PacketConn) admitted() Status {
	p.touch()
	q := &p.out
	if p.Pending() >= p.marks.High && !q.full && !q.offered {
		q.offered = true
		p.push()
	}
	pending := p.Pending()
	p.stats.PendingMax = max(p.stats.PendingMax, pending)
	if pending < p.marks.High {
		return Queued
	}
	p.fillUp()
	return Full
}

// fillUp runs OnFull, unless it has run since the last OnDrain.
func (p *PacketConn) fillUp() {
	if p.out.full || p.state > closing {
		return
	}
	p.out.full, p.out.ripe = true, false
	p.stats.Full++
	p.pausedFull = p.cfg.PauseOnFull
	if p.hooks.full != nil {
		was := p.loop.As(p) // Not for who sends, whoever that is.
		p.hooks.full(p)
		p.loop.As(was)
	}
}

// edges runs the hooks that pending and the marks ask for now.
func (p *PacketConn) edges() {
	q := &p.out
	if p.state > closing {
		return
	}
	if q.remark {
		q.remark = false
		if p.push(); p.Pending() >= p.marks.High {
			p.fillUp()
		}
	}
	if q.full && q.ripe && p.Pending() <= p.marks.Low {
		q.full, p.pausedFull = false, false
		p.stats.Drain++
		if p.hooks.drain != nil {
			p.hooks.drain(p)
		}
	}
}

// again has the next turn look at a queue that has emptied at the end of this
// one, and at what has failed: a handler that sends at each drain and at each
// error, by which it has its socket flushed once more, would never let the turn end.
func (p *PacketConn) again() {
	if p.out.full && p.Pending() <= p.marks.Low || p.out.failure.Err != nil {
		p.loop.Defer(p.nextTurn)
	}
}

// nextTurn is what the end of a turn has deferred.
func (p *PacketConn) nextTurn() {
	p.out.ripe, p.out.told = p.out.full, false
	p.touch()
}

// push offers what is queued to the kernel, until its buffer is full. No handler
// runs inside.
func (p *PacketConn) push() {
	q := &p.out
	for !q.stuck && !q.empty() && p.state < ending && p.sock.fd >= 0 {
		n := min(len(q.list)-q.head, packetBatch)
		k, err := p.sock.send(q.list[q.head : q.head+n])
		if k > 0 {
			q.tries = 0
			p.sent(k)
			continue
		}
		switch {
		case errors.Is(err, syscall.EAGAIN):
			q.stuck = true
		case !ofNetwork(err):
			p.end(IOError, "sendmmsg", err)
		case p.remote.IsValid() && q.tries == 0 && !ofPacket(err):
			q.tries++ // It was about an earlier datagram: this one was not tried.
			p.failed("sendmmsg", 0, err)
		default:
			q.tries = 0
			p.stats.Failed++
			p.failed("sendmmsg", 1, err)
			p.credit(len(q.list[q.head].data) + PacketCost)
			p.out.pop(1)
		}
	}
}

// ofPacket reports whether err can only be about the datagram that was tried.
func ofPacket(err error) bool {
	return errors.Is(err, syscall.EMSGSIZE) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

// sent settles the first k datagrams, which the kernel has taken.
func (p *PacketConn) sent(k int) {
	q := &p.out
	bytes := 0
	for i := range q.list[q.head : q.head+k] {
		bytes += len(q.list[q.head+i].data)
	}
	p.stats.Out += uint64(k)
	p.stats.BytesOut += uint64(bytes)
	p.credit(bytes + k*PacketCost)
	q.pop(k)
}

// failed notes what OnError will tell.
func (p *PacketConn) failed(op string, packets int, err error) {
	f := &p.out.failure
	f.Op, f.Err = op, err
	f.Packets += packets
}

// tellFailures runs OnError for what was noted, once a turn.
func (p *PacketConn) tellFailures() {
	if p.out.failure.Err == nil || p.out.told {
		return
	}
	p.out.told = true
	p.loop.Defer(p.nextTurn)
	e := p.out.failure
	p.out.failure = PacketError{}
	if p.hooks.err != nil && p.state < ending {
		p.hooks.err(p, &e)
	}
}
