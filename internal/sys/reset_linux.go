package sys

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// Reset resets the TCP connection of fd at once and drops what the kernel has
// queued for it, as connect(2) with AF_UNSPEC does. The descriptor stays. For
// other sockets, and where that fails, close(2) will do it: SO_LINGER of zero.
func Reset(fd int) error {
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	unspec := unix.RawSockaddr{Family: unix.AF_UNSPEC}
	// The pointer is used only during the call, which does not block.
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unspec)), unsafe.Sizeof(unspec))
	if errno != 0 {
		return errno
	}
	return nil
}
