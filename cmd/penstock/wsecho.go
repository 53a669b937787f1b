package main

import (
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/ws"
)

// wsEcho sends back every message with its type. Its reading pauses while its
// queue is full, so only --send-memory can refuse an answer; an echo with a hole
// is none, and the client is told to come again.
type wsEcho struct {
	ws.NopHandler
	rejected func(*conn.Conn, int)
}

// newWSEcho returns the handler below of a WebSocket echo.
func newWSEcho(rejected func(*conn.Conn, int), maxMessage int, closeTimeout time.Duration) (conn.Handler, error) {
	return ws.NewServer(&wsEcho{rejected: rejected}, ws.Config{
		MaxMessage: maxMessage, CloseTimeout: closeTimeout, Origins: []string{"*"}, Deflate: &ws.Deflate{},
	})
}

// OnMessage implements ws.Handler.
func (e *wsEcho) OnMessage(c *ws.Conn, m *ws.Message) {
	n := len(m.Bytes())
	if c.SendReceived(m) == conn.Rejected {
		e.rejected(c.Conn(), framed(n))
		c.Close(ws.TryAgainLater, "out of send memory")
	}
}

// framed returns the length of a message of n bytes as a server sends it in one frame; RFC
// 6455, section 5.2.
func framed(n int) int {
	switch {
	case n < 126:
		return 2 + n
	case n < 1<<16:
		return 4 + n
	}
	return 10 + n
}
