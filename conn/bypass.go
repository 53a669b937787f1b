package conn

import (
	"time"

	"github.com/penstock-go/penstock/reactor"
)

// A budget that others have used up must not stop a peer that reads: to refuse
// would speak of the others. A message that goes straight into the socket is never
// pending, and costs the budget nothing. So one for a connection of which nothing
// waits is taken all the same, when the kernel has more room for it than it needs.

// bypassWait is what a connection waits with for that.
type bypassWait struct {
	wanted int  // bytes of the message that was refused
	tries  int  // looks in vain
	timed  bool // the next one is up to a timer
}

// bypasses reports whether a message of n bytes would go straight into the socket.
func (c *Conn) bypasses(n int) bool {
	b, o := c.host.cfg.Budget, c.out
	return b != nil && b.policy == BudgetReject && c.state == open && !c.offline && c.Pending() == 0 &&
		(o == nil || !c.sending && !o.stuck && o.q.empty() && len(o.streams) == 0) &&
		n <= socketRoom(int(c.fd))
}

// chargeBypass charges n bytes that will go straight into the socket: to the connection
// alone.
func (c *Conn) chargeBypass(n int) {
	c.gate.pending.Add(int64(n))
	c.outbox().bypass = n
}

// offerBypass sends the message that was admitted so. What the kernel has not taken
// after all counts as any other, past the size of the budget.
func (c *Conn) offerBypass() {
	c.offer()
	if o := c.out; o.bypass > 0 {
		b := c.host.cfg.Budget
		b.note(b.total.Add(int64(o.bypass)))
		o.bypass = 0
	}
}

// Waits of a connection whose message would bypass the budget and cannot.
const (
	bypassLeast = 5 * time.Millisecond
	bypassMost  = 320 * time.Millisecond
)

// awaitBypass has the connection look again when the socket has room, and while that
// is too little, after a while.
func (c *Conn) awaitBypass() {
	s := &c.beside.bypass
	switch {
	case s.timed || c.awaits(pollOut) || socketRoom(int(c.fd)) < 0:
	case s.tries == 0:
		s.tries++
		c.await(pollOut)
	default:
		s.timed = true
		d := min(bypassLeast<<s.tries, bypassMost)
		s.tries = min(s.tries+1, 10)
		c.loop.AfterFunc(d, c, func() { s.timed = false; c.touch() })
	}
}

// usualMessage is how long a message is of which nothing is known.
const usualMessage = reactor.BulkBlock
