package main

import (
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/firehose"
)

// echo sends back what comes, by moving the block that it came in. Its reading
// pauses while its queue is full, and while --send-memory has no room for it: an
// echo with a hole is none, so it waits with what was refused.
type echo struct {
	conn.NopHandler
	rejected func(*conn.Conn, int)
}

// held is what an echo waits with.
type held struct {
	message buf.Buf // zero: none, only the reading pauses
	waiting bool
}

// OnData implements conn.Handler.
func (e *echo) OnData(c *conn.Conn, in *buf.Buf) {
	e.send(c, in)
}

// send sends a message, or keeps it.
func (e *echo) send(c *conn.Conn, in *buf.Buf) {
	n := in.Len()
	switch c.Send(in) {
	case conn.Rejected:
		e.rejected(c, n)
		e.await(c).message = in.Take()
	case conn.Queued, conn.Full:
		if c.Fits() == conn.Rejected && !c.IsFull() { // A full queue has its own pause.
			e.await(c)
		}
	}
}

// await pauses reading until there may be room.
func (e *echo) await(c *conn.Conn) *held {
	h, ok := c.User().(*held)
	if !ok {
		h = &held{}
		c.SetUser(h)
	}
	if !h.waiting {
		h.waiting = true
		c.PauseRead()
		firehose.AwaitRoom(c, func(c *conn.Conn) { e.goOn(c, h) })
	}
	return h
}

// goOn sends what was kept, and reads on.
func (e *echo) goOn(c *conn.Conn, h *held) {
	h.waiting = false
	c.ResumeRead()
	if !h.message.IsZero() {
		in := h.message.Take()
		defer in.Release()
		e.send(c, &in)
	}
}

// OnClose implements conn.Handler.
func (e *echo) OnClose(c *conn.Conn, _ error) {
	if h, ok := c.User().(*held); ok {
		h.message.Release()
	}
}

// echoPackets is echo for datagrams. One that is refused is lost, as a network
// loses it.
type echoPackets struct{ quietPackets }

// OnPacket implements conn.PacketHandler.
func (echoPackets) OnPacket(p *conn.PacketConn, in *buf.Buf, from conn.Source) { p.Send(from, in) }

// quietPackets hears datagrams and drops them.
type quietPackets struct{}

// OnOpen implements conn.PacketHandler.
func (quietPackets) OnOpen(*conn.PacketConn) {}

// OnPacket implements conn.PacketHandler.
func (quietPackets) OnPacket(*conn.PacketConn, *buf.Buf, conn.Source) {}

// OnClose implements conn.PacketHandler.
func (quietPackets) OnClose(*conn.PacketConn, error) {}
