//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring_test

import (
	"fmt"
	"runtime"

	"github.com/penstock-go/penstock/ring"
	"golang.org/x/sys/unix"
)

// One multishot receive brings every message in a buffer of its own, and each is
// sent back from there.
func Example() {
	runtime.LockOSThread() // a ring belongs to its thread
	defer runtime.UnlockOSThread()
	r, err := ring.New(ring.Config{Entries: 8})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer r.Close()

	// Bytes that the kernel touches are not on the Go heap.
	const buffers, size = 8, 4096
	mem, err := unix.Mmap(-1, 0, buffers*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer unix.Munmap(mem)
	group, err := r.NewBufRing(0, buffers)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer group.Close()
	for id := range buffers {
		group.Add(mem[id*size:][:size], uint16(id))
	}
	group.Commit()

	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer unix.Close(pair[0])
	for _, word := range []string{"headrace", "gate", "wheel"} {
		_, _ = unix.Write(pair[1], []byte(word))
	}

	const recv, send = 1, 2 // user data
	s := r.SQE()
	s.PrepRecvMultishot(int32(pair[0]), 0, 0)
	s.UserData = recv
	for echoed := 0; echoed < 3; {
		if _, err := r.Enter(1, -1); err != nil {
			fmt.Println(err)
			return
		}
		for ; r.Ready() > 0; r.Advance(1) {
			c := r.CQE(0)
			id, ok := c.BufferID()
			if c.UserData != recv || !ok {
				continue
			}
			s := r.SQE()
			s.PrepSend(int32(pair[0]), mem[int(id)*size:][:c.Res], unix.MSG_NOSIGNAL)
			s.UserData, s.Flags = send, ring.SQECQESkipSuccess
			echoed++
		}
	}
	_, _ = r.Enter(0, 0)

	in := make([]byte, 64)
	for range 3 {
		n, _ := unix.Read(pair[1], in)
		fmt.Printf("%s\n", in[:n])
	}
	// The end of the other side ends the receive, so that nobody uses the buffers.
	_ = unix.Close(pair[1])
	_, _ = r.Enter(1, -1)

	// Output:
	// headrace
	// gate
	// wheel
}
