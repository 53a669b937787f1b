package conn

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// fileSender is sendfile(2) from one file, without an allocation a call.
type fileSender struct {
	raw      syscall.RawConn // keeps the descriptor from being closed within a call
	call     func(fd uintptr)
	out      int
	at       int64
	want, n  int
	err      error
	prepared bool
}

// sendfile sends up to want bytes of f from offset at, without waiting. Unless the
// socket has failed or is full (EAGAIN), an error says that this file and this
// socket are not for sendfile.
func (s *fileSender) sendfile(out int, f *os.File, at int64, want int) (n int, err error) {
	if !s.prepared {
		if s.raw, err = f.SyscallConn(); err != nil {
			return 0, err
		}
		if err = unix.SetNonblock(out, true); err != nil {
			return 0, err
		}
		s.prepared = true
		s.call = func(fd uintptr) {
			for s.err = unix.EINTR; s.err == unix.EINTR; {
				off := s.at
				s.n, s.err = unix.Sendfile(s.out, int(fd), &off, s.want)
			}
		}
	}
	s.out, s.at, s.want, s.n, s.err = out, at, want, 0, nil
	if err = s.raw.Control(s.call); err != nil {
		return 0, err
	}
	return max(0, s.n), s.err
}

// socketError returns how a socket has failed (SO_ERROR), 0 if it has not. Who
// asks has been told of an error, so a socket that cannot say was reset.
func socketError(fd int) syscall.Errno {
	n, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return unix.ECONNRESET
	}
	return syscall.Errno(n)
}
