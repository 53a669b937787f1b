package aiotest

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// others implements network. Nothing here is a stream socket, and half of it is
// in blocking mode: a Poll must not care.
func (fdState) others(tb testing.TB) map[string]other {
	tb.Helper()
	all := map[string]other{}
	read := func(fd int) func() {
		return func() { _, _ = unix.Read(fd, make([]byte, 1<<16)) }
	}
	write := func(fd, n int) func() {
		return func() {
			b := make([]byte, n)
			b[0] = 1
			_, err := unix.Write(fd, b)
			must(tb, err)
		}
	}

	var pipe [2]int
	must(tb, unix.Pipe2(pipe[:], unix.O_CLOEXEC))
	tb.Cleanup(func() { _ = unix.Close(pipe[1]) })
	all["pipe"] = other{fd: int32(pipe[0]), events: unix.POLLIN, fire: write(pipe[1], 100), calm: read(pipe[0])}

	// The writing end of a pipe that is full.
	var full [2]int
	must(tb, unix.Pipe2(full[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
	size, err := unix.FcntlInt(uintptr(full[1]), unix.F_GETPIPE_SZ, 0)
	must(tb, err)
	tb.Cleanup(func() { _ = unix.Close(full[0]) })
	write(full[1], size)()
	all["full pipe"] = other{fd: int32(full[1]), events: unix.POLLOUT,
		fire: func() { _, _ = unix.Read(full[0], make([]byte, size)) }, calm: write(full[1], size)}

	counter, err := unix.Eventfd(0, unix.EFD_CLOEXEC)
	must(tb, err)
	all["eventfd"] = other{fd: int32(counter), events: unix.POLLIN, fire: write(counter, 8), calm: read(counter)}

	clock, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	must(tb, err)
	all["timerfd"] = other{fd: int32(clock), events: unix.POLLIN, calm: read(clock), fire: func() {
		spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(time.Millisecond))}
		must(tb, unix.TimerfdSettime(clock, 0, &spec, nil))
	}}

	udp, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	must(tb, err)
	must(tb, unix.Bind(udp, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	addr, err := unix.Getsockname(udp)
	must(tb, err)
	all["datagram"] = other{fd: int32(udp), events: unix.POLLIN, calm: read(udp), fire: func() {
		must(tb, unix.Sendto(udp, []byte("x"), 0, addr))
	}}
	return all
}

// connecting implements network. A connect(2) over loopback is done at once, or
// nearly, so what is tested is that nobody has to know.
func (unixNet) connecting(testing.TB) (int32, func() farEnd) { return -1, nil }

// connecting implements network.
func (n tcpNet) connecting(tb testing.TB) (int32, func() farEnd) {
	tb.Helper()
	ln, _ := n.listen(tb)
	addr, err := unix.Getsockname(int(ln))
	must(tb, err)
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	must(tb, err)
	if err := unix.Connect(fd, addr); err != nil && err != unix.EINPROGRESS {
		tb.Fatal(err)
	}
	return int32(fd), func() farEnd {
		far, _, err := unix.Accept4(int(ln), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		must(tb, err)
		must(tb, unix.Close(int(ln)))
		return newFarSocket(tb, far)
	}
}
