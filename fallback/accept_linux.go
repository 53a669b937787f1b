package fallback

import (
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/aio"
)

// acceptTurn is how many connections a listener may bring before others have a turn.
const acceptTurn = 16

// accept takes connections from the listener s.
func (e *Engine) accept(s *slot, at uint32, done []aio.Completion) (n int) {
	for calls := 0; n < len(done); calls++ {
		if calls == acceptTurn {
			e.enqueue(s, at)
			return n
		}
		fd, errno := accept4(s.fd)
		switch {
		case errno == 0:
			done[n].Set(s.owner(at), aio.Accept, fd, false)
			n++
		case errno == unix.EAGAIN:
			s.flags &^= readable
			return n
		case acceptAgain(errno):
		default:
			// EMFILE and the like: the connection still waits, and is no further
			// edge, so readable stays for the Accept that comes next.
			s.flags &^= acceptArmed
			done[n].Set(s.owner(at), aio.Accept, -int32(errno), true)
			return n + 1
		}
	}
	e.enqueue(s, at)
	return n
}

// acceptAgain reports whether errno concerns one connection that is gone, which
// accept(2) says to treat like no connection.
func acceptAgain(errno syscall.Errno) bool {
	switch errno {
	case unix.EINTR, unix.ECONNABORTED, unix.EPROTO, unix.EPERM, unix.ENETDOWN, unix.ENOPROTOOPT,
		unix.EHOSTDOWN, unix.ENONET, unix.EHOSTUNREACH, unix.ENETUNREACH:
		return true
	}
	return false
}

// accept4 is accept4(2); the listener is non-blocking since it was registered.
func accept4(fd int32) (int32, syscall.Errno) {
	n, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
	return int32(n), errno
}
