package conn

import (
	"fmt"
	"io"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/reactor"
)

// final is what a connection needs on its way to its end.
type final struct {
	reason    Reason
	op        string
	err       error
	began     time.Duration  // when the close family was first called
	progress  time.Duration  // when the kernel last took something
	timer     *reactor.Timer // nil until a step has to be waited for
	finSent   bool
	lingering bool
	unacked   int   // bytes on the way at the last CloseTimeout, 0 before the first
	patient   bool  // CloseTimeout counts from the last byte that the peer took
	acked     int64 // bytes that the peer had acknowledged when last looked at
	lost      int
	exit      *exit // when Detach was called
}

// Close ends the connection in order: it takes no more sends, flushes what is
// queued, sends FIN, discards what the peer still sends until its end of file
// or Linger, and closes. OnClose tells nil, or io.EOF when OnEOF had told that
// the peer has ended its side. Closing twice does nothing.
func (c *Conn) Close() {
	if c.eofHeard {
		c.closeFor(EOF, io.EOF)
	} else {
		c.closeFor(Local, nil)
	}
}

// CloseWith queues last, past the limit if need be (see WriteReserved), and
// closes. The answer says whether last was taken.
func (c *Conn) CloseWith(last []byte) Status {
	s := c.sayLast(last)
	c.Close()
	return s
}

// CloseError is CloseWith for a protocol that gives up: OnClose tells a
// *CloseError with this reason and cause, after the flush, also if the peer then
// resets the connection.
func (c *Conn) CloseError(reason Reason, cause error, last []byte) Status {
	s := c.sayLast(last)
	c.closeFor(reason, cause)
	return s
}

// sayLast is WriteReserved, unless there is nothing to say.
func (c *Conn) sayLast(last []byte) Status {
	if len(last) == 0 {
		return Queued
	}
	return c.WriteReserved(last)
}

// CloseWrite takes no more sends and sends FIN behind what is queued; reading
// goes on until the peer's end of file. When both sides have ended, behind OnEOF, the
// connection closes. The flush is bounded by CloseTimeout, the reading behind it by
// Config.IdleTimeout and ReadTimeout.
func (c *Conn) CloseWrite() {
	if c.state == open {
		c.shutSends(shut)
		c.begin()
		c.touch()
	}
}

// Abort ends the connection at once with a reset. What was pending is lost,
// and told in OnClose's *CloseError; no OnDrain runs.
func (c *Conn) Abort() { c.end(Aborted, "", nil, true) }

// begin starts the clock of the close family.
func (c *Conn) begin() *final {
	if c.final == nil {
		now := c.loop.Now()
		c.final = &final{began: now, progress: now}
	}
	if c.out != nil && c.out.streaming() {
		c.final.patient = true
	}
	return c.final
}

// within has deadline look at the close after d, instead of whenever it would.
func (c *Conn) within(d time.Duration) {
	if f := c.final; f.timer == nil {
		f.timer = c.loop.AfterFunc(d, c, c.deadline)
	} else {
		f.timer.Reset(d)
	}
}

func (f *final) stopTimer() {
	if f.timer != nil {
		f.timer.Stop()
	}
}

func (c *Conn) closeFor(reason Reason, err error) {
	if c.state >= closing {
		return
	}
	f := c.begin()
	f.began, f.reason, f.err = c.loop.Now(), reason, err
	f.stopTimer() // That of a CloseWrite before.
	c.shutSends(closing)
	c.paused = 0
	c.dropParked()
	c.touch()
}

// end stops everything; OnClose follows when all operations are home.
func (c *Conn) end(reason Reason, op string, err error, reset bool) {
	if c.state >= ending || c.dial != nil && c.dial.lose(reason, op, err, reset) {
		return
	}
	f := c.begin()
	f.reason, f.op, f.err = reason, op, err
	f.stopTimer()
	c.shutSends(ending)
	c.touch()
	if c.dial != nil {
		c.dial.stop()
	}
	c.recall(reset)
}

// recall calls the operations in flight home.
func (c *Conn) recall(reset bool) {
	if c.armed && !c.cancelling {
		c.cancelling = true
		c.submit(aio.Op{Kind: aio.Cancel, Target: aio.Recv})
	}
	if c.sending {
		c.hurry()
		c.submit(aio.Op{Kind: aio.Cancel, Target: aio.Send, Batch: c.out.op.Batch})
	}
	c.unawait(pollIn | pollOut | pollErr)
	if reset && c.fd >= 0 {
		c.submit(aio.Op{Kind: aio.Reset})
	}
}

// submit passes an operation without bytes to the engine.
func (c *Conn) submit(op aio.Op) {
	h := c.host
	op.Token, op.FD = c.token, c.fd
	h.op = op // The engine reads it before Submit returns; a local would escape.
	c.loop.Submit(&h.op)
}

// fail ends the connection because the kernel answered with -res. Where the
// connection itself is not dead, it is reset: a FIN would tell the peer that a
// stream that ends in the middle is whole, and loans could stay out for ever.
func (c *Conn) fail(op string, res int) {
	errno := syscall.Errno(-res)
	if errno == syscall.ECANCELED {
		return
	}
	reason := reasonOf(errno)
	if f := c.final; c.state == closing && f.reason != Local && f.reason != EOF && c.flushed() {
		c.end(f.reason, f.op, f.err, reason == IOError) // Why it was closed says more than how the peer took that.
		return
	}
	c.end(reason, op, errno, reason == IOError)
}

// shutSends raises the state to one in which no sends are taken.
func (c *Conn) shutSends(to state) {
	c.state = to
	if to >= closing && c.clock != nil {
		c.clock.stop()
	}
	if b := c.beside; b != nil && to >= closing {
		if e, ok := b.inlet.(ender); ok { // Before a Ref hears of it.
			e.ending(c)
		}
	}
	if c.gate != nil {
		c.gate.shutSends(to)
	}
}

// flushed reports whether the kernel has taken everything, what waits in the
// mailbox included, and lends nothing.
func (c *Conn) flushed() bool {
	o := c.out
	return c.drained() && (o == nil || !c.sending && len(o.loans) == 0)
}

// drained reports whether nothing waits to be sent, nor will come from a stream.
func (c *Conn) drained() bool { return c.Pending() == 0 && (c.out == nil || !c.out.streaming()) }

// home reports whether no operation is in flight.
func (c *Conn) home() bool {
	o := c.out
	return !c.armed && !c.polling() && (o == nil || !c.sending && len(o.loans) == 0)
}

// proceed takes the steps of the close that can be taken now.
func (c *Conn) proceed() {
	if c.offline {
		c.dial.proceed()
		return
	}
	if c.state == shut || c.state == closing {
		if c.flushed() {
			c.finish()
		} else if f := c.final; f.timer == nil || !f.timer.Armed() {
			f.acked = c.acked()
			c.within(c.host.cfg.CloseTimeout)
		}
	}
	if c.state == ending && c.home() {
		c.complete()
	}
}

// finish goes on behind the flush: FIN, and the wait for the peer's.
func (c *Conn) finish() {
	f := c.final
	switch {
	case c.state == closing && c.eof:
		c.end(f.reason, f.op, f.err, false)
		return
	case c.state == shut && f.exit != nil:
		c.leave()
		return
	}
	if !f.finSent {
		f.finSent = true
		f.stopTimer()
		c.submit(aio.Op{Kind: aio.Shutdown})
	}
	switch {
	case c.state == closing && !f.lingering:
		f.lingering = true
		c.within(c.host.cfg.Linger)
	case c.state == shut && c.eofHeard && !c.piped() && !c.inPipe():
		c.closeFor(EOF, io.EOF) // Both sides have ended, so nothing can happen any more.
	}
}

// lingerBytes is how much a peer must take in each further CloseTimeout to be
// waited for past the first, when the kernel has everything and the peer reads
// slowly. TCP tells of room by the segment, which is 64 KiB on loopback.
const lingerBytes = 64 << 10

// deadline decides when a step of the close has taken long enough.
func (c *Conn) deadline() {
	f, cfg, now := c.final, &c.host.cfg, c.loop.Now()
	if !c.flushed() {
		at := later(f.began, cfg.CloseTimeout)
		if c.eof || f.patient { // The peer waits for its answer: it has time as long as it reads.
			if acked := c.acked(); acked > f.acked {
				f.acked, f.progress = acked, now
			}
			at = max(at, later(f.progress, cfg.CloseTimeout))
		}
		if now < at {
			c.within(at - now)
		} else {
			c.end(WriteTimeout, "", nil, true)
		}
		return
	}
	if f.exit != nil && f.exit.last && c.state == shut { // What the kernel has in hand does not come home.
		c.end(WriteTimeout, "", nil, true)
		return
	}
	if !f.finSent { // The flush has ended in this very turn: FIN is next.
		c.touch()
		return
	}
	// To close with bytes on the way could turn them into a reset, should the
	// peer send something more.
	n := unacked(int(c.fd))
	switch left := later(f.began, cfg.CloseTimeout) - now; {
	case n > 0 && left > 0:
		c.within(min(left, cfg.Linger))
		return
	case n > 0 && (f.unacked == 0 || f.unacked-n >= lingerBytes):
		f.unacked = n
		c.within(cfg.CloseTimeout)
		return
	}
	if c.state == closing {
		c.end(f.reason, f.op, f.err, false)
	}
}

// acked returns the bytes that the peer has acknowledged: below 0 where what somebody
// sent before an Attach is on its way. The kernel frees room in its own queue by the
// third, so what it takes tells too late that a slow peer reads.
func (c *Conn) acked() int64 { return int64(c.bytesOut) - int64(unacked(int(c.fd))) }

// complete is the end: everything is given back, and the handler told. The
// deferred calls run even if the handler panics.
func (c *Conn) complete() {
	f := c.final
	c.state = closed
	f.stopTimer()
	if c.gate != nil {
		c.lastMail(c.gate.close())
	}
	f.lost += c.Pending() + c.Ahead()
	if c.dial != nil {
		f.lost += c.dial.back.lost
		c.dial.back.lost = 0 // It is counted there from now on.
	}
	err := f.result() // One value for all who are told.
	if c.dial != nil {
		defer c.dial.over(err)
	}
	c.dropParked()
	defer c.depart()
	defer func() { c.hooks.handler.OnClose(c, err) }()
	defer func() { c.mournersTold(err) }()
	defer c.lastRooms()
	c.host.share.del(c)
	if c.out != nil {
		c.dropOut(err)
	}
	if c.gate != nil && c.gate.budget != nil {
		c.gate.budget.leave(c.gate)
		c.gate.budget.tell()
	}
	if c.out != nil {
		c.lastDones()
	}
}

// lastDones tells every lender, also those behind one that panics.
func (c *Conn) lastDones() {
	if len(c.out.q.dones) > 0 {
		defer c.lastDones()
		c.runDones()
	}
}

// depart closes the descriptor and leaves the loop, and every topic.
func (c *Conn) depart() {
	c.leaveAll()
	c.vacate()
	defer c.final.exit.tell(c)
	if c.final.reason == Detached {
		c.submit(aio.Op{Kind: aio.Forget})
	} else if c.fd >= 0 {
		c.submit(aio.Op{Kind: aio.Close})
	}
	c.loop.Detach(c.token)
	c.countClosed()
	if c.host.count != nil {
		c.host.count(-1)
	}
}

// result is what OnClose is told.
func (f *final) result() error {
	switch f.reason {
	case Local:
		return nil
	case EOF:
		return io.EOF
	}
	return &CloseError{Reason: f.reason, Op: f.op, Err: f.err, LostBytes: f.lost}
}

// panicError makes an error of what a handler panicked with.
func panicError(value any) error {
	if k, ok := value.(*crash); ok {
		return k.cause()
	}
	if err, ok := value.(error); ok {
		return err
	}
	return fmt.Errorf("%v", value)
}
