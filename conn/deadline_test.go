package conn_test

import (
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/reactor"
)

const ms = time.Millisecond

// until turns until the connection has closed, or until the time has come.
func (r *rig) until(at time.Duration) {
	for !r.isClosed() && r.Now < at {
		r.Turn()
	}
}

// wantEnd checks that the connection ends for reason in [from, from+tick], and
// that nothing is left.
func (r *rig) wantEnd(reason conn.Reason, from time.Duration) {
	r.T.Helper()
	r.until(from + time.Hour)
	// It ends in the first turn from then on, and the turn takes a millisecond.
	if at := r.Now; at < from || at > from+4*ms {
		r.T.Fatalf("closed at %v, want %v", at, from)
	}
	var ce *conn.CloseError
	if !errors.As(r.err, &ce) || ce.Reason != reason {
		r.T.Fatalf("closed with %v, want %v", r.err, reason)
	}
	r.gone()
}

// TestIdleTimeout has bytes come and go at any time: the connection lives while
// they do, and ends in the very tick after the last.
func TestIdleTimeout(t *testing.T) {
	looptest.Seeds(t, 2000, func(t *testing.T, seed uint64) {
		r := &rig{window: 1000, world: newWorld(t, seed, aiotest.Config{SendBufferMin: 1000, SendBufferMax: 1000})}
		r.join(conn.Config{IdleTimeout: 50 * ms, CloseTimeout: time.Hour}, nil)
		last := r.Now - ms // The opening: turn has let a millisecond pass.
		for range 20 {
			for n := r.Rand.IntN(40); n > 0 && r.Now < last+45*ms; n-- {
				r.Turn()
			}
			switch r.Rand.IntN(3) {
			case 0:
				r.peer.Feed([]byte("in"))
				had := len(r.got)
				r.Settle("data", func() bool { return len(r.got) > had })
				last = r.Now - ms
			case 1:
				had := r.c.Stats().BytesOut
				_ = r.write(1)
				r.Settle("sent", func() bool { return r.c.Stats().BytesOut > had })
				last = r.Now - ms
			case 2:
				r.peer.AutoRead(r.Rand.IntN(2) == 0)
			}
		}
		if r.isClosed() {
			t.Fatalf("closed with %v while bytes came and went", r.err)
		}
		r.wantEnd(conn.IdleTimeout, last+50*ms)
	})
}

// TestReadTimeout counts silence of the peer, whatever goes to it, and not the
// time in which nobody listens.
func TestReadTimeout(t *testing.T) {
	t.Run("silent", func(t *testing.T) {
		r := newRig(t, 1<<20, conn.Config{ReadTimeout: 50 * ms}, nil)
		r.peer.AutoRead(true)
		from := r.Now - ms
		for range 5 {
			_ = r.write(10)
			r.until(r.Now + 8*ms)
		}
		r.wantEnd(conn.ReadTimeout, from+50*ms)
	})
	t.Run("speaks", func(t *testing.T) {
		r := newRig(t, 1<<20, conn.Config{ReadTimeout: 50 * ms}, nil)
		for range 10 {
			r.peer.Feed([]byte("x"))
			r.until(r.Now + 45*ms)
		}
		r.peer.Feed([]byte("x"))
		had := len(r.got)
		r.Settle("data", func() bool { return len(r.got) > had })
		r.wantEnd(conn.ReadTimeout, r.Now-ms+50*ms)
	})
	t.Run("paused", func(t *testing.T) {
		r := newRig(t, 1<<20, conn.Config{ReadTimeout: 50 * ms}, nil)
		r.c.PauseRead()
		r.until(r.Now + 500*ms)
		r.c.ResumeRead()
		r.Turn()
		r.wantEnd(conn.ReadTimeout, r.Now-ms+50*ms)
	})
	t.Run("ended", func(t *testing.T) {
		r := newRig(t, 1<<20, conn.Config{ReadTimeout: 50 * ms}, func(r *rig) { r.onEOF = func(*conn.Conn) {} })
		r.peer.CloseWrite()
		r.until(r.Now + 500*ms)
		if r.isClosed() {
			t.Fatalf("closed with %v after the peer's end of file", r.err)
		}
		r.gone()
	})
}

// TestWriteTimeout counts the time in which the peer takes nothing of what is
// pending, and only that.
func TestWriteTimeout(t *testing.T) {
	r := newRig(t, 1000, conn.Config{WriteTimeout: 50 * ms}, nil)
	r.until(r.Now + 200*ms) // Nothing is pending.
	r.stuff()
	r.until(r.Now + 200*ms) // Still not.
	_ = r.write(500)
	r.Turns(2)
	for range 10 { // It takes a little each time.
		r.until(r.Now + 40*ms)
		r.read(10)
	}
	if r.isClosed() {
		t.Fatalf("closed with %v while the peer took something", r.err)
	}
	r.wantEnd(conn.WriteTimeout, r.Now+48*ms)
	r.wantReason(conn.WriteTimeout, 400)
}

// TestHandshakeTimeout counts from the opening until the protocol says that its
// handshake is done, whatever the peer says meanwhile: workerman 8.6.
func TestHandshakeTimeout(t *testing.T) {
	r := newRig(t, 1000, conn.Config{HandshakeTimeout: 50 * ms}, nil)
	from := r.Now - ms
	for range 9 {
		r.peer.Feed([]byte("x")) // Slowly, so that it never seems idle.
		r.until(r.Now + 5*ms)
	}
	r.wantEnd(conn.HandshakeTimeout, from+50*ms)

	r = newRig(t, 1000, conn.Config{HandshakeTimeout: 50 * ms}, nil)
	r.until(r.Now + 40*ms)
	r.c.Established()
	if err := r.c.SetDeadlines(r.c.Deadlines()); err != nil {
		t.Error(err)
	}
	r.until(r.Now + 500*ms)
	if r.isClosed() {
		t.Fatalf("closed with %v", r.err)
	}
	r.gone()
}

// TestSetDeadlines changes them while the connection lives.
func TestSetDeadlines(t *testing.T) {
	r := newRig(t, 1000, conn.Config{}, nil)
	if d := r.c.Deadlines(); d != (conn.Deadlines{}) {
		t.Errorf("%+v", d)
	}
	r.c.Established()
	r.until(r.Now + 100*ms)
	if err := r.c.SetDeadlines(conn.Deadlines{Idle: -1}); err == nil {
		t.Error("a negative one was taken")
	}
	d := conn.Deadlines{Idle: time.Hour, Read: 2 * time.Hour}
	if err := r.c.SetDeadlines(d); err != nil || r.c.Deadlines() != d {
		t.Errorf("%+v, %v", r.c.Deadlines(), err)
	}
	r.until(r.Now + 100*ms)
	_ = r.c.SetDeadlines(conn.Deadlines{Idle: 20 * ms}) // Sooner than the timer.
	r.until(r.Now + 10*ms)
	_ = r.c.SetDeadlines(conn.Deadlines{}) // None.
	r.until(r.Now + 200*ms)
	r.stuff()
	_ = r.write(10)
	r.Turns(2)
	_ = r.c.SetDeadlines(conn.Deadlines{Write: 30 * ms}) // While bytes are pending.
	r.wantEnd(conn.WriteTimeout, r.Now+30*ms)

	for _, bad := range []conn.Config{{IdleTimeout: -1}, {ReadTimeout: -1}, {WriteTimeout: -1}, {HandshakeTimeout: -1}} {
		if _, err := bad.Check(); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
}

// TestEndlessDeadlines has deadlines that stand for ever beside one that does not.
func TestEndlessDeadlines(t *testing.T) {
	const never = math.MaxInt64
	for reason, d := range map[conn.Reason]conn.Deadlines{
		conn.IdleTimeout:      {Idle: 50 * ms, Read: never, Write: never, Handshake: never},
		conn.ReadTimeout:      {Idle: never, Read: 50 * ms, Write: never, Handshake: never},
		conn.WriteTimeout:     {Idle: never, Read: never, Write: 50 * ms, Handshake: never},
		conn.HandshakeTimeout: {Idle: never, Read: never, Write: never, Handshake: 50 * ms},
	} {
		r := newRig(t, 1000, conn.Config{CloseTimeout: never, Linger: never}, nil)
		r.stuff()
		_ = r.write(500)
		r.until(r.Now + 100*ms)
		_ = r.c.SetDeadlines(d)
		r.wantEnd(reason, r.Now+50*ms)
	}
}

// TestOnTimeout asks the handler, who may want more time, or close in its way.
func TestOnTimeout(t *testing.T) {
	for reason, cfg := range map[conn.Reason]conn.Config{
		conn.IdleTimeout: {IdleTimeout: 50 * ms}, conn.ReadTimeout: {ReadTimeout: 50 * ms},
		conn.WriteTimeout: {WriteTimeout: 50 * ms}, conn.HandshakeTimeout: {HandshakeTimeout: 50 * ms},
	} {
		asked := 0
		r := newRig(t, 1000, cfg, func(r *rig) {
			r.onTimeout = func(_ *conn.Conn, which conn.Reason) bool {
				if which != reason {
					t.Errorf("asked for %v, want %v", which, reason)
				}
				asked++
				return asked < 4
			}
		})
		from := r.Now - ms
		if reason == conn.WriteTimeout {
			r.stuff()
			_ = r.write(10)
			r.Turns(2)
			from = r.Now - 2*ms
		}
		r.wantEnd(reason, from+200*ms)
		if asked != 4 {
			t.Errorf("%v: asked %d times", reason, asked)
		}
	}
	r := newRig(t, 1000, conn.Config{IdleTimeout: 50 * ms}, func(r *rig) {
		r.onTimeout = func(c *conn.Conn, _ conn.Reason) bool {
			c.CloseError(conn.ProtocolError, nil, []byte("bye"))
			return false
		}
	})
	r.until(time.Hour)
	got := make([]byte, 10)
	if n, _ := r.peer.Read(got); string(got[:n]) != "bye" {
		t.Errorf("the peer has %q", got[:n])
	}
	r.wantReason(conn.ProtocolError, 0)
	r.gone()

	r = newRig(t, 1000, conn.Config{IdleTimeout: 50 * ms}, func(r *rig) {
		r.onTimeout = func(*conn.Conn, conn.Reason) bool { panic("in OnTimeout") }
	})
	r.wantEnd(conn.HandlerPanic, r.Now-ms+50*ms)
}

// TestNoDeadlineAfterClose holds that from Close on only CloseTimeout counts.
func TestNoDeadlineAfterClose(t *testing.T) {
	cfg := conn.Config{IdleTimeout: 50 * ms, ReadTimeout: 50 * ms, WriteTimeout: 50 * ms, HandshakeTimeout: 50 * ms, CloseTimeout: 300 * ms}
	r := newRig(t, 1000, cfg, nil)
	r.stuff()
	_ = r.write(10)
	r.Turns(2)
	from := r.Now
	r.c.Close()
	if err := r.c.SetDeadlines(conn.Deadlines{Idle: ms}); err != nil {
		t.Error(err)
	}
	r.wantEnd(conn.WriteTimeout, from+300*ms)
}

// TestDeadlinesAreLazy holds what a message costs: nothing without deadlines,
// and with them one look at the clock a turn and no timer.
func TestDeadlinesAreLazy(t *testing.T) {
	for _, cfg := range []conn.Config{{}, {IdleTimeout: time.Hour, ReadTimeout: time.Hour, WriteTimeout: time.Hour}} {
		looks := 0
		r := &rig{window: 1 << 30, world: newWorld(t, 1, aiotest.Config{})}
		r.Loop = reactor.NewLoop(reactor.LoopConfig{Engine: r.calls, Small: r.Small, Bulk: r.Bulk,
			Clock: func() time.Duration { looks++; return r.Now }})
		r.join(cfg, func(r *rig) {
			r.onData = func(c *conn.Conn, in *buf.Buf) { c.Send(in) }
		})
		r.peer.AutoRead(true)
		r.Turns(5)
		looks = 0
		const messages = 100
		for range messages {
			r.peer.Feed([]byte("x"))
			r.Turn()
		}
		most := 0
		if cfg.IdleTimeout > 0 {
			most = 3 * messages // And the turns in which the wheel is looked at.
		}
		if looks > most {
			t.Errorf("%+v: %d looks at the clock for %d messages", cfg, looks, messages)
		}
		r.gone()
	}
}

// TestConnTimers holds when the timers of a connection run, and that none does
// from the close on: workerman#328 and others left them behind.
func TestConnTimers(t *testing.T) {
	r := newRig(t, 1000, conn.Config{CloseTimeout: time.Second}, nil)
	var ran []string
	start := r.Now
	note := func(name string) func(*conn.Conn) {
		return func(c *conn.Conn) {
			if c != r.c || r.isClosed() {
				t.Error("of another connection, or of one that has closed")
			}
			ran = append(ran, name)
		}
	}
	r.c.AfterFunc(20*ms, note("b"))
	r.c.AfterFunc(10*ms, note("a"))
	stopped := r.c.AfterFunc(15*ms, note("stopped"))
	again := r.c.AfterFunc(5*ms, note("c"))
	again.Reset(30 * ms)
	if !stopped.Stop() || stopped.Stop() {
		t.Error("Stop answered wrong")
	}
	r.until(start + 50*ms)
	if got := strings.Join(ran, ""); got != "abc" {
		t.Errorf("ran %q", got)
	}
	if again.Stop() {
		t.Error("stopped what had run")
	}
	again.Reset(5 * ms)
	r.until(r.Now + 10*ms)
	if len(ran) != 4 {
		t.Errorf("ran %q: Reset did not run it again", ran)
	}

	ran = nil
	every := r.c.Every(10*ms, note("e"))
	r.until(r.Now + 52*ms)
	if len(ran) != 5 {
		t.Errorf("%d times in 50 ms", len(ran))
	}
	ran = nil
	r.Now += 75 * ms // The loop was busy.
	r.Turns(2)
	if len(ran) != 1 {
		t.Errorf("%d times for what was missed", len(ran))
	}
	every.Stop()
	var inside *conn.Timer
	inside = r.c.Every(5*ms, func(*conn.Conn) { ran = append(ran, "i"); inside.Stop() })
	ran = nil
	r.until(r.Now + 50*ms)
	if len(ran) != 1 {
		t.Errorf("%d times after it stopped itself", len(ran))
	}

	ran = nil
	r.c.Every(5*ms, note("late"))
	r.c.AfterFunc(5*ms, note("late"))
	r.stuff()
	_ = r.write(10)
	r.c.Close()
	again.Reset(ms)
	r.c.AfterFunc(ms, note("late"))
	r.c.Every(ms, note("late"))
	r.until(r.Now + 100*ms)
	if r.isClosed() || len(ran) != 0 {
		t.Errorf("closed %v, ran %q behind Close", r.isClosed(), ran)
	}
	r.gone()

	r = newRig(t, 1000, conn.Config{}, nil)
	r.c.AfterFunc(5*ms, func(*conn.Conn) { panic("in a timer") })
	r.c.Every(ms, func(c *conn.Conn) {})
	r.wantEnd(conn.HandlerPanic, r.Now+4*ms)
}

// TestHeldUpBehindSend has a loop stand still when the peer has taken all there was, and
// the loop has not heard of that. What it has for the peer then goes out first: the
// silence was its own.
func TestHeldUpBehindSend(t *testing.T) {
	r := newRig(t, 1000, conn.Config{IdleTimeout: 50 * ms}, nil)
	r.peer.AutoRead(true)
	r.do(func(c *conn.Conn) {
		c.SendBytes([]byte("first,"), func() { _, _ = c.Write([]byte("second")) })
	})
	r.Now += time.Second
	r.Turns(3)
	if got := string(r.peer.Received()); got != "first,second" || r.isClosed() {
		t.Errorf("the peer has %q, and the end is %v", got, r.err)
	}
	r.wantEnd(conn.IdleTimeout, r.Now+48*ms)
}
