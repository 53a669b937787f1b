package conn_test

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

func TestSendInsideOnFull(t *testing.T) {
	r := newRig(t, 64, marks(100, 0, 150), nil)
	r.stuff()
	r.onFull = func(c *conn.Conn) {
		if err := r.write(60); err != nil {
			t.Errorf("below the limit: %v", err)
		}
		if err := r.write(1); !errors.Is(err, conn.ErrSendBufferFull) {
			t.Errorf("at the limit: %v", err)
		}
	}
	_ = r.write(100)
	r.wantLog("full")
	r.gone()
	r.wantLog("full drain close")
	if n := len(r.peer.Received()); n != 64+160 {
		t.Errorf("the peer has %d bytes", n)
	}
}

// TestProducer sends until full again inside each OnDrain: all arrives, hooks
// alternate, and nothing recurses.
func TestProducer(t *testing.T) {
	left, depth := 200000, 0
	var r *rig
	fill := func(c *conn.Conn) {
		if depth++; depth > 1 {
			t.Error("OnDrain inside OnDrain")
		}
		for left > 0 && !c.IsFull() {
			n := min(left, 333)
			if err := r.write(n); err != nil {
				t.Fatal(err)
			}
			left -= n
		}
		depth--
	}
	r = newRig(t, 1000, marks(5000, 100, 6000), func(r *rig) { r.onDrain = fill })
	fill(r.c)
	for left > 0 || r.c.Pending() > 0 {
		r.peer.ReadAll()
		r.Turn()
	}
	if full, drain := r.count("full"), r.count("drain"); full != drain || full < 20 {
		t.Errorf("%d fulls, %d drains", full, drain)
	}
	r.gone()
	if n := len(r.peer.Received()); n != 200000 {
		t.Errorf("the peer has %d bytes", n)
	}
}

// TestCloseInsideOnDrain holds that what the handler sends before it closes
// arrives: a close behind a send truncates nothing.
func TestCloseInsideOnDrain(t *testing.T) {
	r := newRig(t, 64, marks(100, 0, 10000), func(r *rig) {
		r.onDrain = func(c *conn.Conn) {
			_ = r.write(5000)
			c.Close()
			if err := r.write(1); !errors.Is(err, conn.ErrClosed) {
				r.T.Errorf("after Close: %v", err)
			}
			r.onDrain = nil
		}
	})
	_ = r.write(200)
	r.peer.AutoRead(true)
	r.Settle("close", r.isClosed)
	if n := len(r.peer.Received()); n != 5200 || r.err != nil {
		t.Errorf("the peer has %d bytes, closed with %v", n, r.err)
	}
	r.wantLog("full drain full drain close")
	r.gone()
}

func TestCloseInsideOnFull(t *testing.T) {
	r := newRig(t, 64, marks(100, 0, 10000), func(r *rig) { r.onFull = func(c *conn.Conn) { c.Close() } })
	if err := r.write(500); err != nil {
		t.Errorf("the write that was taken: %v", err)
	}
	r.gone()
	r.wantLog("full drain close")
	if n := len(r.peer.Received()); n != 500 || r.err != nil {
		t.Errorf("the peer has %d bytes, closed with %v", n, r.err)
	}
}

// TestEndInsideHooks ends the connection inside each hook, by each means:
// OnClose comes once and last, and after Abort no drain.
func TestEndInsideHooks(t *testing.T) {
	for hook, set := range map[string]func(r *rig, fn func(*conn.Conn)){
		"open":  func(r *rig, fn func(*conn.Conn)) { r.onOpen = fn },
		"data":  func(r *rig, fn func(*conn.Conn)) { r.onData = func(c *conn.Conn, _ *buf.Buf) { fn(c) } },
		"full":  func(r *rig, fn func(*conn.Conn)) { r.onFull = fn },
		"drain": func(r *rig, fn func(*conn.Conn)) { r.onDrain = fn },
		"eof":   func(r *rig, fn func(*conn.Conn)) { r.onEOF = fn },
		"error": func(r *rig, fn func(*conn.Conn)) { r.onError = func(c *conn.Conn, _ error) { fn(c) } },
		"close": func(r *rig, fn func(*conn.Conn)) { r.onClose = func(c *conn.Conn, _ error) { fn(c) } },
	} {
		for means, end := range map[string]func(*conn.Conn){
			"abort": func(c *conn.Conn) { c.Abort(); c.Close(); c.CloseWrite(); c.Abort() },
			"close": func(c *conn.Conn) { c.Close(); c.Close(); c.CloseWrite() },
			"panic": func(*conn.Conn) { panic("handler") },
		} {
			t.Run(means+" in "+hook, func(t *testing.T) { endInside(t, hook, means, set, end) })
		}
	}
}

func endInside(t *testing.T, hook, means string, set func(*rig, func(*conn.Conn)), end func(*conn.Conn)) {
	ran := 0
	r := newRig(t, 64, marks(100, 50, 200), func(r *rig) {
		set(r, func(c *conn.Conn) {
			if ran++; ran == 1 {
				end(c)
			}
		})
	})
	other := r.second(marks(100, 50, 200), func(o *rig) {
		o.onData = func(c *conn.Conn, in *buf.Buf) { c.Send(in) }
	})
	r.peer.Feed([]byte("x"))
	r.Turns(3)
	r.do(func(*conn.Conn) { _ = r.write(150) })
	r.c.Ref().Write(make([]byte, 200)) // Goes, or tells OnError below.
	r.c.Ref().Write(make([]byte, 200))
	r.Turns(3)
	r.peer.ReadAll()
	r.Turns(3)
	if !r.isClosed() && !r.peer.WasReset() {
		r.peer.CloseWrite()
	}
	if hook == "close" {
		r.c.Close()
	}
	r.peer.AutoRead(true)
	r.Turns(5)
	if !r.isClosed() {
		r.c.Close()
	}
	r.Settle("close", r.isClosed)
	if ran == 0 {
		t.Fatalf("the hook did not run: %q", r.log)
	}
	if at := slices.Index(r.log, hook); means != "close" && slices.Contains(r.log[at+1:], "drain") {
		t.Errorf("a drain after the end: %q", r.log)
	}
	var ce *conn.CloseError
	switch {
	case hook == "close" || means == "close":
		if errors.As(r.err, &ce) {
			t.Errorf("closed with %v", r.err)
		}
	case means == "abort" && (!errors.As(r.err, &ce) || ce.Reason != conn.Aborted),
		means == "panic" && (!errors.As(r.err, &ce) || ce.Reason != conn.HandlerPanic || !strings.Contains(r.err.Error(), "handler")):
		t.Errorf("closed with %v", r.err)
	}
	other.peer.Feed([]byte("still here"))
	r.Turns(4)
	if got := string(other.peer.ReadAll()); got != "still here" || other.isClosed() {
		t.Errorf("the other connection answers %q", got)
	}
	other.c.Close()
	other.peer.AutoRead(true)
	r.Settle("close of the other", other.isClosed)
	r.Finish()
}

// TestPanicElsewhere has functions panic that are no hooks.
func TestPanicElsewhere(t *testing.T) {
	boom := func() { panic(io.ErrNoProgress) }
	for where, act := range map[string]func(r *rig){
		"done":       func(r *rig) { r.c.SendBytes([]byte("x"), boom) },
		"empty done": func(r *rig) { r.c.SendBytes(nil, boom) },
		"Do":         func(r *rig) { r.c.Ref().Do(func(*conn.Conn) { boom() }) },
		"timer":      func(r *rig) { r.Loop.AfterFunc(time.Millisecond, r.c, boom) },
		"deferred":   func(r *rig) { r.c.Ref().Do(func(*conn.Conn) { r.Loop.Defer(boom) }) },
	} {
		t.Run(name("%s", where), func(t *testing.T) {
			r := newRig(t, 64, marks(100, 50, 200), nil)
			act(r)
			r.Settle("close", r.isClosed)
			r.wantReason(conn.HandlerPanic, 0)
			if !errors.Is(r.err, io.ErrNoProgress) {
				t.Errorf("%v does not wrap what was panicked with", r.err)
			}
			r.Finish()
		})
	}
}

// TestPanicForAnother has a hook of one connection panic inside a call that the handler
// of another has made: the one whose hook it is ends, and the other lives.
func TestPanicForAnother(t *testing.T) {
	for what, act := range map[string]func(c *conn.Conn){
		"OnFull by Send":         func(c *conn.Conn) { _, _ = c.Write(make([]byte, 300)) },
		"OnFull by CloseWith":    func(c *conn.Conn) { c.CloseWith(make([]byte, 300)) },
		"OnLeave by SetHandler":  func(c *conn.Conn) { c.SetHandler(&conn.Funcs{Close: c.Handler().OnClose}) },
		"OnLeave by NetConn":     func(c *conn.Conn) { _, _ = c.NetConn() },
		"OnLeave by Detach":      func(c *conn.Conn) { c.Detach(func(conn.Departure, error) {}) },
		"OnLeave by Pipe":        func(c *conn.Conn) { _, _ = conn.Pipe(c, c, conn.PipeConfig{}) },
		"OnShutdown by the loop": func(c *conn.Conn) { c.Stop(c.Loop(), false) },
	} {
		t.Run(what, func(t *testing.T) {
			a := newRig(t, 64, marks(100, 50, 200), nil)
			cfg, err := marks(100, 50, 200).Check()
			if err != nil {
				t.Fatal(err)
			}
			var b *conn.Conn
			var ended error
			h := &touchy{Funcs: conn.Funcs{
				Open:  func(c *conn.Conn) { b = c },
				Close: func(_ *conn.Conn, err error) { ended = err },
			}}
			fd, _ := a.Fake.Open()
			a.Loop.Defer(func() { conn.New(a.Loop, int(fd), h, cfg) })
			a.Turn()
			a.do(func(*conn.Conn) { act(b) })
			a.Turns(5)
			var ce *conn.CloseError
			if !errors.As(ended, &ce) || ce.Reason != conn.HandlerPanic {
				t.Errorf("the one that panicked ended with %v", ended)
			}
			if a.isClosed() {
				t.Errorf("the other one ended with %v", a.err)
			}
			a.gone()
		})
	}
}

// touchy panics in all that may run inside somebody else's call.
type touchy struct{ conn.Funcs }

func (*touchy) OnFull(*conn.Conn)     { panic("full") }
func (*touchy) OnLeave(*conn.Conn)    { panic("left") }
func (*touchy) OnShutdown(*conn.Conn) { panic("asked to end") }

// TestPanicInDoneAtClose holds that lenders behind one that panics are told too.
func TestPanicInDoneAtClose(t *testing.T) {
	r := newRig(t, 64, marks(100, 50, 200), nil)
	r.stuff()
	told := 0
	for range 5 {
		r.c.SendBytes(make([]byte, 10), func() { told++; panic("done") })
	}
	r.c.Abort()
	r.Settle("close", r.isClosed)
	if told != 5 {
		t.Errorf("%d of 5 lenders told", told)
	}
	r.Finish()
}

// TestMailBehindPanic holds that what a Ref has posted behind a function that
// panics is lost and accounted for.
func TestMailBehindPanic(t *testing.T) {
	r := newRig(t, 64, marks(100, 50, 1000), nil)
	r.stuff()
	ref, shared := r.c.Ref(), buf.NewShared(make([]byte, 30))
	ref.Write(make([]byte, 20))
	ref.Do(func(*conn.Conn) { panic("do") })
	ref.Write(make([]byte, 100))
	ref.SendShared(shared)
	shared.Release()
	r.Settle("close", r.isClosed)
	r.wantReason(conn.HandlerPanic, 150)
	if shared.Bytes() != nil {
		t.Error("a count was not given back")
	}
	r.Finish()
}

// TestMailCountsBehindPanic holds that what was refused beside a function that panics is
// counted.
func TestMailCountsBehindPanic(t *testing.T) {
	r := newRig(t, 64, marks(100, 50, 100), nil)
	r.stuff()
	ref := r.c.Ref()
	ref.Do(func(*conn.Conn) { panic("do") })
	ref.Write(make([]byte, 100))
	for range 5 {
		if s := ref.Write(make([]byte, 10)); s != conn.Rejected {
			t.Errorf("answer %v", s)
		}
	}
	var at conn.Stats
	r.onClose = func(c *conn.Conn, _ error) { at = c.Stats() }
	r.Settle("close", r.isClosed)
	if at.Rejected != 5 || at.RejectedBytes != 50 {
		t.Errorf("%+v", at)
	}
	r.Finish()
}

func TestSetMarksInsideHooks(t *testing.T) {
	r := newRig(t, 64, marks(100, 0, 200), nil)
	r.stuff()
	r.onFull = func(c *conn.Conn) {
		if err := c.SetMarks(conn.Marks{High: 1000, Low: 500, Limit: 1000}); err != nil {
			t.Error(err)
		}
	}
	r.onDrain = func(c *conn.Conn) {
		_ = r.write(200)
		if err := c.SetMarks(conn.Marks{High: 300, Low: 0, Limit: 300}); err != nil {
			t.Error(err)
		}
		r.onFull, r.onDrain = nil, nil
	}
	_ = r.write(150) // Full; the new low is above pending: drained.
	r.Turn()
	r.wantLog("full drain full")
	r.gone()
	r.wantLog("full drain full drain close")
}

// TestSetHandler changes the protocol while bytes are parked: they go to the
// new handler, in order.
func TestSetHandler(t *testing.T) {
	var second []byte
	r := newRig(t, 64, marks(100, 0, 200), func(r *rig) {
		r.onData = func(c *conn.Conn, in *buf.Buf) {
			c.PauseRead()
			c.SetHandler(&conn.Funcs{
				Data:  func(_ *conn.Conn, in *buf.Buf) { second = append(second, in.Bytes()...) },
				Close: func(_ *conn.Conn, err error) { r.note("close"); r.err = err },
			})
		}
	})
	for i := range 4 { // Four completions a Wait: one to the old handler, three parked.
		r.peer.Feed(bytes.Repeat([]byte{byte(i)}, reactor.BulkBlock))
	}
	r.Turns(5)
	if len(second) > 0 {
		t.Error("delivered while paused")
	}
	r.c.ResumeRead()
	r.peer.Feed([]byte{4})
	r.Turns(5)
	all := append(r.got, second...)
	if len(all) != 4*reactor.BulkBlock+1 || !slices.IsSorted(all) || len(r.got) != reactor.SmallBlock {
		t.Errorf("%d bytes to the old handler and %d to the new one, in order: %v", len(r.got), len(second), slices.IsSorted(all))
	}
	r.gone()
}

func TestPauseRead(t *testing.T) {
	r := newRig(t, 64, marks(100, 0, 200), nil)
	var want []byte
	feed := func(n int) {
		data := bytes.Repeat([]byte{byte(len(want))}, n)
		want = append(want, data...)
		r.peer.Feed(data)
	}
	feed(10)
	r.Turns(2)
	for range 20 {
		r.c.PauseRead()
		seen := len(r.got)
		feed(3 * reactor.BulkBlock)
		r.Turns(3)
		feed(7)
		r.Turns(3)
		if len(r.got) != seen {
			t.Fatal("delivered while paused")
		}
		if !r.c.ReadPaused() {
			t.Fatal("not paused")
		}
		r.c.ResumeRead()
		r.c.ResumeRead()
		if len(r.got) != seen {
			t.Fatal("delivered inside ResumeRead")
		}
		r.Turns(1 + len(want)%3)
	}
	r.Settle("all bytes", func() bool { return len(r.got) >= len(want) })
	if !bytes.Equal(r.got, want) {
		t.Errorf("%d bytes of %d, or out of order", len(r.got), len(want))
	}
	r.gone()
}

// TestPauseInsideOnData pauses at each delivery: one at a time, in order, and
// the end of file behind them.
func TestPauseInsideOnData(t *testing.T) {
	r := newRig(t, 64, marks(100, 0, 200), func(r *rig) {
		r.onData = func(c *conn.Conn, _ *buf.Buf) { c.PauseRead() }
	})
	var want []byte
	for i := range 9 {
		want = append(want, bytes.Repeat([]byte{byte(i)}, reactor.BulkBlock)...)
	}
	r.peer.Feed(want)
	r.peer.CloseWrite()
	for i := 0; len(r.got) < len(want); i++ {
		r.Turns(6)
		if n := r.count("data"); n != i+1 {
			t.Fatalf("%d deliveries, want %d", n, i+1)
		}
		if r.isClosed() {
			t.Fatal("closed before the last bytes")
		}
		r.c.ResumeRead()
	}
	r.Settle("close", r.isClosed)
	if !bytes.Equal(r.got, want) || !errors.Is(r.err, io.EOF) {
		t.Errorf("%d bytes of %d, closed with %v", len(r.got), len(want), r.err)
	}
	r.Finish()
}

// TestResumeAfterClose holds that reading is not revived behind Close.
func TestResumeAfterClose(t *testing.T) {
	r := newRig(t, 64, marks(100, 0, 200), nil)
	r.stuff()
	_ = r.write(100)
	r.c.PauseRead()
	r.peer.Feed([]byte("parked, or in the kernel"))
	r.Turns(2)
	r.c.Close()
	r.c.ResumeRead()
	r.peer.Feed([]byte("late"))
	r.Turns(3)
	r.c.PauseRead()
	r.c.ResumeRead()
	r.Turns(3)
	if len(r.got) > 0 {
		t.Errorf("OnData after Close: %q", r.got)
	}
	r.gone()
	if len(r.got) > 0 || r.err != nil {
		t.Errorf("OnData after Close: %q, closed with %v", r.got, r.err)
	}
}

// TestHalfCloseBeforeAnswer holds that a peer that ends its side before it has
// read the answer gets all of it.
func TestHalfCloseBeforeAnswer(t *testing.T) {
	for _, ref := range []bool{false, true} {
		t.Run(name("ref=%v", ref), func(t *testing.T) {
			r := newRig(t, 64, marks(1000, 0, 1000), func(r *rig) {
				r.onData = func(c *conn.Conn, _ *buf.Buf) {
					answer := bytes.Repeat([]byte("a"), 20000)
					if ref {
						c.Ref().Write(answer)
					} else {
						_, _ = c.Write(answer)
					}
				}
			})
			r.peer.Feed([]byte("question"))
			r.peer.CloseWrite()
			r.Turns(20)
			if r.isClosed() {
				t.Fatalf("closed with %v before the answer was read", r.err)
			}
			r.peer.AutoRead(true)
			r.Settle("close", r.isClosed)
			if n := len(r.peer.Received()); n != 20000 || !errors.Is(r.err, io.EOF) {
				t.Errorf("the peer has %d bytes of 20000, closed with %v", n, r.err)
			}
			r.Finish()
		})
	}
}

// TestMailBeforeClose holds that what a Ref has admitted is flushed by a Close
// on the loop, although it was still in the mailbox.
func TestMailBeforeClose(t *testing.T) {
	for means, end := range map[string]func(c *conn.Conn){
		"Close": func(c *conn.Conn) { c.Close() }, "CloseWrite": func(c *conn.Conn) { c.CloseWrite() },
		"CloseError": func(c *conn.Conn) { c.CloseError(conn.ProtocolError, nil, nil) },
	} {
		t.Run(means, func(t *testing.T) {
			var ref conn.Ref
			r := newRig(t, 64, marks(1000, 0, 1000), nil)
			// Behind the mail of this turn, before its flush.
			r.c.Ref().Do(func(c *conn.Conn) {
				ref = c.Ref()
				r.Loop.Defer(func() {
					if s := ref.Write([]byte("admitted")); s != conn.Queued {
						t.Errorf("before: %v", s)
					}
					end(c)
					if s := ref.Write([]byte("too late")); s != conn.Closed {
						t.Errorf("after: %v", s)
					}
				})
			})
			r.Turns(5)
			if got := string(r.peer.ReadAll()); got != "admitted" {
				t.Errorf("the peer has %q", got)
			}
			if !r.peer.EOF() {
				t.Error("no end of file behind it")
			}
			r.gone()
			if r.lost != 0 {
				t.Errorf("%d bytes lost", r.lost)
			}
		})
	}
}

// TestFlushError holds that a failed flush is told, with what was lost.
func TestFlushError(t *testing.T) {
	for _, closing := range []bool{false, true} {
		r := newRig(t, 64, marks(1000, 0, 1000), nil)
		r.stuff()
		_ = r.write(500)
		if closing {
			r.c.Close()
		}
		r.Turns(2)
		r.peer.Reset()
		r.Settle("close", r.isClosed)
		r.wantReason(conn.PeerReset, 500)
		if !errors.Is(r.err, syscall.ECONNRESET) && !errors.Is(r.err, syscall.EPIPE) {
			t.Errorf("%v wraps no errno", r.err)
		}
		if s := r.c.Stats(); s.BytesOut != 64 {
			t.Errorf("stats %+v", s)
		}
		r.wantLog("close")
		r.Finish()
	}
}

func TestCloseTimeout(t *testing.T) {
	for _, tc := range []struct {
		name    string
		end     func(r *rig)
		pending int
		reason  conn.Reason
	}{
		{"stuck", func(r *rig) { r.c.Close() }, 500, conn.WriteTimeout},
		{"stuck half", func(r *rig) { r.c.CloseWrite() }, 500, conn.WriteTimeout},
		{"half, then whole", func(r *rig) { r.c.CloseWrite(); r.Turns(500); r.c.Close() }, 500, conn.WriteTimeout},
		{"peer ended", func(r *rig) { r.peer.CloseWrite() }, 500, conn.WriteTimeout},
	} {
		t.Run(name("%s", tc.name), func(t *testing.T) {
			cfg := marks(1000, 0, 1000)
			cfg.CloseTimeout, cfg.Linger = time.Second, 100*time.Millisecond
			r := newRig(t, 64, cfg, nil)
			r.stuff()
			_ = r.write(tc.pending)
			tc.end(r)
			began := r.Now
			r.Settle("close", r.isClosed)
			if d := r.Now - began; d < cfg.CloseTimeout || d > 2*cfg.CloseTimeout {
				t.Errorf("closed after %v, want about %v", d, cfg.CloseTimeout)
			}
			r.wantReason(tc.reason, tc.pending)
			if !r.peer.WasReset() {
				t.Error("the peer was not reset")
			}
			r.Finish()
		})
	}
}

// TestCloseTimeoutOfReader holds that a peer that has ended its side and reads,
// however slowly, has its time from the last byte it took.
func TestCloseTimeoutOfReader(t *testing.T) {
	cfg := marks(1000, 0, 1000)
	cfg.CloseTimeout = time.Second
	r := newRig(t, 64, cfg, nil)
	r.stuff()
	_ = r.write(100)
	r.peer.CloseWrite()
	for range 100 {
		r.Turns(100)
		r.read(1)
	}
	r.peer.AutoRead(true)
	r.Settle("close", r.isClosed)
	if !errors.Is(r.err, io.EOF) || len(r.peer.Received()) != 164 {
		t.Errorf("closed with %v, the peer has %d bytes of 164", r.err, len(r.peer.Received()))
	}
	r.Finish()
}

// TestLinger holds that a peer that never ends its side is waited for, not
// for ever, whether it sends on or not, and that its bytes are discarded.
func TestLinger(t *testing.T) {
	for _, talks := range []bool{false, true} {
		cfg := marks(1000, 0, 1000)
		cfg.Linger = 100 * time.Millisecond
		r := newRig(t, 64, cfg, nil)
		_ = r.write(50)
		r.c.Close()
		began := r.Now
		for !r.isClosed() {
			if talks {
				r.peer.Feed(make([]byte, 1000))
			}
			r.Turn()
			if r.Now-began > time.Second {
				t.Fatal("still there")
			}
		}
		if d := r.Now - began; d < cfg.Linger {
			t.Errorf("closed after %v", d)
		}
		if r.err != nil || len(r.got) > 0 {
			t.Errorf("closed with %v, OnData brought %d bytes", r.err, len(r.got))
		}
		// A peer that talks to the last is reset, which may cost what it had not read.
		if n := len(r.peer.ReadAll()); n != 50 && !talks {
			t.Errorf("the peer has %d bytes", n)
		}
		r.Finish()
	}
}

// TestCloseWrite ends our side and hears on.
func TestCloseWrite(t *testing.T) {
	r := newRig(t, 64, marks(1000, 0, 1000), nil)
	_ = r.write(200)
	r.c.CloseWrite()
	r.c.CloseWrite()
	if err := r.write(1); !errors.Is(err, conn.ErrClosed) {
		t.Errorf("a write behind it: %v", err)
	}
	r.peer.AutoRead(true)
	r.Settle("end of file", r.peer.EOF)
	if !r.peer.EOF() || len(r.peer.Received()) != 200 {
		t.Errorf("the peer has %d bytes, end of file: %v", len(r.peer.Received()), r.peer.EOF())
	}
	for range 5 {
		r.peer.Feed([]byte("more"))
		r.Turns(1000)
	}
	if string(r.got) != strings.Repeat("more", 5) || r.isClosed() {
		t.Errorf("got %q, closed: %v", r.got, r.isClosed())
	}
	r.peer.CloseWrite()
	r.Settle("close", r.isClosed)
	if !errors.Is(r.err, io.EOF) {
		t.Errorf("closed with %v", r.err)
	}
	r.Finish()
}

// TestBothEnded holds that a connection of which both sides have ended closes, though
// OnEOF is there to decide.
func TestBothEnded(t *testing.T) {
	for _, first := range []string{"here", "peer"} {
		t.Run(first, func(t *testing.T) {
			r := newRig(t, 64, marks(1000, 0, 1000), func(r *rig) { r.onEOF = func(*conn.Conn) {} })
			r.peer.AutoRead(true)
			if first == "here" {
				r.c.CloseWrite()
				r.Settle("end of file", r.peer.EOF)
				r.Turns(100)
				r.peer.CloseWrite()
			} else {
				r.peer.CloseWrite()
				r.Turns(100)
				_ = r.write(200)
				r.c.CloseWrite()
			}
			r.Settle("close", r.isClosed)
			if !errors.Is(r.err, io.EOF) || r.peer.WasReset() {
				t.Errorf("closed with %v, reset: %v", r.err, r.peer.WasReset())
			}
			if got := len(r.peer.Received()); first == "peer" && got != 200 {
				t.Errorf("%d bytes arrived", got)
			}
			r.wantLog("eof close")
			r.Finish()
		})
	}
}

// TestEveryEndTwice mixes the calls that end: OnClose comes once, last, and the
// descriptor is closed once, behind everything else.
func TestEveryEndTwice(t *testing.T) {
	ends := []func(c *conn.Conn){
		(*conn.Conn).Close, (*conn.Conn).CloseWrite, (*conn.Conn).Abort,
		func(c *conn.Conn) { c.CloseWith([]byte("bye")) },
		func(c *conn.Conn) { c.CloseError(conn.ProtocolError, io.ErrUnexpectedEOF, []byte("bad")) },
		func(c *conn.Conn) { c.Ref().Close() },
		func(c *conn.Conn) { c.Stop(c.Loop(), false) },
		func(c *conn.Conn) { c.Stop(c.Loop(), true) },
	}
	for i, first := range ends {
		for j, second := range ends {
			for _, gap := range []int{0, 1, 3} {
				r := newRig(t, 64, marks(1000, 0, 1000), nil)
				_ = r.write(100)
				first(r.c)
				r.Turns(gap)
				second(r.c)
				r.peer.AutoRead(true)
				r.Turns(2)
				if !r.peer.WasReset() {
					r.peer.CloseWrite()
				}
				r.Settle("close", r.isClosed)
				for _, again := range ends {
					again(r.c)
				}
				r.Turns(3)
				if n := r.count("close"); n != 1 {
					t.Errorf("%d then %d: OnClose ran %d times", i, j, n)
				}
				r.Finish()
			}
		}
	}
}

func TestCloseError(t *testing.T) {
	r := newRig(t, 64, marks(1000, 0, 1000), nil)
	if s := r.c.CloseError(conn.ProtocolError, io.ErrUnexpectedEOF, []byte("bad")); s != conn.Queued {
		t.Errorf("answered %v", s)
	}
	r.gone()
	r.wantReason(conn.ProtocolError, 0)
	if !errors.Is(r.err, io.ErrUnexpectedEOF) || string(r.peer.Received()) != "bad" {
		t.Errorf("%v; the peer has %q", r.err, r.peer.Received())
	}
}

// TestCloseErrorStays holds that a reset behind the flush does not take the place of
// what CloseError was told, and one before it does.
func TestCloseErrorStays(t *testing.T) {
	for _, flushed := range []bool{false, true} {
		r := newRig(t, 64, conn.Config{}, nil)
		if !flushed {
			r.stuff()
		}
		r.c.CloseError(conn.ProtocolError, errTest, []byte("ERR\n"))
		r.Turns(2)
		r.peer.Reset()
		r.Settle("close", r.isClosed)
		if flushed {
			r.wantReason(conn.ProtocolError, 0)
		} else {
			r.wantReason(conn.PeerReset, 4)
		}
		if errors.Is(r.err, errTest) != flushed {
			t.Errorf("told %v", r.err)
		}
		r.Finish()
	}
}
