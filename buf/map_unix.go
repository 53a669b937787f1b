//go:build unix

package buf

import "golang.org/x/sys/unix"

// mapSlab returns n zeroed bytes outside the Go heap. Pages become resident
// when they are first touched.
func mapSlab(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
}

func unmapSlab(b []byte) { _ = unix.Munmap(b) }
