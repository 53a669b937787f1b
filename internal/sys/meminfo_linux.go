package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Places in what SO_MEMINFO returns, sk_meminfo of linux/sock_diag.h.
const (
	memWriteAlloc  = 2
	memSendBuffer  = 3
	memWriteQueued = 5
	memVars        = 9
)

// SendMemory returns how much memory the send buffer of a socket may use, in bytes
// with all that the kernel needs around them, and how much of it is in use
// (SO_MEMINFO, Linux 4.12).
func SendMemory(fd int) (size, used int, err error) {
	var info [memVars]uint32
	n := uint32(unsafe.Sizeof(info))
	// The pointers are used only during the call, which does not block.
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_MEMINFO,
		uintptr(unsafe.Pointer(&info)), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return 0, 0, errno
	}
	return int(info[memSendBuffer]), int(max(info[memWriteAlloc], info[memWriteQueued])), nil
}
