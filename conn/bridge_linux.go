package conn

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// looks is how many places of a part are looked at to find it in memory.
const looks = 5

// resident reports whether the kernel has that part of f in memory, as far as a
// few places tell: a read that must not wait (RWF_NOWAIT, Linux 4.14) succeeds there.
func resident(f syscall.Conn, at, size int64) bool {
	raw, err := f.SyscallConn()
	if err != nil {
		return false
	}
	all := true
	err = raw.Control(func(fd uintptr) {
		buf := [1][]byte{make([]byte, 1)}
		for i := range int64(looks) {
			n, err := unix.Preadv2(int(fd), buf[:], at+(size-1)*i/(looks-1), unix.RWF_NOWAIT)
			all = all && n == 1 && err == nil
		}
	})
	return all && err == nil
}

// duplicateFile returns a file of its own that is open on the same one as f.
func duplicateFile(f file, name string) (*os.File, error) {
	fd, err := duplicate(f)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}
