package ws

import (
	"io"
	"slices"

	"github.com/penstock-go/penstock/conn"
)

// phase is how far a WebSocket has come. It only ever rises.
type phase uint8

const (
	greeting phase = iota // the handshake is under way
	open                  // messages go both ways
	closing               // our close frame is sent, the peer's is awaited
	over                  // nothing more is heard or said
)

// Conn is one WebSocket.
//
// Thread: a *Conn is seen only on its loop. Keep a [Ref] elsewhere.
//
// It costs this struct beside the connection's own while nothing is on its way,
// and with a takeover of compression its windows.
type Conn struct {
	conn    *conn.Conn
	lane    *lane
	hooks   *hooks
	in      *inbound // while a frame or a message is unfinished
	windows *windows // with compression
	writer  *Writer  // while a message is being written
	last    *last    // from the close on
	asked   *asked   // of a client, until the handshake is done
	user    any

	protocol *string // of Config.Protocols, if it is one of them; nil: none

	due, heard uint32 // ticks of the lane's clock: of the wait, of the last input
	taken      uint32 // bytes that the kernel had taken at the last ping, modulo
	place      int32  // in the clock; below 0: it waits for nothing

	phase  phase
	opened bool // OnOpen has run, or is running
	told   bool // and OnClose too
	pinged bool // and nothing was heard since
}

// last is how a WebSocket ends.
type last struct {
	told CloseError // to be
	err  error      // what the peer has done wrong

	// While the peer's close frame is awaited.
	gone  bool   // the kernel has taken ours
	took  uint32 // bytes that it had taken when it was last seen to take enough, modulo
	since uint32 // tick of that
}

// Conn returns the connection below: its ID, addresses, counters, marks, and the
// ways to pause reading and to end it at once. What is sent there, or its User or
// Handler changed, breaks the WebSocket.
func (c *Conn) Conn() *conn.Conn { return c.conn }

// ID returns the number of the connection: unique in the process.
func (c *Conn) ID() uint64 { return c.conn.ID() }

// String is as that of a conn.Conn.
func (c *Conn) String() string { return c.conn.String() }

// User returns what SetUser, or Request.SetUser, has kept, or nil.
func (c *Conn) User() any { return c.user }

// SetUser keeps a value of the caller's with the connection.
func (c *Conn) SetUser(v any) { c.user = v }

// Protocol returns the subprotocol that was agreed on, or "".
func (c *Conn) Protocol() string {
	if c.protocol == nil {
		return ""
	}
	return *c.protocol
}

// setProtocol keeps what was agreed on, without a copy where that is one of ours.
func (c *Conn) setProtocol(name string) {
	ours := c.lane.ep.cfg.Protocols
	if i := slices.Index(ours, name); i >= 0 {
		c.protocol = &ours[i]
	} else if name != "" {
		own := name
		c.protocol = &own
	}
}

// Handler returns the handler that hears the events.
func (c *Conn) Handler() Handler { return c.hooks.handler }

// SetHandler has h hear all events from now on, but for the rest of a message that
// another one has heard in pieces so far. Its OnOpen does not run.
func (c *Conn) SetHandler(h Handler) { c.hooks = newHooks(h) }

// Compressed reports whether the peer takes compressed messages, and so whether
// messages from Deflate.Threshold bytes on are sent compressed.
func (c *Conn) Compressed() bool { return c.windows != nil }

// Pending returns the bytes of the send queue, those of framing included.
func (c *Conn) Pending() int { return c.conn.Pending() }

// IsFull reports whether OnFull has run and OnDrain is still to come.
func (c *Conn) IsFull() bool { return c.conn.IsFull() }

// of returns the WebSocket on a connection.
func of(c *conn.Conn) *Conn { return c.User().(*Conn) }

// tick is called when the time has come that the clock was asked to wait for.
func (c *Conn) tick() {
	switch c.phase {
	case greeting:
		c.handshakeLate()
	case open:
		c.beat()
	case closing:
		c.await()
	case over: // The server has not ended the connection behind its close frame.
		c.conn.GiveUp(conn.EOF, io.EOF)
	}
}

// beat is the heartbeat: a ping after a silence, and the end after a longer one.
func (c *Conn) beat() {
	k, cfg := &c.lane.clock, &c.lane.ep.cfg
	took := uint32(c.conn.Stats().BytesOut)
	switch {
	case c.pinged && c.conn.Pending() == 0 && !c.conn.Reading():
		// What it answers is not heard, so its silence says nothing. The next ping
		// finds out whether it has gone, which nothing else does while reading is
		// paused.
		c.pinged = false
		k.waitUntil(c, k.time()+c.patience())
	case c.pinged && (c.conn.Pending() == 0 || took == c.taken):
		c.giveUp()
	case c.pinged: // It takes what we send: what it says may wait behind that.
		c.taken = took
		k.wait(c, cfg.PongWithin)
	case int32(c.heard+c.patience()-k.now) > 0:
		k.waitUntil(c, c.heard+c.patience())
	default:
		c.pinged, c.taken = true, took
		k.wait(c, cfg.PongWithin)
		if c.conn.Pending() < c.conn.Marks().Limit { // Else what waits does as well to find out.
			c.Ping(nil)
		}
	}
}

// patience is after how many ticks of silence the peer is pinged: the same for a
// connection at all times, and another for each.
func (c *Conn) patience() uint32 {
	k := &c.lane.clock
	silence := k.ticksOf(c.lane.ep.cfg.PingAfter)
	return silence - uint32(uint64(silence/4)*(c.ID()*0x9e3779b97f4a7c15>>48)>>16)
}
