//go:build !nows

package subject

import (
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/ws"
)

// windowBits is the window of each direction in ws-deflate, of 2^12 bytes.
const windowBits = 12

// webSocket returns the handler of a protocol over WebSockets, or nil. The tag nows is
// for revisions of the library that are older than ws.
func (s *server) webSocket(protocol string) (conn.Handler, error) {
	h := wsHooks{&s.counters}
	var of ws.Handler = wsEcho{h}
	cfg := ws.Config{Deflate: &ws.Deflate{}}
	switch protocol {
	case "ws":
	case "ws-deflate":
		cfg.Deflate = &ws.Deflate{SendTakeover: true, RecvTakeover: true, SendBits: windowBits, RecvBits: windowBits}
	case "ws-fanout":
		of = &wsFanout{wsHooks: h, topics: ws.NewTopics(s.group)}
	default:
		return nil, nil
	}
	return ws.NewServer(of, cfg)
}

// wsHooks are hooks for WebSockets.
type wsHooks struct{ *counters }

// OnOpen implements ws.Handler.
func (wsHooks) OnOpen(*ws.Conn) {}

// OnFull implements ws.FullHandler.
func (h wsHooks) OnFull(*ws.Conn) { h.full.Add(1) }

// OnDrain implements ws.DrainHandler.
func (h wsHooks) OnDrain(*ws.Conn) { h.drained.Add(1) }

// OnError implements ws.ErrorHandler.
func (h wsHooks) OnError(*ws.Conn, error) { h.refused.Add(1) }

// OnClose implements ws.Handler.
func (h wsHooks) OnClose(_ *ws.Conn, err *ws.CloseError) {
	if err.Code != ws.Normal {
		h.failed.Add(1)
	}
}

// wsEcho sends back what comes.
type wsEcho struct{ wsHooks }

// OnMessage implements ws.Handler.
func (e wsEcho) OnMessage(c *ws.Conn, m *ws.Message) {
	if c.SendReceived(m) >= conn.Rejected {
		e.refused.Add(1)
		c.Conn().Abort()
	}
}

// wsFanout sends what publishers say to all subscribers.
type wsFanout struct {
	wsHooks
	topics *ws.Topics
}

// topic is what all subscribe to.
const topic = "all"

// OnMessage implements ws.Handler.
func (f *wsFanout) OnMessage(c *ws.Conn, m *ws.Message) {
	switch p := m.Bytes(); {
	case string(p) == "S":
		if f.topics.Join(topic, c) != nil || c.Send(m.Op, p) >= conn.Rejected {
			f.refused.Add(1)
			c.Conn().Abort()
		}
	case len(p) > 0 && p[0] == 'P':
		if f.topics.Publish(topic, ws.Prepare(m.Op, p[1:])) >= conn.Rejected {
			f.refused.Add(1)
		}
	default:
		c.Close(ws.Policy, "")
	}
}
