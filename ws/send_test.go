package ws_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/ws"
)

// TestAnswers holds the four answers, in framed bytes, and the hooks of the queue.
func TestAnswers(t *testing.T) {
	var log []string
	h := &ws.Funcs{
		Full:  func(c *ws.Conn) { log = append(log, fmt.Sprint("full ", c.Pending())) },
		Drain: func(c *ws.Conn) { log = append(log, fmt.Sprint("drain ", c.Pending())) },
	}
	r := (*rig)(nil)
	h.Open = func(c *ws.Conn) { r.c = c; r.opens++ }
	h.Close = func(_ *ws.Conn, err *ws.CloseError) { r.closed = err; r.closes++ }
	r = newRig(t, options{handler: h, window: 200, below: conn.Config{HighWater: 100, LowWater: 20, Limit: 150}})
	r.peer.Feed(handshake())
	r.Turns(3)
	r.read = len(r.got()) // Nothing is read yet.
	fill := make([]byte, 200-r.peer.Waiting()-2)
	r.c.Send(ws.Binary, fill)
	r.Turns(3)
	if r.c.Pending() != 0 || r.peer.Waiting() != 200 {
		t.Fatalf("%d pending, %d with the peer", r.c.Pending(), r.peer.Waiting())
	}
	log = nil
	var answers []conn.Status
	for range 5 {
		answers = append(answers, r.c.Send(ws.Text, make([]byte, 48)))
	}
	if fmt.Sprint(answers) != "[queued full full rejected rejected]" || r.c.Pending() != 150 || fmt.Sprint(log) != "[full 100]" {
		t.Fatalf("answers %v, %d pending, hooks %v", answers, r.c.Pending(), log)
	}
	if s := r.c.Conn().Stats(); s.Rejected != 2 || s.RejectedBytes != 100 {
		t.Errorf("stats %+v", s)
	}
	// A ping that comes now is answered past the limit, as is fit; the close frame too.
	r.feed(ping("one"), ping(strings.Repeat("p", 125)), ping(strings.Repeat("p", 125)))
	if r.c.Pending() != 155+127 {
		t.Errorf("%d pending behind three pings", r.c.Pending())
	}
	r.c.Close(4000, strings.Repeat("r", 200))
	if r.c.Pending() != 155+127+127 || r.c.Send(ws.Text, nil) != conn.Closed {
		t.Errorf("%d pending behind a close", r.c.Pending())
	}
	r.peer.AutoRead(true)
	r.Turns(3)
	if !strings.HasPrefix(fmt.Sprint(log), "[full 100 drain ") || len(log) != 2 {
		t.Errorf("hooks %v", log)
	}
	r.read = 129 // Behind the answer to the handshake.
	got, _ := decode(t, false, r.got())
	if n := len(got); n != 7 || got[4].op != 10 || got[4].data != "one" || got[5].op != 10 || got[6].op != 8 || len(got[6].data) != 125 {
		t.Errorf("got %v", got)
	}
	r.feed(bye(4000))
	r.gone()
	r.wantClose(4000, false, true)
}

// TestPrepared holds that one message goes to peers with and without compression,
// and leaves the windows of those with takeover as they must be.
func TestPrepared(t *testing.T) {
	for _, headers := range [][]string{
		{"X: y"}, {offerAll}, {offerAll + "; server_no_context_takeover"}, {"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9"},
	} {
		r := dialed(t, options{cfg: ws.Config{Deflate: everything}}, headers...)
		bits := 15
		if strings.Contains(headers[0], "bits=9") {
			bits = 9
		}
		out := &stretcher{takeover: !strings.Contains(headers[0], "server_no"), bits: bits}
		long := ws.Prepare(ws.Text, []byte(sentence(1, 3000)))
		short := ws.Prepare(ws.Binary, []byte("short"))
		noise := make([]byte, 500)
		for i := range noise {
			noise[i] = byte(r.Rand.Uint32())
		}
		random := ws.Prepare(ws.Binary, noise)
		for range 3 {
			for _, m := range []*ws.Prepared{long, short, random, long} {
				if s := r.c.SendPrepared(m); s != conn.Queued {
					t.Fatal(s)
				}
			}
			r.c.Send(ws.Text, []byte(sentence(2, 2000)))
			r.Turns(3)
			r.wantInflated(out, text(sentence(1, 3000)), bin("short"), bin(string(noise)), text(sentence(1, 3000)), text(sentence(2, 2000)))
		}
		if long.Op() != ws.Text || long.Len() != 3000 {
			t.Errorf("%v of %d bytes", long.Op(), long.Len())
		}
		if want := map[bool]int{true: 9, false: 0}[r.c.Compressed()]; out.deflated != want {
			t.Errorf("%q: %d came compressed, want %d", headers, out.deflated, want)
		}
		r.gone()
	}
	r := dialing(t, options{cfg: ws.Config{Deflate: everything}}, "Sec-WebSocket-Extensions: permessage-deflate")
	r.Turns(3)
	r.c.SendPrepared(ws.Prepare(ws.Text, []byte(sentence(1, 3000))))
	r.Turns(3)
	r.wantInflated(&stretcher{takeover: true, bits: 15}, text(sentence(1, 3000)))
	r.gone()
}

// TestJSON holds both helpers.
func TestJSON(t *testing.T) {
	r := (*rig)(nil)
	h := &ws.Funcs{
		Message: func(c *ws.Conn, m *ws.Message) {
			var v struct{ A int }
			if err := m.JSON(&v); err != nil {
				t.Error(err)
			}
			v.A++
			if s, err := c.SendJSON(v); s != conn.Queued || err != nil {
				t.Error(s, err)
			}
			if s, err := c.SendJSON(math.NaN()); s != conn.Rejected || err == nil {
				t.Error(s, err)
			}
			c.Close(ws.Normal, "")
			if s, err := c.SendJSON(math.NaN()); s != conn.Closed || err != nil {
				t.Error(s, err)
			}
		},
	}
	r = dialed(t, options{handler: h})
	r.feed(text(`{"A": 1}`))
	r.want(text(`{"A":2}`), bye(1000))
	r.gone()
}

// TestSendInsideOnFull sends compressed messages and writes others from OnFull,
// which runs inside a send: the windows stay in step.
func TestSendInsideOnFull(t *testing.T) {
	r := (*rig)(nil)
	depth := 0
	var want []frame
	h := &ws.Funcs{}
	h.Full = func(c *ws.Conn) {
		depth++
		if err := c.Conn().SetMarks(conn.Marks{High: c.Pending() + 4000, Limit: c.Pending() + 8000}); err != nil {
			t.Error(err)
		}
		w, err := c.NewWriter(ws.Text)
		if err != nil {
			return // Inside a writer's own write.
		}
		s := sentence(depth, 700)
		_, _ = w.Write([]byte(s[:300]))
		_, _ = w.Write([]byte(s[300:]))
		_ = w.Close()
		want = append(want, text(s))
		c.Send(ws.Text, []byte(sentence(depth, 400)))
		want = append(want, text(sentence(depth, 400)))
		c.SendPrepared(ws.Prepare(ws.Text, []byte(sentence(depth+1, 400))))
		want = append(want, text(sentence(depth+1, 400)))
	}
	c := (*ws.Conn)(nil)
	h.Message = func(k *ws.Conn, _ *ws.Message) { c = k }
	r = dialed(t, options{handler: h, window: 64, cfg: ws.Config{Deflate: everything}, below: conn.Config{HighWater: 300}}, offerAll)
	r.feed(text("find me"))
	r.peer.AutoRead(false)
	for i := range 40 {
		f := text(sentence(i, 600))
		at := len(want)
		var s conn.Status
		if i%2 == 0 {
			s = c.Send(ws.Text, []byte(f.data))
		} else {
			s = c.SendPrepared(ws.Prepare(ws.Text, []byte(f.data)))
		}
		if s <= conn.Full {
			want = append(want[:at], append([]frame{f}, want[at:]...)...)
		}
	}
	r.peer.AutoRead(true)
	r.Settle("flush", func() bool { return c.Pending() == 0 })
	if depth == 0 {
		t.Fatal("never full")
	}
	out := &stretcher{takeover: true, bits: 15}
	frames, _ := decode(t, false, r.got())
	var got []frame
	for _, f := range frames {
		if f.op == 0 {
			last := &got[len(got)-1]
			last.data, last.part = last.data+f.data, f.part
		} else {
			got = append(got, f)
		}
		if !f.part {
			got[len(got)-1] = out.message(t, got[len(got)-1])
		}
	}
	if !equalFrames(got, want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	r.gone()
}

// TestRef holds what other goroutines can do, in the order of their calls.
func TestRef(t *testing.T) {
	for _, headers := range []string{"X: y", offerAll} {
		r := dialed(t, options{cfg: ws.Config{Deflate: everything}, window: 1 << 20}, headers)
		ref := r.c.Ref()
		if ref.ID() != r.c.ID() {
			t.Error("another ID")
		}
		m := ws.Prepare(ws.Text, []byte(sentence(3, 500)))
		done := make(chan string)
		go func() {
			ref.Send(ws.Text, []byte(sentence(1, 1000)))
			ref.Send(ws.Binary, []byte("b"))
			ref.SendPrepared(m)
			err := ref.SendBlock(context.Background(), ws.Text, []byte(sentence(2, 1000)))
			ref.Do(func(c *ws.Conn) { c.Send(ws.Text, []byte("did")) })
			ref.Close(4001, "enough")
			ref.Send(ws.Text, []byte("too late"))
			done <- fmt.Sprint(err)
		}()
		if err := <-done; err != "<nil>" {
			t.Error(err)
		}
		r.Turns(5)
		r.wantInflated(&stretcher{takeover: true, bits: 15}, text(sentence(1, 1000)), bin("b"), text(sentence(3, 500)), text(sentence(2, 1000)), text("did"), bye(4001))
		r.feed(bye(4001))
		r.gone()
		if s := ref.Send(ws.Text, []byte("gone")); s != conn.Closed {
			t.Error(s)
		}
	}
	r := dialed(t, options{})
	ref := r.c.Ref()
	for ref.Do(func(*ws.Conn) {}) {
	}
	ref.Close(4002, "")
	r.Turns(3)
	r.want(bye(4002))
	r.gone()
	var zero ws.Ref
	if s := zero.Send(ws.Text, nil); s != conn.Closed || zero.ID() != 0 || zero.Pending() != 0 || zero.Do(func(*ws.Conn) {}) {
		t.Error("the zero Ref does something")
	}
	zero.Close(ws.Normal, "")
	zero.Abort()
}

// TestRefIsBounded holds that a goroutine which outruns the loop is refused, in
// framed bytes, and that what is dropped on the loop is told.
func TestRefIsBounded(t *testing.T) {
	var told []string
	r := dialed(t, options{below: conn.Config{HighWater: 1000}})
	h := r.echo()
	h.Error = func(_ *ws.Conn, err error) {
		var se *conn.SendError
		if errors.As(err, &se) {
			told = append(told, fmt.Sprint(se.Messages, se.Bytes, errors.Is(err, conn.ErrSendBufferFull), errors.Is(err, conn.ErrClosed)))
		}
	}
	r.c.SetHandler(h)
	ref := r.c.Ref()
	for i := range 12 {
		want := conn.Queued
		if i >= 9 {
			want = conn.Full
		}
		if i >= 10 {
			want = conn.Rejected
		}
		if s := ref.Send(ws.Text, make([]byte, 98)); s != want {
			t.Errorf("message %d: %v", i, s)
		}
	}
	if ref.Pending() != 1000 {
		t.Errorf("%d pending", ref.Pending())
	}
	r.Turns(3)
	if got, _ := decode(t, false, r.got()); len(got) != 10 {
		t.Errorf("%d came", len(got))
	}
	w, _ := r.c.NewWriter(ws.Text)
	ref.Send(ws.Text, []byte("inside"))
	r.Turns(2)
	_ = w.Close()
	r.c.Close(ws.Normal, "")
	ref.Send(ws.Text, []byte("behind"))
	r.Turns(2)
	if got := fmt.Sprint(told); got != "[2 200 true false 1 6 true false 1 6 false true]" {
		t.Errorf("told %s", got)
	}
	r.gone()
}

// TestRefSendsPrepared holds that prepared messages that were admitted through a Ref are
// not refused on the loop for those behind them.
func TestRefSendsPrepared(t *testing.T) {
	r := dialed(t, options{cfg: ws.Config{Deflate: everything}, window: 1 << 20, below: conn.Config{HighWater: 1000}}, offerAll)
	ref, want := r.c.Ref(), []frame{}
	for i := range 2 {
		random := make([]byte, 700)
		for i := range random {
			random[i] = byte(r.Rand.Uint32())
		}
		say := fmt.Sprint(i) + string(random) + strings.Repeat("a", 280)
		if s := ref.SendPrepared(ws.Prepare(ws.Binary, []byte(say))); s > conn.Full {
			t.Fatal(s)
		}
		want = append(want, bin(say))
	}
	if s := ref.SendPrepared(ws.Prepare(ws.Text, []byte("behind"))); s != conn.Rejected {
		t.Errorf("past the limit: %v", s)
	}
	r.Turns(3)
	r.wantInflated(&stretcher{takeover: true, bits: 15}, want...)
	r.gone()
}

// TestSendOfNoMessage holds that control frames are no messages.
func TestSendOfNoMessage(t *testing.T) {
	for _, op := range []ws.Op{0, 3, 8, 9, 10} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%v was sent", op)
				}
			}()
			ws.Prepare(op, nil)
		}()
	}
}

// TestDropOldest drops whole messages, and neither the handshake nor what a
// decompressor has to see.
func TestDropOldest(t *testing.T) {
	for _, headers := range []string{"X: y", offerAll} {
		r := newRig(t, options{cfg: ws.Config{Deflate: everything}, window: 16, below: conn.Config{HighWater: 3000, SlowPeer: conn.DropOldest}})
		h := r.echo()
		var want []string
		taken := 0
		h.Open = func(c *ws.Conn) {
			r.c = c
			r.opens++
			for i := range 100 {
				f := sentence(i, 200)
				if c.Send(ws.Text, []byte(f)) <= conn.Full {
					taken++
					want = append(want, f)
				}
			}
			w, _ := c.NewWriter(ws.Binary)
			_, _ = w.Write(bytes.Repeat([]byte("w"), 100))
			_ = w.Close()
		}
		// The rig has been given its handler already: all the same one.
		*r.funcs = *h
		r.peer.Feed(handshake(headers))
		r.Turns(3)
		r.peer.AutoRead(true)
		r.Settle("flush", func() bool { return r.c.Pending() == 0 })
		_, p, ok := bytes.Cut(r.got(), []byte("\r\n\r\n"))
		if !ok {
			t.Fatal("the answer to the handshake was dropped")
		}
		frames, rest := decode(t, false, p)
		out := &stretcher{takeover: true, bits: 15}
		at := 0
		for _, f := range frames {
			if f.op != 1 {
				continue
			}
			f = out.message(t, f)
			for at < len(want) && want[at] != f.data {
				at++
			}
			if at == len(want) {
				t.Fatalf("%v came, and was not sent, or not in this order", f)
			}
		}
		switch n := len(frames); {
		case len(rest) > 0, n < 10, headers == "X: y" && (n > 50 || taken != 100), headers != "X: y" && n != taken+1:
			t.Errorf("%q: %d frames came of %d, % x behind them", headers, n, taken+1, rest)
		}
		r.gone()
	}
}

// TestSendReceivedRefused refuses to send messages back that share a block: each stays
// what it was, what is behind it is heard, and it is sent once there is room.
func TestSendReceivedRefused(t *testing.T) {
	for _, retry := range []bool{false, true} {
		r := newRig(t, options{window: 200, below: conn.Config{HighWater: 50, Limit: 100}})
		r.peer.Feed(handshake())
		r.Turns(3)
		r.read = len(r.got()) // Nothing is read yet.
		r.c.Send(ws.Binary, make([]byte, 300))
		r.Turns(3)
		var frames []frame
		for i, n := range []int{2500, 60, 1500, 0} {
			frames = append(frames, frame{op: 2, data: strings.Repeat(string(rune('a'+i)), n)})
		}
		var got []frame
		refused := 0
		r.funcs.Message = func(c *ws.Conn, m *ws.Message) {
			want := frames[len(got)]
			for c.SendReceived(m) == conn.Rejected {
				if refused++; string(m.Bytes()) != want.data {
					t.Fatalf("message %d has changed", len(got))
				}
				if !retry {
					break
				}
				_ = c.Conn().SetMarks(conn.Marks{High: 1 << 20, Limit: 1 << 20})
			}
			got = append(got, frame{op: byte(m.Op), data: want.data})
		}
		r.feed(frames...)
		if len(got) != len(frames) || refused != map[bool]int{false: 4, true: 1}[retry] {
			t.Fatalf("%d messages heard, %d refused", len(got), refused)
		}
		r.peer.AutoRead(true)
		r.Settle("flush", func() bool { return r.c.Pending() == 0 })
		_, p, _ := bytes.Cut(r.peer.Received(), []byte("\r\n\r\n"))
		back, _ := decode(t, false, p)
		if retry && !equalFrames(back[1:], frames) || !retry && len(back) != 1 {
			t.Errorf("%d frames came back", len(back))
		}
		r.gone()
	}
}
