package conn

import (
	"syscall"

	"github.com/penstock-go/penstock/aio"
)

// sendBytes is about how much one operation carries.
const sendBytes = 4 << 20

// outbound is what a connection needs while bytes are on their way out. It
// comes from its host's spares and goes back there.
type outbound struct {
	lone     lone // in place of q, while one message is all there is
	asked    int  // bytes of the send in flight
	q        sendq
	op       aio.Op
	stuck    bool      // the last send was short: the socket is full
	backlog  bool      // since the queue was last empty, the socket was full once
	prompt   bool      // somebody waits for the completion
	fresh    int       // place in the share of the loop, from 1; 0 = not there
	bypass   int       // bytes of pending that the budget does not count, while they are sent
	reserved int       // bytes admitted past the limit, until the last of them has gone
	lastWord uint64    // what bytesOut is then
	lent     int       // bytes that zero-copy sends still read
	loans    []loan    // in flight, oldest first
	streams  []*stream // in order, behind q; the first one's turn has come
	passed   []*stream // read to their end, and not all told
	ahead    int       // bytes of streams in q that the kernel has not taken
	bounds   *bounds   // of the messages, if somebody drops whole ones
	tainted  bool      // an engine may yet read the list of op, though nobody has this any more
}

func (c *Conn) outbox() *outbound {
	switch {
	case c.out == nil:
		c.out = c.host.outbound()
		if c.out.bounds == nil && (c.host.cfg.SlowPeer == DropOldest || c.dial.keeps()) {
			c.out.bounds = &bounds{}
		}
		if b := c.out.bounds; b != nil {
			b.vital = c.vital
		}
		c.out.op = aio.Op{Token: c.token, Kind: aio.Send, FD: c.fd, Out: c.out.op.Out}
	case c.out.lone.sharers > 0:
		c.own()
	}
	return c.out
}

// next returns the queue that a message of n bytes joins now.
func (o *outbound) next(n int) *sendq {
	o.bounds.add(n)
	return o.end()
}

// vacate gives the outbound back when nothing is in it.
func (c *Conn) vacate() {
	o := c.out
	if o == nil || o.lone.sharers > 0 || c.sending || o.backlog || len(o.loans) > 0 || len(o.streams) > 0 || !o.q.clean() {
		return // With a backlog, DrainAlways has a drain to tell.
	}
	c.out = nil
	c.host.keep(o)
}

// offer gives the kernel the chance to take what is queued right now, unless
// a send is stuck already. No handler runs inside.
func (c *Conn) offer() {
	o := c.own()
	if o == nil {
		return
	}
	c.host.share.del(c)
	for !c.sending && !o.stuck && !o.q.empty() && c.state < ending && !c.offline {
		op := &o.op
		var want int
		op.Flags = 0
		op.Out, want, _ = o.q.gather(op.Out[:0], c.host.maxOut, sendBytes, 0)
		n := c.loop.Try(op)
		clear(op.Out)
		if n < 0 {
			c.fail("send", n)
			return
		}
		o.stuck = n < want
		c.took(n)
	}
}

// took settles n bytes that the kernel has taken.
func (c *Conn) took(n int) {
	o := c.out
	streamed := o.q.take(n)
	c.bytesOut += uint64(n)
	if o.q.empty() && len(o.streams) == 0 {
		o.prompt, o.reserved = false, 0
	}
	if c.bytesOut >= o.lastWord {
		o.reserved = 0
	}
	if streamed > 0 {
		c.countAhead(-streamed)
	}
	o.bounds.take(n - streamed)
	c.settle(n, streamed)
}

// settle counts n bytes off that the kernel has taken, so many of them of streams.
func (c *Conn) settle(n, streamed int) {
	c.credit(n - streamed)
	if f := c.final; f != nil && n > 0 {
		f.progress = c.loop.Now()
	}
	if c.clock != nil {
		c.clock.took(c, n)
	}
}

// pump submits what is queued as one operation, unless one is in flight.
func (c *Conn) pump() {
	o := c.out
	if o == nil || c.state >= ending {
		return
	}
	c.host.share.del(c)
	if c.offline {
		return
	}
	if c.sending {
		c.hurry()
		return
	}
	if o.lone.sharers > 0 {
		if c.sendLone() || c.state >= ending {
			return
		}
		o = c.own()
	}
	if len(o.streams) > 0 {
		if c.flow(); c.state >= ending || c.offline {
			return
		}
		c.squeeze(o.end())
	}
	if o.q.empty() {
		c.vacate()
		return
	}
	c.submitQueue()
}

// submitQueue is pump for a queue that is not empty.
func (c *Conn) submitQueue() {
	o := c.out
	if o.stuck {
		o.backlog = true
		c.squeeze(&o.q)
	}
	zc := c.host.zeroCopy
	if c.copies {
		zc = 0
	}
	op, window := &o.op, c.window()
	var large bool
	op.Out, o.asked, large = o.q.gather(op.Out[:0], c.host.maxOut, window, zc)
	op.Flags = 0
	if o.stuck {
		op.Flags |= aio.PollFirst
		op.Out, o.asked = firstBytes(op.Out, o.asked, window)
	}
	if c.host.cfg.SlowPeer == DropOldest {
		o.bounds.begin(o.q.messages(o.asked))
	}
	if c.awaited() {
		op.Flags |= aio.Prompt
	}
	if op.Batch = o.nextBatch(); large {
		op.Flags |= aio.ZeroCopy
		from, to := o.q.lend(len(op.Out))
		o.loans = append(o.loans, loan{batch: op.Batch, from: from, to: to, bytes: o.asked})
		o.lent += o.asked
	}
	c.sending = true
	c.loop.Submit(op)
	if c.clock != nil {
		c.clock.submitted(c, op.Flags)
	}
}

// awaited reports whether somebody waits for the completion of a send of all that
// was asked for.
func (c *Conn) awaited() bool {
	o := c.out
	if c.Pending() > o.asked || c.full || c.state != open || c.awaitsRoom() {
		return true
	}
	return o.prompt || o.streaming() || c.host.cfg.DrainAlways && o.backlog
}

// hurry has the loop ask at once for the send in flight. Whoever sends or
// closes so late in a turn that the send has gone to the engine already waits
// for it; the engine does not know that, and may sit on the completion until
// something else happens.
func (c *Conn) hurry() {
	if o := c.own(); o.op.Flags&(aio.Prompt|aio.PollFirst) == 0 {
		o.op.Flags |= aio.Prompt
		c.loop.Defer(func() {}) // A turn with work left does not wait.
	}
}

// sent settles a completion of Send. The first one tells what was taken and
// lets the next send go; the final one of a zero-copy send ends its loan.
func (c *Conn) sent(done *aio.Completion) {
	if !c.sentLone(done) {
		c.sentOwn(done)
	} else if c.quiet() {
		return // With nothing behind this send, a flush would find nothing to do.
	}
	if c.state >= ending || c.offline {
		c.proceed()
		return
	}
	c.runDones()
	c.edges()
	if c.vacate(); c.out != nil || c.state != open || c.clock != nil {
		c.touch()
	}
}

func (c *Conn) sentOwn(done *aio.Completion) {
	o := c.own()
	if done.First {
		c.sending = false
		o.lone.out[0] = nil
		clear(o.op.Out) // A spare outbound must not keep what was sent alive.
		switch {
		case done.Res >= 0:
			o.stuck = int(done.Res) < o.asked
			c.took(int(done.Res))
		case o.op.Flags&aio.ZeroCopy != 0 && noLoan(syscall.Errno(-done.Res)):
			c.copies = true // Nothing was taken: the same bytes go again, by copy.
			c.took(0)
		default:
			c.fail("send", int(done.Res))
		}
	}
	if done.Final {
		c.repaid(done)
	}
}

// runDones tells the lenders whose bytes are no longer needed.
func (c *Conn) runDones() {
	for o := c.out; o != nil && len(o.q.dones) > 0; o = c.out {
		if done := o.q.nextDone(); done != nil {
			done()
		}
	}
}
