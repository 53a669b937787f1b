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
	r.T.Helper()
	return r.joinedBy(&stretcher{bits: 15})
}

// joinedBy is joined for a message that may refer to those before it.
func (r *rig) joinedBy(s *stretcher) frame {
	r.T.Helper()
	got, rest := decode(r.T, r.client != nil, r.got())
	got = slices.DeleteFunc(got, func(f frame) bool { return f.op > 8 })
	if len(rest) > 0 || len(got) == 0 {
		r.T.Fatalf("%d frames, % x behind them", len(got), rest)
	}
	whole := frame{op: got[0].op, rsv: got[0].rsv, part: got[len(got)-1].part}
	for i, f := range got {
		if (f.op == 0) != (i > 0) || f.part != (i < len(got)-1) {
			r.T.Fatalf("frame %d of %d: %v", i, len(got), f)
		}
		whole.data += f.data
	}
	return s.message(r.T, whole)
}

// stuff sends pings until the queue of a peer that does not read is at its limit.
func (r *rig) stuff() {
	r.peer.AutoRead(false)
	for r.c.Ping([]byte("0123456789")) <= conn.Full {
	}
}

// TestWriter sends messages in fragments, with other sends tried between.
func TestWriter(t *testing.T) {
	for _, headers := range []string{"X: y", offerAll, offerAll + "; server_no_context_takeover"} {
		r := dialed(t, options{cfg: ws.Config{Deflate: everything}, window: 1 << 20}, headers)
		out := &stretcher{takeover: !strings.Contains(headers, "server_no"), bits: 15}
		deflated := r.c.Compressed()
		var want []frame
		for i := range 5 {
			r.c.Send(ws.Text, []byte(sentence(i, 300)))
			want = append(want, text(sentence(i, 300)))
			w, err := r.c.NewWriter(ws.Text)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := r.c.NewWriter(ws.Text); err != ws.ErrWriting {
				t.Errorf("a second writer: %v", err)
			}
			var all strings.Builder
			for j := range i * 20 {
				piece := sentence(i*100+j, 1+j*37)
				if n, err := w.Write([]byte(piece)); n != len(piece) || err != nil {
					t.Fatal(n, err)
				}
				all.WriteString(piece)
				if r.c.Send(ws.Text, []byte("no")) != conn.Rejected {
					t.Error("a message inside another was taken")
				}
				if j%7 == 0 {
					r.c.Ping([]byte("between"))
					if err := w.Flush(); err != nil {
						t.Error(err)
					}
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := w.Write([]byte("x")); err != conn.ErrClosed || w.Close() != conn.ErrClosed {
				t.Errorf("after Close: %v", err)
			}
			want = append(want, text(all.String()))
		}
		r.Turns(5)
		frames, rest := decode(t, false, r.got())
		if len(rest) > 0 {
			t.Fatalf("% x behind", rest)
		}
		var got []frame
		parts := 0
		for _, f := range frames {
			switch {
			case f.op == 9:
				continue
			case f.op == 0:
				if f.rsv != 0 {
					t.Errorf("a continuation with reserved bits: %v", f)
				}
				parts++
				got[len(got)-1].data += f.data
				if got[len(got)-1].part = f.part; !f.part {
					got[len(got)-1] = out.message(t, got[len(got)-1])
				}
				continue
			}
			if !f.part {
				f = out.message(t, f)
			}
			got = append(got, f)
		}
		if !equalFrames(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		if parts < 20 || deflated && out.deflated < 9 {
			t.Errorf("%d parts, %d deflated", parts, out.deflated)
		}
		r.gone()
	}
}

// TestWriterFollowsMarks has a writer stop at Full and go on at Drain, and not lose
// what was refused.
func TestWriterFollowsMarks(t *testing.T) {
	for _, headers := range []string{"X: y", offerAll} {
		var w *ws.Writer
		r := (*rig)(nil)
		var all strings.Builder
		refused := 0
		write := func(c *ws.Conn) {
			for all.Len() < 150000 && !c.IsFull() {
				piece := fmt.Sprintf("%x ", r.Rand.Uint64())
				_, err := w.Write([]byte(piece))
				switch err {
				case nil:
					all.WriteString(piece)
				case conn.ErrSendBufferFull:
					refused++
				default:
					t.Fatal(err)
				}
			}
			if all.Len() >= 150000 && w != nil {
				if err := w.Close(); err == nil {
					w = nil
				} else if err != conn.ErrSendBufferFull {
					t.Fatal(err)
				}
			}
		}
		h := &ws.Funcs{Drain: func(c *ws.Conn) { write(c) }}
		r = dialed(t, options{handler: h, window: 300, cfg: ws.Config{Deflate: everything}, below: conn.Config{HighWater: 500, LowWater: 100, Limit: 800}}, headers)
		r.peer.AutoRead(false)
		c := (*ws.Conn)(nil)
		// The rig's own handler was replaced: find the connection by a message.
		h.Message = func(k *ws.Conn, _ *ws.Message) { c = k; w, _ = k.NewWriter(ws.Text); write(k) }
		r.feed(text("go"))
		for range 3000 {
			r.peer.ReadAll()
			r.Turns(2)
			if w == nil && c.Pending() == 0 {
				break
			}
			if w != nil && !c.IsFull() {
				write(c)
			}
		}
		r.peer.ReadAll()
		frames, rest := decode(t, false, r.got())
		whole := frame{op: 1}
		for i, f := range frames {
			whole.rsv |= f.rsv
			whole.data += f.data
			if f.part != (i < len(frames)-1) || f.op != map[bool]byte{true: 1, false: 0}[i == 0] {
				t.Fatalf("frame %d of %d: %v", i, len(frames), f)
			}
		}
		if whole = (&stretcher{bits: 15}).message(t, whole); len(rest) > 0 || whole.data != all.String() {
			t.Fatalf("%d bytes of %d came", len(whole.data), all.Len())
		}
		if s := c.Conn().Stats(); s.Full < 9 || s.Full != s.Drain {
			t.Errorf("%q: %d fulls, %d drains, %d refused %d", headers, s.Full, s.Drain, refused, len(frames))
		}
		r.gone()
	}
}

// TestFlushRefused holds that what a compressor has made, and the queue has
// refused, goes with the next fragment.
func TestFlushRefused(t *testing.T) {
	r := dialed(t, options{cfg: ws.Config{Deflate: everything}, window: 300, below: conn.Config{HighWater: 100, Limit: 120}}, offerAll)
	r.peer.AutoRead(false)
	w, err := r.c.NewWriter(ws.Text)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write([]byte(sentence(1, 500))); err != nil {
		t.Fatal(err)
	}
	for r.c.Ping([]byte("0123456789")) <= conn.Full {
	}
	if err := w.Flush(); err != conn.ErrSendBufferFull {
		t.Fatalf("Flush: %v", err)
	}
	if _, err := w.Write([]byte("refused")); err != conn.ErrSendBufferFull {
		t.Fatalf("Write: %v", err)
	}
	r.peer.AutoRead(true)
	r.Turns(5)
	if _, err := w.Write([]byte(sentence(2, 500))); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r.Turns(5)
	got, _ := decode(t, false, r.got())
	got = slices.DeleteFunc(got, func(f frame) bool { return f.op == 9 })
	for _, f := range got[1:] {
		got[0].data += f.data
	}
	got[0].part = false
	if got[0] = (&stretcher{bits: 15}).message(t, got[0]); got[0].data != sentence(1, 500)+sentence(2, 500) {
		t.Errorf("got %v", got[0])
	}
	r.gone()
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
				r.Turns(20)
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
			r.Turns(20)
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
	r.Settle("open", func() bool { return r.c != nil })
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

// TestWriterOfClient has a client write, and mask, messages that are compressed and not.
func TestWriterOfClient(t *testing.T) {
	for _, headers := range [][]string{nil, {"Sec-WebSocket-Extensions: permessage-deflate"}} {
		r := dialing(t, options{cfg: ws.Config{Deflate: everything}, window: 1 << 20}, headers...)
		if r.Turns(3); r.c.Compressed() != (headers != nil) {
			t.Fatalf("%q: compressed: %v", headers, r.c.Compressed())
		}
		out := &stretcher{takeover: true, bits: 15}
		for _, size := range []int{0, 1, 100, 3000, 3000, 20000, 200000} {
			say := noise(size) + sentence(1, size)
			w, err := r.c.NewWriter(ws.Text)
			if err != nil {
				t.Fatal(err)
			}
			for p := say; p != ""; p = p[min(len(p), 1+size/3):] {
				if _, err := w.Write([]byte(p[:min(len(p), 1+size/3)])); err != nil {
					t.Fatal(err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			r.Turns(5)
			if f := r.joinedBy(out); f.data != say {
				t.Errorf("%d bytes: %d came", len(say), len(f.data))
			}
			r.read = len(r.peer.Received())
		}
		r.gone()
	}
}
