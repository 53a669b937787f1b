//go:build !linux

package conn

import "net/netip"

type packetSocket struct {
	fd      int
	dropped uint64
}

func (s *packetSocket) grow(int) {}

func (s *packetSocket) recv([]packetSlot, int) (int, error) { return 0, errLinux }

func (s *packetSocket) send([]datagram) (int, error) { return 0, errLinux }

func listenUDP(string, string, int, PacketConfig) ([]packetSocket, Addr, error) {
	return nil, Addr{}, errLinux
}

func connectUDP(netip.AddrPort, netip.AddrPort, PacketConfig) (packetSocket, error) {
	return packetSocket{fd: -1}, errLinux
}
