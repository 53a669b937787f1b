package conn

import (
	"slices"
	"syscall"

	"github.com/penstock-go/penstock/aio"
)

// loan is one zero-copy send that has not given its bytes back.
type loan struct {
	batch    uint16
	from, to uint64 // pieces
	bytes    int
}

// nextBatch returns the number of the next send. A loan may outlast thousands of
// sends, so none of them, with a copy or without, may have the number of one.
func (o *outbound) nextBatch() uint16 {
	n := o.op.Batch
	for {
		n = (n + 1) & aio.BatchMask
		if !slices.ContainsFunc(o.loans, func(l loan) bool { return l.batch == n }) {
			return n
		}
	}
}

// noLoan reports whether a zero-copy send failed for a reason that a copy does
// not have: locked memory (RLIMIT_MEMLOCK, net.core.optmem_max), or the socket.
func noLoan(errno syscall.Errno) bool {
	return errno == syscall.ENOMEM || errno == syscall.ENOBUFS || errno == syscall.EOPNOTSUPP
}

// repaid ends the loan of a batch, if it was one.
func (c *Conn) repaid(done *aio.Completion) {
	o := c.out
	for i := range o.loans {
		if l := o.loans[i]; l.batch == done.Batch {
			o.loans = append(o.loans[:i], o.loans[i+1:]...)
			o.lent -= l.bytes
			o.q.giveBack(l.from, l.to)
			c.copies = c.copies || done.Copied
			return
		}
	}
}
