package conn

import (
	"net"
	"syscall"
)

// SyscallConn returns access to the socket, for options that the library does
// not know. Control runs f at once. Read and Write run f once, and return EAGAIN
// when it reports that it is not done: nothing may wait on a loop, which also
// receives whatever f leaves in the socket. All three fail with net.ErrClosed once
// the connection has closed, and with ENOTCONN while it is being dialed. Whoever sends, receives, shuts down or closes by f is
// on their own.
//
// Thread: that of the connection, also for what is returned.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return rawConn{c}, nil }

type rawConn struct{ c *Conn }

func (r rawConn) Control(f func(fd uintptr)) error {
	return r.once(func(fd uintptr) bool { f(fd); return true })
}

func (r rawConn) Read(f func(fd uintptr) (done bool)) error { return r.once(f) }

func (r rawConn) Write(f func(fd uintptr) (done bool)) error { return r.once(f) }

func (r rawConn) once(f func(fd uintptr) (done bool)) error {
	switch {
	case r.c.state == closed:
		return net.ErrClosed
	case r.c.fd < 0:
		return syscall.ENOTCONN
	case !f(uintptr(r.c.fd)):
		return syscall.EAGAIN
	}
	return nil
}

// SyscallConn returns access to the socket as [Conn.SyscallConn] does, for
// goroutines. f runs on the caller's; the connection does not close its descriptor
// meanwhile, and the loop waits with it, so f must not wait.
func (n *NetConn) SyscallConn() (syscall.RawConn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.done {
		return nil, n.fault("raw", net.ErrClosed)
	}
	return rawNetConn{n}, nil
}

type rawNetConn struct{ n *NetConn }

func (r rawNetConn) Control(f func(fd uintptr)) error {
	return r.once("raw-control", func(fd uintptr) bool { f(fd); return true })
}

func (r rawNetConn) Read(f func(fd uintptr) (done bool)) error { return r.once("raw-read", f) }

func (r rawNetConn) Write(f func(fd uintptr) (done bool)) error { return r.once("raw-write", f) }

func (r rawNetConn) once(op string, f func(fd uintptr) (done bool)) error {
	n := r.n
	n.hands.Lock()
	defer n.hands.Unlock()
	n.mu.Lock()
	done := n.done
	n.mu.Unlock()
	switch {
	case done || n.gone:
		return n.fault(op, net.ErrClosed)
	case !f(uintptr(n.fd)):
		return n.fault(op, syscall.EAGAIN)
	}
	return nil
}
