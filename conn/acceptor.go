package conn

import (
	"errors"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/reactor"
)

// Back-off of an accept that failed for want of descriptors or memory.
const (
	backoffLeast = 5 * time.Millisecond
	backoffMost  = time.Second
)

// acceptTurn is how many connections an acceptor with a limit takes in one turn.
const acceptTurn = 64

// acceptor is a listener on one loop.
//
// Without a limit it has an Accept with the engine, which takes whoever comes.
// With one it has a Poll, and takes one at a time, each after a place for it:
// what the kernel accepts by itself could be too many, and a place that waits
// with an Accept for somebody to come is missing elsewhere.
type acceptor struct {
	listener *Listener
	fd       int // -1: gets its connections from another loop
	remote   reactor.Remote
	loop     *reactor.Loop
	host     *host
	token    aio.Token
	op       aio.Op

	armed    bool
	canceled bool // the operation is being cancelled
	paused   bool
	stopping bool
	gone     bool

	knocked bool // somebody waits to be accepted, as the last Poll has told
	waiting bool // for a place
	place   bool // has one, for the next to be accepted
	touched bool // will be flushed
	turn    int  // accepted since the last completion

	backoff time.Duration // 0 while accepting goes well
	retry   *reactor.Timer

	accepted, failed, backoffs atomic.Uint64
	open                       atomic.Int64
	tally                      connTally
}

func (a *acceptor) start(l *reactor.Loop, cfg Config, k *hooks) {
	a.loop = l
	a.host = newHost(l, cfg, k)
	a.host.unix = a.listener.at.Net == "unix"
	a.host.count, a.host.tally = a.counted, &a.tally
	if a.fd < 0 {
		return
	}
	a.token = l.Attach(a)
	if l.Stopping() {
		a.Stop(l, false)
		return
	}
	a.arm()
}

// abandon closes the socket of an acceptor whose loop has ended before it began.
func (a *acceptor) abandon() {
	if a.fd >= 0 {
		a.listener.file.remove()
		closeSocket(a.fd)
		a.listener.left()
	}
}

// counted hears of each connection more and less. One less is a descriptor
// more for an accept that waits for one, and a place.
func (a *acceptor) counted(n int) {
	a.open.Add(int64(n))
	if n > 0 {
		return
	}
	if a.retry != nil && a.retry.Armed() {
		a.retry.Reset(time.Millisecond)
	}
	if limit := a.listener.limit; limit != nil {
		limit.give()
	}
}

func (a *acceptor) arm() {
	if a.armed || a.paused || a.stopping || a.waiting || a.touched {
		return
	}
	a.armed = true
	if a.listener.limit == nil {
		a.submit(aio.Op{Kind: aio.Accept})
	} else {
		a.submit(aio.Op{Kind: aio.Poll, Events: pollIn})
	}
}

// disarm cancels what is with the engine; its final completion follows.
func (a *acceptor) disarm() {
	if a.canceled {
		return
	}
	a.canceled = true
	target := aio.Accept
	if a.listener.limit != nil {
		target = aio.Poll
	}
	a.submit(aio.Op{Kind: aio.Cancel, Target: target})
}

func (a *acceptor) submit(op aio.Op) {
	op.Token, op.FD = a.token, int32(a.fd)
	a.op = op
	a.loop.Submit(&a.op)
}

// Complete implements reactor.Sink. The listener's own steps come before the
// handler's OnOpen, which may panic.
func (a *acceptor) Complete(_ *reactor.Loop, done *aio.Completion) {
	if done.Final {
		a.armed, a.canceled = false, false
	}
	if a.stopping && !a.armed {
		defer a.leave()
	}
	switch {
	case done.Res < 0:
		if !a.stopping {
			a.refused(done.Err())
		}
	case done.Kind == aio.Poll:
		a.knocked, a.turn = true, 0
		a.touch()
	default:
		a.backoff = 0
		a.arm()
		a.accept(int(done.Res))
	}
}

// accept serves one connection. OnOpen may panic: the loop has the connection
// for its owner then, not the listener.
func (a *acceptor) accept(fd int) {
	if !a.host.unix {
		a.serve(fd)
		return
	}
	if n := a.host.cfg.SendBuffer; n > 0 {
		setSendBuffer(fd, n)
	}
	l := a.listener
	to := l.acceptors[l.next%len(l.acceptors)]
	l.next++
	if to == a || !to.remote.Post(func(*reactor.Loop) { to.serve(fd) }) {
		a.serve(fd) // Also when that loop has ended.
	}
}

func (a *acceptor) serve(fd int) {
	a.accepted.Add(1)
	a.host.open(fd, nil, nil)
}

// refused looks at why an accept failed. The connection that could not be
// taken still waits, so to try again at once would spin.
func (a *acceptor) refused(err error) {
	if errors.Is(err, syscall.ECANCELED) { // By Pause.
		a.arm()
		return
	}
	a.failed.Add(1)
	switch {
	case errors.Is(err, syscall.ECONNABORTED), errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EAGAIN),
		errors.Is(err, syscall.EPROTO):
		a.arm()
		return
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE),
		errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.ENOBUFS):
		a.backoffs.Add(1)
	}
	a.backoff = min(max(2*a.backoff, backoffLeast), backoffMost)
	if a.retry == nil {
		a.retry = a.loop.AfterFunc(a.backoff, a, a.arm)
	} else {
		a.retry.Reset(a.backoff)
	}
}

func (a *acceptor) pause() {
	if a.paused || a.stopping {
		return
	}
	a.paused = true
	a.quiet()
	if a.armed {
		a.disarm()
	}
}

func (a *acceptor) resume() {
	a.paused = false
	if !a.gone {
		a.arm()
	}
}

// quiet ends the waits that are not with the engine: for the back-off, and for
// a place.
func (a *acceptor) quiet() {
	if a.retry != nil {
		a.retry.Stop()
	}
	if a.waiting {
		a.waiting = false
		a.listener.limit.leave(a)
	}
}

// Stop implements reactor.Sink.
func (a *acceptor) Stop(*reactor.Loop, bool) {
	if a.stopping {
		return
	}
	a.stopping = true
	a.quiet()
	a.listener.file.remove()
	if a.armed {
		a.disarm()
	} else {
		a.leave()
	}
}

// Panicked implements reactor.Sink. No handler runs for a listener.
func (a *acceptor) Panicked(*reactor.Loop, any) {}

// leave serves those who wait, since to close the socket would reset them, and
// closes it.
func (a *acceptor) leave() {
	if !a.gone {
		a.gone = true
		a.touch()
	}
}

func (a *acceptor) touch() {
	if !a.touched {
		a.touched = true
		a.loop.Touch(a)
	}
}

// granted hears that a place is there, from whatever loop it came. It may come
// late: to an acceptor that no longer wants it.
func (a *acceptor) granted(*reactor.Loop) {
	if !a.waiting {
		a.listener.limit.give()
		return
	}
	a.waiting, a.place, a.turn = false, true, 0
	a.touch()
}

// Flush implements reactor.Sink: it serves one of those who wait. Each has
// a call of its own, so that a handler that panics costs the others nothing.
func (a *acceptor) Flush(l *reactor.Loop) {
	a.touched = false
	switch {
	case a.gone && a.fd < 0:
		return
	case a.paused && !a.stopping, a.stopping && !a.gone:
		a.giveBack()
		return
	}
	fd, err := a.one()
	switch {
	case err == nil:
		if a.turn++; a.gone || a.turn < acceptTurn {
			a.touch()
		} else {
			a.arm()
		}
		a.backoff = 0
		a.accept(fd)
	case a.gone:
		// Not by the engine: it would close at the end of the turn, after Done has told
		// that the address is free.
		a.submit(aio.Op{Kind: aio.Forget})
		closeSocket(a.fd)
		a.fd = -1
		l.Detach(a.token)
		a.listener.left()
	case errors.Is(err, errNoPlace), errors.Is(err, syscall.EAGAIN):
		a.arm() // Unless it waits for a place.
	default:
		a.refused(err)
	}
}

var errNoPlace = errors.New("conn: at the limit of connections")

// one accepts one who waits, within the limit. Without a place it waits for one
// if it knows of somebody: places are for those who came first, on whatever loop.
func (a *acceptor) one() (fd int, err error) {
	limit := a.listener.limit
	switch {
	case limit == nil:
		return acceptOne(a.fd)
	case a.place:
	case a.gone || !a.knocked:
		if !limit.takeFree() {
			return -1, errNoPlace
		}
	case !limit.take(a):
		a.waiting = true
		return -1, errNoPlace
	}
	a.place, a.knocked = false, false
	if fd, err = acceptOne(a.fd); err != nil {
		limit.give()
	}
	return fd, err
}

// giveBack gives a place back that is not needed.
func (a *acceptor) giveBack() {
	if a.place {
		a.place = false
		a.listener.limit.give()
	}
}
