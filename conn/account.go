package conn

import "sync/atomic"

// account is what is pending on a connection, or a socket of datagrams, that other
// goroutines send to as well: they and the loop count there, against the Limit and the
// Budget.
//
// Thread: any.
type account struct {
	budget      *Budget      // nil = none
	pending     atomic.Int64 // and gone
	high, limit atomic.Int64
}

// held returns the bytes that are pending.
func (a *account) held() int { return int(a.pending.Load() &^ gone) }

// atLimit reports whether the Limit, and not the budget, refuses the next message.
func (a *account) atLimit() bool {
	p := a.pending.Load()
	return p > 0 && p >= a.limit.Load()
}

// chargeWithin counts n bytes as pending unless the queue is at its limit, or
// the budget at its own. The budget counts first: it never knows too little.
func (a *account) chargeWithin(n int) bool {
	for {
		p := a.pending.Load()
		if p > 0 && p >= a.limit.Load() || a.budget != nil && !a.budget.charge(p, int64(n)) {
			return false
		}
		if a.pending.CompareAndSwap(p, p+int64(n)) {
			return true
		}
		if a.budget != nil {
			a.budget.total.Add(-int64(n))
		}
	}
}

// charge counts n bytes as pending, whatever the limits say; below 0 it counts
// them off.
func (a *account) charge(n int64) {
	if p := a.pending.Add(n); a.budget != nil && p < gone {
		if t := a.budget.total.Add(n); n > 0 {
			a.budget.note(t)
		}
	}
}
