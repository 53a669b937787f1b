//go:build linux

package fallback

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Watches reports whether fd is in the epoll set of e.
func (e *Engine) Watches(fd int32) bool {
	return e.control(unix.EPOLL_CTL_MOD, fd, unix.EPOLLIN|unix.EPOLLET, 0) == nil
}

// SlotSize is what a connection costs.
const SlotSize = unsafe.Sizeof(slot{})

// MsghdrLayout lets a test hold our struct against that of x/sys.
var MsghdrLayout = struct{ Size, Iov, Iovlen, Control uintptr }{
	unsafe.Sizeof(msghdr{}), unsafe.Offsetof(msghdr{}.iov), unsafe.Offsetof(msghdr{}.iovlen), unsafe.Offsetof(msghdr{}.control),
}

// Alarm returns when the alarm is set to ring, from the engine's beginning.
func (e *Engine) Alarm() time.Duration { return e.alarm.at }
