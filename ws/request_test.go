package ws_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/ws"
)

// another opens one more connection to the server of a rig.
func (r *rig) another() *aiotest.Peer {
	r.t.Helper()
	below, err := conn.Config{}.Check()
	if err != nil {
		r.t.Fatal(err)
	}
	fd, peer := r.fake.Open()
	peer.AutoRead(true)
	r.loop.Defer(func() { conn.New(r.loop, int(fd), r.server, below) })
	r.turn()
	return peer
}

// TestRequestAfterPanic holds that nothing of a request whose handler has panicked
// is in the answer to the next one: not its headers, a cookie among them, not its
// refusal, and not what else was decided.
func TestRequestAfterPanic(t *testing.T) {
	for _, where := range []string{"OnUpgrade", "OnOpen"} {
		t.Run(where, func(t *testing.T) {
			h := &ws.Funcs{
				Upgrade: func(r *ws.Request) {
					if r.Query() != "first" {
						return
					}
					_ = r.AddHeader("Set-Cookie", "session=of-the-first")
					r.DisableDeflate()
					r.SetUser("the first")
					if where == "OnUpgrade" {
						r.Refuse(418, "the first")
						panic("in OnUpgrade")
					}
				},
				Open: func(c *ws.Conn) {
					if c.User() != nil {
						panic("in OnOpen")
					}
				},
			}
			r := newRig(t, options{handler: h, cfg: ws.Config{Deflate: &ws.Deflate{}}})
			r.peer.AutoRead(true)
			r.peer.Feed(bytes.Replace(handshake(offerAll), []byte("room=1"), []byte("first"), 1))
			r.turns(5)
			peer := r.another()
			peer.Feed(handshake(offerAll))
			r.turns(5)
			got := string(peer.Received())
			if !strings.HasPrefix(got, "HTTP/1.1 101 ") || strings.Contains(got, "Cookie") || !strings.Contains(got, "permessage-deflate") {
				t.Errorf("the second is told %q", got)
			}
			peer.CloseWrite()
			r.gone()
		})
	}
}
