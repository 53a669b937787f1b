package firehose

import (
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
)

// Handler serves the protocol on every connection of a listener. The zero
// value works. It keeps its state in the connection's User.
//
// Thread: the connection's loop, as for every conn.Handler.
type Handler struct {
	// Rejected, unless nil, hears of each message of a FLOOD that was refused;
	// size is its bytes with the head.
	Rejected func(c *conn.Conn, size int)
	// Patience is how long a full queue waits while the peer takes nothing, once it
	// has sent QUIT, a line that is answered by ERR, or its end of file, before the connection
	// ends with WriteTimeout. Default 10 s.
	Patience time.Duration
}

// OnOpen implements conn.Handler.
func (h *Handler) OnOpen(c *conn.Conn) {
	s := &session{handler: h, c: c}
	s.resume = func() {
		s.deferred = false
		s.pump()
	}
	c.SetUser(s)
}

// OnData implements conn.Handler.
func (h *Handler) OnData(c *conn.Conn, in *buf.Buf) { of(c).input(in.Bytes()) }

// OnDrain implements conn.DrainHandler.
func (h *Handler) OnDrain(c *conn.Conn) { of(c).pump() }

// OnEOF implements conn.EOFHandler: what was asked for is served to its end.
func (h *Handler) OnEOF(c *conn.Conn) {
	s := of(c)
	s.eof = true
	s.pump()
}

// OnClose implements conn.Handler.
func (h *Handler) OnClose(c *conn.Conn, _ error) { of(c).end() }

func of(c *conn.Conn) *session { return c.User().(*session) }
