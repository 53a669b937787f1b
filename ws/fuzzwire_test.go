package ws_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/penstock-go/penstock/ws"
)

// FuzzSplits holds that what a server hears, answers and closes with does not
// depend on how its input is cut.
func FuzzSplits(f *testing.F) {
	for _, e := range exchanges() {
		if p, _ := e.bytes(true); len(p) < 400 {
			f.Add(p, 3)
		}
	}
	in := &squeezer{takeover: true}
	f.Add(encode(true, in.message(f, text("hello hello hello")), in.message(f, text("hello hello hello")), bye(1000)), 5)
	f.Fuzz(func(t *testing.T, p []byte, cut int) {
		if len(p) > 1<<14 {
			return
		}
		whole := hearsWhat(t, p, len(p)+1)
		pieces := hearsWhat(t, p, 1+int(uint(cut)%uint(len(p)+1)))
		if whole != pieces {
			t.Fatalf("% x\nwhole:  %s\npieces: %s", p, whole, pieces)
		}
	})
}

// hearsWhat feeds p in pieces of n bytes, and tells what came of it.
func hearsWhat(t *testing.T, p []byte, n int) string {
	r := dialed(t, options{cfg: ws.Config{Deflate: everything, MaxMessage: 1 << 16}, window: 1 << 20}, offerAll)
	for len(p) > 0 && !r.peer.WasReset() {
		k := min(n, len(p))
		r.peer.Feed(p[:k])
		p = p[k:]
		if n < 1<<13 {
			r.Turn()
		}
	}
	r.Turns(3)
	r.gone()
	if r.closes != 1 {
		t.Fatalf("closed %d times", r.closes)
	}
	return fmt.Sprintf("%q %x %+v", r.msgs, bytes.Clone(r.got()), *r.closed)
}
