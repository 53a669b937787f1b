package conn

import (
	"net"
	"syscall"

	"github.com/penstock-go/penstock/aio"
)

// Departure is a connection that has left the library.
type Departure struct {
	// FD is the socket, in non-blocking mode, and now the receiver's, which
	// closes it. [net.FileConn] makes a net.Conn of it, Attach a Conn again.
	FD int
	// Input is what was received and not handed to OnData, in order. What the
	// peer has sent behind it is in the socket, its end of file among it.
	Input []byte
}

// exit is a Detach that is under way.
type exit struct {
	fn   func(Departure, error)
	fin  bool // CloseWrite came before
	last bool // all is flushed, and only operations are to come home
	left Departure
}

// Detach takes the connection out of the library, socket and all that was
// received. From now on sends answer Closed, OnData does not run, and a
// [LeaveHandler] gives back what it holds. When the kernel has taken everything
// that was admitted, and no operation is in flight, OnClose is told a *CloseError
// with reason Detached, and then fn runs, on the loop. CloseTimeout bounds the
// wait, as it does for CloseWrite.
//
// If the connection ends otherwise before that, fn is told why instead, behind
// OnClose: the *CloseError or io.EOF, or net.ErrClosed when Close was called.
// That is also what a second Detach, or one after Close, is told, at the end of
// the turn; and one before a dialed connection is there, ENOTCONN.
func (c *Conn) Detach(fn func(d Departure, err error)) {
	if c.state >= closing || c.final != nil && c.final.exit != nil {
		c.loop.Defer(func() { fn(Departure{}, net.ErrClosed) })
		return
	}
	if c.offline {
		c.loop.Defer(func() { fn(Departure{}, syscall.ENOTCONN) })
		return
	}
	was := c.state
	c.shutSends(shut)
	f := c.begin()
	f.exit = &exit{fn: fn, fin: was == shut}
	if was == shut && !f.finSent {
		f.stopTimer()
	}
	c.hold(byExit)
	c.touch()
	if leave := c.hooks.leave; leave != nil && !c.piped() { // It has run when what comes was given to a part of the library.
		c.as(leave)
	}
}

// leave is the end of a Detach whose queue is flushed, once nothing is in flight.
func (c *Conn) leave() {
	f := c.final
	if f.exit.fin && !f.finSent {
		f.finSent = true
		c.submit(aio.Op{Kind: aio.Shutdown})
	}
	c.unawait(pollIn | pollOut | pollErr) // A pipe may wait for what does not come.
	if !c.home() {
		if !f.exit.last {
			f.exit.last = true
			c.within(c.host.cfg.CloseTimeout)
		}
		return // The receive is being cancelled.
	}
	f.reason = Detached
	c.shutSends(ending) // Whoever waits for it, and its timers, end here.
	f.exit.left = Departure{FD: int(c.fd), Input: c.unheard()}
	c.complete()
}

// unheard returns a copy of what is parked, or nil.
func (c *Conn) unheard() []byte {
	var all []byte
	if c.hasParked() {
		for i := range c.beside.parked {
			all = append(all, c.beside.parked[i].Bytes()...)
		}
	}
	return all
}

// tell ends a Detach, if there was one.
func (e *exit) tell(c *Conn) {
	if e == nil {
		return
	}
	switch err := c.final.result(); {
	case c.final.reason == Detached:
		e.fn(e.left, nil)
	case err == nil:
		e.fn(Departure{}, net.ErrClosed)
	default:
		e.fn(Departure{}, err)
	}
}
