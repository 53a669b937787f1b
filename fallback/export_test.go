//go:build linux

package fallback

import "unsafe"

// SlotSize is what a connection costs.
const SlotSize = unsafe.Sizeof(slot{})

// MsghdrLayout lets a test hold our struct against that of x/sys.
var MsghdrLayout = struct{ Size, Iov, Iovlen, Control uintptr }{
	unsafe.Sizeof(msghdr{}), unsafe.Offsetof(msghdr{}.iov), unsafe.Offsetof(msghdr{}.iovlen), unsafe.Offsetof(msghdr{}.control),
}
