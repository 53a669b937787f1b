package conn

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/internal/sys"
)

// socketAddrs asks the kernel for the two ends of fd.
func socketAddrs(fd int) addrs {
	var a addrs
	if sa, err := unix.Getsockname(fd); err == nil {
		a.local = addrOf(sa)
	}
	if sa, err := unix.Getpeername(fd); err == nil {
		a.remote = addrOf(sa)
	} else if at := sys.PeerName(fd); at.IsValid() {
		a.remote = Addr{AddrPort: at, Net: "tcp"}
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

// socketRoom returns how long a message may be that the socket is sure to take whole
// now: a fifth of the room, and 2 KiB, are for what the kernel needs around it. It is
// below 0 when the kernel does not say.
func socketRoom(fd int) int {
	size, used, err := sys.SendMemory(fd)
	if err != nil {
		return -1
	}
	return max(0, (size-used-2<<10)/5*4)
}

func closeSocket(fd int) { _ = unix.Close(fd) }

// isUnix reports whether fd is a unix socket.
func isUnix(fd int) bool {
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	return err == nil && domain == unix.AF_UNIX
}

// peerCred asks for the credentials of the peer of a unix socket.
func peerCred(fd int) (PeerCred, error) {
	if !isUnix(fd) {
		return PeerCred{}, errNoCred
	}
	u, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED)
	if err != nil {
		return PeerCred{}, os.NewSyscallError("getsockopt SO_PEERCRED", err)
	}
	return PeerCred{PID: int(u.Pid), UID: int(u.Uid), GID: int(u.Gid)}, nil
}

// setKeepAlive sets the options of a TCP socket that k asks for.
func setKeepAlive(fd int, k KeepAlive) error {
	for _, o := range []struct {
		level, option int
		name          string
		value         int
	}{
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, "SO_KEEPALIVE", min(1, k.seconds(k.Idle))},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, "TCP_KEEPIDLE", k.seconds(k.Idle)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, "TCP_KEEPINTVL", k.seconds(k.Interval)},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, "TCP_KEEPCNT", k.Count},
		{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, "TCP_USER_TIMEOUT", int((k.UserTimeout + time.Millisecond - 1) / time.Millisecond)},
	} {
		if o.value == 0 {
			continue
		}
		if err := setInt(fd, o.level, o.option, o.name, o.value); err != nil {
			return err
		}
	}
	return nil
}

// acceptOne takes one waiting connection, without waiting.
func acceptOne(fd int) (int, error) {
	nfd, _, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	return nfd, err
}

// openSockets opens what n loops listen on: a socket each for TCP, one for all
// for unix.
func openSockets(network, address string, n int, cfg Config) (s sockets, err error) {
	switch network {
	case "tcp", "tcp4", "tcp6":
		s, err = openTCP(network, address, n, cfg)
	case "unix":
		var fd int
		err = outlive(func() (err error) {
			fd, s.file, err = listenUnix(address, cfg)
			return err
		}, func() bool { return nameHeld(address) })
		s.fds, s.at = []int{fd}, Addr{Net: "unix", Name: address}
	case "udp", "udp4", "udp6":
		err = fmt.Errorf("%w: ListenPacket is for datagrams", net.UnknownNetworkError(network))
	default:
		err = net.UnknownNetworkError(network)
	}
	if err != nil {
		return sockets{}, fmt.Errorf("conn: listen %s: %w", address, err)
	}
	return s, nil
}

func openTCP(network, address string, n int, cfg Config) (s sockets, err error) {
	tcp, err := net.ResolveTCPAddr(network, address)
	if err != nil {
		return s, err
	}
	if cfg.V6Only && (network == "tcp4" || tcp.IP.To4() != nil) {
		return s, errors.New("V6Only, and an address of IPv4")
	}
	err = outlive(func() (err error) {
		s.fds, s.at, err = listenTCP(network, *tcp, n, cfg)
		return err
	}, func() bool { return portHeld("tcp", tcp.Port) })
	return s, err
}

// listenTCP returns n listening sockets on one address, and the address.
//
// Each loop has a socket of its own, and the kernel spreads connections over
// them (SO_REUSEPORT). The first one is bound without that option, so that a
// port on which anybody else listens is refused, and gets it only then, and only
// if there are others.
func listenTCP(network string, tcp net.TCPAddr, n int, cfg Config) (fds []int, at Addr, err error) {
	defer func() {
		if err != nil {
			for _, fd := range fds {
				closeSocket(fd)
			}
			fds = nil
		}
	}()
	for i := range n {
		var fd int
		var sa unix.Sockaddr
		if fd, sa, err = tcpSocket(network, &tcp, cfg); err != nil {
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
			if n > 1 {
				err = setInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, "SO_REUSEPORT", 1)
			}
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
	if errors.Is(err, unix.EAFNOSUPPORT) && tcp.IP == nil && network == "tcp" && !cfg.V6Only {
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
		if network == "tcp6" || cfg.V6Only {
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

// setOptions sets the options of a TCP socket. What a listener accepts has them
// from it.
func setOptions(fd int, cfg Config) error {
	if err := setInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, "SO_REUSEADDR", 1); err != nil {
		return err
	}
	if !cfg.Nagle {
		if err := setInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, "TCP_NODELAY", 1); err != nil {
			return err
		}
	}
	if err := setKeepAlive(fd, cfg.KeepAlive); err != nil {
		return err
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
