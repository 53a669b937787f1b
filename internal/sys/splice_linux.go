package sys

import (
	"golang.org/x/sys/unix"
)

// Splice moves up to n bytes from one descriptor to another within the kernel,
// without waiting: splice(2). One of them is a pipe; both are in non-blocking mode.
// The scheduler does not hear of the call, which does not sleep.
func Splice(from, to, n int) (int, unix.Errno) {
	for {
		k, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(n), unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return 0, errno
		}
		return int(k), 0
	}
}
