//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// submissionQueue is our side of the SQ. The kernel moves head, we move tail;
// both run freely and are masked on use.
type submissionQueue struct {
	head, tail, flags *atomic.Uint32 // shared
	sqes              []SQE          // shared
	mask              uint32
	next              uint32 // entries up to here are handed out
}

// word returns the shared counter at an offset of a mapping. Mappings are page
// aligned and the kernel's offsets are multiples of four, so it is aligned; it
// lives until munmap, after which the Ring forgets it.
func word(mapping []byte, off uint32) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&mapping[off]))
}

func (q *submissionQueue) attach(rings, entries []byte, off *sqOffsets, n uint32) {
	q.head, q.tail, q.flags = word(rings, off.head), word(rings, off.tail), word(rings, off.flags)
	q.mask = n - 1
	// The mapping has exactly n entries of the kernel's size, which is ours.
	q.sqes = unsafe.Slice((*SQE)(unsafe.Pointer(&entries[0])), n)
	// The indirection array stays the identity for good.
	array := unsafe.Slice((*uint32)(unsafe.Pointer(&rings[off.array])), n)
	for i := range array {
		array[i] = uint32(i)
	}
	q.next = q.tail.Load()
}

// publish shows the kernel all entries handed out so far.
func (q *submissionQueue) publish() { q.tail.Store(q.next) }

// consumed returns how many entries the kernel took since the ring began.
func (q *submissionQueue) consumed() uint32 { return q.head.Load() }

// pending returns how many entries the kernel has not taken.
func (q *submissionQueue) pending() uint32 { return q.next - q.head.Load() }

// SQE returns the next submission entry, zeroed, or nil when the queue is full:
// then Enter makes room.
//
// Ownership: the caller's until the next Enter, which submits it.
func (r *Ring) SQE() *SQE {
	q := &r.sq
	if q.pending() > q.mask {
		return nil
	}
	s := &q.sqes[q.next&q.mask]
	q.next++
	*s = SQE{}
	return s
}

// Timespec returns d in memory that belongs to the entry obtained last, for
// PrepTimeout and PrepLinkTimeout: it holds until that entry is submitted.
func (r *Ring) Timespec(d time.Duration) *unix.Timespec {
	ts := &r.times[(r.sq.next-1)&r.sq.mask]
	*ts = unix.NsecToTimespec(int64(d))
	return ts
}

// Pending returns how many prepared entries the kernel has not taken.
func (r *Ring) Pending() int { return int(r.sq.pending()) }

// Entries returns the length of the submission queue, which may be less than
// was asked for.
func (r *Ring) Entries() int { return len(r.sq.sqes) }
