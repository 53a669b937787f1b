package conn_test

import (
	"bytes"
	"errors"
	"io"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
)

// newPipe returns two connections in one world with a pipe between them.
func newPipe(t *testing.T, window int, cfg conn.Config, with func(r *rig), how conn.PipeConfig) (a, b *rig, p *conn.Piping) {
	t.Helper()
	a = newRig(t, window, cfg, with)
	b = a.second(cfg, with)
	p, err := conn.Pipe(a.c, b.c, how)
	if err != nil {
		t.Fatal(err)
	}
	return a, b, p
}

// feed has the peer of r send p, and what becomes of that.
func (r *rig) feed(p []byte) {
	r.T.Helper()
	r.peer.Feed(p)
	r.Settle("received", func() bool { return r.peer.Unreceived() == 0 || r.c.ReadPaused() })
	r.Turns(2)
}

// bothGone waits for the end of both and checks that nothing is left.
func bothGone(a, b *rig) {
	a.T.Helper()
	a.Settle("both closed", func() bool { return a.isClosed() && b.isClosed() })
	a.Finish()
}

// TestPipe holds the ordinary life of a pipe: bytes both ways, half-close in
// turn, and an end of both in order.
func TestPipe(t *testing.T) {
	a, b, p := newPipe(t, 1<<20, conn.Config{}, nil, conn.PipeConfig{})
	up, down := noise(1, 100_000), noise(2, 50_000)
	a.feed(up)
	b.feed(down)
	if !bytes.Equal(b.peer.ReadAll(), up) || !bytes.Equal(a.peer.ReadAll(), down) {
		t.Fatal("not what was sent")
	}
	a.peer.CloseWrite()
	b.Settle("FIN", b.peer.EOF)
	if a.peer.EOF() || a.isClosed() || b.isClosed() {
		t.Fatal("one end of file ended both directions")
	}
	b.feed([]byte("an answer behind the request"))
	if got := a.peer.ReadAll(); string(got) != "an answer behind the request" {
		t.Fatalf("got %q behind the half-close", got)
	}
	b.peer.CloseWrite()
	a.Settle("FIN", a.peer.EOF)
	bothGone(a, b)
	for _, r := range []*rig{a, b} {
		if r.err != io.EOF || len(r.got) > 0 {
			t.Errorf("closed with %v, OnData brought %d bytes", r.err, len(r.got))
		}
	}
	if ab, ba := p.Bytes(); ab != 100_000 || ba != 50_028 {
		t.Errorf("%d and %d bytes forwarded", ab, ba)
	}
}

// TestPipeFlow holds that a sink which does not read stops its source, by the
// marks, and keeps its hooks; and that one-byte writes cost what bytes cost.
func TestPipeFlow(t *testing.T) {
	for _, pauseOnFull := range []bool{false, true} {
		cfg := marks(20_000, 5_000, 20_000)
		cfg.PauseOnFull = pauseOnFull
		a, b, _ := newPipe(t, 1000, cfg, nil, conn.PipeConfig{})
		data := noise(3, 1_000_000)
		a.peer.Feed(data)
		a.Turns(200)
		if !a.c.ReadPaused() || a.peer.Unreceived() == 0 || b.c.Pending() < 20_000 || b.c.Pending() >= 20_000+64<<10 {
			t.Fatalf("paused %v, %d bytes pending, %d not received", a.c.ReadPaused(), b.c.Pending(), a.peer.Unreceived())
		}
		if b.wantLog("full"); a.count("full") != 0 {
			t.Fatal("the source is full")
		}
		// The other direction goes on.
		b.feed([]byte("meanwhile"))
		if got := a.peer.ReadAll(); string(got) != "meanwhile" {
			t.Fatalf("got %q beside a direction that is full", got)
		}
		most := 0
		for len(b.peer.Received()) < len(data) {
			_, _ = b.peer.Read(make([]byte, 1000))
			b.Turn()
			most = max(most, b.c.Stats().PendingMax)
		}
		if !bytes.Equal(b.peer.Received(), data) {
			t.Fatal("not what was sent")
		}
		if most >= 20_000+64<<10 || b.count("full") != b.count("drain") || b.count("full") < 5 {
			t.Fatalf("at most %d bytes pending, %d fulls, %d drains", most, b.count("full"), b.count("drain"))
		}
		for i := range 5000 {
			a.peer.Feed(data[i : i+1])
			if i%7 == 0 {
				a.Turn()
			}
		}
		a.Settle("small", func() bool { return a.peer.Unreceived() == 0 })
		if n := a.Small.InUse() + 16*a.Bulk.InUse(); n > 40 {
			t.Errorf("%d blocks for 5000 bytes", n)
		}
		a.c.Abort()
		bothGone(a, b)
	}
}

// TestPipeEnds holds how the end of one connection becomes that of the other.
func TestPipeEnds(t *testing.T) {
	type ends struct {
		name   string
		end    func(a, b *rig)
		ra, rb conn.Reason
		cause  error // of b
		reset  bool  // the peer of b
	}
	for _, tc := range []ends{
		{"reset", func(a, b *rig) { a.peer.Reset() }, conn.PeerReset, conn.PipeBroken, syscall.ECONNRESET, true},
		{"abort", func(a, b *rig) { a.c.Abort() }, conn.Aborted, conn.PipeBroken, nil, true},
		{"close", func(a, b *rig) { a.c.Close() }, conn.Local, conn.Local, nil, false},
		{"reset behind the end", func(a, b *rig) {
			a.peer.CloseWrite()
			a.Turns(3)
			a.peer.Reset()
			b.peer.Feed([]byte("more"))
		}, conn.PeerReset, conn.Local, nil, false},
		{"close write", func(a, b *rig) {
			a.c.CloseWrite()
			a.Turns(3)
			b.peer.Feed([]byte("for nobody"))
		}, conn.PipeBroken, conn.PipeBroken, conn.ErrClosed, true},
		{"close and more", func(a, b *rig) {
			a.c.Close()
			b.peer.Feed([]byte("for nobody"))
		}, conn.Local, conn.Local, nil, false},
		{"panic", func(a, b *rig) { a.do(func(*conn.Conn) { panic("a handler's") }) }, conn.HandlerPanic, conn.PipeBroken, nil, true},
		{"panic in OnFull", func(a, b *rig) {
			b.onFull = func(*conn.Conn) { panic("a hook's") }
			b.peer.AutoRead(false)
			a.peer.Feed(make([]byte, 200_000))
		}, conn.PipeBroken, conn.HandlerPanic, nil, true},
	} {
		t.Run(name("%s", tc.name), func(t *testing.T) {
			a, b, _ := newPipe(t, 3000, marks(20_000, 0, 20_000), nil, conn.PipeConfig{})
			a.feed([]byte("hello"))
			if got := b.peer.ReadAll(); string(got) != "hello" {
				t.Fatalf("got %q", got)
			}
			a.peer.AutoRead(true)
			b.peer.AutoRead(true)
			tc.end(a, b)
			a.Settle("both closed", func() bool { return a.isClosed() && b.isClosed() })
			for r, want := range map[*rig]conn.Reason{a: tc.ra, b: tc.rb} {
				var ce *conn.CloseError
				switch ok := errors.As(r.err, &ce); {
				case want == conn.Local && r.err == nil:
				case !ok || ce.Reason != want:
					t.Errorf("end %v closed with %v, want %v", r == b, r.err, want)
				}
			}
			if tc.cause != nil && !errors.Is(b.err, tc.cause) {
				t.Errorf("b closed with %v, not for %v", b.err, tc.cause)
			}
			if b.peer.WasReset() != tc.reset {
				t.Errorf("peer of b reset: %v", b.peer.WasReset())
			}
			a.Finish()
		})
	}
}

// TestPipeSlowEnd holds that what was forwarded before an end of file reaches a
// peer that reads slowly, past CloseTimeout; and that one that has stopped is
// given up.
func TestPipeSlowEnd(t *testing.T) {
	cfg := marks(200_000, 0, 200_000)
	cfg.CloseTimeout = time.Second
	a, b, _ := newPipe(t, 1000, cfg, nil, conn.PipeConfig{})
	data := noise(4, 100_000)
	a.feed(data)
	a.peer.CloseWrite()
	for !b.peer.EOF() && !b.isClosed() {
		_, _ = b.peer.Read(make([]byte, 1000))
		b.Now += 300 * time.Millisecond
		b.Turn()
	}
	if !bytes.Equal(b.peer.Received(), data) {
		t.Fatalf("the peer has %d bytes, closed with %v", len(b.peer.Received()), b.err)
	}
	b.feed(data)
	b.peer.CloseWrite()
	for range 30 {
		b.Now += 300 * time.Millisecond
		b.Turn()
	}
	var ce *conn.CloseError
	if !errors.As(a.err, &ce) || ce.Reason != conn.WriteTimeout {
		t.Fatalf("closed with %v", a.err)
	}
	bothGone(a, b)
}

// TestPipeBeside holds that handlers may send, pause and change while the pipe
// is on, and have their input back after it.
func TestPipeBeside(t *testing.T) {
	a, b, p := newPipe(t, 1<<20, marks(2000, 0, 2000), nil, conn.PipeConfig{})
	_, _ = b.c.Write([]byte("<own>"))
	a.feed([]byte("forwarded"))
	b.c.Ref().Write([]byte("<more>"))
	b.Turns(3)
	if got := b.peer.ReadAll(); string(got) != "<own>forwarded<more>" {
		t.Fatalf("got %q", got)
	}
	a.c.PauseRead()
	a.Turns(2)
	a.peer.Feed([]byte("paused"))
	if a.Turns(5); b.peer.Waiting() != 0 {
		t.Fatal("forwarded while reading was paused")
	}
	a.c.ResumeRead()
	a.Turns(3)
	if got := b.peer.ReadAll(); string(got) != "paused" {
		t.Fatalf("got %q", got)
	}
	if _, err := conn.Pipe(a.c, b.c, conn.PipeConfig{}); err != conn.ErrPiped {
		t.Errorf("a second pipe: %v", err)
	}
	heard := ""
	a.c.SetHandler(&conn.Funcs{
		Data:  func(_ *conn.Conn, in *buf.Buf) { heard += string(in.Bytes()) },
		Close: func(_ *conn.Conn, err error) { a.note("close") },
	})
	a.feed([]byte("still"))
	if got := b.peer.ReadAll(); string(got) != "still" || heard != "" {
		t.Fatalf("got %q, heard %q", got, heard)
	}
	// A full sink holds its source; unpiped, the source is the handler's.
	b.window = 1 << 20
	b.peer.Feed(bytes.Repeat([]byte("x"), 3<<20))
	a.Settle("paused", b.c.ReadPaused)
	p.Unpipe()
	p.Unpipe()
	a.feed([]byte("mine"))
	b.Settle("received", func() bool { return b.peer.Unreceived() == 0 })
	b.Turns(5)
	if _, ba := p.Bytes(); heard != "mine" || uint64(len(b.got))+ba != 3<<20 {
		t.Fatalf("heard %q, %d bytes forwarded, %d heard of %d", heard, ba, len(b.got), 3<<20)
	}
	a.c.Abort()
	a.Settle("close", a.isClosed)
	if b.Turns(3); b.isClosed() {
		t.Error("the end of one is the end of the other after Unpipe")
	}
	b.gone()
}

// TestPipeOneWay holds that one direction leaves the other to its handlers.
func TestPipeOneWay(t *testing.T) {
	eof := func(r *rig) { r.onEOF = func(c *conn.Conn) {} }
	a, b, _ := newPipe(t, 1<<20, conn.Config{}, eof, conn.PipeConfig{OneWay: true})
	a.feed([]byte("there"))
	b.feed([]byte("back"))
	if string(b.peer.ReadAll()) != "there" || string(b.got) != "back" || a.peer.Waiting() != 0 {
		t.Fatalf("b has heard %q", b.got)
	}
	a.peer.CloseWrite()
	b.Settle("FIN", b.peer.EOF)
	if a.count("eof") != 1 {
		t.Error("no OnEOF")
	}
	_, _ = a.c.Write([]byte("an answer"))
	a.Turns(2)
	if got := a.peer.ReadAll(); string(got) != "an answer" {
		t.Fatalf("got %q", got)
	}
	b.peer.Reset()
	bothGone(a, b)

	// To itself: an echo with flow control, that ends when its peer does.
	e := newRig(t, 3000, marks(5000, 1000, 5000), nil)
	if _, err := conn.Pipe(e.c, e.c, conn.PipeConfig{}); err != nil {
		t.Fatal(err)
	}
	data := noise(5, 300_000)
	e.peer.Feed(data)
	e.Turns(100)
	e.peer.CloseWrite()
	e.peer.AutoRead(true)
	e.Settle("close", e.isClosed)
	if !bytes.Equal(e.peer.Received(), data) || e.err != io.EOF {
		t.Errorf("%d bytes of %d came back, closed with %v", len(e.peer.Received()), len(data), e.err)
	}
	e.Finish()
}

// TestPipeLate holds that a pipe over ends that have ended is refused, or carries
// what has come before.
func TestPipeLate(t *testing.T) {
	keep := func(r *rig) { r.onEOF = func(c *conn.Conn) {} }
	a := newRig(t, 1<<20, conn.Config{}, keep)
	b := a.second(conn.Config{}, keep)
	a.c.PauseRead()
	a.Turns(3)
	a.peer.Feed([]byte("before"))
	b.peer.CloseWrite()
	b.Settle("eof", func() bool { return b.count("eof") == 1 })
	if _, err := conn.Pipe(a.c, b.c, conn.PipeConfig{}); err != nil {
		t.Fatal(err)
	}
	a.Settle("FIN", a.peer.EOF)
	a.c.ResumeRead()
	a.Settle("bytes", func() bool { return string(b.peer.ReadAll()) == "before" })
	a.peer.CloseWrite()
	bothGone(a, b)
	if _, err := conn.Pipe(a.c, b.c, conn.PipeConfig{}); err != conn.ErrClosed {
		t.Errorf("a pipe of closed connections: %v", err)
	}
	if _, err := conn.PipeRef(a.c, conn.Ref{}, conn.PipeConfig{}); err != conn.ErrClosed {
		t.Errorf("a pipe to nobody: %v", err)
	}
}

// TestPipeBesideUsedBudget holds that a pipe goes on beside a budget that others
// have used up. An earlier draft stopped for ever.
func TestPipeBesideUsedBudget(t *testing.T) {
	budget := conn.NewBudget(10_000, conn.BudgetReject)
	cfg := conn.Config{Budget: budget, HighWater: 20_000}
	a, b, _ := newPipe(t, 1000, cfg, nil, conn.PipeConfig{})
	hog := a.second(cfg, nil)
	hog.stuff()
	_, _ = hog.c.Write(make([]byte, 10_000))
	data := noise(6, 200_000)
	a.peer.Feed(data)
	for i := 0; len(b.peer.Received()) < len(data); i++ {
		_, _ = b.peer.Read(make([]byte, 1000))
		if b.Turn(); i > 10_000 {
			t.Fatalf("stopped with %d bytes of %d", len(b.peer.Received()), len(data))
		}
	}
	if !bytes.Equal(b.peer.Received(), data) {
		t.Fatal("not what was sent")
	}
	hog.c.Abort()
	a.c.Abort()
	a.Settle("closed", func() bool { return hog.isClosed() && a.isClosed() && b.isClosed() })
	a.Finish()
}

// TestSimPipe forwards both ways between peers that talk, read now and then and
// half-close, while the handlers send, pause and change their marks: every byte
// arrives, in order. With resets what arrived is what was sent, up to somewhere.
// Half of them are between two loops.
func TestSimPipe(t *testing.T) {
	looptest.Seeds(t, 300, func(t *testing.T, seed uint64) {
		faults := aiotest.Faults()
		if seed%3 == 0 {
			faults.Reset, faults.NoMemory = 0.003, 0.003
		}
		w := newWorld(t, seed, faults)
		worlds := []*world{w, w}
		turn := w.Turn
		if seed%2 == 0 {
			worlds[1] = newWorld(t, seed+1, faults)
			turn = func() { w.Turn(); worlds[1].Turn() }
		}
		var parties [2]*party
		var peers [2]*aiotest.Peer
		for i, w := range worlds {
			fd, peer := w.Fake.Open()
			parties[i], peers[i] = &party{w: w}, peer
			conn.New(w.Loop, int(fd), parties[i], w.config())
		}
		if _, err := conn.PipeRef(parties[0].c, parties[1].c.Ref(), conn.PipeConfig{}); err != nil {
			t.Fatal(err)
		}
		turn()
		var sent [2][]byte // bytes below 128
		var own [2]int     // bytes of 128 and above that were taken
		var ended [2]bool
		for range 80 {
			for i, peer := range peers {
				if !ended[i] && w.Rand.IntN(3) == 0 {
					data := noise(w.Rand.IntN(1000), 1+w.Rand.IntN(w.Rand.IntN(20_000)+1))
					for j := range data {
						data[j] &= 127
					}
					sent[i] = append(sent[i], data...)
					peer.Feed(data)
				}
				if w.Rand.IntN(3) == 0 {
					_, _ = peer.Read(make([]byte, 1+w.Rand.IntN(20_000)))
				}
				if !ended[i] && w.Rand.IntN(60) == 0 {
					ended[i] = true
					peer.CloseWrite()
				}
				own[i] += parties[i].meddle()
			}
			turn()
		}
		for i, peer := range peers {
			parties[i].c.ResumeRead()
			if peer.AutoRead(true); !ended[i] {
				peer.CloseWrite()
			}
		}
		w.Settle("close", func() bool {
			turn()
			return parties[0].closes == 1 && parties[1].closes == 1
		})
		for i, peer := range peers {
			var got []byte
			mine := 0
			for _, x := range append(peer.Received(), peer.ReadAll()...) {
				if x < 128 {
					got = append(got, x)
				} else {
					mine++
				}
			}
			if broken := seed%3 == 0 && (peers[0].WasReset() || peers[1].WasReset()); broken && bytes.HasPrefix(sent[1-i], got) {
				continue
			}
			if mine != own[i] {
				t.Fatalf("peer %d has %d bytes of its handler, %d were taken", i, mine, own[i])
			}
			if !bytes.Equal(got, sent[1-i]) {
				t.Fatalf("peer %d has %d bytes, %d were sent; closed with %v and %v", i, len(got), len(sent[1-i]), parties[0].closeErr, parties[1].closeErr)
			}
		}
		if w.Finish(); worlds[1] != w {
			worlds[1].Finish()
		}
	})
}

// TestUnpipeInside unpipes in the OnFull that a forwarded block sets off, and
// aborts in one: the source is neither left unread nor left behind.
func TestUnpipeInside(t *testing.T) {
	for _, abort := range []bool{false, true} {
		a, b, p := newPipe(t, 1000, marks(2000, 0, 2000), nil, conn.PipeConfig{})
		b.onFull = func(*conn.Conn) {
			if abort {
				a.c.Abort()
			} else {
				p.Unpipe()
			}
		}
		a.peer.Feed(noise(1, 30_000))
		if abort {
			a.Settle("close", a.isClosed)
			b.peer.AutoRead(true)
			bothGone(a, b)
			continue
		}
		a.Settle("received", func() bool { return a.peer.Unreceived() == 0 })
		a.Turns(3)
		if ab, _ := p.Bytes(); a.c.ReadPaused() || int(ab)+len(a.got) != 30_000 {
			t.Errorf("paused %v, %d bytes forwarded and %d heard of 30000", a.c.ReadPaused(), ab, len(a.got))
		}
		b.c.Abort()
		b.Settle("close", b.isClosed)
		a.gone()
	}
}

// meddle does what a handler may do beside a pipe, and returns how many bytes of
// its own were taken.
func (p *party) meddle() int {
	w, c := p.w, p.c
	if p.closes > 0 {
		return 0
	}
	switch w.Rand.IntN(12) {
	case 0:
		c.PauseRead()
	case 1, 2:
		c.ResumeRead()
	case 3:
		high := 1 + w.Rand.IntN(50_000)
		_ = c.SetMarks(conn.Marks{High: high, Low: w.Rand.IntN(high), Limit: high + w.Rand.IntN(1000)})
	case 4:
		data := bytes.Repeat([]byte{200}, 1+w.Rand.IntN(3000))
		if p.send(func() conn.Status { _, err := c.Write(data); return statusOf(err) }) == conn.Queued {
			return len(data)
		}
	case 5:
		data := bytes.Repeat([]byte{201}, 1+w.Rand.IntN(9000))
		if p.send(func() conn.Status { return c.SendFrom(bytes.NewReader(data), -1, nil) }) <= conn.Full {
			return len(data)
		}
	}
	return 0
}
