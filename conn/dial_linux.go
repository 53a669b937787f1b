package conn

import (
	"errors"
	"math/rand/v2"
	"os"

	"golang.org/x/sys/unix"
)

var systemKernel = dialKernel{connect: connectStream, outcome: connectOutcome, jitter: rand.Int64N}

// connectStream makes a stream socket and begins to connect it to an address,
// from another one unless that is zero.
func connectStream(to, from Addr, cfg *Config, control func(int) error) (fd int, err error) {
	family, proto := unix.AF_UNIX, 0
	if to.Net != "unix" {
		if family, proto = unix.AF_INET6, unix.IPPROTO_TCP; to.Addr().Is4() {
			family = unix.AF_INET
		}
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
	if err != nil {
		return -1, os.NewSyscallError("socket", err)
	}
	begun := false
	defer func() {
		if !begun { // An error, or control has panicked.
			closeSocket(fd)
			fd = -1
		}
	}()
	if to.Net != "unix" {
		err = setOptions(fd, *cfg)
	}
	if err == nil && control != nil {
		err = control(fd)
	}
	if err == nil && from.IsValid() {
		err = bindLocal(fd, from)
	}
	if err != nil {
		return fd, err
	}
	sa := unix.Sockaddr(&unix.SockaddrUnix{Name: to.Name})
	if to.Net != "unix" {
		sa = sockaddr(to.AddrPort)
	}
	if err = unix.Connect(fd, sa); errors.Is(err, unix.EINPROGRESS) || errors.Is(err, unix.EINTR) {
		err = nil // It goes on by itself, connect(2) says.
	}
	begun = err == nil
	return fd, os.NewSyscallError("connect", err)
}

// bindLocal gives a socket that will connect its address. The port, if it is to be
// any, is chosen when the peer is known (IP_BIND_ADDRESS_NO_PORT, Linux 4.2), so
// that one port serves many peers.
func bindLocal(fd int, from Addr) error {
	if from.Port() == 0 {
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	}
	return os.NewSyscallError("bind", unix.Bind(fd, sockaddr(from.AddrPort)))
}

// connectOutcome returns how the connecting of fd has ended.
//
// A connection to oneself is none: TCP makes one by a simultaneous open when the
// port that the kernel has chosen for this end is the one that is dialed, which
// happens on loopback when nobody listens there.
func connectOutcome(fd int) error {
	errno, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ERROR)
	if err != nil {
		return os.NewSyscallError("getsockopt", err)
	}
	if errno != 0 {
		return os.NewSyscallError("connect", unix.Errno(errno))
	}
	peer, err := unix.Getpeername(fd)
	if errors.Is(err, unix.ENOTCONN) {
		return unix.EINPROGRESS
	}
	if err != nil {
		return os.NewSyscallError("getpeername", err)
	}
	a := socketAddrs(fd)
	if _, local := peer.(*unix.SockaddrUnix); !local && a.local == a.remote {
		return os.NewSyscallError("connect", unix.ECONNREFUSED)
	}
	return nil
}
