package ws_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/ws"
)

// static is n bytes that do not compress.
func static(n int) string {
	b := make([]byte, n)
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return string(b)
}

// TestAnnouncedTakesNothing holds that a length takes no memory before its bytes have come.
func TestAnnouncedTakesNothing(t *testing.T) {
	for _, n := range []int{5000, 60000, 1 << 20, math.MaxInt - 3} {
		r := dialed(t, options{cfg: ws.Config{MaxMessage: math.MaxInt}})
		f := bin("x")
		f.length = n
		r.feed(f)
		if small, bulk := r.Small.InUse(), r.Bulk.InUse(); small != 1 || bulk != 0 || r.closed != nil {
			t.Errorf("a byte of %d holds %d small and %d large blocks; closed: %v", n, small, bulk, r.closed)
		}
		r.gone()
	}
	r := dialed(t, options{window: 1 << 20})
	say := static(60000)
	p := masked(bin(say))
	for len(p) > 0 {
		k := min(1000, len(p))
		r.peer.Feed(p[:k])
		p = p[k:]
		r.Turns(3)
	}
	r.Turns(60)
	r.want(bin(say))
	r.gone()
}

// TestManyFragments holds that a message in many small frames takes memory in proportion
// to its length: it was copied whole for each frame, so that a loop was held for minutes
// by 4 MiB in frames of 64 bytes.
func TestManyFragments(t *testing.T) {
	const count = 16 << 10
	piece := strings.Repeat("x", 64)
	r := dialed(t, options{window: 4 << 20})
	p := masked(more(bin(piece)))
	for range count - 2 {
		p = append(p, masked(more(cont(piece)))...)
	}
	p = append(p, masked(cont(piece))...)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r.peer.Feed(p)
	r.Settle("message", func() bool { return len(r.msgs) == 1 })
	runtime.ReadMemStats(&after)
	if r.msgs[0] != "binary:"+strings.Repeat(piece, count) {
		t.Errorf("%d bytes", len(r.msgs[0]))
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 16*64*count {
		t.Errorf("%d bytes were taken for a message of %d", n, 64*count)
	}
	r.gone()
}

// TestNoiseAtLimit holds that a message of MaxMessage bytes is taken also when it came
// compressed, and has become longer by that.
func TestNoiseAtLimit(t *testing.T) {
	const most = 64 << 10
	for _, parts := range []bool{false, true} {
		r := dialed(t, options{cfg: ws.Config{MaxMessage: most, Deflate: &ws.Deflate{Threshold: 1 << 20}}, window: 1 << 20}, offerAll)
		f := (&squeezer{}).message(t, bin(static(most)))
		if len(f.data) <= most {
			t.Fatal("it has not become longer")
		}
		frames := []frame{f}
		if parts {
			frames = []frame{more(f), cont(f.data[most/2:])}
			frames[0].data = f.data[:most/2]
		}
		r.peer.Feed(encode(true, frames...))
		r.Turns(100)
		if len(r.msgs) != 1 || r.closed != nil {
			t.Errorf("parts %v: %d messages, closed: %v", parts, len(r.msgs), r.closed)
		}
		r.feed(bin(static(most + 1)))
		r.Turns(20)
		r.gone()
		r.wantClose(ws.TooBig, false, false)
	}
}

// TestTooBigWithoutMask holds that a message beyond MaxMessage is refused when its length
// has come, and its masking key has not.
func TestTooBigWithoutMask(t *testing.T) {
	for _, tc := range []struct{ before, head string }{
		{"", "\x82\xff\x00\x00\x00\x00\x00\x01\x00\x01"},
		{"", "\x82\xfe\x03\xe9"},
		{"\x02\x81\x00\x00\x00\x00x", "\x80\xfe\x03\xe8"},
	} {
		for cut := range len(tc.head) {
			r := dialed(t, options{cfg: ws.Config{MaxMessage: 1000}})
			r.peer.Feed([]byte(tc.before + tc.head[:cut]))
			r.Turns(3)
			if r.closed != nil || len(r.got()) > 0 {
				t.Fatalf("% x: %d bytes of it were refused", tc.head, cut)
			}
			r.peer.Feed([]byte(tc.head[cut:]))
			r.Turns(3)
			r.want(bye(1009))
			r.gone()
			r.wantClose(ws.TooBig, false, false)
		}
	}
}

const inflateTail = "\x00\x00\xff\xff\x01\x00\x00\xff\xff"

// stored is a message of one stored block with n bytes, of which p are there.
func stored(first byte, n int, p string) frame {
	return rsv1(bin(string([]byte{first, byte(n), byte(n >> 8), ^byte(n), ^byte(n >> 8)}) + p))
}

// pieces has the rig's handler put messages together from their fragments.
func (r *rig) pieces() {
	r.funcs.Fragment = func(_ *ws.Conn, f *ws.Fragment) {
		if f.First {
			r.msgs = append(r.msgs, "binary:")
		}
		r.msgs[len(r.msgs)-1] += string(f.Bytes())
	}
	r.c.SetHandler(r.funcs)
}

// TestTailIsNoMessage holds that what the receiver puts behind a compressed message
// never comes out of it as its end.
func TestTailIsNoMessage(t *testing.T) {
	for _, pieces := range []bool{false, true} {
		for _, f := range []frame{stored(1, 9, ""), stored(1, 4, ""), stored(0, 4, ""), stored(1, 14, "hello"), stored(0, 9, "hello")} {
			r := dialed(t, options{cfg: ws.Config{Deflate: &ws.Deflate{}}}, offerAll)
			if pieces {
				r.pieces()
			}
			r.feed(f)
			r.Turns(3)
			if len(r.msgs) != 0 {
				t.Errorf("% x came as %q", f.data, r.msgs)
			}
			r.gone()
			r.wantClose(ws.InvalidData, false, false)
		}
	}
}

// TestMessageLikeTail holds that a message may end as that does.
func TestMessageLikeTail(t *testing.T) {
	for _, pieces := range []bool{false, true} {
		for _, takeover := range []bool{false, true} {
			d := &ws.Deflate{Threshold: 1 << 20, RecvTakeover: takeover, RecvBits: 15}
			r := dialed(t, options{cfg: ws.Config{Deflate: d}, window: 1 << 20}, offerAll)
			if pieces {
				r.pieces()
			}
			s := &squeezer{takeover: takeover}
			says := []string{inflateTail, inflateTail[:4], "hello" + inflateTail, static(64<<10-2) + inflateTail[:4], static(64<<10) + inflateTail[:4], static(100000) + inflateTail, "after"}
			var frames []frame
			for _, say := range says {
				frames = append(frames, s.message(t, bin(say)))
			}
			for _, say := range []string{inflateTail, inflateTail[:4]} {
				frames = append(frames, stored(1, len(say), say))
				says = append(says, say)
			}
			for _, f := range frames {
				r.peer.Feed(encode(true, f))
				r.Turns(60)
			}
			for i := range r.msgs {
				r.msgs[i] = strings.TrimPrefix(r.msgs[i], "binary:")
			}
			if !slices.Equal(r.msgs, says) {
				t.Errorf("pieces %v, takeover %v: %d messages of %d, or others; closed: %v", pieces, takeover, len(r.msgs), len(says), r.closed)
			}
			r.gone()
		}
	}
}

// TestSetHandlerInside holds that a message is not lost when the handler changes in
// the middle of it.
func TestSetHandlerInside(t *testing.T) {
	var log []string
	note := func(format string, args ...any) { log = append(log, fmt.Sprintf(format, args...)) }
	var next ws.Handler
	wholes := &ws.Funcs{Message: func(_ *ws.Conn, m *ws.Message) { note("whole %s", m.Bytes()) }}
	pieces := func(name string) *ws.Funcs {
		return &ws.Funcs{Fragment: func(c *ws.Conn, f *ws.Fragment) {
			note("%s %q %v %v", name, f.Bytes()[:min(9, len(f.Bytes()))], f.First, f.Last)
			if f.First {
				c.SetHandler(next)
			}
		}}
	}
	for _, tc := range []struct {
		from, to ws.Handler
		want     string
	}{
		{pieces("a"), wholes, `a "one " true false, a "two" false true, whole three`},
		{wholes, pieces("b"), `b "one two" true true, b "three" true true`},
		{pieces("a"), pieces("b"), `a "one " true false, a "two" false true, b "three" true true`},
	} {
		r := dialed(t, options{})
		c := r.c
		log, next = nil, tc.to
		r.funcs = nil
		c.SetHandler(tc.from)
		r.feed(more(text("one ")))
		c.SetHandler(tc.to)
		r.feed(cont("two"))
		r.feed(text("three"))
		if got := strings.Join(log, ", "); got != tc.want {
			t.Errorf("got %s, want %s", got, tc.want)
		}
		r.gone()
	}
	r := dialed(t, options{cfg: ws.Config{Deflate: &ws.Deflate{}}}, offerAll)
	log, next = nil, wholes
	r.funcs = nil
	r.c.SetHandler(pieces("a"))
	r.feed((&squeezer{}).message(t, text(strings.Repeat("packed ", 20000))))
	r.feed(text("three"))
	if want := `a "packed pa" true false, a "cked pack" false false, a "ed packed" false true, whole three`; strings.Join(log, ", ") != want {
		t.Errorf("got %s, want %s", strings.Join(log, ", "), want)
	}
	r.gone()
}
