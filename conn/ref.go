package conn

import (
	"context"
	"errors"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/reactor"
)

// ErrWouldBlock says that a loop may not wait: whom it waits for may be itself.
var ErrWouldBlock = errors.New("conn: a loop may not wait for itself")

// Ref names a connection from any goroutine. Once the connection has closed it
// names nobody; it never names another connection. The zero Ref names nobody
// either: it answers Closed.
//
// What one goroutine asks of a Ref happens in the order of its calls, Close
// and its kin included.
type Ref struct{ g *gate }

// Ref returns the handle to keep on other goroutines.
func (c *Conn) Ref() Ref {
	if c.gate == nil {
		c.gate = newGate(c)
	}
	return Ref{c.gate}
}

// ID returns the number of the connection, 0 for the zero Ref.
func (r Ref) ID() uint64 {
	if r.g == nil {
		return 0
	}
	return r.g.id
}

// Pending returns the bytes that were admitted and, as far as the loop has
// heard, not taken by the kernel.
func (r Ref) Pending() int {
	if r.g == nil {
		return 0
	}
	return r.g.held()
}

// AfterClose returns how many messages came through a Ref after the close, and
// their bytes. It goes on counting when the connection has gone.
func (r Ref) AfterClose() (messages, bytes uint64) {
	if r.g == nil {
		return 0, 0
	}
	return r.g.late()
}

// Write copies p and posts it as one message. It is admitted against the same
// Limit as a Send on the loop, at once, so that a goroutine that outruns the
// loop is refused; a refusal is also told to OnError, as a *SendError.
//
// With Config.SlowPeer Block it waits instead of being refused, as WriteBlock
// does, but on a loop. With DropOldest it is taken, and older messages go: those
// in the queue when the loop comes to it, those in the mailbox, which holds as much
// as the Limit again, at once.
//
// Full says that pending, the mailbox included, is at or above HighWater. It
// promises no OnDrain, since the loop may find that the peer takes everything:
// who wants to wait calls WriteBlock, or looks at Pending.
func (r Ref) Write(p []byte) Status { return r.send(item{n: len(p)}, p, nil) }

// Writev copies the pieces of v and posts them as one message; see Write.
func (r Ref) Writev(v [][]byte) Status {
	n := 0
	for _, p := range v {
		n += len(p)
	}
	return r.send(item{n: n}, nil, v)
}

// SendShared posts the bytes of s as one message; the caller keeps its count.
// A short one is copied, which costs less than to count it. See Write.
func (r Ref) SendShared(s *buf.Shared) Status {
	if r.g == nil {
		return Closed
	}
	if s.Len() <= tiny {
		return r.Write(s.Bytes())
	}
	status := r.send(item{n: s.Len(), shared: s.Retain()}, nil, nil)
	if status >= Rejected {
		s.Release()
	}
	return status
}

// SendBytes posts p, which it borrows, as one message; see Write, and
// Conn.SendBytes. done runs on the loop when nobody reads from p any more, or
// when the connection has closed, before OnClose; it does not run when the answer
// is Rejected or Closed.
//
// Ownership: p must not change before done has run. It must be memory that
// does not move: off-heap, or pinned by runtime.Pinner.
func (r Ref) SendBytes(p []byte, done func()) Status {
	return r.send(item{n: len(p), lent: &lent{p, done}}, nil, nil)
}

func (r Ref) send(i item, p []byte, v [][]byte) Status {
	if r.g == nil {
		return Closed
	}
	s, w := r.g.put(i, p, v, false)
	if w != nil {
		s, _ = r.g.await(nil, w)
	}
	return s
}

// WriteBlock copies p and posts it as one message, as soon as there is room for
// it: the goroutine waits until then, or until the connection takes no more
// (ErrClosed), or ctx is done (its error; nothing was posted). Those who wait
// have their turn in the order of their calls. Writes that do not wait are not
// held up by them, and may take the room before.
//
// A loop may not wait, neither that of the connection nor another: called on
// one, WriteBlock posts nothing and returns ErrWouldBlock.
func (r Ref) WriteBlock(ctx context.Context, p []byte) error {
	return r.block(ctx, item{n: len(p)}, p)
}

func (r Ref) block(ctx context.Context, i item, p []byte) error {
	switch {
	case r.g == nil:
		return ErrClosed
	case reactor.OnLoop():
		return ErrWouldBlock
	case ctx.Err() != nil:
		return ctx.Err()
	}
	s, w := r.g.put(i, p, nil, true)
	if w != nil {
		var gaveUp bool
		if s, gaveUp = r.g.await(ctx.Done(), w); gaveUp {
			return ctx.Err()
		}
	}
	return s.Err()
}

// Close posts a Close. What comes behind it is turned away.
func (r Ref) Close() { r.end(byClose) }

// CloseWrite posts a CloseWrite. Sends that come behind it are turned away.
func (r Ref) CloseWrite() { r.end(byCloseWrite) }

// Abort posts an Abort. The mailbox holds one at the most.
func (r Ref) Abort() { r.end(byAbort) }

func (r Ref) end(why how) {
	if r.g != nil {
		r.g.ask(why)
	}
}

// Do posts fn to run on the loop with the connection, or not at all once it
// has closed. It reports false when it is known already that it will not run:
// the connection has closed, or 65536 functions wait.
func (r Ref) Do(fn func(*Conn)) bool {
	return r.g != nil && r.g.do(fn)
}
