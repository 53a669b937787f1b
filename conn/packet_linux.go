package conn

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/internal/sys"
)

// packetSocket is a socket of datagrams and the arguments of its system calls.
type packetSocket struct {
	fd        int
	v6        bool
	info      bool       // bound to no one address: the kernel tells which was asked
	connected bool       // to remote
	local     netip.Addr // what it is bound to
	remote    netip.AddrPort
	io        *sys.Packets // the arguments of the call that runs
	dropped   uint64
	drops     uint32 // as the kernel counts them, which wraps
	zone      zone
}

// zone is the interface that was last asked for, by number and by name.
type zone struct {
	index uint32
	name  string
}

// grow makes room for n datagrams a call.
func (s *packetSocket) grow(n int) {
	if s.io == nil || s.io.Len() < n {
		s.io = sys.NewPackets(n)
	}
}

// recv receives into slots, without waiting, and returns how many came.
func (s *packetSocket) recv(slots []packetSlot, most int) (int, error) {
	for i := range slots {
		a, b := slots[i].pieces(most)
		s.io.In(i, a, b)
	}
	n, err := s.io.Recv(s.fd, len(slots))
	for i := range slots[:n] {
		slots[i].size = s.io.Size(i)
		local, drops, dropped := s.io.About(i)
		if dropped && drops != s.drops {
			s.dropped += uint64(drops - s.drops)
			s.drops = drops
		}
		if s.connected {
			slots[i].from = Source{s.remote, s.local}
			continue
		}
		peer, scope := s.io.From(i)
		if scope != 0 {
			peer = netip.AddrPortFrom(peer.Addr().WithZone(s.zoneName(scope)), peer.Port())
		}
		if !s.info {
			local = s.local
		}
		slots[i].from = Source{peer, local}
	}
	return n, err
}

// send sends list, without waiting, and returns how many went.
func (s *packetSocket) send(list []datagram) (int, error) {
	s.grow(len(list))
	for i := range list {
		d := &list[i]
		to, local := d.to.Peer, d.to.Local
		if s.connected {
			to = netip.AddrPort{}
		}
		if !s.info {
			local = netip.Addr{}
		}
		var scope uint32
		if zone := to.Addr().Zone(); zone != "" {
			scope = s.zoneIndex(zone)
		}
		s.io.Out(i, d.data, s.v6, to, scope, local)
	}
	return s.io.Send(s.fd, len(list))
}

func (s *packetSocket) zoneName(index uint32) string {
	if s.zone.index != index {
		ifi, err := net.InterfaceByIndex(int(index))
		if err != nil {
			return ""
		}
		s.zone = zone{index, ifi.Name}
	}
	return s.zone.name
}

func (s *packetSocket) zoneIndex(name string) uint32 {
	if s.zone.name != name {
		ifi, err := net.InterfaceByName(name)
		if err != nil {
			return 0
		}
		s.zone = zone{uint32(ifi.Index), name}
	}
	return s.zone.index
}

// listenUDP returns n sockets on one address, and the address.
func listenUDP(network, address string, n int, cfg PacketConfig) (socks []packetSocket, at Addr, err error) {
	udp, err := net.ResolveUDPAddr(network, address)
	if err == nil {
		err = outlive(func() (err error) {
			socks, at, err = bindUDP(network, *udp, n, cfg)
			return err
		}, func() bool { return portHeld("udp", udp.Port) })
	}
	if err != nil {
		return nil, at, fmt.Errorf("conn: listen %s: %w", address, err)
	}
	return socks, at, nil
}

// bindUDP returns n sockets on one address. As with TCP the first one is bound
// without SO_REUSEPORT, so that an address that anybody else has is refused, and
// gets it only then, and only if there are others.
func bindUDP(network string, udp net.UDPAddr, n int, cfg PacketConfig) (socks []packetSocket, at Addr, err error) {
	defer func() {
		if err != nil {
			for _, s := range socks {
				closeSocket(s.fd)
			}
			socks = nil
		}
	}()
	for i := range n {
		s, sa, err := udpSocket(network, &udp, cfg)
		if err != nil {
			return socks, at, err
		}
		socks = append(socks, s)
		if i > 0 {
			err = setInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, "SO_REUSEPORT", 1)
		}
		if err == nil {
			err = os.NewSyscallError("bind", unix.Bind(s.fd, sa))
		}
		if err == nil && i == 0 {
			at = Addr{AddrPort: socketAddrs(s.fd).local.AddrPort, Net: "udp"}
			udp.Port = int(at.Port())
			if n > 1 {
				err = setInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, "SO_REUSEPORT", 1)
			}
		}
		if err == nil {
			err = socks[i].tellLocal(at.Addr())
		}
		if err != nil {
			return socks, at, err
		}
	}
	return socks, at, nil
}

// tellLocal has the kernel say which address each datagram was sent to, if that
// is not known from what the socket is bound to.
func (s *packetSocket) tellLocal(bound netip.Addr) error {
	if s.local = bound; !bound.IsUnspecified() {
		return nil
	}
	s.info = true
	if s.v6 {
		return setInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, "IPV6_RECVPKTINFO", 1)
	}
	return setInt(s.fd, unix.IPPROTO_IP, unix.IP_PKTINFO, "IP_PKTINFO", 1)
}

// udpSocket makes a socket with its options, and the address to bind it to. An
// address without a host is that of both families where the host has IPv6.
func udpSocket(network string, udp *net.UDPAddr, cfg PacketConfig) (s packetSocket, sa unix.Sockaddr, err error) {
	ip4 := udp.IP.To4()
	s = packetSocket{fd: -1, v6: network != "udp4" && ip4 == nil}
	const flags = unix.SOCK_DGRAM | unix.SOCK_NONBLOCK | unix.SOCK_CLOEXEC
	if s.v6 {
		s.fd, err = unix.Socket(unix.AF_INET6, flags, unix.IPPROTO_UDP)
		if errors.Is(err, unix.EAFNOSUPPORT) && udp.IP == nil && network == "udp" {
			s.v6 = false
		}
	}
	if !s.v6 {
		s.fd, err = unix.Socket(unix.AF_INET, flags, unix.IPPROTO_UDP)
	}
	if err != nil {
		return s, nil, os.NewSyscallError("socket", err)
	}
	if s.v6 {
		a := &unix.SockaddrInet6{Port: udp.Port, ZoneId: s.zoneIndex(udp.Zone)}
		copy(a.Addr[:], udp.IP.To16())
		only := 0
		if network == "udp6" {
			only = 1
		}
		sa, err = a, setInt(s.fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, "IPV6_V6ONLY", only)
	} else {
		a := &unix.SockaddrInet4{Port: udp.Port}
		copy(a.Addr[:], ip4)
		sa = a
	}
	ready := false
	defer func() {
		if !ready { // An error, or Control has panicked.
			closeSocket(s.fd)
			s.fd = -1
		}
	}()
	if err == nil {
		err = setPacketOptions(s.fd, cfg)
	}
	ready = err == nil
	return s, sa, err
}

func setPacketOptions(fd int, cfg PacketConfig) error {
	// How many it has dropped, the kernel says only when there are some.
	if err := setInt(fd, unix.SOL_SOCKET, unix.SO_RXQ_OVFL, "SO_RXQ_OVFL", 1); err != nil {
		return err
	}
	if cfg.SendBuffer > 0 {
		if err := setInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, "SO_SNDBUF", cfg.SendBuffer); err != nil {
			return err
		}
	}
	if cfg.RecvBuffer > 0 {
		if err := setInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, "SO_RCVBUF", cfg.RecvBuffer); err != nil {
			return err
		}
	}
	if cfg.Control != nil {
		return cfg.Control(fd)
	}
	return nil
}

// connectUDP makes a socket that hears one peer only, bound to a local address
// unless that is zero.
func connectUDP(to, from netip.AddrPort, cfg PacketConfig) (s packetSocket, err error) {
	network, local := "udp4", &net.UDPAddr{}
	if to.Addr().Is6() {
		network = "udp6"
	}
	if from.IsValid() {
		local = net.UDPAddrFromAddrPort(from)
	}
	s, sa, err := udpSocket(network, local, cfg)
	if err != nil {
		return s, err
	}
	if from.IsValid() {
		err = os.NewSyscallError("bind", unix.Bind(s.fd, sa))
	}
	if err == nil {
		err = os.NewSyscallError("connect", unix.Connect(s.fd, sockaddr(to)))
	}
	if err != nil {
		closeSocket(s.fd)
		return packetSocket{fd: -1}, err
	}
	s.connected, s.remote, s.local = true, to, socketAddrs(s.fd).local.Addr()
	return s, nil
}

// sockaddr is the address of an IP socket as the system calls want it.
func sockaddr(at netip.AddrPort) unix.Sockaddr {
	ip := at.Addr().Unmap()
	if ip.Is4() {
		return &unix.SockaddrInet4{Port: int(at.Port()), Addr: ip.As4()}
	}
	a := &unix.SockaddrInet6{Port: int(at.Port()), Addr: ip.As16()}
	if zone := ip.Zone(); zone != "" {
		if ifi, err := net.InterfaceByName(zone); err == nil {
			a.ZoneId = uint32(ifi.Index)
		}
	}
	return a
}
