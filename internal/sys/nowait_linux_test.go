package sys

import (
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"
)

// TestEventfdWrite holds that what an eventfd counts is what was written, in the byte
// order of the host.
func TestEventfdWrite(t *testing.T) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	for range 300 {
		if err := EventfdWrite(fd, 1); err != nil {
			t.Fatal(err)
		}
	}
	var b [8]byte
	if _, err := ReadNow(fd, b[:]); err != nil || binary.NativeEndian.Uint64(b[:]) != 300 {
		t.Errorf("counted %d, %v, want 300", binary.NativeEndian.Uint64(b[:]), err)
	}
}
