package sys

import (
	"encoding/binary"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ReadNow is read(2) for a descriptor that does not block: the Go scheduler is not told.
func ReadNow(fd int, b []byte) (int, error) { return transfer(unix.SYS_READ, fd, b) }

// WriteNow is write(2) in the same way.
func WriteNow(fd int, b []byte) (int, error) { return transfer(unix.SYS_WRITE, fd, b) }

// EventfdWrite is eventfd_write(3) in the same way: it adds n to an eventfd.
func EventfdWrite(fd int, n uint64) error {
	var b [8]byte
	binary.NativeEndian.PutUint64(b[:], n)
	_, err := WriteNow(fd, b[:])
	return err
}

func transfer(call uintptr, fd int, b []byte) (int, error) {
	// The pointer is used only during the call.
	n, _, errno := unix.RawSyscall(call, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return result(n, errno)
}

// EpollNow is epoll_wait(2) that does not wait, of which the scheduler is not told either.
func EpollNow(epoll int, events []unix.EpollEvent) (int, error) {
	// The pointer is used only during the call.
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), 0, 0, 0)
	return result(n, errno)
}

func result(n uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}
