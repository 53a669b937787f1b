package conn

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/reactor"
)

// dialKernel is what a dial asks of the system itself. It is apart from the
// engine, whose law has no word for it, so that a simulated kernel can answer.
type dialKernel struct {
	// connect makes a socket and begins to connect it, without waiting.
	// EAGAIN is that of a unix socket whose listener has no room.
	connect func(to, from Addr, cfg *Config, control func(int) error) (fd int, err error)
	// outcome returns how the connecting of fd has ended; EINPROGRESS is not yet.
	outcome func(fd int) error
	// jitter returns a random number from 0 to below n.
	jitter func(n int64) int64
}

// dialing is what a connection needs until it is connected, and with Reconnect
// for its whole life.
type dialing struct {
	c      *Conn
	dialer *Dialer
	to     target
	policy *Reconnect  // nil: it is over with the first attempt
	opened func(error) // told once: when it is connected, or has failed

	// One attempt: all addresses, once.
	trying bool
	lookup func() // gives the name up
	rest   []Addr // addresses not yet tried
	tries  []*try // those that are
	errs   []error
	reason Reason         // of errs, the one that says most
	late   *reactor.Timer // ends the attempt
	pace   *reactor.Timer // begins with the next address

	back retry // with Reconnect
}

// try is one socket that is connecting. It belongs to its dialing until it is
// given up, and then to the loop until its Poll is home.
type try struct {
	dl      *dialing // nil: given up
	loop    *reactor.Loop
	token   aio.Token
	op      aio.Op
	to      Addr
	fd      int32 // -1: none yet, since the listener had no room
	polling bool
	again   *reactor.Timer
	pause   time.Duration
}

// Between two looks at a unix listener whose backlog is full: connect(2) does not
// wait there, and nothing can be polled for.
const (
	roomLeast = time.Millisecond
	roomMost  = 50 * time.Millisecond
)

func (dl *dialing) kernel() *dialKernel {
	if k := dl.dialer.kernel; k != nil {
		return k
	}
	return &systemKernel
}

// begin makes an attempt. It runs deferred, as what comes of it may be told in the
// same turn.
func (dl *dialing) begin() {
	d, c := dl.dialer, dl.c
	dl.trying, dl.errs, dl.reason = true, nil, IOError
	dl.late = c.loop.AfterFunc(d.timeout(), c, func() {
		dl.note(ConnectTimeout, fmt.Errorf("after %v: %w", d.timeout(), os.ErrDeadlineExceeded))
		dl.fail()
	})
	if dl.to.unix != "" {
		dl.rest = []Addr{{Net: "unix", Name: dl.to.unix}}
		dl.advance()
		return
	}
	if list := dl.to.known(); list != nil {
		dl.found(list, nil)
		return
	}
	dl.lookup = d.find(c.loop, c, dl.to, func(list []netip.AddrPort, err error) {
		dl.lookup = nil
		dl.found(list, err)
	})
}

// found goes on with the addresses of the name.
func (dl *dialing) found(list []netip.AddrPort, err error) {
	from := dl.dialer.LocalAddr
	dl.rest = nil
	for _, a := range interleave(list) {
		if !from.IsValid() || from.Addr().Unmap().Is4() == a.Addr().Is4() {
			dl.rest = append(dl.rest, Addr{AddrPort: a, Net: "tcp"})
		}
	}
	if err == nil && len(dl.rest) == 0 {
		err = &net.AddrError{Err: "no suitable address", Addr: dl.to.host}
	}
	if err != nil {
		dl.note(Unresolved, err)
		dl.fail()
		return
	}
	dl.advance()
}

// advance begins with the next address, and sees to it that the one behind that
// has its turn. When none is left and none under way, the attempt has failed.
func (dl *dialing) advance() {
	d := dl.dialer
	for len(dl.rest) > 0 {
		t := &try{dl: dl, loop: dl.c.loop, to: dl.rest[0], fd: -1, pause: roomLeast}
		dl.rest = dl.rest[1:]
		if !t.start() {
			continue
		}
		dl.tries = append(dl.tries, t)
		if len(dl.rest) > 0 {
			dl.stopPace()
			dl.pace = dl.c.loop.AfterFunc(d.delay(), dl.c, dl.advance)
		}
		return
	}
	if len(dl.tries) == 0 && dl.trying {
		dl.fail()
	}
}

func (dl *dialing) stopPace() {
	if dl.pace != nil {
		dl.pace.Stop()
	}
}

// start connects, and reports whether that is under way.
func (t *try) start() bool {
	dl := t.dl
	d := dl.dialer
	from := Addr{}
	if d.LocalAddr.IsValid() && t.to.Net != "unix" {
		from = Addr{AddrPort: netip.AddrPortFrom(d.LocalAddr.Addr().Unmap(), d.LocalAddr.Port()), Net: t.to.Net}
	}
	fd, err := dl.kernel().connect(t.to, from, &dl.c.host.cfg, d.Control)
	switch {
	case errors.Is(err, syscall.EAGAIN):
		t.again = t.loop.AfterFunc(t.pause, dl.c, t.retry)
		t.pause = min(2*t.pause, roomMost)
		return true
	case err != nil:
		dl.noteTry(t, err)
		return false
	}
	t.fd = int32(fd)
	t.token = t.loop.Attach(t)
	t.poll()
	return true
}

// retry asks a unix listener again whether it has room.
func (t *try) retry() {
	if dl := t.dl; dl != nil && !t.start() {
		dl.without(t)
		dl.advance()
	}
}

// poll waits for the outcome.
func (t *try) poll() {
	t.polling = true
	t.submit(aio.Op{Kind: aio.Poll, Events: pollOut})
}

func (t *try) submit(op aio.Op) {
	op.Token, op.FD = t.token, t.fd
	t.op = op
	t.loop.Submit(&t.op)
}

// Complete implements reactor.Sink.
func (t *try) Complete(_ *reactor.Loop, done *aio.Completion) {
	t.polling = false
	dl := t.dl
	if dl == nil {
		t.leave(aio.Close)
		return
	}
	err := done.Err()
	if err == nil {
		err = dl.kernel().outcome(int(t.fd))
	}
	switch {
	case errors.Is(err, syscall.EINPROGRESS):
		t.poll()
	case err == nil:
		dl.without(t)
		t.leave(aio.Forget)
		dl.won(int(t.fd))
	default:
		dl.noteTry(t, err)
		dl.without(t)
		t.leave(aio.Close)
		t.loop.As(dl.c) // Whose Control may panic.
		dl.advance()
	}
}

// Stop implements reactor.Sink: the connection decides.
func (t *try) Stop(*reactor.Loop, bool) {}

// Flush implements reactor.Sink.
func (t *try) Flush(*reactor.Loop) {}

// Panicked implements reactor.Sink. What runs for a try that can panic is the
// handler's OnOpen, and for that the connection has taken over.
func (t *try) Panicked(*reactor.Loop, any) {}

// leave ends the party: its socket is closed, or becomes the connection's.
func (t *try) leave(how aio.Kind) {
	t.dl = nil
	t.submit(aio.Op{Kind: how})
	t.loop.Detach(t.token)
}

// giveUp ends a try: at once, or when its Poll is home.
func (t *try) giveUp() {
	t.dl = nil
	switch {
	case t.again != nil && t.again.Stop():
	case t.polling:
		t.submit(aio.Op{Kind: aio.Cancel, Target: aio.Poll})
	}
}

// without takes t out of those under way.
func (dl *dialing) without(t *try) {
	dl.tries = slices.DeleteFunc(dl.tries, func(o *try) bool { return o == t })
}

// stop ends the attempt that is under way, if there is one.
func (dl *dialing) stop() {
	dl.trying = false
	if dl.lookup != nil {
		dl.lookup()
		dl.lookup = nil
	}
	for _, t := range dl.tries {
		t.giveUp()
	}
	dl.tries, dl.rest = nil, nil
	dl.stopPace()
	if dl.late != nil {
		dl.late.Stop()
	}
	dl.back.stop()
}

// noteTry keeps why an address failed, and which, if the name has others.
func (dl *dialing) noteTry(t *try, err error) {
	reason := dialReason(err)
	if to := t.to.String(); to != dl.to.address {
		err = fmt.Errorf("%s: %w", to, err)
	}
	dl.note(reason, err)
}

// note keeps an error, and the reason if it says more than those before.
func (dl *dialing) note(reason Reason, err error) {
	dl.errs = append(dl.errs, err)
	if telling(reason) > telling(dl.reason) || len(dl.errs) == 1 {
		dl.reason = reason
	}
}

// telling ranks the reasons of a failed dial: somebody who answered says most.
func telling(r Reason) int {
	switch r {
	case Refused:
		return 4
	case ConnectTimeout:
		return 3
	case Unreachable:
		return 2
	case Unresolved:
		return 1
	}
	return 0
}

// dialReason maps what connect(2) fails with to its meaning.
func dialReason(err error) Reason {
	for _, m := range [...]struct {
		err    error
		reason Reason
	}{
		{syscall.ECONNREFUSED, Refused}, {syscall.ENOENT, Refused}, // unix: a name that nobody has
		{syscall.ECONNRESET, Refused},
		{syscall.ETIMEDOUT, ConnectTimeout},
		{syscall.EHOSTUNREACH, Unreachable}, {syscall.ENETUNREACH, Unreachable},
		{syscall.EHOSTDOWN, Unreachable}, {syscall.ENETDOWN, Unreachable},
	} {
		if errors.Is(err, m.err) {
			return m.reason
		}
	}
	return IOError
}

// failure is the error of the attempt.
func (dl *dialing) failure() *DialError {
	var err error = causes(dl.errs)
	if len(dl.errs) == 1 {
		err = dl.errs[0]
	}
	return &DialError{Reason: dl.reason, Network: dl.to.network, Address: dl.to.address, Err: err}
}

// fail ends an attempt that has not succeeded: another one follows, or the end.
func (dl *dialing) fail() {
	c := dl.c
	dl.stop()
	dl.dialer.failed.Add(1)
	err := dl.failure()
	c.touch()
	c.end(err.Reason, "dial", err, false)
}

// cancel gives up what was not connected yet. The error also says what had stood in
// the way: in this attempt, or in the one before.
func (dl *dialing) cancel(cause error) {
	if dl.opened == nil || dl.c.state >= ending {
		return // It was, or has failed.
	}
	dl.policy = nil
	met := causes(dl.errs)
	var before *DialError
	if last := dl.back.last; len(met) == 0 && last != nil && errors.As(last.err, &before) {
		met = causes{before.Err}
	}
	err := &DialError{Reason: Cancelled, Network: dl.to.network, Address: dl.to.address, Err: cause}
	if len(met) > 0 {
		err.Err = append(causes{cause}, met...)
	}
	dl.c.end(Cancelled, "dial", err, false)
}

// won makes fd the socket of the connection.
func (dl *dialing) won(fd int) {
	c := dl.c
	dl.stop()
	dl.dialer.connected.Add(1)
	c.fd, c.offline, c.addrs = int32(fd), false, nil
	if c.out != nil {
		c.out.op.FD = c.fd
	}
	c.unix = dl.to.unix != ""
	dl.back.up(c.loop.Now())
	if c.state < closing {
		c.startClock()
	}
	if dl.policy == nil {
		c.dial = nil
	}
	c.loop.As(c)
	c.touch()
	defer dl.tell(nil)
	if c.state < closing {
		c.hooks.handler.OnOpen(c)
	}
}

// tell answers who waits for the connection, once.
func (dl *dialing) tell(err error) {
	if opened := dl.opened; opened != nil {
		dl.opened = nil
		opened(err)
	}
}

// over tells who still waits at the end of the connection, which OnClose is told.
func (dl *dialing) over(err error) {
	var de *DialError
	if !errors.As(err, &de) { // It was closed here before: by Close, by the group.
		if err == nil {
			err = ErrClosed
		}
		de = &DialError{Reason: Cancelled, Network: dl.to.network, Address: dl.to.address, Err: err}
	}
	dl.tell(de)
}

// proceed takes the steps of a connection that has no socket.
func (dl *dialing) proceed() {
	c := dl.c
	if c.home() {
		dl.settle()
	}
	switch f := c.final; {
	case c.state == ending && c.home():
		c.complete()
	case c.state == closing && c.drained(): // Nothing is left to say.
		c.end(f.reason, f.op, f.err, false)
	case c.state > open && c.state < ending && !dl.trying && c.home(): // Or nobody to say it to.
		last := dl.back.last
		c.end(last.reason, last.op, last.err, false)
	case (c.state == closing || c.state == shut) && !c.drained():
		if f.timer == nil || !f.timer.Armed() {
			c.within(c.host.cfg.CloseTimeout)
		}
	}
}
