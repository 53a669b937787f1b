package ws_test

import (
	"strings"
	"testing"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/ws"
)

func TestEcho(t *testing.T) {
	r := dialed(t, options{})
	r.feed(text("hello"))
	r.want(text("hello"))
	r.feed(text("one"), bin("two"), ping("x"), text(""))
	r.want(text("one"), bin("two"), pong("x"), text(""))
	long := strings.Repeat("0123456789", 1000)
	r.feed(text(long), text("behind"))
	r.want(text(long), text("behind"))
	// Large enough to be sent in its block, with others behind it.
	for _, n := range []int{2048, 2500, 3000} {
		large := strings.Repeat("x", n-1) + "y"
		r.feed(text(large), text("behind"), bin(large[:500]))
		r.want(text(large), text("behind"), bin(large[:500]))
	}
	r.feed(bye(1000))
	r.want(bye(1000))
	r.gone()
	r.wantClose(ws.Normal, true, true)
}

// TestRecvLimit holds that a limit of kept blocks does not stop a message which is
// longer than the limit.
func TestRecvLimit(t *testing.T) {
	for _, n := range []int{3000, 5000, 60000, 100000} {
		r := newRig(t, options{below: conn.Config{RecvLimit: 1000}, window: 1 << 20})
		r.peer.AutoRead(true)
		p := append(handshake(), masked(text(strings.Repeat("x", n)), text("behind"))...)
		for len(p) > 0 {
			k := min(len(p), 100+len(p)/7)
			r.peer.Feed(p[:k])
			p = p[k:]
			r.Turns(3)
		}
		r.Turns(20)
		if len(r.msgs) != 2 || len(r.msgs[0]) != n+5 {
			t.Fatalf("%d bytes: heard %d messages", n, len(r.msgs))
		}
		r.gone()
	}
}
