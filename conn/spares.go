package conn

import "github.com/penstock-go/penstock/aio"

// spareMost and spareList bound what a host keeps for later: so many, with
// lists of so many pieces at the most.
const (
	spareMost = 256
	spareList = 64
)

// outbound returns one in which nothing is.
func (h *host) outbound() (o *outbound) {
	n := len(h.spare)
	if n == 0 {
		return &outbound{}
	}
	o, h.spare = h.spare[n-1], h.spare[:n-1]
	return o
}

// keep clears an outbound in which nothing is, so that it may be used again.
func (h *host) keep(o *outbound) {
	if cap(o.q.list) <= spareList && !o.tainted {
		*o = outbound{q: sendq{list: o.q.list[:0], dones: o.q.dones}, loans: o.loans, op: aio.Op{Out: o.op.Out[:0]}, bounds: o.bounds.reset()}
		h.lay(o)
	}
}

// lay lays a clear outbound by, unless there are enough.
func (h *host) lay(o *outbound) {
	if len(h.spare) < spareMost {
		h.spare = append(h.spare, o)
	}
}
