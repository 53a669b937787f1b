package aiotest

import (
	"io"
	"syscall"
)

// socket is our end.
type socket struct {
	fd       int32
	peer     *Peer     // nil for a listener
	listener *Listener // nil for a connection

	in        []byte // sent by the peer, not yet received
	eof       bool   // the peer sent its FIN
	reset     bool   // the connection is dead
	resetTold bool   // ECONNRESET was reported; a kernel does so once
	starved   bool   // the party was told that there is no block
	shutRead  bool
	shutWrite bool
	abort     bool // Close sends a RST
	closed    bool

	connecting bool          // the peer has not answered
	refused    syscall.Errno // or has, by that
}

// Peer is the far end of a connection of a [Fake].
//
// Thread: that of the Fake.
type Peer struct {
	fake     *Fake
	sock     *socket // our end; nil until it is accepted
	fed      []byte  // sent before it was accepted
	in       []byte  // bytes that wait to be read
	got      []byte  // bytes that were read
	size     int     // bound of in
	eof      bool    // our FIN is behind in
	reset    bool
	wrote    bool // CloseWrite was called
	closed   bool // Close was called
	autoRead bool
}

// Listener is the far side of a listening socket of a [Fake].
//
// Thread: that of the Fake.
type Listener struct {
	fake  *Fake
	sock  *socket
	queue []*Peer
}

// Dial connects. Our end appears with the completion of an Accept.
func (l *Listener) Dial() *Peer {
	p := l.fake.newPeer()
	l.queue = append(l.queue, p)
	return p
}

// Queued returns how many connections wait to be accepted.
func (l *Listener) Queued() int { return len(l.queue) }

func (f *Fake) newSocket() *socket {
	s := &socket{fd: int32(firstFD + len(f.socks))}
	f.socks = append(f.socks, s)
	f.open++
	return s
}

func (f *Fake) newPeer() *Peer {
	return &Peer{fake: f, size: f.cfg.SendBufferMin + f.rng.IntN(f.cfg.SendBufferMax-f.cfg.SendBufferMin+1)}
}

// attach gives p an end of ours.
func (f *Fake) attach(p *Peer) {
	s := f.newSocket()
	s.peer, p.sock = p, s
	s.in, p.fed = p.fed, nil
	s.eof, s.reset = p.wrote, p.reset
}

// socket returns the open socket with the number fd.
func (f *Fake) socket(fd int32, call string) *socket {
	at := int(fd) - firstFD
	if at < 0 || at >= len(f.socks) {
		broken("%s on descriptor %d, which was never open", call, fd)
	}
	if f.socks[at].closed {
		broken("%s on descriptor %d, which was closed", call, fd)
	}
	return f.socks[at]
}

// Shutdown is shutdown(2) for a descriptor of the fake: with SHUT_WR or
// SHUT_RDWR the peer reads our end of file behind what was sent.
func (f *Fake) Shutdown(fd int32, how int) error {
	s := f.socket(fd, "shutdown")
	if s.peer == nil || s.reset {
		return syscall.ENOTCONN
	}
	if how != syscall.SHUT_WR {
		s.shutRead = true
	}
	if how != syscall.SHUT_RD {
		s.shutWrite = true
		s.peer.eof = true
		s.peer.arrived()
	}
	return nil
}

// AbortOnClose is SO_LINGER with zero seconds: the Close of fd will reset the
// connection.
func (f *Fake) AbortOnClose(fd int32) { f.socket(fd, "setsockopt").abort = true }

// shut closes s. Bytes of the peer that nobody received turn the FIN into a RST.
func (f *Fake) shut(s *socket) {
	s.closed = true
	f.open--
	if s.listener != nil {
		for _, p := range s.listener.queue {
			p.die()
		}
		s.listener.queue = nil
		return
	}
	if s.abort || len(s.in) > 0 {
		s.peer.die()
		return
	}
	s.peer.eof = true
	s.peer.arrived()
}

func (s *socket) room() int { return max(0, s.peer.size-len(s.peer.in)) }

func (s *socket) writable() bool { return s.reset || s.shutWrite || s.room() > 0 }

func (s *socket) readable() bool { return len(s.in) > 0 || s.eof || s.reset || s.shutRead }

// The events of poll(2), which the syscall package does not have everywhere.
const (
	pollIn    = 0x1
	pollOut   = 0x4
	pollErr   = 0x8
	pollHup   = 0x10
	pollRDHup = 0x2000
)

// events returns what there is of those that are asked for, with what poll(2)
// tells unasked.
func (s *socket) events(asked uint32) int32 {
	var there uint32
	switch {
	case s.listener != nil:
		if len(s.listener.queue) > 0 {
			there |= pollIn
		}
		return int32(there & asked)
	case s.refused != 0:
		return int32(pollErr | pollHup | asked&(pollIn|pollOut))
	case s.connecting && !s.reset:
		return 0
	case s.readable():
		there |= pollIn
	}
	if s.writable() {
		there |= pollOut
	}
	if s.eof || s.shutRead {
		there |= pollRDHup
	}
	switch {
	case s.reset:
		there |= pollErr | pollHup | pollRDHup
	case s.shutWrite && (s.eof || s.shutRead):
		there |= pollHup
	}
	return int32(there & (asked | pollErr | pollHup))
}

// sendError returns what a send fails with, or 0.
func (s *socket) sendError(f *Fake) syscall.Errno {
	switch {
	case s.reset && !s.resetTold && f.rng.IntN(2) == 0:
		s.resetTold = true
		return syscall.ECONNRESET
	case s.reset || s.shutWrite:
		return syscall.EPIPE
	}
	return 0
}

// recvEnd returns the result of a receive that found no bytes and never will.
func (s *socket) recvEnd() int32 {
	if s.reset && !s.resetTold {
		s.resetTold = true
		return -int32(syscall.ECONNRESET)
	}
	return 0
}

// FD returns the descriptor of our end, or -1 before it is accepted.
func (p *Peer) FD() int32 {
	if p.sock == nil {
		return -1
	}
	return p.sock.fd
}

// Feed sends b to us. It panics after CloseWrite; after a reset, or when we
// have closed, the bytes are lost, and for the latter the peer is reset.
//
// Ownership: b is lent until Feed returns.
func (p *Peer) Feed(b []byte) {
	switch {
	case p.wrote:
		panic("aiotest: Feed after CloseWrite")
	case p.reset || len(b) == 0:
	case p.sock == nil:
		p.fed = append(p.fed, b...)
	case p.sock.closed:
		p.die()
	default:
		p.sock.in = append(p.sock.in, b...)
	}
}

// CloseWrite sends a FIN: we read an end of file behind what was fed.
func (p *Peer) CloseWrite() {
	p.wrote = true
	if p.sock != nil {
		p.sock.eof = true
	}
}

// Close is close(2) by the peer: CloseWrite, and nothing is read any more. When
// bytes of ours were waiting to be read, or come later, the connection is reset.
func (p *Peer) Close() {
	p.CloseWrite()
	p.closed = true
	if len(p.in) > 0 {
		p.Reset()
	}
}

// Reset sends a RST. What was fed before can still be received; then, and for
// sends at once, the connection is dead.
func (p *Peer) Reset() {
	p.die()
	if p.sock != nil {
		p.sock.reset = true
	}
}

// die ends the peer's end. Of our bytes on their way a random tail is lost.
func (p *Peer) die() {
	if p.reset {
		return
	}
	p.reset = true
	p.in = p.in[:p.fake.rng.IntN(len(p.in)+1)]
}

// AutoRead sets whether the peer reads everything as soon as it arrives.
func (p *Peer) AutoRead(on bool) {
	p.autoRead = on
	p.arrived()
}

func (p *Peer) arrived() {
	if p.autoRead {
		p.take(len(p.in))
	}
}

func (p *Peer) take(n int) []byte {
	b := p.in[:n:n]
	p.in = p.in[n:]
	p.got = append(p.got, b...)
	return b
}

// Read reads what waits: 0 and nil when nothing does, io.EOF behind our FIN,
// ECONNRESET behind our RST.
func (p *Peer) Read(b []byte) (int, error) {
	switch {
	case len(p.in) > 0:
		return copy(b, p.take(min(len(b), len(p.in)))), nil
	case p.reset:
		return 0, syscall.ECONNRESET
	case p.eof:
		return 0, io.EOF
	}
	return 0, nil
}

// ReadAll reads everything that waits and returns it.
func (p *Peer) ReadAll() []byte { return p.take(len(p.in)) }

// Received returns everything the peer has read so far. Nobody may write to it.
func (p *Peer) Received() []byte { return p.got }

// Waiting returns how many bytes of ours wait to be read.
func (p *Peer) Waiting() int { return len(p.in) }

// Unreceived returns how many bytes of the peer we have not received yet.
func (p *Peer) Unreceived() int {
	if p.sock == nil {
		return len(p.fed)
	}
	return len(p.sock.in)
}

// EOF reports whether the peer has read everything and our FIN behind it.
func (p *Peer) EOF() bool { return p.eof && !p.reset && len(p.in) == 0 }

// WasReset reports whether the connection ended by a RST of either side.
func (p *Peer) WasReset() bool { return p.reset }
