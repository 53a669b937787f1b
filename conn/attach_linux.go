package conn

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// duplicateFD is dup(2), close-on-exec.
func duplicateFD(fd int) (int, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	return n, os.NewSyscallError("dup", err)
}

// prepare makes the connected stream socket fd what those of a listener are.
func prepare(fd int, cfg Config) error {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if errors.Is(err, unix.ENOTSOCK) || err == nil && kind != unix.SOCK_STREAM {
		return fmt.Errorf("descriptor %d is no stream socket: %w", fd, errors.ErrUnsupported)
	}
	if err != nil {
		return os.NewSyscallError("getsockopt SO_TYPE", err)
	}
	if listens, _ := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); listens != 0 {
		return fmt.Errorf("descriptor %d listens: %w", fd, errors.ErrUnsupported)
	}
	if !connected(fd) {
		return fmt.Errorf("descriptor %d is not connected: %w", fd, errors.ErrUnsupported)
	}
	if err = unix.SetNonblock(fd, true); err != nil {
		return os.NewSyscallError("fcntl O_NONBLOCK", err)
	}
	if isUnix(fd) {
		cfg.Nagle, cfg.KeepAlive = true, KeepAlive{}
	}
	return setOptions(fd, cfg)
}

// connected reports whether fd has a peer, or had one: a connection that was reset
// has none any more, but it still has something to read, its end.
func connected(fd int) bool {
	if _, err := unix.Getpeername(fd); !errors.Is(err, unix.ENOTCONN) {
		return true
	}
	p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, err := unix.Poll(p, 0)
	return err != nil || n > 0 && p[0].Revents&(unix.POLLIN|unix.POLLERR) != 0
}
