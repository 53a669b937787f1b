package sys

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// PeerName returns the peer of a TCP socket also when the connection is over, for which
// getpeername(2) has no answer: a client may have reset it before it was accepted
// (SO_PEERNAME). It is zero when the kernel does not know it. A link-local address comes
// without its zone.
func PeerName(fd int) netip.AddrPort {
	var sa unix.RawSockaddrInet6 // as long as what is asked for may be
	for _, size := range []uint32{unix.SizeofSockaddrInet6, unix.SizeofSockaddrInet4} {
		n := size // More than the family's own is EINVAL.
		// The pointers are used only during the call, which does not block.
		_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERNAME,
			uintptr(unsafe.Pointer(&sa)), uintptr(unsafe.Pointer(&n)), 0)
		port := binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&sa.Port))[:]) // as on the wire, whatever the host's order
		switch {
		case errno != 0:
		case sa.Family == unix.AF_INET6:
			return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), port)
		case sa.Family == unix.AF_INET:
			// The v4 address stands where the other family has its flow label.
			return netip.AddrPortFrom(netip.AddrFrom4(*(*[4]byte)(unsafe.Pointer(&sa.Flowinfo))), port)
		}
	}
	return netip.AddrPort{}
}
