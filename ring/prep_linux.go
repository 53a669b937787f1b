//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// prep sets the fields that nearly all operations share; SQE has zeroed the rest.
func (s *SQE) prep(op uint8, fd int32, addr uint64, length uint32, off uint64) {
	s.Opcode, s.FD, s.Addr, s.Len, s.Off = op, fd, addr, length, off
}

// address returns where b begins. The pointer rule of the package documentation
// makes the number stay true: b is outside the Go heap, or pinned.
func address(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }

// PrepNop does nothing and completes with 0.
func (s *SQE) PrepNop() { s.prep(opNop, -1, 0, 0, 0) }

// PrepAccept takes one connection from the listening fd: accept4(2) with flags
// SOCK_NONBLOCK and SOCK_CLOEXEC. addr and addrlen may be nil; else they are
// written until the completion.
func (s *SQE) PrepAccept(fd int32, addr *unix.RawSockaddrAny, addrlen *uint32, flags uint32) {
	s.prep(opAccept, fd, uint64(uintptr(unsafe.Pointer(addr))), 0, uint64(uintptr(unsafe.Pointer(addrlen))))
	s.OpFlags = flags
}

// PrepAcceptMultishot takes connections from the listening fd, one for each
// completion, until one comes without More.
//
// Kernel: 5.19.
func (s *SQE) PrepAcceptMultishot(fd int32, flags uint32) {
	s.PrepAccept(fd, nil, nil, flags)
	s.Ioprio = acceptMultishot
}

// PrepRecv receives into b: recv(2).
func (s *SQE) PrepRecv(fd int32, b []byte, msgFlags uint32) {
	s.prep(opRecv, fd, address(b), uint32(len(b)), 0)
	s.OpFlags = msgFlags
}

// PrepRecvMultishot receives into buffers of the provided group, one for each
// completion, until one comes without More. An empty group ends it with -ENOBUFS.
//
// Kernel: 6.0.
func (s *SQE) PrepRecvMultishot(fd int32, group uint16, msgFlags uint32) {
	s.prep(opRecv, fd, 0, 0, 0)
	s.OpFlags = msgFlags
	s.Ioprio = recvMultishot
	s.Flags |= SQEBufferSelect
	s.BufIndex = group
}

// LimitRecv has a multishot receive end, by a completion without More, once it has
// brought n bytes or more. n is not 0. The last buffer may hold more of them.
//
// Kernel: 6.17; before, the receive fails with -EINVAL.
func (s *SQE) LimitRecv(n uint32) { s.SpliceFDIn = int32(n) }

// PrepRecvmsg receives into what msg describes: recvmsg(2). The kernel copies the
// array of msg while it submits, and writes to msg and to what it points to until
// the completion.
func (s *SQE) PrepRecvmsg(fd int32, msg *unix.Msghdr, msgFlags uint32) {
	s.prep(opRecvmsg, fd, uint64(uintptr(unsafe.Pointer(msg))), 1, 0)
	s.OpFlags = msgFlags
}

// PrepSend sends b: send(2).
func (s *SQE) PrepSend(fd int32, b []byte, msgFlags uint32) {
	s.prep(opSend, fd, address(b), uint32(len(b)), 0)
	s.OpFlags = msgFlags
}

// PrepSendmsg sends what msg describes: sendmsg(2). The kernel copies msg and
// its array while it submits.
func (s *SQE) PrepSendmsg(fd int32, msg *unix.Msghdr, msgFlags uint32) {
	s.prep(opSendmsg, fd, uint64(uintptr(unsafe.Pointer(msg))), 1, 0)
	s.OpFlags = msgFlags
}

// PrepSendZC sends b without a copy where the kernel can. The first completion
// is the result; if it says More, a notification follows, and b belongs to the
// kernel until then. zcFlags are SendZCReportUsage and RecvsendPollFirst.
//
// Kernel: 6.0.
func (s *SQE) PrepSendZC(fd int32, b []byte, msgFlags uint32, zcFlags uint16) {
	s.prep(opSendZC, fd, address(b), uint32(len(b)), 0)
	s.OpFlags, s.Ioprio = msgFlags, zcFlags
}

// PrepSendmsgZC is PrepSendmsg with the completions of PrepSendZC.
//
// Kernel: 6.1.
func (s *SQE) PrepSendmsgZC(fd int32, msg *unix.Msghdr, msgFlags uint32, zcFlags uint16) {
	s.prep(opSendmsgZC, fd, uint64(uintptr(unsafe.Pointer(msg))), 1, 0)
	s.OpFlags, s.Ioprio = msgFlags, zcFlags
}

// PrepCancel cancels the operation with this UserData, or with CancelAll every
// one. Its own result is 0 or the number cancelled, -ENOENT, or -EALREADY; it
// differs between kernels, so wait for the operation's own completion instead.
func (s *SQE) PrepCancel(userData uint64, flags uint32) {
	s.prep(opAsyncCancel, -1, userData, 0, 0)
	s.OpFlags = flags
}

// PrepCancelFD cancels an operation on fd, or with CancelAll every one.
//
// Kernel: 5.19.
func (s *SQE) PrepCancelFD(fd int32, flags uint32) {
	s.prep(opAsyncCancel, fd, 0, 0, 0)
	s.OpFlags = flags | cancelFD
}

// PrepCancelAny cancels everything in flight on the ring.
//
// Kernel: 5.19.
func (s *SQE) PrepCancelAny() {
	s.prep(opAsyncCancel, -1, 0, 0, 0)
	s.OpFlags = CancelAll | cancelAny
}

// PrepTimeout completes with -ETIME when ts has passed, or with 0 after count
// other completions if count is not 0. Ring.Timespec makes a ts that needs no care.
func (s *SQE) PrepTimeout(ts *unix.Timespec, count, flags uint32) {
	s.prep(opTimeout, -1, uint64(uintptr(unsafe.Pointer(ts))), 1, uint64(count))
	s.OpFlags = flags
}

// PrepTimeoutUpdate has the timeout with this UserData end when ts has passed,
// instead of when it was to.
//
// Kernel: 5.11.
func (s *SQE) PrepTimeoutUpdate(ts *unix.Timespec, userData uint64, flags uint32) {
	s.prep(opTimeoutRemove, -1, userData, 0, uint64(uintptr(unsafe.Pointer(ts))))
	s.OpFlags = flags | timeoutUpdate
}

// PrepTimeoutRemove ends the timeout with this UserData, which completes with
// -ECANCELED.
func (s *SQE) PrepTimeoutRemove(userData uint64, flags uint32) {
	s.prep(opTimeoutRemove, -1, userData, 0, 0)
	s.OpFlags = flags
}

// PrepLinkTimeout bounds the entry before it, which needs SQEIOLink.
func (s *SQE) PrepLinkTimeout(ts *unix.Timespec, flags uint32) {
	s.prep(opLinkTimeout, -1, uint64(uintptr(unsafe.Pointer(ts))), 1, 0)
	s.OpFlags = flags
}

// PrepPollAdd completes once with the events of mask (POLLIN and so on) that
// fd has.
func (s *SQE) PrepPollAdd(fd int32, mask uint32) {
	s.prep(opPollAdd, fd, 0, 0, 0)
	s.OpFlags = mask
}

// PrepPollAddMultishot completes each time that fd is woken with an event of
// mask, until a completion comes without More.
//
// Kernel: 5.13.
func (s *SQE) PrepPollAddMultishot(fd int32, mask uint32) {
	s.PrepPollAdd(fd, mask)
	s.Len = pollAddMulti
}

// PrepPollRemove ends the poll with this UserData.
func (s *SQE) PrepPollRemove(userData uint64) { s.prep(opPollRemove, -1, userData, 0, 0) }

// PrepConnect connects fd: connect(2). The kernel copies addr while it submits.
func (s *SQE) PrepConnect(fd int32, addr *unix.RawSockaddrAny, addrlen uint32) {
	s.prep(opConnect, fd, uint64(uintptr(unsafe.Pointer(addr))), 0, uint64(addrlen))
}

// PrepClose closes fd.
func (s *SQE) PrepClose(fd int32) { s.prep(opClose, fd, 0, 0, 0) }

// PrepShutdown shuts fd down: how is unix.SHUT_RD, SHUT_WR or SHUT_RDWR.
//
// Kernel: 5.11.
func (s *SQE) PrepShutdown(fd int32, how uint32) { s.prep(opShutdown, fd, 0, how, 0) }

// PrepMsgRing posts a completion with this userData and res to the ring whose
// descriptor is fd (see Ring.FD).
//
// Kernel: 5.18.
func (s *SQE) PrepMsgRing(fd int32, res uint32, userData uint64) {
	s.prep(opMsgRing, fd, 0, res, userData)
}

// CurrentOffset stands for the file's own position, and for no position at all
// where there is none, as in a pipe.
const CurrentOffset = ^uint64(0)

// PrepRead reads into b at off: pread(2).
func (s *SQE) PrepRead(fd int32, b []byte, off uint64) {
	s.prep(opRead, fd, address(b), uint32(len(b)), off)
}

// PrepWrite writes b at off: pwrite(2).
func (s *SQE) PrepWrite(fd int32, b []byte, off uint64) {
	s.prep(opWrite, fd, address(b), uint32(len(b)), off)
}

// PrepSplice moves up to n bytes from one descriptor to another, one of them a
// pipe: splice(2). Offsets are CurrentOffset for a pipe or a socket.
func (s *SQE) PrepSplice(from int32, fromOff uint64, to int32, toOff uint64, n, flags uint32) {
	s.prep(opSplice, to, fromOff, n, toOff)
	s.SpliceFDIn, s.OpFlags = from, flags
}
