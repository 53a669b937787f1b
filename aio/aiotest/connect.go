package aiotest

import "syscall"

// Connect is connect(2) on a new non-blocking socket: it returns our descriptor,
// which is connecting, and the far side, which decides by Accept or Refuse. A
// Poll tells when it has, and Outcome what.
func (f *Fake) Connect() (fd int32, p *Peer) {
	fd, p = f.Open()
	p.sock.connecting = true
	return fd, p
}

// Outcome returns how the connecting of fd has ended: nil or an errno, and
// EINPROGRESS when it has not.
func (f *Fake) Outcome(fd int32) error {
	s := f.socket(fd, "getsockopt")
	switch {
	case s.refused != 0:
		return s.refused
	case s.reset:
		return syscall.ECONNRESET
	case s.connecting:
		return syscall.EINPROGRESS
	}
	return nil
}

// Connecting reports whether our end waits for an answer, or has given up waiting.
func (p *Peer) Connecting() bool { return p.sock != nil && p.sock.connecting }

// Accept lets us connect.
func (p *Peer) Accept() { p.sock.connecting = false }

// Refuse has our connect fail with errno.
func (p *Peer) Refuse(errno syscall.Errno) {
	p.sock.refused = errno
	p.die()
}

// Abandoned reports whether our end was closed while it was connecting.
func (p *Peer) Abandoned() bool { return p.sock != nil && p.sock.connecting && p.sock.closed }
