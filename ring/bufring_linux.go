//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"fmt"
	"math/bits"
	"os"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"
)

const maxBufRing = 32768

// BufRing is a ring of buffers from which the kernel picks one for each receive.
//
// Thread: that of its Ring.
//
// Kernel: 5.19.
type BufRing struct {
	ring  *Ring
	group uint16
	mem   []byte
	bufs  []bufEntry
	tail  uint16
	bid0  uint16 // the id in the first entry, which shares a word with the tail
}

// NewBufRing registers an empty buffer ring for the group. entries is a power of
// two up to 32768.
func (r *Ring) NewBufRing(group uint16, entries int) (*BufRing, error) {
	if entries < 1 || entries > maxBufRing || bits.OnesCount(uint(entries)) != 1 {
		return nil, fmt.Errorf("ring: %d buffers are no power of two up to %d", entries, maxBufRing)
	}
	if r.have&featBufferRing == 0 {
		return nil, missing(featBufferRing)
	}
	size := entries * int(unsafe.Sizeof(bufEntry{}))
	mem, err := unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, os.NewSyscallError("ring: mmap of the buffer ring", err)
	}
	b := &BufRing{ring: r, group: group, mem: mem}
	// A mapping is page aligned, and has room for exactly these entries.
	b.bufs = unsafe.Slice((*bufEntry)(unsafe.Pointer(&mem[0])), entries)
	reg := bufReg{ringAddr: address(mem), ringEntries: uint32(entries), bgid: group}
	if _, errno := r.register(registerPbufRing, unsafe.Pointer(&reg), 1); errno != 0 {
		_ = unix.Munmap(mem)
		if errno == unix.ENOMEM {
			return nil, memlockError("io_uring_register of a buffer ring")
		}
		return nil, os.NewSyscallError("ring: io_uring_register of a buffer ring", errno)
	}
	return b, nil
}

// Add offers p to the kernel under an id, which comes back in CQE.BufferID.
// The kernel sees it at the next Commit. At most as many may be offered and not
// yet used as the ring has entries.
//
// Ownership: p is the kernel's until its id comes back, or Close.
func (b *BufRing) Add(p []byte, id uint16) {
	i := int(b.tail) & (len(b.bufs) - 1)
	e := &b.bufs[i]
	e.addr, e.len = address(p), uint32(len(p))
	if i == 0 {
		b.bid0 = id // Commit stores it, together with the tail
	} else {
		e.bid = id
	}
	b.tail++
}

// Commit shows all buffers added since the last one to the kernel, by one store.
func (b *BufRing) Commit() {
	// There is no atomic store of 16 bits, so the id beside the tail is stored
	// again with it. Little endian; the kernel only reads. The word is aligned.
	w := (*atomic.Uint32)(unsafe.Pointer(&b.bufs[0].bid))
	w.Store(uint32(b.tail)<<16 | uint32(b.bid0))
}

// Len returns the number of entries.
func (b *BufRing) Len() int { return len(b.bufs) }

// Close takes all buffers back. No receive from this group may be in flight.
func (b *BufRing) Close() error {
	if b.mem == nil {
		return nil
	}
	reg := bufReg{bgid: b.group}
	_, errno := b.ring.register(unregisterPbufRing, unsafe.Pointer(&reg), 1)
	err := unix.Munmap(b.mem)
	b.mem, b.bufs = nil, nil
	if errno != 0 {
		return os.NewSyscallError("ring: io_uring_register: end of a buffer ring", errno)
	}
	return os.NewSyscallError("ring: munmap of a buffer ring", err)
}
