package ws_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
	"github.com/penstock-go/penstock/ws"
)

var beating = ws.Config{PingAfter: 800 * time.Millisecond, PongWithin: 400 * time.Millisecond}

// TestHeartbeat holds that a silent peer is pinged, that one which answers or says
// anything stays, and that one which does not is given up.
func TestHeartbeat(t *testing.T) {
	for _, server := range []bool{true, false} {
		var r *rig
		if server {
			r = dialed(t, options{cfg: beating})
		} else {
			r = dialing(t, options{cfg: beating})
			r.Turns(3)
		}
		feed := func(f frame) { r.peer.Feed(encode(server, f)); r.Turns(2) }
		for i := range 3 {
			r.Pass(550 * time.Millisecond)
			if got := r.got(); len(got) > 0 {
				t.Fatalf("% x, while the peer was not silent for long", got)
			}
			if i < 2 {
				feed(pong("unasked")) // Any sign will do.
			}
		}
		r.Pass(300 * time.Millisecond)
		if got, _ := decode(t, !server, r.got()); !equalFrames(got, frames(ping(""))) {
			t.Fatalf("got %v, want a ping", got)
		}
		feed(pong(""))
		r.Pass(850 * time.Millisecond)
		if got, _ := decode(t, !server, r.got()); !equalFrames(got, frames(ping(""))) || r.closes > 0 {
			t.Fatalf("got %v, want a second ping", got)
		}
		r.Pass(500 * time.Millisecond)
		if got, _ := decode(t, !server, r.got()); len(got) > 0 || !r.peer.WasReset() {
			t.Errorf("got %v, reset: %v", got, r.peer.WasReset())
		}
		s := ws.Stats{}
		if server {
			s = r.server.Stats()
		} else {
			s = r.client.Stats()
		}
		if s.PongTimeouts != 1 {
			t.Errorf("stats %+v", s)
		}
		r.gone()
		if r.wantClose(ws.Abnormal, false, false); !reason(conn.IdleTimeout)(r.closed.Err) {
			t.Errorf("closed with %v", r.closed)
		}
	}
}

// TestHeartbeatAfterClose holds that no ping follows a close frame.
func TestHeartbeatAfterClose(t *testing.T) {
	cfg := beating
	cfg.CloseTimeout = 5 * time.Second
	r := dialed(t, options{cfg: cfg})
	r.c.Close(ws.Normal, "")
	r.Turns(2)
	r.want(bye(1000))
	r.Pass(4 * time.Second)
	r.want()
	r.feed(bye(1000))
	r.Pass(4 * time.Second)
	r.want()
	r.gone()
	r.wantClose(ws.Normal, false, true)
}

// TestHeartbeatOfSlowReader holds that a peer which takes what it is sent, slowly,
// is not given up, since its pong may have to wait; and one that takes nothing is.
func TestHeartbeatOfSlowReader(t *testing.T) {
	r := dialed(t, options{cfg: beating, window: 100})
	r.peer.AutoRead(false)
	r.c.Send(ws.Binary, make([]byte, 4000))
	for range 30 {
		r.Pass(200 * time.Millisecond)
		_, _ = r.peer.Read(make([]byte, 50))
	}
	if r.closes > 0 || r.c.Pending() == 0 {
		t.Fatalf("closed with %v, %d pending", r.closed, r.c.Pending())
	}
	r.Pass(2 * time.Second)
	if s := r.server.Stats(); s.PongTimeouts != 1 {
		t.Errorf("stats %+v", s)
	}
	r.gone()
}

// TestHeartbeatIsSpread holds that connections which come at once are not pinged
// at once.
func TestHeartbeatIsSpread(t *testing.T) {
	const peers = 200
	r := dialed(t, options{cfg: beating})
	h := &ws.Funcs{Ping: nil}
	s, err := ws.NewServer(h, beating)
	if err != nil {
		t.Fatal(err)
	}
	cfg, _ := conn.Config{}.Check()
	all := make([]interface{ Received() []byte }, peers)
	for i := range all {
		fd, p := r.Fake.Open()
		p.AutoRead(true)
		p.Feed(handshake())
		all[i] = p
		r.Loop.Defer(func() { conn.New(r.Loop, int(fd), s, cfg) })
	}
	var times []int
	for range 90 {
		r.Pass(10 * time.Millisecond)
		n := 0
		for _, p := range all {
			n += bytes.Count(p.Received(), []byte("\x89\x00"))
		}
		times = append(times, n)
	}
	if n := times[len(times)-1]; n != peers {
		t.Fatalf("%d pinged", n)
	}
	most := 0
	for i := range times[1:] {
		most = max(most, times[i+1]-times[i])
	}
	if most > peers/4 {
		t.Errorf("%d of %d in 10 ms: %v", most, peers, times)
	}
	r.Loop.Defer(func() { _ = r.c }) // Their end is that of the loop.
}

// TestClose holds the handshake of a close that begins here.
func TestClose(t *testing.T) {
	for _, server := range []bool{true, false} {
		r := dialedOr(t, server, options{})
		feed := func(f ...frame) { r.peer.Feed(encode(server, f...)); r.Turns(3) }
		r.c.Send(ws.Text, []byte("before"))
		r.c.Close(4321, "good reason")
		r.c.Close(ws.Normal, "again")
		if s := r.c.Send(ws.Text, []byte("behind")); s != conn.Closed || r.c.Ping(nil) != conn.Closed {
			t.Errorf("behind a close: %v", s)
		}
		r.Turns(2)
		got, _ := decode(t, !server, r.got())
		if !equalFrames(got, frames(text("before"), byeText(4321, "good reason"))) {
			t.Errorf("got %v", got)
		}
		feed(text("too late"), ping("too late"))
		if len(r.msgs) > 0 || len(r.got()) > 0 {
			t.Errorf("heard %q", r.msgs)
		}
		feed(bye(4321))
		r.gone()
		r.wantClose(4321, false, true)
		if r.closed.Reason != "good reason" || r.closed.Err != nil {
			t.Errorf("closed with %+v", r.closed)
		}
	}
}

// TestMistakeBehindClose holds that what is wrong behind our close frame ends the
// connection, and that no second close frame is sent.
func TestMistakeBehindClose(t *testing.T) {
	for _, server := range []bool{true, false} {
		r := dialedOr(t, server, options{})
		r.c.Close(4001, "")
		r.peer.Feed(encode(server, frame{op: 3}))
		r.Turns(3)
		if got, _ := decode(t, !server, r.got()); !equalFrames(got, frames(bye(4001))) {
			t.Errorf("got %v", got)
		}
		r.gone()
		if r.wantClose(4001, false, false); r.closed.Err == nil {
			t.Errorf("closed with %+v", r.closed)
		}
	}
}

// TestLingerBehindClose holds that a server which has had its answer waits for the
// peer's end of file as any connection does.
func TestLingerBehindClose(t *testing.T) {
	r := dialed(t, options{cfg: ws.Config{CloseTimeout: 300 * time.Millisecond}, below: conn.Config{Linger: time.Minute}})
	r.c.Close(ws.Normal, "")
	r.feed(bye(1000))
	r.Pass(2 * time.Second)
	if r.peer.WasReset() || r.closes > 0 || !r.peer.EOF() {
		t.Errorf("reset: %v, closed %d times", r.peer.WasReset(), r.closes)
	}
	r.gone()
	r.wantClose(ws.Normal, false, true)
}

// TestNoHeartbeat holds that there is none unless it was asked for.
func TestNoHeartbeat(t *testing.T) {
	r := dialed(t, options{cfg: ws.Config{HandshakeTimeout: 200 * time.Millisecond, CloseTimeout: 100 * time.Millisecond}})
	r.Pass(3 * time.Second)
	if r.want(); r.closes > 0 {
		t.Errorf("closed with %v", r.closed)
	}
	r.gone()
}

// TestAnnounced holds that memory is taken for what has come of a message, and not for
// what was announced.
func TestAnnounced(t *testing.T) {
	r := dialed(t, options{})
	f := bin(strings.Repeat("x", 100<<10))
	f.length = 10 << 20
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	r.feed(f)
	r.Turns(20)
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 4<<20 {
		t.Errorf("%d bytes for 100 KiB of a message", n)
	}
	r.gone()
}

// TestLongReason holds that a reason is cut between characters.
func TestLongReason(t *testing.T) {
	r := dialed(t, options{})
	r.c.Close(4000, strings.Repeat("µ", 100))
	r.Turns(2)
	if got, _ := decode(t, false, r.got()); len(got) != 1 || got[0].data[2:] != strings.Repeat("µ", 61) {
		t.Errorf("got %q", got)
	}
	r.feed(bye(4000))
	r.gone()
}

func dialedOr(t *testing.T, server bool, o options) *rig {
	t.Helper()
	if server {
		return dialed(t, o)
	}
	r := dialing(t, o)
	r.Turns(3)
	return r
}

// TestPeerCloses holds what OnClose is told of a peer that closes.
func TestPeerCloses(t *testing.T) {
	for _, server := range []bool{true, false} {
		for _, tc := range []struct {
			f      frame
			code   ws.Code
			reason string
		}{{bye(1000), 1000, ""}, {byeText(3001, "bye ✓"), 3001, "bye ✓"}, {frame{op: 8}, ws.NoStatus, ""}} {
			r := dialedOr(t, server, options{})
			r.c.Send(ws.Text, []byte("x"))
			r.peer.Feed(encode(server, tc.f))
			r.Turns(3)
			if s := r.c.Send(ws.Text, nil); s != conn.Closed {
				t.Errorf("send behind the close: %v", s)
			}
			r.gone()
			r.wantClose(tc.code, true, true)
			if r.closed.Reason != tc.reason || r.closed.Err != nil {
				t.Errorf("closed with %+v", r.closed)
			}
		}
	}
}

// TestCloseTimeout holds that a peer which does not answer a close frame is not
// waited for longer than was said. workerman 8.6: a closing connection has no
// deadline.
func TestCloseTimeout(t *testing.T) {
	for _, server := range []bool{true, false} {
		r := dialedOr(t, server, options{cfg: ws.Config{CloseTimeout: 700 * time.Millisecond}})
		from := r.Now
		r.c.Close(ws.GoingAway, "")
		for !r.peer.EOF() && r.Now < from+3*time.Second {
			r.Pass(10 * time.Millisecond)
			if r.Now < from+500*time.Millisecond {
				r.peer.Feed(encode(server, text("never mind"))) // No excuse.
			}
		}
		if d := r.Now - from; d < 650*time.Millisecond || d > 900*time.Millisecond {
			t.Errorf("closed after %v", d)
		}
		r.gone()
		if r.wantClose(ws.GoingAway, false, false); r.closed.Err == nil {
			t.Errorf("closed with %+v", r.closed)
		}
	}
}

// TestEnds holds what OnClose is told of an end without close frames.
func TestEnds(t *testing.T) {
	for name, tc := range map[string]struct {
		end    func(r *rig)
		remote bool
		is     func(err error) bool
	}{
		"end of file": {func(r *rig) { r.peer.CloseWrite() }, true, func(err error) bool { return err == io.EOF }},
		"in a message": {func(r *rig) {
			r.feed(more(text("half")))
			r.peer.Feed([]byte{0x80})
			r.Turns(2)
			r.peer.CloseWrite()
		}, true, func(err error) bool { return err == io.EOF }},
		"reset":       {func(r *rig) { r.peer.Reset() }, true, reason(conn.PeerReset)},
		"abort":       {func(r *rig) { r.c.Conn().Abort() }, false, reason(conn.Aborted)},
		"close below": {func(r *rig) { r.c.Conn().Close() }, false, func(err error) bool { return err == nil }},
	} {
		r := dialed(t, options{})
		r.c.Send(ws.Text, []byte("last words"))
		tc.end(r)
		r.Turns(3)
		if name == "end of file" {
			r.want(text("last words"))
		}
		r.gone()
		if r.wantClose(ws.Abnormal, tc.remote, false); !tc.is(r.closed.Err) {
			t.Errorf("%s: closed with %v", name, r.closed)
		}
	}
}

func reason(want conn.Reason) func(error) bool {
	return func(err error) bool {
		var ce *conn.CloseError
		return errors.As(err, &ce) && ce.Reason == want
	}
}

// TestPanics holds that a panic of a handler ends its connection alone. workerman
// 8.16: an exception in a callback stops the whole process.
func TestPanics(t *testing.T) {
	for _, hook := range []string{"upgrade", "open", "message", "moved", "fragment", "ping", "pong"} {
		r := dialed(t, options{}) // Another one, on the same loop.
		h := &ws.Funcs{Message: func(c *ws.Conn, m *ws.Message) {
			if hook == "moved" {
				c.SendReceived(m)
			}
			if len(m.Bytes()) != 3 {
				panic("of a message")
			}
		}}
		closed := 0
		h.Close = func(*ws.Conn, *ws.CloseError) { closed++ }
		boom := func() { panic("of " + hook) }
		switch hook {
		case "upgrade":
			h.Upgrade = func(*ws.Request) { boom() }
		case "open":
			h.Open = func(*ws.Conn) { boom() }
		case "fragment":
			h.Fragment = func(*ws.Conn, *ws.Fragment) { boom() }
		case "ping":
			h.Ping = func(*ws.Conn, []byte) { boom() }
		case "pong":
			h.Pong = func(*ws.Conn, []byte) { boom() }
		}
		s, err := ws.NewServer(h, ws.Config{})
		if err != nil {
			t.Fatal(err)
		}
		cfg, _ := conn.Config{}.Check()
		fd, p := r.Fake.Open()
		p.AutoRead(true)
		p.Feed(handshake())
		r.Loop.Defer(func() { conn.New(r.Loop, int(fd), s, cfg) })
		r.Turns(3)
		if hook == "ping" || hook == "pong" {
			p.Feed(masked(ping(""), pong("")))
		} else {
			p.Feed(masked(text(strings.Repeat("x", 3000)), text("behind"), more(text("and"))))
		}
		r.Turns(5)
		if !p.WasReset() || r.closes > 0 || s.Stats().Open != 0 || closed != map[bool]int{true: 0, false: 1}[hook == "upgrade"] {
			t.Errorf("%s: reset %v, the other closed %d times, stats %+v, closed %d times", hook, p.WasReset(), r.closes, s.Stats(), closed)
		}
		r.feed(text("still there"))
		r.want(text("still there"))
		r.gone()
	}
}

// TestFragments holds messages taken in pieces: the same bytes however they come.
func TestFragments(t *testing.T) {
	looptest.Seeds(t, 300, func(t *testing.T, seed uint64) {
		var got []frame
		open := false
		h := &ws.Funcs{
			Message: func(*ws.Conn, *ws.Message) { t.Error("a whole message") },
			Fragment: func(_ *ws.Conn, f *ws.Fragment) {
				if f.First == open {
					t.Errorf("first is %v", f.First)
				}
				if f.First {
					got = append(got, frame{op: byte(f.Op)})
				}
				got[len(got)-1].data += string(f.Bytes())
				open = !f.Last
			},
		}
		r := dialed(t, options{handler: h, seed: seed, faults: splits, cfg: ws.Config{MaxMessage: 1 << 30, Deflate: everything}}, offerAll)
		var want []frame
		in := &squeezer{takeover: true}
		var p []byte
		for i := range 6 {
			f := text(sentence(i, r.Rand.IntN(3000)))
			want = append(want, f)
			if r.Rand.IntN(2) == 0 {
				f = in.message(t, f)
			}
			p = append(p, encode(true, cut(r.Rand, f)...)...)
		}
		for len(p) > 0 {
			n := 1 + r.Rand.IntN(min(len(p), 2000))
			r.peer.Feed(p[:n])
			p = p[n:]
			r.Turns(r.Rand.IntN(2))
		}
		r.Settle("messages", func() bool { return len(got) == len(want) && !open })
		if !equalFrames(got, want) {
			t.Fatalf("got %v, want %v", got, want)
		}
		r.peer.CloseWrite()
		r.Settle("close", func() bool { return r.Fake.OpenFDs() == 0 })
		r.Finish()
	})
}

// cut makes fragments of a message, with pings among them.
func cut(rng *rand.Rand, f frame) (parts []frame) {
	for rest := f.data; ; {
		n := rng.IntN(len(rest) + 1)
		if rng.IntN(3) == 0 {
			n = len(rest)
		}
		part := frame{op: f.op, rsv: f.rsv, data: rest[:n], part: n < len(rest)}
		if len(parts) > 0 {
			part.op, part.rsv = 0, 0
			if rng.IntN(3) == 0 {
				parts = append(parts, ping("p"))
			}
		}
		parts = append(parts, part)
		if rest = rest[n:]; len(rest) == 0 && !part.part {
			return parts
		}
	}
}

// TestShutdown holds that every peer is told GoingAway, and that a shutdown ends
// when they have answered. workerman has no such thing.
func TestShutdown(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		_, l, err := ws.Listen(g, "tcp", "127.0.0.1:0", echoer(), ws.Config{}, conn.Config{})
		if err != nil {
			t.Fatal(err)
		}
		const peers = 5
		heard := make(chan []byte, peers)
		ready := make(chan bool, peers)
		for range peers {
			c := dialTCP(t, l)
			go func() {
				defer c.Close()
				_, _ = c.Write(handshake())
				p, head := make([]byte, 4096), 0
				for head == 0 {
					n, err := c.Read(p)
					if err != nil {
						break
					}
					head = bytes.Index(p[:n], []byte("\r\n\r\n"))
				}
				ready <- true
				n, _ := c.Read(p)
				_, _ = c.Write(masked(bye(1001)))
				rest, _ := io.ReadAll(c)
				heard <- append(p[:n:n], rest...)
			}()
		}
		for range peers {
			<-ready
		}
		ctx, cancel := context.WithTimeout(context.Background(), testutil.Timeout(10*time.Second))
		defer cancel()
		if err := g.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		for range peers {
			if got, rest := decode(t, false, <-heard); len(rest) > 0 || !equalFrames(got, frames(bye(1001))) {
				t.Errorf("heard %v", got)
			}
		}
	})
}

// TestPauseInsideBlock holds that reading which is paused at a message stops before
// the next one of the same block, and goes on where it was.
func TestPauseInsideBlock(t *testing.T) {
	var got []string
	var c *ws.Conn
	h := &ws.Funcs{Message: func(k *ws.Conn, m *ws.Message) {
		c = k
		got = append(got, string(m.Bytes()))
		k.Conn().PauseRead()
	}}
	r := dialed(t, options{handler: h})
	r.feed(text("one"), text("two"), more(text("th")), ping(""), cont("ree"), text("four"))
	for i, want := range []string{"one", "one two", "one two three", "one two three four", "one two three four"} {
		if s := strings.Join(got, " "); s != want {
			t.Fatalf("step %d: heard %q", i, s)
		}
		r.Turns(3)
		c.Conn().ResumeRead()
		r.Turns(3)
	}
	r.gone()
}

// TestHeartbeatWhilePaused holds that a peer is not given up whose pongs are not
// heard because reading is paused, that it is pinged all the same, and that a ping
// finds out when it has gone.
func TestHeartbeatWhilePaused(t *testing.T) {
	for _, gone := range []bool{false, true} {
		r := dialed(t, options{cfg: beating})
		r.Pass(850 * time.Millisecond)
		r.want(ping(""))
		r.c.Conn().PauseRead()
		r.peer.Feed(masked(pong("")))
		r.Pass(3 * time.Second)
		got, _ := decode(t, false, r.got())
		if n := len(got); n < 2 || n > 4 || !equalFrames(got, slices.Repeat([]frame{ping("")}, n)) {
			t.Fatalf("in 3 s of pause the peer got %v", got)
		}
		if r.closes > 0 {
			t.Fatalf("closed with %v", r.closed)
		}
		if gone {
			r.peer.Reset()
			r.Pass(3 * time.Second)
			if r.closes != 1 {
				t.Fatalf("%d closes, 3 s after the peer's reset", r.closes)
			}
		} else {
			r.c.Conn().ResumeRead()
			r.Pass(500 * time.Millisecond)
			r.want()
			r.Pass(400 * time.Millisecond)
			r.want(ping(""))
		}
		r.gone()
	}
}
