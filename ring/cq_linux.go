//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"sync/atomic"
	"unsafe"
)

// completionQueue is our side of the CQ. The kernel moves tail, we move head.
type completionQueue struct {
	shared, tail *atomic.Uint32 // the shared head, the shared tail
	cqes         []CQE          // shared
	mask         uint32
	head         uint32 // our copy of the shared head
}

func (q *completionQueue) attach(rings []byte, off *cqOffsets, n uint32) {
	q.shared, q.tail = word(rings, off.head), word(rings, off.tail)
	q.mask = n - 1
	// The mapping was made long enough for n entries of this size.
	q.cqes = unsafe.Slice((*CQE)(unsafe.Pointer(&rings[off.cqes])), n)
	q.head = q.shared.Load()
}

func (q *completionQueue) ready() uint32 { return q.tail.Load() - q.head }

func (q *completionQueue) at(i uint32) *CQE { return &q.cqes[(q.head+i)&q.mask] }

// advance gives n entries back to the kernel.
func (q *completionQueue) advance(n uint32) {
	q.head += n
	q.shared.Store(q.head)
}

// Ready returns how many completions can be read now.
func (r *Ring) Ready() int { return int(r.cq.ready()) }

// CQE returns the i-th unread completion, 0 <= i < Ready(). It is valid until
// the Advance that passes it.
func (r *Ring) CQE(i int) *CQE { return r.cq.at(uint32(i)) }

// Advance gives the n oldest completions back to the kernel.
func (r *Ring) Advance(n int) { r.cq.advance(uint32(n)) }

// CQEntries returns the length of the completion queue.
func (r *Ring) CQEntries() int { return len(r.cq.cqes) }
