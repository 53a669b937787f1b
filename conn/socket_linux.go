package conn

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// socketAddrs asks the kernel for the two ends of fd.
func socketAddrs(fd int) addrs {
	var a addrs
	if sa, err := unix.Getsockname(fd); err == nil {
		a.local = addrOf(sa)
	}
	if sa, err := unix.Getpeername(fd); err == nil {
		a.remote = addrOf(sa)
	}
	return a
}

// addrOf returns the address of a stream socket.
func addrOf(sa unix.Sockaddr) Addr {
	switch sa := sa.(type) {
	case *unix.SockaddrUnix:
		if sa.Name == "@" { // As the binding writes it when there is none.
			return Addr{Net: "unix"}
		}
		return Addr{Net: "unix", Name: sa.Name}
	case *unix.SockaddrInet4, *unix.SockaddrInet6:
		return Addr{AddrPort: addrPort(sa), Net: "tcp"}
	}
	return Addr{}
}

// addrPort returns the address of an IP socket, a v4 one of a dual-stack
// socket as v4.
func addrPort(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		ip := netip.AddrFrom16(sa.Addr).Unmap()
		if ip.Is6() && sa.ZoneId != 0 {
			if ifi, err := net.InterfaceByIndex(int(sa.ZoneId)); err == nil {
				ip = ip.WithZone(ifi.Name)
			}
		}
		return netip.AddrPortFrom(ip, uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// unacked returns the bytes that the peer has not acknowledged (SIOCOUTQ).
func unacked(fd int) int {
	n, err := unix.IoctlGetInt(fd, unix.SIOCOUTQ)
	if err != nil {
		return 0
	}
	return n
}

func closeSocket(fd int) { _ = unix.Close(fd) }

// acceptOne takes one waiting connection, without waiting.
func acceptOne(fd int) (int, error) {
	nfd, _, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	return nfd, err
}

// listenTCP returns n listening sockets on one address, and the address.
//
// Each loop has a socket of its own, and the kernel spreads connections over
// them (SO_REUSEPORT). The first one is bound without that option, so that a
// port on which anybody else listens is refused, and gets it only then.
func listenTCP(network, address string, n int, cfg Config) (fds []int, at Addr, err error) {
	tcp, err := net.ResolveTCPAddr(network, address)
	if err != nil {
		return nil, at, fmt.Errorf("conn: listen %s: %w", address, err)
	}
	defer func() {
		if err != nil {
			for _, fd := range fds {
				closeSocket(fd)
			}
			fds, err = nil, fmt.Errorf("conn: listen %s: %w", address, err)
		}
	}()
	for i := range n {
		var fd int
		var sa unix.Sockaddr
		if fd, sa, err = tcpSocket(network, tcp, cfg); err != nil {
			return fds, at, err
		}
		fds = append(fds, fd)
		if i > 0 {
			err = setInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, "SO_REUSEPORT", 1)
		}
		if err == nil {
			err = os.NewSyscallError("bind", unix.Bind(fd, sa))
		}
		if err == nil && i == 0 {
			err = setInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, "SO_REUSEPORT", 1)
			tcp.Port = int(socketAddrs(fd).local.Port())
		}
		if err != nil {
			return fds, at, err
		}
	}
	for _, fd := range fds {
		if err = os.NewSyscallError("listen", unix.Listen(fd, cfg.Backlog)); err != nil {
			return fds, at, err
		}
	}
	return fds, socketAddrs(fds[0]).local, nil
}

// tcpSocket makes a socket with its options; what it accepts inherits them.
// An address without a host serves both families where the host has IPv6.
func tcpSocket(network string, tcp *net.TCPAddr, cfg Config) (fd int, sa unix.Sockaddr, err error) {
	ip4 := tcp.IP.To4()
	family := unix.AF_INET6
	if network == "tcp4" || ip4 != nil {
		family = unix.AF_INET
	}
	const flags = unix.SOCK_STREAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	fd, err = unix.Socket(family, flags, unix.IPPROTO_TCP)
	if errors.Is(err, unix.EAFNOSUPPORT) && tcp.IP == nil && network == "tcp" {
		family = unix.AF_INET
		fd, err = unix.Socket(family, flags, unix.IPPROTO_TCP)
	}
	if err != nil {
		return -1, nil, os.NewSyscallError("socket", err)
	}
	if family == unix.AF_INET {
		a := &unix.SockaddrInet4{Port: tcp.Port}
		copy(a.Addr[:], ip4)
		sa = a
	} else {
		a := &unix.SockaddrInet6{Port: tcp.Port}
		copy(a.Addr[:], tcp.IP.To16())
		if ifi, err := net.InterfaceByName(tcp.Zone); err == nil {
			a.ZoneId = uint32(ifi.Index)
		}
		sa = a
		only := 0
		if network == "tcp6" {
			only = 1
		}
		err = setInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, "IPV6_V6ONLY", only)
	}
	if err == nil {
		err = setOptions(fd, cfg)
	}
	if err != nil {
		closeSocket(fd)
		return -1, nil, err
	}
	return fd, sa, nil
}

func setOptions(fd int, cfg Config) error {
	if err := setInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, "SO_REUSEADDR", 1); err != nil {
		return err
	}
	if !cfg.Nagle {
		if err := setInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, "TCP_NODELAY", 1); err != nil {
			return err
		}
	}
	if cfg.SendBuffer > 0 {
		if err := setInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, "SO_SNDBUF", cfg.SendBuffer); err != nil {
			return err
		}
	}
	if cfg.RecvBuffer > 0 {
		return setInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, "SO_RCVBUF", cfg.RecvBuffer)
	}
	return nil
}

func setInt(fd, level, option int, name string, value int) error {
	return os.NewSyscallError("setsockopt "+name, unix.SetsockoptInt(fd, level, option, value))
}
