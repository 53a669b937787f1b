package ws_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/ws"
)

// noise is hexadecimal digits: they compress to a little more than a half.
func noise(n int) string {
	var b strings.Builder
	for x := uint64(88172645463325252); b.Len() < n; {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		fmt.Fprintf(&b, "%016x", x)
	}
	return b.String()[:n]
}

// joined returns the message that the fragments which have come are parts of.
func (r *rig) joined() frame {
	r.t.Helper()
	got, rest := decode(r.t, false, r.got())
	got = slices.DeleteFunc(got, func(f frame) bool { return f.op > 8 })
	if len(rest) > 0 || len(got) == 0 {
		r.t.Fatalf("%d frames, % x behind them", len(got), rest)
	}
	whole := frame{op: got[0].op, rsv: got[0].rsv, part: got[len(got)-1].part}
	for i, f := range got {
		if (f.op == 0) != (i > 0) || f.part != (i < len(got)-1) {
			r.t.Fatalf("frame %d of %d: %v", i, len(got), f)
		}
		whole.data += f.data
	}
	return (&stretcher{bits: 15}).message(r.t, whole)
}

// stuff sends pings until the queue of a peer that does not read is at its limit.
func (r *rig) stuff() {
	r.peer.AutoRead(false)
	for r.c.Ping([]byte("0123456789")) <= conn.Full {
	}
}

// TestCloseRefused holds that a Writer whose Close was refused goes on as if it had not
// been called: with Close, Write or Flush.
func TestCloseRefused(t *testing.T) {
	for _, headers := range []string{"X: y", offerAll, offerAll + "; server_no_context_takeover"} {
		for _, then := range []string{"close", "write", "flush"} {
			r := dialed(t, options{cfg: ws.Config{Deflate: everything}, window: 300, below: conn.Config{HighWater: 1000, Limit: 1000}}, headers)
			w, err := r.c.NewWriter(ws.Text)
			if err != nil {
				t.Fatal(err)
			}
			say := noise(500)
			if _, err := w.Write([]byte(say)); err != nil {
				t.Fatal(err)
			}
			r.stuff()
			refused := w.Close()
			if want := r.c.Compressed(); (refused == conn.ErrSendBufferFull) != want {
				t.Fatalf("%q: Close: %v", headers, refused) // The last frame is empty, or long.
			}
			if r.peer.AutoRead(true); refused != nil {
				if r.c.Send(ws.Text, nil) != conn.Rejected {
					t.Error("a message inside another was taken")
				}
				r.turns(20)
				if then == "write" {
					if _, err := w.Write([]byte("more")); err != nil {
						t.Error(err)
					}
					say += "more"
				} else if then == "flush" {
					if err := w.Flush(); err != nil {
						t.Error(err)
					}
				}
				if err := w.Close(); err != nil {
					t.Error(err)
				}
			}
			r.turns(20)
			if f := r.joined(); f.data != say {
				t.Errorf("%q, %s: %d bytes came of %d", headers, then, len(f.data), len(say))
			}
			r.gone()
		}
	}
}

// TestWriterInsideOnFull begins a message in the OnFull of the last frame of another.
func TestWriterInsideOnFull(t *testing.T) {
	var second *ws.Writer
	r := (*rig)(nil)
	h := &ws.Funcs{
		Open: func(c *ws.Conn) { r.c = c },
		Full: func(c *ws.Conn) {
			if second == nil {
				second, _ = c.NewWriter(ws.Text)
			}
		},
	}
	r = newRig(t, options{handler: h, cfg: ws.Config{Deflate: everything}, window: 300, below: conn.Config{HighWater: 200, Limit: 2000}})
	r.peer.AutoRead(true)
	r.peer.Feed(handshake(offerAll))
	r.settle("open", func() bool { return r.c != nil })
	r.peer.AutoRead(false)
	first, _ := r.c.NewWriter(ws.Text)
	_, _ = first.Write([]byte(noise(2000)))
	if err := first.Close(); err != nil || second == nil {
		t.Fatal(err, second)
	}
	_, errWrite := second.Write([]byte("second"))
	if err := second.Close(); err != nil || errWrite != nil || first.Close() != conn.ErrClosed {
		t.Fatal(err, errWrite)
	}
	if s := r.c.Send(ws.Text, nil); s > conn.Full {
		t.Errorf("behind both: %v", s)
	}
	r.gone()
}
