package ws_test

import (
	"bytes"
	"compress/flate"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/ws"
)

// pieces is a handler that puts together what it is told in fragments, and writes
// over what it was lent.
type pieces struct {
	ws.Funcs
	got   []string
	most  int // bytes of one fragment
	count int
	then  func(c *ws.Conn)
	ended *ws.CloseError
}

func newPieces(t *testing.T) *pieces {
	p := &pieces{}
	open := false
	p.Close = func(_ *ws.Conn, err *ws.CloseError) { p.ended = err }
	p.Message = func(*ws.Conn, *ws.Message) { t.Error("a whole message") }
	p.Fragment = func(c *ws.Conn, f *ws.Fragment) {
		if f.First == open {
			t.Errorf("first is %v", f.First)
		}
		if open = !f.Last; f.First {
			p.got = append(p.got, "")
		}
		p.got[len(p.got)-1] += string(f.Bytes())
		p.most = max(p.most, len(f.Bytes()))
		p.count++
		clear(f.Bytes())
		if p.then != nil {
			p.then(c)
		}
	}
	return p
}

// finals compresses parts, each as a stream of its own with a last block, that refers
// to what was before.
func finals(t *testing.T, before string, parts ...string) string {
	t.Helper()
	var out bytes.Buffer
	for _, p := range parts {
		w, err := flate.NewWriterDict(&out, 9, []byte(before))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(p))
		_ = w.Close()
		before += p
	}
	return out.String()
}

// TestInflatedPieces holds that a compressed message is told in pieces as it
// inflates, and that neither they nor what is written over them disturb the windows.
func TestInflatedPieces(t *testing.T) {
	h := newPieces(t)
	r := dialed(t, options{handler: &h.Funcs, cfg: ws.Config{Deflate: everything}, window: 1 << 20}, offerAll)
	in := &squeezer{takeover: true}
	var want []string
	for i, n := range []int{100, 64 << 10, 64<<10 + 1, 0, 300_000, 100, 1, 200_000} {
		plain := text(sentence(i, n))
		if i == 5 {
			plain = text(want[4][200_000:]) // It refers to the end of a long one.
		}
		want = append(want, plain.data)
		r.feed(in.message(t, plain))
		r.Turns(30)
	}
	for i := range want {
		if i >= len(h.got) || h.got[i] != want[i] {
			t.Fatalf("message %d of %d is wrong, closed with %v", i, len(h.got), r.closed)
		}
	}
	if h.most > 64<<10 || h.count < len(want)+9 {
		t.Errorf("%d pieces, the longest of %d bytes", h.count, h.most)
	}
	r.gone()
}

// TestPiecesBehindWhole holds that pieces are no longer where a whole message has left a
// large buffer.
func TestPiecesBehindWhole(t *testing.T) {
	r := dialed(t, options{cfg: ws.Config{Deflate: everything}, window: 2 << 20}, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=10")
	in := &squeezer{} // What is before a message has the decompressor's steps begin within 32 KiB.
	r.feed(in.message(t, text(sentence(1, 700_000))))
	r.Turns(30)
	h := newPieces(t)
	r.funcs = nil
	r.c.SetHandler(&h.Funcs)
	want := sentence(2, 400_000)
	r.feed(in.message(t, text(want)))
	if r.Turns(30); len(h.got) != 1 || h.got[0] != want || h.most > 64<<10 {
		t.Errorf("%d messages in %d pieces, the longest of %d bytes", len(h.got), h.count, h.most)
	}
	r.gone()
}

// TestManyFinals holds that a message of several last blocks may refer to all that
// was before each of them, in this message and in others.
func TestManyFinals(t *testing.T) {
	for _, whole := range []bool{true, false} {
		for _, n := range []int{300, 5000, 40_000} {
			h := newPieces(t)
			o := options{cfg: ws.Config{Deflate: everything}, window: 1 << 20}
			if !whole {
				o.handler = &h.Funcs
			}
			r := dialed(t, o, offerAll)
			first, x, y := sentence(1, min(n, 8000)), sentence(2, n), sentence(3, n)
			parts := []string{x, y, first, x[:n/2], y}
			r.feed((&squeezer{}).message(t, bin(first)))
			packed := finals(t, first, parts...)
			r.feed(rsv1(bin(packed)))
			r.Turns(30)
			got := h.got
			for _, m := range r.msgs {
				got = append(got, strings.TrimPrefix(m, "binary:"))
			}
			if len(got) != 2 || got[1] != strings.Join(parts, "") {
				t.Errorf("whole %v, %d bytes a part: heard %d messages, closed with %v", whole, n, len(got), r.closed)
			}
			r.gone()
		}
	}
}

// TestPiecesEnd holds what ends a message in the middle of its pieces: text that is
// wrong, a handler that gives up or says goodbye, and the limits.
func TestPiecesEnd(t *testing.T) {
	long := strings.Repeat("0123456789abcde\n", 20_000)
	for _, tc := range []struct {
		name   string
		say    string
		cfg    ws.Config
		then   func(c *ws.Conn)
		pieces int
		code   ws.Code
	}{
		{"text", long[:70_000] + "\xc3(" + long[70_002:], ws.Config{}, nil, 1, ws.InvalidData},
		{"unfinished", long + "\xc3", ws.Config{}, nil, 4, ws.InvalidData},
		{"abort", long, ws.Config{}, func(c *ws.Conn) { c.Conn().Abort() }, 1, ws.Abnormal},
		{"goodbye", long, ws.Config{}, func(c *ws.Conn) { c.Close(ws.Policy, "") }, 1, ws.Policy},
		{"limit", long, ws.Config{MaxMessage: 150_000}, nil, 2, ws.TooBig},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h := newPieces(t)
			h.then = tc.then
			d := *everything
			tc.cfg.Deflate = &d
			r := dialed(t, options{handler: &h.Funcs, cfg: tc.cfg}, offerAll)
			r.feed((&squeezer{}).message(t, text(tc.say)))
			r.Turns(10)
			if h.count != tc.pieces {
				t.Errorf("%d pieces, want %d", h.count, tc.pieces)
			}
			if tc.name == "goodbye" {
				r.feed(bye(int(ws.Policy)))
			}
			r.peer.CloseWrite()
			r.Settle("close", func() bool { return h.ended != nil })
			if h.ended.Code != tc.code {
				t.Errorf("closed with %v, want %d", h.ended, tc.code)
			}
			r.gone()
		})
	}
}

// TestPiecesMemory holds that a bomb costs who takes messages in pieces no memory.
func TestPiecesMemory(t *testing.T) {
	packed := (&squeezer{}).message(t, bin(strings.Repeat("\x00", 64<<20)))
	sum, last := 0, false
	h := &ws.Funcs{Fragment: func(_ *ws.Conn, f *ws.Fragment) { sum += len(f.Bytes()); last = f.Last }}
	r := dialed(t, options{handler: h, cfg: ws.Config{MaxMessage: 1 << 30, Deflate: &ws.Deflate{MaxRatio: -1}}}, offerAll)
	p := encode(true, packed)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r.peer.Feed(p)
	r.Settle("message", func() bool { return last })
	runtime.ReadMemStats(&after)
	if sum != 64<<20 {
		t.Errorf("%d bytes", sum)
	}
	if n := after.TotalAlloc - before.TotalAlloc; n > 2<<20 {
		t.Errorf("%d bytes were taken for a message of %d", n, sum)
	}
	r.gone()
}

// TestNoLimit holds that the highest MaxMessage is one.
func TestNoLimit(t *testing.T) {
	r := dialed(t, options{cfg: ws.Config{MaxMessage: math.MaxInt, Deflate: &ws.Deflate{MaxRatio: -1}}, window: 1 << 20}, offerAll)
	long := sentence(1, 100000)
	r.feed((&squeezer{}).message(t, text(long)))
	if r.Turns(5); len(r.msgs) != 1 || r.msgs[0] != "text:"+long {
		t.Errorf("%d messages, closed with %v", len(r.msgs), r.closed)
	}
	r.gone()
}

// TestAnswerAllowsMore holds that a client keeps to the window that it has offered, also
// when the server allows a larger one.
func TestAnswerAllowsMore(t *testing.T) {
	d := &ws.Deflate{SendTakeover: true, RecvTakeover: true, SendBits: 9, RecvBits: 15, Threshold: 16}
	r := dialing(t, options{cfg: ws.Config{Deflate: d}, window: 1 << 20}, "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits=15")
	r.Turns(3)
	out := &stretcher{takeover: true, bits: 9}
	for range 5 {
		say := text(sentence(1, 3000)) // The one before is farther back than the window.
		r.peer.Feed(encode(false, say))
		r.Turns(20)
		r.wantInflated(out, say)
	}
	if out.deflated != 5 {
		t.Errorf("%d messages came compressed", out.deflated)
	}
	r.gone()
}
