package conn

import (
	"slices"

	"github.com/penstock-go/penstock/buf"
)

// LeaveHandler hears that another handler takes its place.
type LeaveHandler interface {
	// OnLeave runs inside SetHandler, when c has its new handler, and when a
	// Pipe, Detach or NetConn takes the input. Who holds received bytes of an unfinished message
	// gives them back by Unread.
	OnLeave(c *Conn)
}

// Unread gives received bytes back: they are the first that OnData brings, from
// the end of this turn on, when reading goes on, and then once a turn, to the handler
// of then. A handler that takes a block apart does so with what it may not touch
// yet, because it was paused, was replaced, or has had its share of this turn.
//
// The bytes of a second Unread come before those of the first. An end of file that
// was heard is heard again behind them. After Close and
// its kin they are discarded, as all input is.
//
// Ownership: b, a block of this connection's loop, is taken.
func (c *Conn) Unread(b *buf.Buf) {
	if b.Len() == 0 || c.state >= closing {
		b.Release()
		return
	}
	b.Own(nil) // It is not kept, but waits.
	beside := c.aside()
	beside.parked = slices.Insert(beside.parked, 0, b.Take())
	c.eofHeard = false // It comes behind these bytes.
	if c.paused&byUnread == 0 {
		c.hold(byUnread)
		c.loop.Defer(func() {
			c.resume(byUnread)
			c.touch()
		})
	}
	c.touch()
}

// Reading reports whether OnData may run: reading is not paused, neither Close nor
// an error has ended it, and no Pipe takes what comes. Who makes many messages of
// one block asks after each.
func (c *Conn) Reading() bool {
	return c.paused == 0 && c.state < closing && (c.beside == nil || c.beside.inlet == nil)
}
