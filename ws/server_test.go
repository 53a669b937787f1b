package ws_test

import (
	"strings"
	"testing"

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
