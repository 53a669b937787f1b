package conn

import (
	"math"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/reactor"
)

// host is the place on one loop of connections with the same configuration.
type host struct {
	loop     *reactor.Loop
	cfg      Config
	marks    Marks
	hooks    *hooks
	zeroCopy int         // pieces from so many bytes on; 0 = never
	maxOut   int         // pieces of one send
	splicers int         // pipes of the kernel in use
	tries    bool        // a lone message goes by Try: see Caps.Immediate
	alone    int         // a message shorter than that may be lone: none where a budget or a policy counts them
	timed    bool        // they have deadlines
	unix     bool        // its sockets are unix sockets
	spare    []*outbound // done with, to be used again
	common   *outbound   // that whose payload SendShared had last; nil when nobody has it
	fresh    []buf.Buf   // scratch of blocks
	one      [1][]byte   // scratch of single
	op       aio.Op      // scratch of submit
	share    *share      // of the loop in cfg.Budget; nil without one
	tally    *connTally  // nil where nobody asks
	count    func(int)   // told of each connection more and less; may be nil
}

func newHost(l *reactor.Loop, cfg Config, k *hooks) *host {
	h := &host{
		loop: l, cfg: cfg, hooks: k, share: cfg.Budget.shareOf(l),
		marks:  Marks{cfg.HighWater, cfg.LowWater, cfg.Limit},
		maxOut: l.Caps().MaxOut,
		tries:  l.Caps().Immediate,
		timed:  cfg.deadlines() != Deadlines{},
	}
	if l.Caps().ZeroCopy && cfg.SlowPeer != DropOldest { // What is lent could not be dropped.
		h.zeroCopy = cfg.ZeroCopyMin
	}
	if h.share == nil && cfg.SlowPeer != DropOldest {
		if h.alone = h.zeroCopy; h.alone == 0 {
			h.alone = math.MaxInt
		}
	}
	return h
}

// open opens a connection that has a User, and whose first input is heard. On a loop
// that has been asked to end it is then asked too.
func (h *host) open(fd int, heard []byte, user any) *Conn {
	c := &Conn{user: user, loop: h.loop, host: h, hooks: h.hooks, fd: int32(fd), id: h.loop.NextID(), unix: h.unix}
	c.token = h.loop.Attach(c)
	if h.count != nil {
		h.count(1)
	}
	was := h.loop.As(c)
	c.touch() // Arms the receive, unless OnOpen pauses or closes.
	c.parkBytes(heard)
	c.startClock()
	c.hooks.handler.OnOpen(c)
	h.loop.As(was) // Of who panicked inside nobody comes here.
	if h.loop.Stopping() {
		c.Stop(h.loop, h.loop.Forced())
	}
	return c
}

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
