package conn

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/reactor"
)

// Defaults of [Reconnect].
const (
	DefaultRetryLeast = 100 * time.Millisecond
	DefaultRetryMost  = 30 * time.Second
)

// Reconnect has a connection that was dialed connect again when an attempt fails,
// and when it is lost: the peer ends or resets it, or the network, or a time-out
// of ours, gives the peer up. It stays the same Conn with the same Ref. OnOpen runs
// each time it is connected; in between, sends are queued within the marks; and
// OnClose runs once, in the end. Each loss and each failure is told to
// [RetryHandler].
//
// What is asked for here is final: Close and its kin, CloseError among them and so
// what a codec or a WebSocket refuses of its peer, Abort, a policy for slow
// peers, a source of SendFrom that fails, a panic of the handler, the end of the
// group. The peer's end of file is a loss, behind OnEOF, since the peer reads no
// more of this connection as a rule. A loss while a Pipe or a NetConn is on is final
// too: what follows would not be the same stream.
//
// The n-th attempt in a row waits between a half and the whole of Least times
// 2^(n-1), at most Most, at random, so that the clients of a server that comes back
// do not come all at once. A connection that lived longer than the wait before it
// ends the row.
type Reconnect struct {
	// Least and Most bound the wait before an attempt. Default 100 ms and 30 s.
	Least, Most time.Duration
	// Attempts is how many may fail in a row before the connection closes, with
	// the error of the last one. Default 0: no limit. A first attempt that fails
	// is not one of them: they are those that come after a loss or a failure.
	Attempts int
	// Keep keeps what is queued when the connection is lost, as whole messages: they
	// are sent, in order, in front of what the next OnOpen sends. A message of
	// which the kernel has taken a part is dropped, since the peer may have seen
	// that part, and its rest is counted as lost. What the kernel had taken
	// whole may be lost too, and nobody here knows: a protocol that must know
	// acknowledges. A SendFrom does not outlive a loss. Default: what is queued at
	// the loss is dropped and counted.
	//
	// With Keep a message costs some bytes more while it waits.
	Keep bool
}

func (r *Reconnect) check() error {
	if r != nil && (r.Least < 0 || r.Most < 0 || r.Attempts < 0) {
		return errors.New("conn: negative Least, Most or Attempts of Reconnect")
	}
	if r != nil && r.Most > 0 && r.Least > r.Most {
		return fmt.Errorf("conn: Reconnect waits %v at least and %v at the most", r.Least, r.Most)
	}
	return nil
}

// wait returns how long the n-th attempt in a row waits.
func (r *Reconnect) wait(n int, jitter func(int64) int64) time.Duration {
	least := cmp.Or(r.Least, DefaultRetryLeast)
	most := cmp.Or(r.Most, max(DefaultRetryMost, least))
	d := least
	for ; n > 1 && d < most; n-- {
		d *= 2
	}
	d = min(d, most)
	return d - time.Duration(jitter(int64(d/2)+1))
}

// RetryHandler hears that a connection with Reconnect is down. It is one of the
// optional interfaces of a Handler.
type RetryHandler interface {
	// OnRetry runs when the connection was lost, and when an attempt has failed.
	// It may send, which is queued, and end it all by Close or Abort.
	OnRetry(c *Conn, r Retry)
}

// Retry is what [RetryHandler] is told.
type Retry struct {
	Attempt int           // the number in a row of the attempt that comes next, from 1
	Wait    time.Duration // until it begins
	Err     error         // why: what OnClose would have been told
	Lost    int           // bytes that were queued and were dropped now
}

// retry is the part of a dialing that outlives the first attempt.
type retry struct {
	cause   *final         // why it is down; nil while that is settled
	last    *final         // the cause before
	was     bool           // it was connected
	since   time.Duration  // from then on
	attempt int            // in a row
	wait    time.Duration  // before the present one
	timer   *reactor.Timer // of the next
	lost    int            // bytes, of all losses
}

// keeps reports whether queued messages outlive their connection.
func (dl *dialing) keeps() bool { return dl != nil && dl.policy != nil && dl.policy.Keep }

// retried reports whether an end for that reason is one to connect again after.
func retried(r Reason) bool {
	switch r {
	case Local, Aborted, SlowPeer, MemoryLimit, HandlerPanic, Shutdown, ProtocolError, Detached, StreamFailed, PipeBroken, Cancelled:
		return false
	}
	return true
}

// up notes that the connection is there.
func (b *retry) up(now time.Duration) { b.was, b.since = true, now }

func (b *retry) stop() {
	if b.timer != nil {
		b.timer.Stop()
	}
}

// GiveUp ends the connection as a deadline does: at once and with a reset, for a
// reason of the protocol above, such as a peer that no longer answers. With
// Reconnect it is a loss if the reason is one that the network or the peer can
// give: IdleTimeout, ReadTimeout, WriteTimeout, HandshakeTimeout, PeerReset, EOF.
func (c *Conn) GiveUp(reason Reason, cause error) { c.end(reason, "", cause, true) }

// lose takes an end for a loss, if that is to be: the socket is given up, and an
// attempt follows when its operations are home.
func (dl *dialing) lose(reason Reason, op string, err error, reset bool) bool {
	c, b := dl.c, &dl.back
	if dl.policy == nil || c.state != open || !retried(reason) || dl.back.was && (c.piped() || c.inPipe()) {
		return false
	}
	c.touch()
	if b.cause == nil {
		b.cause = &final{reason: reason, op: op, err: err}
		c.recall(reset)
		c.offline = true
		if c.clock != nil {
			c.wind() // The deadlines are those of a socket; the next one starts them.
		}
	}
	return true
}

// endOfFile is a loss behind the peer's end of file.
func (dl *dialing) endOfFile() {
	c := dl.c
	switch {
	case c.piped():
		c.beside.inlet.eof(c) // The other direction goes on.
		return
	case c.hooks.eof != nil:
		c.hooks.eof(c)
	}
	if c.state == open {
		c.end(EOF, "", io.EOF, false)
	}
}

// settle is the second half of lose, once all operations are home: what was
// queued is kept or dropped, and the next attempt is arranged.
func (dl *dialing) settle() {
	c, b := dl.c, &dl.back
	if b.cause == nil {
		return
	}
	cause := b.cause
	b.cause, b.last = nil, cause
	if c.fd >= 0 {
		c.submit(aio.Op{Kind: aio.Close})
		c.fd = -1
		c.fresh()
	}
	if c.state != open {
		return // It was closed in the meantime.
	}
	if b.was {
		b.was = false
		cause.lost = c.shed(dl.policy.Keep, cause.result())
		b.lost += cause.lost
		if c.loop.Now()-b.since > b.wait {
			b.attempt = 0
		}
	}
	if b.attempt++; dl.policy.Attempts > 0 && b.attempt > dl.policy.Attempts {
		dl.policy = nil
		c.end(cause.reason, cause.op, cause.err, false)
		return
	}
	b.wait = dl.policy.wait(b.attempt, dl.kernel().jitter)
	b.timer = c.loop.AfterFunc(b.wait, c, func() {
		dl.dialer.retries.Add(1)
		dl.begin()
	})
	if c.hooks.retry != nil {
		c.hooks.retry(c, Retry{Attempt: b.attempt, Wait: b.wait, Err: cause.result(), Lost: cause.lost})
	}
}

// fresh forgets what was so of a socket that is gone.
func (c *Conn) fresh() {
	c.eof, c.eofHeard, c.copies, c.bulk, c.calm, c.filled, c.steady = false, false, false, false, 0, 0, 0
	c.readsOn = false
	c.addrs = nil
	c.dropParked()
	c.touch()
}

// shed ends what was queued for a socket that is gone for cause: all of it, or
// what is left of a message that was begun, and the streams. It returns the
// bytes that are lost by that.
func (c *Conn) shed(keep bool, cause error) (lost int) {
	o := c.out
	if o == nil {
		return 0
	}
	c.host.share.del(c)
	o.stuck = false
	ahead := o.ahead
	if keep {
		lost = o.bounds.torn()
		o.q.take(lost)
		o.bounds.take(lost)
		c.dropStreams(cause)
	} else {
		lost = o.q.waiting() - ahead
		for _, s := range o.streams {
			lost += s.behind.waiting()
		}
		c.dropOut(cause)
	}
	if o.q.empty() {
		o.prompt, o.reserved = false, 0
	}
	c.credit(lost)
	c.touch() // Runs what is done, and the hooks that an emptier queue asks for.
	return lost + ahead
}

// dropStreams ends every SendFrom, and brings what was sent behind them forward.
func (c *Conn) dropStreams(cause error) {
	o := c.out
	kept := o.q.list[:o.q.next]
	for i := o.q.next; i < len(o.q.list); i++ {
		if e := &o.q.list[i]; e.of != nil {
			o.q.release(e)
		} else {
			kept = append(kept, *e)
		}
	}
	clear(o.q.list[len(kept):])
	o.q.list = kept
	o.q.squeezed = 0
	for _, s := range o.passed {
		o.q.dones = append(o.q.dones, s.fail(cause))
	}
	for _, s := range o.streams {
		s.from.stop()
		o.q.dones = append(o.q.dones, s.fail(cause))
		o.q.dones = append(o.q.dones, s.behind.dones...)
		o.q.append(&s.behind)
	}
	o.q.sweep() // All that is left may have been taken.
	c.countAhead(-o.ahead)
	o.streams, o.passed = nil, nil
}
