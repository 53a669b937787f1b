package ws

import (
	"context"

	"github.com/penstock-go/penstock/conn"
)

// Ref names a WebSocket from any goroutine, as conn.Ref names a connection. With a
// client that reconnects it names whatever WebSocket the connection has. The zero
// Ref names nobody.
//
// What one goroutine asks of a Ref happens in the order of its calls.
type Ref struct {
	ref    conn.Ref
	client bool
}

// Ref returns the handle to keep on other goroutines.
func (c *Conn) Ref() Ref { return Ref{c.conn.Ref(), c.lane.ep.client} }

// ID returns the number of the connection, 0 for the zero Ref.
func (r Ref) ID() uint64 { return r.ref.ID() }

// Pending returns the bytes of the send queue and the mailbox, as far as the loop
// has heard.
func (r Ref) Pending() int { return r.ref.Pending() }

// Send copies p and posts it as one message. It is admitted at once, against the
// limit of the send queue, by its length before compression; see conn.Ref.Write for
// the answers. What was admitted and finds a close frame sent, or a Writer or SendFrom
// at a message, when it comes to the loop, is dropped and told to OnError.
func (r Ref) Send(op Op, p []byte) conn.Status {
	return r.ref.WriteVia(p, headerLen(len(p), r.client), viaOf(op))
}

// SendBlock is Send that waits for room until ctx is done; see
// conn.Ref.WriteBlock. It must not be called on a loop.
func (r Ref) SendBlock(ctx context.Context, op Op, p []byte) error {
	return r.ref.WriteViaBlock(ctx, p, headerLen(len(p), r.client), viaOf(op))
}

// SendPrepared is Send for a prepared message, which is copied only if it is so short
// that it costs less.
func (r Ref) SendPrepared(m *Prepared) conn.Status {
	if m.Len() <= shortPrepared {
		return r.Send(m.op, m.data)
	}
	var via conn.Via = func(c *conn.Conn, _ []byte) {
		w := of(c)
		w.mailed(w.SendPrepared(m), m.Len())
	}
	return r.ref.WriteVia(nil, headerLen(m.Len(), r.client)+m.Len(), &via)
}

// shortPrepared is up to how many bytes a copy costs less than to wait for one another's
// with a function.
const shortPrepared = 128

// Close posts a Conn.Close. It is never turned away. A client that has no WebSocket at
// that time, since it is down, at its handshake, or closed by its server, is closed
// without a close frame, and does not connect again.
func (r Ref) Close(code Code, reason string) {
	r.ref.CloseVia(func(c *conn.Conn) {
		if w := of(c); w.lane.ep.client {
			w.leave(code, reason)
		} else {
			w.Close(code, reason)
		}
	})
}

// Abort posts an end without a close frame; see conn.Conn.Abort.
func (r Ref) Abort() { r.ref.Abort() }

// Do posts fn to run on the loop with the WebSocket, or not at all once it has
// closed; see conn.Ref.Do.
func (r Ref) Do(fn func(*Conn)) bool {
	return r.ref.Do(func(c *conn.Conn) { fn(of(c)) })
}

// viaOf returns what sends a message of a type on the loop.
func viaOf(op Op) *conn.Via {
	checkOp(op)
	if op == Text {
		return &viaText
	}
	return &viaBinary
}

// They are one each, so that messages of a type wait as a run.
var (
	viaText   conn.Via = func(c *conn.Conn, p []byte) { of(c).mailedAs(Text, p) }
	viaBinary conn.Via = func(c *conn.Conn, p []byte) { of(c).mailedAs(Binary, p) }
)

func (c *Conn) mailedAs(op Op, p []byte) { c.mailed(c.Send(op, p), len(p)) }

// mailed tells of a message of n bytes that was admitted and could not be sent.
func (c *Conn) mailed(s conn.Status, n int) {
	if err := s.Err(); err != nil {
		c.failed(&conn.SendError{Messages: 1, Bytes: n, Err: err})
	}
}
