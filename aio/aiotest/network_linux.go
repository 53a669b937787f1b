package aiotest

import (
	"io"
	"testing"

	"golang.org/x/sys/unix"
)

// networks returns the real sockets an engine is tested on. Our ends are
// blocking on one and non-blocking on the other: an engine must not care.
func networks() []network { return []network{unixNet{}, tcpNet{}} }

// fdState is what both real networks share.
type fdState struct{}

func (fdState) closed(fd int32) bool {
	_, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
	return err == unix.EBADF
}

func (fdState) release(fd int32) { _ = unix.Close(int(fd)) }

func (fdState) shutdownWrite(fd int32) error { return unix.Shutdown(int(fd), unix.SHUT_WR) }

func (fdState) withoutDescriptors(tb testing.TB, f func()) {
	tb.Helper()
	var old unix.Rlimit
	must(tb, unix.Getrlimit(unix.RLIMIT_NOFILE, &old))
	// 0, 1 and 2 are open, so no number below the limit is free. Descriptors
	// that are open above it go on working.
	must(tb, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: old.Max}))
	defer func() { must(tb, unix.Setrlimit(unix.RLIMIT_NOFILE, &old)) }()
	f()
}

// unixNet is pairs of stream sockets, ours in blocking mode.
type unixNet struct{ fdState }

func (unixNet) name() string { return "unix" }

func (unixNet) pair(tb testing.TB) (int32, farEnd) {
	tb.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(tb, err)
	must(tb, unix.SetNonblock(fds[1], true))
	return int32(fds[0]), newFarSocket(tb, fds[1])
}

func (unixNet) listen(tb testing.TB) (int32, func() farEnd) {
	tb.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(tb, err)
	// An address of no bytes makes the kernel choose a free abstract name.
	must(tb, unix.Bind(fd, &unix.SockaddrUnix{}))
	return listenOn(tb, fd, unix.AF_UNIX)
}

// tcpNet is TCP over loopback, ours in non-blocking mode.
type tcpNet struct{ fdState }

func (tcpNet) name() string { return "tcp" }

func (n tcpNet) pair(tb testing.TB) (int32, farEnd) {
	tb.Helper()
	fd, dial := n.listen(tb)
	defer unix.Close(int(fd))
	far := dial()
	must(tb, awaitIn(fd))
	near, _, err := unix.Accept4(int(fd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	must(tb, err)
	return int32(near), far
}

func (tcpNet) listen(tb testing.TB) (int32, func() farEnd) {
	tb.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(tb, err)
	must(tb, unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	return listenOn(tb, fd, unix.AF_INET)
}

// listenOn returns the listening fd and a function that connects to it.
func listenOn(tb testing.TB, fd, family int) (int32, func() farEnd) {
	tb.Helper()
	must(tb, unix.Listen(fd, 1024))
	addr, err := unix.Getsockname(fd)
	must(tb, err)
	return int32(fd), func() farEnd {
		far, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		must(tb, err)
		must(tb, unix.Connect(far, addr))
		must(tb, unix.SetNonblock(far, true))
		return newFarSocket(tb, far)
	}
}

func awaitIn(fd int32) error {
	_, err := unix.Poll([]unix.PollFd{{Fd: fd, Events: unix.POLLIN}}, -1)
	return err
}

// farSocket is the test's end of a real connection.
type farSocket struct {
	tb   testing.TB
	fd   int
	open bool
}

func newFarSocket(tb testing.TB, fd int) *farSocket {
	s := &farSocket{tb: tb, fd: fd, open: true}
	tb.Cleanup(s.close)
	return s
}

func (s *farSocket) write(b []byte) int {
	n, err := unix.SendmsgN(s.fd, b, nil, nil, unix.MSG_NOSIGNAL)
	if err == unix.EAGAIN {
		return 0
	}
	must(s.tb, err)
	return n
}

func (s *farSocket) read(b []byte) (int, error) {
	n, err := unix.Read(s.fd, b)
	switch {
	case err == unix.EAGAIN:
		return 0, nil
	case err == nil && n == 0:
		return 0, io.EOF
	}
	return max(n, 0), err
}

func (s *farSocket) closeWrite() { must(s.tb, unix.Shutdown(s.fd, unix.SHUT_WR)) }

func (s *farSocket) reset() {
	must(s.tb, unix.SetsockoptLinger(s.fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
	s.close()
}

func (s *farSocket) close() {
	if s.open {
		s.open = false
		must(s.tb, unix.Close(s.fd))
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}
