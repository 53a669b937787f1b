package conn

import (
	"errors"
	"net/netip"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/reactor"
)

const (
	packetRoom  = reactor.BulkBlock // bytes that a datagram is received into at the most
	packetBatch = 64                // datagrams of one system call
	packetTurn  = 256               // datagrams that a socket receives in one turn, about
	packetLeast = 4                 // datagrams for which there is room at the least

	// packetStarved is when a socket looks for memory again that was not there.
	packetStarved = time.Millisecond
)

// Events of poll(2), the same on every Linux.
const (
	pollIn  = 0x1
	pollOut = 0x4
	pollErr = 0x8
	pollHup = 0x10
)

// PacketConn is a socket of datagrams (UDP) on a loop: one of those of
// ListenPacket, which hears everybody, or a connected one of DialPacket.
//
// There is nothing that stands for a peer, and so nothing to close when one has
// gone. Datagrams may be lost, doubled and reordered by the network; Send says
// only what this side knows.
//
// Thread: a *PacketConn is seen only on its loop. Keep a PacketRef elsewhere.
type PacketConn struct {
	loop   *reactor.Loop
	cfg    *PacketConfig
	hooks  *packetHooks
	server *PacketListener // nil for a connected socket
	gate   *packetGate     // once a PacketRef was asked for
	mail   packetMailbox
	dial   *packetDialing // until the peer's name is resolved
	user   any
	sock   packetSocket
	local  Addr
	remote netip.AddrPort // of a connected socket
	id     uint64
	token  aio.Token
	op     aio.Op
	marks  Marks

	state      state
	touched    bool
	polling    bool // a Poll is with the engine
	cancelling bool // and a Cancel of it
	polls      uint32
	pausedUser bool
	pausedFull bool
	starved    bool // waits for memory to receive into

	// What was received and not handed over is slots[first:last].
	slots       []packetSlot
	first, last int
	batch       int // for how many there is room in the next receive
	in          buf.Buf
	cut         int

	out   packetq
	stats PacketStats
	final packetFinal
}

// packetSlot is one datagram received: its first bytes in a small block, and if
// it is longer the rest in a large one, with room for the first in front.
type packetSlot struct {
	small, bulk buf.Buf
	size        int // of the datagram, whatever fitted
	from        Source
}

// packetFinal is how a socket ends.
type packetFinal struct {
	reason Reason
	op     string
	err    error
	lost   int // bytes
	timer  *reactor.Timer
}

// attach puts p on loop l, and returns for whom that ran.
func (p *PacketConn) attach(l *reactor.Loop) (was reactor.Sink) {
	p.loop, p.id = l, l.NextID()
	p.marks = Marks{p.cfg.HighWater, p.cfg.LowWater, p.cfg.Limit}
	p.batch = packetLeast
	p.token = l.Attach(p)
	p.touch()
	return l.As(p)
}

// ID returns the number of the socket: unique in the process among sockets and
// connections.
func (p *PacketConn) ID() uint64 { return p.id }

// Loop returns the socket's loop.
func (p *PacketConn) Loop() *reactor.Loop { return p.loop }

// User returns what SetUser has kept, or nil.
func (p *PacketConn) User() any { return p.user }

// SetUser keeps a value of the caller's with the socket.
func (p *PacketConn) SetUser(v any) { p.user = v }

// LocalAddr returns the address that the socket is bound to.
func (p *PacketConn) LocalAddr() Addr { return p.local }

// RemoteAddr returns the peer of a connected socket, else the zero Addr.
func (p *PacketConn) RemoteAddr() Addr {
	if !p.remote.IsValid() {
		return Addr{}
	}
	return Addr{AddrPort: p.remote, Net: "udp"}
}

// Cut returns how many bytes of the datagram that OnPacket has now did not fit
// into MaxPacket; 0 outside OnPacket.
func (p *PacketConn) Cut() int { return p.cut }

// Stats returns the counters of the socket.
func (p *PacketConn) Stats() PacketStats {
	s := p.stats
	if p.gate != nil {
		s.AfterClose += p.gate.late()
	}
	return s
}

// PauseRead stops OnPacket until ResumeRead. What comes in the meantime waits in
// the kernel, and is lost when its buffer is full.
func (p *PacketConn) PauseRead() { p.pausedUser = true }

// ResumeRead lets OnPacket run again, from the end of this turn on.
func (p *PacketConn) ResumeRead() {
	p.pausedUser = false
	p.touch()
}

// ReadPaused reports whether receiving is paused, by PauseRead or, with
// PauseOnFull, by a full queue.
func (p *PacketConn) ReadPaused() bool { return p.pausedUser || p.pausedFull }

// AfterFunc runs fn on the loop after d, unless the socket has closed by then.
func (p *PacketConn) AfterFunc(d time.Duration, fn func(p *PacketConn)) *reactor.Timer {
	return p.loop.AfterFunc(d, p, func() {
		if p.state < closed {
			fn(p)
		}
	})
}

func (p *PacketConn) touch() {
	if !p.touched {
		p.touched = true
		p.loop.Touch(p)
	}
}

// Flush implements reactor.Sink. It is not for users.
func (p *PacketConn) Flush(*reactor.Loop) {
	p.touched = false
	if p.state == closed {
		return
	}
	p.readMail()
	p.handOver()
	p.giveBack()
	p.tellFailures()
	p.edges()
	p.out.offered = false
	p.push()
	p.again()
	p.arm()
	p.proceed()
	if p.server != nil {
		p.server.publish(p)
	}
}

// Complete implements reactor.Sink. It is not for users.
func (p *PacketConn) Complete(_ *reactor.Loop, done *aio.Completion) {
	p.polling, p.cancelling = false, false
	p.touch() // Re-arms, or goes on closing.
	switch {
	case p.state >= ending:
	case done.Res == -int32(syscall.ECANCELED):
	case done.Res < 0: // No memory for it, most likely.
		p.starve()
	default:
		if done.Res&(pollOut|pollErr|pollHup) != 0 {
			p.out.stuck = false
		}
		if done.Res&(pollIn|pollErr|pollHup) != 0 {
			p.receive()
		}
	}
}

// Stop implements reactor.Sink. It is not for users.
func (p *PacketConn) Stop(_ *reactor.Loop, hard bool) {
	if hard {
		p.end(Shutdown, "", nil)
	} else {
		p.Close()
	}
}

// Panicked implements reactor.Sink. It is not for users. A socket that serves
// everybody goes on with the next datagram: one bad one must not cost the service.
func (p *PacketConn) Panicked(_ *reactor.Loop, value any) {
	p.stats.Panics++
	p.cut = 0
	p.touch()
	if p.server == nil {
		p.end(HandlerPanic, "", panicError(value))
	}
}

// receive takes what has come, up to a turn's worth, and hands it over.
func (p *PacketConn) receive() {
	for got := 0; got < packetTurn && p.state == open && !p.ReadPaused() && p.first == p.last; {
		n := p.fill()
		if n == 0 {
			p.starve()
			return
		}
		k, err := p.sock.recv(p.slots[:n], p.cfg.MaxPacket)
		if err != nil {
			p.recvFailed(err)
			return
		}
		p.stats.Dropped = p.sock.dropped
		p.first, p.last = 0, k
		p.batch = min(max(2*k, packetLeast), packetBatch)
		got += k
		if p.handOver(); k < n {
			return
		}
	}
}

// fill gets blocks for the next receive, and returns for how many datagrams.
func (p *PacketConn) fill() int {
	if len(p.slots) < p.batch {
		p.slots = append(p.slots, make([]packetSlot, p.batch-len(p.slots))...)
		p.sock.grow(p.batch)
	}
	for i := range p.slots[:p.batch] {
		s := &p.slots[i]
		if s.small.IsZero() {
			s.small = p.loop.Small().Get()
		}
		if s.bulk.IsZero() && p.cfg.MaxPacket > reactor.SmallBlock {
			s.bulk = p.loop.Bulk().Get()
		}
		if s.small.IsZero() || s.bulk.IsZero() && p.cfg.MaxPacket > reactor.SmallBlock {
			return i
		}
	}
	return p.batch
}

// pieces returns where s receives.
func (s *packetSlot) pieces(most int) (a, b []byte) {
	a = s.small.Room()
	if most <= len(a) {
		return a[:most], nil
	}
	return a, s.bulk.Room()[len(a):most]
}

// giveBack releases the blocks that hold nothing.
func (p *PacketConn) giveBack() {
	for i := range p.slots {
		s := &p.slots[i]
		waits := i >= p.first && i < p.last
		if !waits {
			s.small.Release()
		}
		if !waits || s.size <= reactor.SmallBlock {
			s.bulk.Release()
		}
	}
}

// handOver tells the handler what was received.
func (p *PacketConn) handOver() {
	for p.first < p.last && p.state == open && !p.ReadPaused() {
		p.first++
		p.deliver(&p.slots[p.first-1])
	}
	if p.state > open {
		p.first = p.last
	}
}

func (p *PacketConn) deliver(s *packetSlot) {
	n := min(s.size, p.cfg.MaxPacket)
	if p.in = s.small.Take(); n > reactor.SmallBlock {
		b := s.bulk.Take()
		b.Append(p.in.Room())
		p.in.Release()
		p.in = b.Take()
		p.in.Extend(n - reactor.SmallBlock)
	} else {
		p.in.Extend(n)
	}
	p.stats.In++
	p.stats.BytesIn += uint64(n)
	if p.cut = s.size - n; p.cut > 0 {
		p.stats.Truncated++
	}
	defer p.in.Release() // The handler may panic.
	p.hooks.handler.OnPacket(p, &p.in, s.from)
	p.cut = 0
}

// recvFailed looks at why nothing was received.
func (p *PacketConn) recvFailed(err error) {
	switch {
	case errors.Is(err, syscall.EAGAIN):
	case errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.ENOBUFS):
		p.starve()
	case ofNetwork(err):
		p.failed("recvmmsg", 0, err)
	default:
		p.end(IOError, "recvmmsg", err)
	}
}

// ofNetwork reports whether err is what the network said of an earlier datagram
// (ICMP, RFC 1122 4.1.3.3), or of this one, and not the end of the socket.
func ofNetwork(err error) bool {
	for _, e := range [...]error{
		syscall.ECONNREFUSED, syscall.EHOSTUNREACH, syscall.ENETUNREACH, syscall.EHOSTDOWN, syscall.ENETDOWN,
		syscall.ENOPROTOOPT, syscall.EPROTO, syscall.EMSGSIZE, syscall.EACCES, syscall.EPERM, syscall.ENOBUFS,
		syscall.ENOMEM, syscall.EINVAL, syscall.EDESTADDRREQ, syscall.EAFNOSUPPORT, syscall.EADDRNOTAVAIL,
		syscall.EOPNOTSUPP, syscall.EISCONN, syscall.ENODEV, syscall.ENXIO,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// starve waits a moment for memory.
func (p *PacketConn) starve() {
	if !p.starved {
		p.starved = true
		p.loop.AfterFunc(packetStarved, p, func() {
			p.starved = false
			p.touch()
		})
	}
}

// arm brings the Poll to what it should be.
func (p *PacketConn) arm() {
	var want uint32
	if p.state == open && !p.ReadPaused() && !p.starved && p.first == p.last {
		want |= pollIn
	}
	if p.out.stuck && !p.out.empty() {
		want |= pollOut
	}
	switch {
	case p.sock.fd < 0 || p.state >= ending:
	case !p.polling && want != 0:
		p.polling, p.polls = true, want
		p.submit(aio.Op{Kind: aio.Poll, Events: want})
	case p.polling && !p.cancelling && want&^p.polls != 0:
		p.cancel()
	}
}

func (p *PacketConn) cancel() {
	p.cancelling = true
	p.submit(aio.Op{Kind: aio.Cancel, Target: aio.Poll})
}

func (p *PacketConn) submit(op aio.Op) {
	op.Token, op.FD = p.token, int32(p.sock.fd)
	p.op = op
	p.loop.Submit(&p.op)
}

// Close sends what is queued, up to CloseTimeout, and closes this socket and no
// other: those of the other loops, and of other peers, stay. Closing twice does
// nothing.
func (p *PacketConn) Close() {
	if p.state < closing {
		p.shutSends(closing)
		p.touch()
	}
}

// Abort closes at once. What was queued is lost, and told in OnClose.
func (p *PacketConn) Abort() { p.end(Aborted, "", nil) }

func (p *PacketConn) shutSends(to state) {
	p.state = to
	if p.gate != nil {
		p.gate.shutSends()
	}
}

// end stops everything; OnClose follows when the Poll is home.
func (p *PacketConn) end(reason Reason, op string, err error) {
	if p.state >= ending {
		return
	}
	p.final.reason, p.final.op, p.final.err = reason, op, err
	p.shutSends(ending)
	p.touch()
	if p.dial != nil {
		p.dial.stop()
	}
	if p.polling && !p.cancelling {
		p.cancel()
	}
}

// proceed takes the steps of the close that can be taken now.
func (p *PacketConn) proceed() {
	f := &p.final
	if p.state == closing {
		if p.Pending() == 0 {
			p.end(Local, "", nil)
		} else if f.timer == nil {
			f.timer = p.loop.AfterFunc(p.cfg.CloseTimeout, p, func() { p.end(WriteTimeout, "", nil) })
		}
	}
	if p.state == ending && !p.polling {
		p.complete()
	}
}

// complete is the end: everything is given back, and the handler told.
func (p *PacketConn) complete() {
	f := &p.final
	p.state = closed
	if f.timer != nil {
		f.timer.Stop()
	}
	defer p.depart()
	if p.dial != nil {
		defer func() { p.dial.over(f.result()) }()
	}
	p.first = p.last
	p.giveBack()
	p.out.drop(func(d *datagram) { p.lose(len(d.data)) })
	if p.gate != nil {
		p.gate.close(p)
	}
	if b := p.cfg.Budget; b != nil {
		b.total.Add(-int64(p.Pending()))
		b.tell()
	}
	p.hooks.handler.OnClose(p, f.result())
}

// lose counts a datagram of n bytes that nobody will send.
func (p *PacketConn) lose(n int) {
	p.stats.Lost++
	p.final.lost += n
}

func (f *packetFinal) result() error {
	if f.reason == Local {
		return nil
	}
	return &CloseError{Reason: f.reason, Op: f.op, Err: f.err, LostBytes: f.lost}
}

func (p *PacketConn) depart() {
	if p.sock.fd >= 0 {
		p.submit(aio.Op{Kind: aio.Forget})
		closeSocket(p.sock.fd) // At once: the port is free when the next party runs.
	}
	p.loop.Detach(p.token)
	if p.server != nil {
		p.server.publish(p)
	}
}
