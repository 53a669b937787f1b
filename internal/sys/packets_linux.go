package sys

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Packets is the arguments of recvmmsg(2) and sendmmsg(2) for some datagrams.
//
// What it holds is Go memory that the kernel looks at only during a call, and
// nothing on the heap moves. The addresses of a caller's bytes are dropped
// behind each call: those of mapped memory may be the heap's one day.
//
// Thread: one at a time.
type Packets struct {
	hdrs  []mmsghdr
	iovs  [][2]unix.Iovec
	names [][unix.SizeofSockaddrInet6]byte
	ctrls []control
}

// mmsghdr is struct mmsghdr; the padding of 64-bit systems falls in by itself.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// control holds an IPV6_PKTINFO and a SO_RXQ_OVFL, aligned for a cmsghdr.
type control [12]uint64

// NewPackets returns room for n datagrams.
func NewPackets(n int) *Packets {
	return &Packets{
		hdrs: make([]mmsghdr, n), iovs: make([][2]unix.Iovec, n),
		names: make([][unix.SizeofSockaddrInet6]byte, n), ctrls: make([]control, n),
	}
}

// Len returns how many datagrams there is room for.
func (p *Packets) Len() int { return len(p.hdrs) }

// In has datagram i received into a, and what does not fit there into b.
//
// Ownership: a and b are lent until Recv returns.
func (p *Packets) In(i int, a, b []byte) {
	h := &p.hdrs[i].hdr
	*h = unix.Msghdr{Name: &p.names[i][0], Namelen: unix.SizeofSockaddrInet6, Control: (*byte)(unsafe.Pointer(&p.ctrls[i]))}
	h.SetControllen(int(unsafe.Sizeof(p.ctrls[i])))
	p.vector(i, a, b)
}

// vector gives message i two pieces.
func (p *Packets) vector(i int, a, b []byte) {
	v := &p.iovs[i]
	v[0].Base, v[1].Base = unsafe.SliceData(a), unsafe.SliceData(b)
	v[0].SetLen(len(a))
	v[1].SetLen(len(b))
	h := &p.hdrs[i].hdr
	h.Iov = &v[0]
	h.SetIovlen(len(v))
}

// forget drops the addresses of the first n datagrams' bytes.
func (p *Packets) forget(n int) {
	for i := range p.iovs[:n] {
		p.iovs[i][0].Base, p.iovs[i][1].Base = nil, nil
	}
}

// Recv receives up to n datagrams, as readied by In, without waiting. A
// failure behind the first datagram is kept by the kernel for the next call.
func (p *Packets) Recv(fd, n int) (int, error) {
	return p.call(unix.SYS_RECVMMSG, fd, n, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
}

// Send sends up to n datagrams, as readied by Out, without waiting, and
// returns how many went. Why the one behind them did not is told by the next
// call, unless it goes then.
func (p *Packets) Send(fd, n int) (int, error) {
	return p.call(unix.SYS_SENDMMSG, fd, n, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
}

func (p *Packets) call(trap uintptr, fd, n, flags int) (int, error) {
	defer p.forget(n)
	for {
		// The call does not wait, so it need not be visible to the scheduler.
		r, _, errno := unix.RawSyscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(&p.hdrs[0])), uintptr(n), uintptr(flags), 0, 0)
		switch errno {
		case 0:
			return int(r), nil
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// Size returns the bytes of received datagram i, also those that did not fit.
func (p *Packets) Size(i int) int { return int(p.hdrs[i].len) }

// From returns who sent datagram i, and the number of the interface where the
// address needs one. An IPv4-mapped address is an IPv4 address.
func (p *Packets) From(i int) (from netip.AddrPort, scope uint32) {
	name := &p.names[i]
	port := binary.BigEndian.Uint16(name[2:])
	switch binary.NativeEndian.Uint16(name[:]) {
	case unix.AF_INET:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(name[4:8])), port), 0
	case unix.AF_INET6:
		addr := netip.AddrFrom16([16]byte(name[8:24])).Unmap()
		return netip.AddrPortFrom(addr, port), binary.NativeEndian.Uint32(name[24:])
	}
	return netip.AddrPort{}, 0
}

// About returns what the socket's options have told beside received datagram i:
// the address of ours to answer from (IP_PKTINFO, IPV6_RECVPKTINFO), and how
// many datagrams the socket had dropped so far (SO_RXQ_OVFL), which it says
// once there are some.
func (p *Packets) About(i int) (local netip.Addr, drops uint32, dropped bool) {
	left := uintptr(p.hdrs[i].hdr.Controllen)
	at := unsafe.Pointer(&p.ctrls[i])
	for left >= unix.SizeofCmsghdr {
		h := (*unix.Cmsghdr)(at) // ctrls are aligned, and every step is.
		size := uintptr(h.Len)
		if size < unix.SizeofCmsghdr || size > left {
			break
		}
		body := unsafe.Slice((*byte)(unsafe.Add(at, unix.CmsgLen(0))), size-uintptr(unix.CmsgLen(0)))
		switch {
		case h.Level == unix.IPPROTO_IP && h.Type == unix.IP_PKTINFO:
			// ipi_spec_dst, which is an address of ours even where the datagram went to all.
			local = netip.AddrFrom4([4]byte(body[4:8]))
		case h.Level == unix.IPPROTO_IPV6 && h.Type == unix.IPV6_PKTINFO:
			if local = netip.AddrFrom16([16]byte(body[:16])).Unmap(); local.IsMulticast() {
				local = netip.Addr{} // Nobody answers from that.
			}
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_RXQ_OVFL:
			drops, dropped = binary.NativeEndian.Uint32(body), true
		}
		step := uintptr(unix.CmsgSpace(int(size) - unix.CmsgLen(0)))
		if step >= left {
			break
		}
		left -= step
		at = unsafe.Add(at, step)
	}
	return local, drops, dropped
}

// Out has data sent as datagram i: to an address, unless it is zero, in a
// socket of IPv6 if v6 is set, with the number of the interface where the
// address needs one; and from an address of ours, unless it is zero.
//
// Ownership: data is lent until Send returns.
func (p *Packets) Out(i int, data []byte, v6 bool, to netip.AddrPort, scope uint32, local netip.Addr) {
	h := &p.hdrs[i].hdr
	*h = unix.Msghdr{}
	p.vector(i, data, nil)
	h.SetIovlen(1)
	if to.IsValid() {
		h.Name, h.Namelen = &p.names[i][0], putName(&p.names[i], v6, to, scope)
	}
	if local.IsValid() {
		h.Control = (*byte)(unsafe.Pointer(&p.ctrls[i]))
		h.SetControllen(p.ctrls[i].put(v6, local))
	}
}

// putName writes a sockaddr, and returns its length.
func putName(name *[unix.SizeofSockaddrInet6]byte, v6 bool, to netip.AddrPort, scope uint32) uint32 {
	clear(name[:])
	binary.BigEndian.PutUint16(name[2:], to.Port())
	if v6 {
		ip := to.Addr().As16() // That of IPv4 is mapped.
		binary.NativeEndian.PutUint16(name[:], unix.AF_INET6)
		copy(name[8:], ip[:])
		binary.NativeEndian.PutUint32(name[24:], scope)
		return unix.SizeofSockaddrInet6
	}
	binary.NativeEndian.PutUint16(name[:], unix.AF_INET)
	if to.Addr().Is4() {
		ip := to.Addr().As4()
		copy(name[4:], ip[:])
	} else {
		binary.NativeEndian.PutUint16(name[:], unix.AF_INET6) // The kernel says EAFNOSUPPORT.
	}
	return unix.SizeofSockaddrInet4
}

// put writes the control message that names the address to send from, and
// returns its length.
func (c *control) put(v6 bool, local netip.Addr) int {
	*c = control{}
	h := (*unix.Cmsghdr)(unsafe.Pointer(c))
	body := unsafe.Add(unsafe.Pointer(c), unix.CmsgLen(0))
	if v6 {
		h.Level, h.Type = unix.IPPROTO_IPV6, unix.IPV6_PKTINFO
		h.SetLen(unix.CmsgLen(unix.SizeofInet6Pktinfo))
		(*unix.Inet6Pktinfo)(body).Addr = local.As16()
		return unix.CmsgSpace(unix.SizeofInet6Pktinfo)
	}
	h.Level, h.Type = unix.IPPROTO_IP, unix.IP_PKTINFO
	h.SetLen(unix.CmsgLen(unix.SizeofInet4Pktinfo))
	if local.Is4() {
		(*unix.Inet4Pktinfo)(body).Spec_dst = local.As4()
	}
	return unix.CmsgSpace(unix.SizeofInet4Pktinfo)
}
