package conn

import (
	"fmt"
	"math"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/reactor"
)

// Deadlines are how long a connection may go without something. A zero is no
// deadline. Each is kept to the next millisecond: none runs out early, and only
// a loop that is busy makes one late. One that was held up hears what has come
// before any runs out.
type Deadlines struct {
	// Idle is the time without a byte in either direction, and without work of
	// Go. What the peer acknowledges counts as well, so that a slow reader is
	// not idle; while it has something to acknowledge, up to twice the time may
	// pass. The reason is IdleTimeout.
	Idle time.Duration
	// Read is the time without a byte from the peer, while reading is not
	// paused and the peer has not ended its side. The reason is ReadTimeout.
	Read time.Duration
	// Write is the time in which the peer takes nothing of what is pending.
	// The reason is WriteTimeout.
	Write time.Duration
	// Handshake is the time from the opening, or from SetDeadlines, to
	// Established. The reason is HandshakeTimeout.
	Handshake time.Duration
}

func (d Deadlines) check() error {
	if d.Idle < 0 || d.Read < 0 || d.Write < 0 || d.Handshake < 0 {
		return fmt.Errorf("conn: a deadline is negative: %+v", d)
	}
	return nil
}

// clock is what a connection with deadlines or timers has. While bytes come and
// go it is only told the time of the turn; its one timer looks later how long
// ago that was, and is set to when the first deadline can run out.
type clock struct {
	Deadlines
	timer  *reactor.Timer
	at     time.Duration // for which it is armed
	timers *Timer        // of AfterFunc and Every

	in, out time.Duration // when bytes last came; when they last went
	reading time.Duration // since when reading is not paused
	writing time.Duration // when the peer last took something of what is pending
	opened  time.Duration
	acked   int64         // bytes that the peer had acknowledged
	looked  time.Duration // at this time

	paused      pauses // as of the last look
	silent      bool   // out is that of a send whose completion may come late
	stuck       bool   // writing counts
	established bool
}

// startClock starts the deadlines of a connection that opens, be it again.
func (c *Conn) startClock() {
	if c.clock == nil && !c.host.timed {
		return
	}
	k := c.ticking()
	k.begin(c.loop.Now())
	k.stuck, k.established = false, false
	c.wind()
}

// begin has every deadline count from now.
func (k *clock) begin(now time.Duration) {
	k.in, k.out, k.reading, k.writing, k.opened = now, now, now, now, now
}

// SetDeadlines changes the deadlines of this connection; each counts from now.
// It is an error if one is negative. It does nothing after Close.
func (c *Conn) SetDeadlines(d Deadlines) error {
	if err := d.check(); err != nil {
		return err
	}
	if c.state >= closing || c.clock == nil && d == (Deadlines{}) {
		return nil
	}
	k := c.ticking()
	k.Deadlines = d
	k.begin(c.loop.Now())
	k.stuck = false
	k.took(c, 0)
	c.wind()
	return nil
}

// Deadlines returns the deadlines in force.
func (c *Conn) Deadlines() Deadlines {
	if c.clock == nil {
		return Deadlines{}
	}
	return c.clock.Deadlines
}

// Established says that the handshake of the protocol above is done, so that
// the deadline for it no longer counts.
func (c *Conn) Established() {
	if c.clock != nil {
		c.clock.established = true
	}
}

// ticking returns the clock, which is there from now on.
func (c *Conn) ticking() *clock {
	if c.clock == nil {
		c.clock = &clock{Deadlines: c.host.cfg.deadlines()}
	}
	return c.clock
}

// wind sets the timer to when the first deadline can run out.
func (c *Conn) wind() {
	k := c.clock
	k.look(c)
	at, any := k.first(c)
	switch {
	case !any:
		if k.timer != nil {
			k.timer.Stop()
		}
		return
	case k.timer == nil:
		k.timer = c.loop.AfterFunc(at-c.loop.Now(), c, c.tick)
	default:
		k.timer.Reset(at - c.loop.Now())
	}
	k.at = at
}

// windFor is wind for a deadline that has just begun to count: the timer is left
// alone where it comes early enough.
func (c *Conn) windFor(at time.Duration) {
	if k := c.clock; k.timer == nil || !k.timer.Armed() || at < k.at {
		c.wind()
	}
}

// never is a time that does not come.
const never = math.MaxInt64

// later returns the time d behind t, never if there is none.
func later(t, d time.Duration) time.Duration { return t + min(d, never-t) }

// due is when each deadline runs out. One that does not count now is never.
func (k *clock) due(c *Conn) (handshake, read, write, idle time.Duration) {
	handshake, read, write, idle = never, never, never, never
	if c.offline {
		return handshake, read, write, idle
	}
	if k.Handshake > 0 && !k.established {
		handshake = later(k.opened, k.Handshake)
	}
	if k.Read > 0 && c.paused&^bySplice == 0 && !c.eof {
		read = later(max(k.in, k.reading), k.Read)
	}
	if k.Write > 0 && k.stuck && c.owes() {
		write = later(k.writing, k.Write)
	}
	if k.Idle > 0 && c.paused&byWork == 0 {
		idle = later(max(k.in, k.out), k.Idle)
	}
	return handshake, read, write, idle
}

func (k *clock) first(c *Conn) (at time.Duration, any bool) {
	handshake, read, write, idle := k.due(c)
	at = min(handshake, read, write, idle)
	return at, at < never
}

// tick looks which deadlines have run out.
func (c *Conn) tick() {
	k, now := c.clock, c.loop.Now()
	k.look(c)
	handshake, read, write, idle := k.due(c)
	if min(write, idle) <= now && k.moved(c) {
		_, _, write, idle = k.due(c)
	}
	switch {
	case handshake <= now:
		c.expire(HandshakeTimeout)
	case read <= now:
		c.expire(ReadTimeout)
	case write <= now:
		c.expire(WriteTimeout)
	case idle <= now:
		c.expire(IdleTimeout)
	default:
		c.wind()
	}
}

// expire ends the connection for a deadline, unless the handler wants more time.
func (c *Conn) expire(reason Reason) {
	more := c.hooks.timeout != nil && c.hooks.timeout(c, reason)
	switch {
	case c.state >= closing: // The handler has closed, in its way.
	case more:
		c.clock.extend(reason, c.loop.Now())
		c.wind()
	default:
		c.end(reason, "", nil, !c.flushed())
	}
}

// extend has a deadline count from now.
func (k *clock) extend(reason Reason, now time.Duration) {
	switch reason {
	case HandshakeTimeout:
		k.opened = now
	case ReadTimeout:
		k.reading = now
	case WriteTimeout:
		k.writing = now
	case IdleTimeout:
		k.out = now
	}
}

// submitted hears of a send. One that does not wait is decided now, and told with
// the next event, whenever that is.
func (k *clock) submitted(c *Conn, flags aio.Flags) {
	if flags&(aio.PollFirst|aio.ZeroCopy) != 0 {
		k.took(c, 0) // It waits for room in the kernel.
	} else if k.Idle > 0 {
		k.out, k.silent = c.loop.Now(), true
	}
}

// took hears that the kernel has taken n bytes. While it has not taken all, what
// the peer has acknowledged is looked at, to be compared when a deadline is due.
func (k *clock) took(c *Conn, n int) {
	if k.Idle == 0 && k.Write == 0 || c.state >= closing {
		return
	}
	now := c.loop.Now()
	if n > 0 && !k.silent {
		k.out = now
	}
	k.silent = false
	if !c.owes() {
		k.stuck = false
		return
	}
	if n == 0 && k.stuck {
		return
	}
	k.writing = now
	k.acked, k.looked = c.acked(), now
	if !k.stuck {
		k.stuck = true
		if k.Write > 0 {
			c.windFor(later(now, k.Write))
		}
	}
}

// moved reports whether the peer has acknowledged something since the last look,
// which counts as if it had just done so. Without a look since bytes last went
// there may have been progress as long as there is something to acknowledge.
func (k *clock) moved(c *Conn) bool {
	now, acked, compares := c.loop.Now(), c.acked(), k.looked >= k.out
	moved := compares && acked > k.acked || !compares && acked < int64(c.bytesOut)
	k.acked, k.looked = acked, now
	if moved {
		k.out, k.writing = now, now
	}
	return moved
}

// look notes what reading is paused for, at each flush, and before a deadline is judged
// or set: a pause that begins or ends in this turn counts. The time of a pause is not
// the peer's, and that of work of Go is nobody's.
func (k *clock) look(c *Conn) {
	if k.paused == c.paused {
		return
	}
	was := k.paused &^ bySplice
	k.paused = c.paused
	over := was &^ k.paused
	if over == 0 || c.state >= closing {
		return
	}
	now := c.loop.Now()
	if over&byWork != 0 {
		k.in = max(k.in, now)
		c.wind()
	}
	if k.reading = now; k.Read > 0 {
		c.windFor(later(now, k.Read))
	}
}

// stop ends the deadlines and all timers.
func (k *clock) stop() {
	if k.timer != nil {
		k.timer.Stop()
	}
	for k.timers != nil {
		k.timers.Stop()
	}
}
