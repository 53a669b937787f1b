package conn

import (
	"net/netip"
	"sync"

	"github.com/penstock-go/penstock/reactor"
)

// PacketRef names a socket of datagrams from any goroutine. Once the socket has
// closed it reaches nobody. The zero PacketRef names nobody either.
//
// What one goroutine asks of a PacketRef happens in the order of its calls.
type PacketRef struct{ g *packetGate }

// Ref returns the handle to keep on other goroutines.
func (p *PacketConn) Ref() PacketRef {
	if p.gate == nil {
		g := &packetGate{remote: p.loop.Remote(), conn: p, id: p.id, shut: p.state != open, closed: p.state == closed}
		g.fn = g.deliver
		g.budget = p.cfg.Budget
		g.pending.Store(int64(p.out.pending))
		g.setMarks(p.marks)
		g.setPeer(p.remote)
		p.gate = g
	}
	return PacketRef{p.gate}
}

// ID returns the number of the socket, 0 for the zero PacketRef.
func (r PacketRef) ID() uint64 {
	if r.g == nil {
		return 0
	}
	return r.g.id
}

// Pending returns the bytes that were admitted and, as far as the loop has heard,
// not taken by the kernel.
func (r PacketRef) Pending() int {
	if r.g == nil {
		return 0
	}
	return r.g.held()
}

// Write copies data and posts it as one datagram. It is admitted against the
// same Limit as a Send on the loop; a refusal is also told to OnError, as a
// *SendError. Full promises no OnDrain: see Ref.Write.
func (r PacketRef) Write(to Source, data []byte) Status {
	if r.g == nil {
		return Closed
	}
	return r.g.put(packetMail{kind: itemSend, to: to, n: len(data)}, data)
}

// Close posts a Close.
func (r PacketRef) Close() {
	if r.g != nil {
		r.g.put(packetMail{kind: itemClose}, nil)
	}
}

// Abort posts an Abort.
func (r PacketRef) Abort() { r.Do((*PacketConn).Abort) }

// Do posts fn to run on the loop with the socket, or not at all once it has
// closed. It reports false when it is known already that it will not run: the
// socket has closed, or 65536 functions wait.
func (r PacketRef) Do(fn func(*PacketConn)) bool {
	return r.g != nil && r.g.put(packetMail{kind: itemDo, do: fn}, nil) == Queued
}

// packetMail is one thing in the mailbox of a socket.
type packetMail struct {
	to   Source
	n    int // bytes: the next ones of packetGate.data
	do   func(*PacketConn)
	kind itemKind
}

// packetGate is where other goroutines meet a socket. It exists from the first
// PacketRef on, and counts pending for the socket from then on.
type packetGate struct {
	remote reactor.Remote
	conn   *PacketConn // touched on the loop only
	id     uint64
	fn     func(*reactor.Loop) // deliver, made once

	account
	mu       sync.Mutex
	peer     netip.AddrPort // of a connected socket
	shut     bool           // takes no more datagrams: a Close is under way
	closed   bool
	posted   bool // fn is in the loop's mailbox
	items    []packetMail
	data     []byte
	spare    []packetMail
	spareBuf []byte
	refused  SendError
	after    uint64 // sends after the close
	waiting  int    // functions in items
}

// setMarks changes both at once for those who come through a PacketRef.
func (g *packetGate) setMarks(m Marks) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.high.Store(int64(m.High))
	g.limit.Store(int64(m.Limit))
}

// setPeer tells those who come through a PacketRef to whom a connected socket sends.
func (g *packetGate) setPeer(peer netip.AddrPort) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.peer = peer
}

func (g *packetGate) put(i packetMail, data []byte) Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	switch {
	case g.closed && i.kind != itemSend:
		return Closed
	case g.shut && i.kind == itemSend:
		g.after++
		return Closed
	case i.kind == itemDo && g.waiting == maxDo:
		return Rejected
	case i.kind == itemDo:
		g.waiting++
	case i.kind == itemClose && g.shut:
		return Closed
	case i.kind == itemClose:
		g.shut = true
	case tooLong(i.to.Peer, i.n), tooLong(g.peer, i.n):
		return TooLong
	case !g.chargeWithin(i.n + PacketCost):
		if g.budget != nil && !g.atLimit() {
			g.budget.refuse(i.n)
		}
		g.refused.Messages++
		g.refused.Bytes += i.n
		g.post()
		return Rejected
	}
	g.items = append(g.items, i)
	g.data = append(g.data, data...)
	g.post()
	if i.kind == itemSend && g.pending.Load() >= g.high.Load() {
		return Full
	}
	return Queued
}

func (g *packetGate) shutSends() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
}

// post puts the gate into the loop's mailbox, once until it is emptied.
func (g *packetGate) post() {
	if !g.posted {
		g.posted = true
		g.remote.Post(g.fn)
	}
}

// close turns later callers away, and counts what is left as lost.
func (g *packetGate) close(p *PacketConn) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut, g.closed = true, true
	for _, items := range [][]packetMail{p.mail.items[p.mail.next:], g.items} {
		for i := range items {
			if items[i].kind == itemSend {
				p.lose(items[i].n)
			}
		}
	}
	p.mail = packetMailbox{}
	g.items, g.data, g.spare, g.spareBuf = nil, nil, nil, nil
}

func (g *packetGate) late() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.after
}

// empty takes what has come. give hands the memory back for what comes.
func (g *packetGate) empty() (items []packetMail, data []byte, refused SendError) {
	g.mu.Lock()
	defer g.mu.Unlock()
	items, data, refused = g.items, g.data, g.refused
	g.items, g.data, g.refused = g.spare[:0], g.spareBuf[:0], SendError{}
	g.spare, g.spareBuf = nil, nil
	g.posted, g.waiting = false, 0
	return items, data, refused
}

func (g *packetGate) give(items []packetMail, data []byte) {
	clear(items)
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed && cap(data) <= keepData && cap(items) <= keepItems {
		g.spare, g.spareBuf = items, data
	}
}

// packetMailbox is what the loop has taken from a gate and not yet gone through.
// A handler that panics leaves the rest to the next Flush.
type packetMailbox struct {
	unread  bool
	items   []packetMail
	next    int
	data    []byte
	whole   []byte
	refused SendError
}

// deliver empties the mailbox on the loop.
func (g *packetGate) deliver(l *reactor.Loop) {
	p := g.conn
	if p.state == closed {
		return // It has counted what was here.
	}
	l.As(p)
	p.touch()
	p.readMail()
	items, data, refused := g.empty()
	p.mail = packetMailbox{unread: true, items: items, data: data, whole: data, refused: refused}
	p.readMail()
}

// readMail goes through what was taken from the gate.
func (p *PacketConn) readMail() {
	m := &p.mail
	if !m.unread {
		return
	}
	for m.next < len(m.items) {
		it := m.items[m.next]
		m.items[m.next] = packetMail{}
		m.next++
		switch it.kind {
		case itemSend:
			data := m.data[:it.n]
			m.data = m.data[it.n:]
			p.mailed(it.to, data)
		case itemClose:
			p.Close()
		case itemDo:
			it.do(p)
		}
	}
	refused := m.refused
	p.gate.give(m.items, m.whole)
	p.mail = packetMailbox{}
	p.mailDone(&refused)
}

// mailed queues a datagram that was admitted when it was posted.
func (p *PacketConn) mailed(to Source, data []byte) {
	switch {
	case p.state >= ending:
		p.lose(len(data))
	case !p.store(to, data): // No memory. The network may lose one, and so may we.
		p.stats.Failed++
	default:
		return
	}
	p.credit(len(data) + PacketCost)
}

// mailDone runs the hooks that a mailbox asks for.
func (p *PacketConn) mailDone(refused *SendError) {
	if p.Pending() >= p.marks.High && p.state == open && !p.out.full {
		p.push()
	}
	pending := p.Pending()
	p.stats.PendingMax = max(p.stats.PendingMax, pending)
	if pending >= p.marks.High && p.state == open {
		p.fillUp()
	}
	if refused.Messages == 0 {
		return
	}
	p.stats.Rejected += uint64(refused.Messages)
	p.stats.RejectedBytes += uint64(refused.Bytes)
	if p.hooks.err != nil && p.state < ending {
		told := *refused // A copy: else every mailbox would cost an allocation.
		told.Err = ErrSendBufferFull
		p.hooks.err(p, &told)
	}
}
