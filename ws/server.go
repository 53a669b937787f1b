package ws

import (
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// Server serves WebSockets: it is the conn.Handler of one or more listeners. It
// keeps its state in the connection's User.
//
// Thread: Stats may be called by any goroutine; the rest is for the loops.
type Server struct{ ep *endpoint }

// NewServer returns a server whose WebSockets h hears.
func NewServer(h Handler, cfg Config) (*Server, error) {
	ep, err := newEndpoint(h, cfg, false)
	if err != nil {
		return nil, err
	}
	return &Server{ep}, nil
}

// Listen serves WebSockets on a network and an address, as conn.Listen takes
// them: below configures the connections, cfg what is spoken on them.
func Listen(g *reactor.Group, network, address string, h Handler, cfg Config, below conn.Config) (*Server, *conn.Listener, error) {
	s, err := NewServer(h, cfg)
	if err != nil {
		return nil, nil, err
	}
	l, err := conn.Listen(g, network, address, s, below)
	if err != nil {
		return nil, nil, err
	}
	return s, l, nil
}

// Stats returns the counters.
func (s *Server) Stats() Stats { return s.ep.counts.stats() }

// OnOpen implements conn.Handler.
func (s *Server) OnOpen(c *conn.Conn) {
	l := s.ep.lane(c.Loop())
	w := &Conn{conn: c, lane: l, hooks: s.ep.hooks, place: -1}
	c.SetUser(w)
	l.clock.wait(w, s.ep.cfg.HandshakeTimeout)
}

// OnData implements conn.Handler.
func (s *Server) OnData(c *conn.Conn, in *buf.Buf) { of(c).hear(in) }

// OnFull implements conn.FullHandler.
func (s *Server) OnFull(c *conn.Conn) { of(c).full() }

// OnDrain implements conn.DrainHandler.
func (s *Server) OnDrain(c *conn.Conn) { of(c).drained() }

// OnError implements conn.ErrorHandler.
func (s *Server) OnError(c *conn.Conn, err error) { of(c).failed(err) }

// OnShutdown implements conn.ShutdownHandler: every peer is told GoingAway.
func (s *Server) OnShutdown(c *conn.Conn) { of(c).shutdown() }

// OnClose implements conn.Handler.
func (s *Server) OnClose(c *conn.Conn, err error) { of(c).ended(err) }

// hear takes what has come.
func (c *Conn) hear(in *buf.Buf) {
	l := c.lane
	l.settle()
	if l.ep.cfg.PingAfter > 0 {
		c.heard, c.pinged = l.clock.time(), false
	}
	if c.phase == greeting && c.asked == nil {
		c.greet(in)
	} else if c.phase == greeting {
		c.hearAnswer(in)
	}
	if c.phase != greeting && in.Len() > 0 {
		c.receive(in)
	}
	l.settle()
}

// full, drained and failed pass on what the connection below has to tell.

func (c *Conn) full() {
	if c.opened && !c.told && c.hooks.full != nil {
		c.hooks.full(c)
	}
}

func (c *Conn) drained() {
	if c.opened && !c.told && c.hooks.drain != nil {
		c.hooks.drain(c)
	}
}

// failed is also for a client that was open before, and may be sent to by a Ref.
func (c *Conn) failed(err error) {
	if (c.opened || c.lane.ep.client) && !c.told && c.hooks.err != nil {
		c.hooks.err(c, err)
	}
}
