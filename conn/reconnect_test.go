package conn_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
)

// again is a rig with a policy, without jitter, that notes what OnRetry is told.
type again struct {
	*rig
	far  *far
	told []conn.Retry
}

func newAgain(t *testing.T, policy conn.Reconnect, cfg conn.Config, with func(a *again)) *again {
	t.Helper()
	a := &again{rig: &rig{world: newWorld(t, 1, aiotest.Config{SendBufferMin: 1000, SendBufferMax: 1000})}}
	d, f := a.dialer(&conn.Dialer{Reconnect: &policy, Config: cfg})
	conn.SetJitter(d, func(int64) int64 { return 0 })
	a.far = f
	if with != nil {
		with(a)
	}
	h := a.handler()
	h.Retry = func(_ *conn.Conn, r conn.Retry) { a.note("retry"); a.told = append(a.told, r) }
	c, err := d.Dial(a.Loop, "tcp", "192.0.2.1:7", h)
	if err != nil {
		t.Fatal(err)
	}
	a.c = c
	return a
}

// accept lets the next attempt succeed.
func (a *again) accept() *aiotest.Peer {
	a.T.Helper()
	a.Settle("an attempt", func() bool { return len(a.far.waiting()) > 0 })
	opens := a.count("open")
	a.peer = a.far.last()
	a.peer.Accept()
	a.Settle("open", func() bool { return a.count("open") > opens })
	a.Turns(2)
	return a.peer
}

// refuse lets the next attempt fail.
func (a *again) refuse() {
	a.T.Helper()
	a.Settle("an attempt", func() bool { return len(a.far.waiting()) > 0 })
	told := len(a.log)
	a.far.last().Refuse(syscall.ECONNREFUSED)
	a.Settle("OnRetry", func() bool { return len(a.log) > told })
}

// TestReconnectAttempts holds the limit of attempts, and the waits between them.
func TestReconnectAttempts(t *testing.T) {
	a := newAgain(t, conn.Reconnect{Attempts: 4, Most: 300 * time.Millisecond}, conn.Config{}, nil)
	_ = a.write(10)
	for range 5 {
		a.refuse()
	}
	ce := a.ended(conn.Refused)
	var de *conn.DialError
	if !errors.As(ce, &de) || ce.LostBytes != 10 {
		t.Errorf("told %v", ce)
	}
	want := []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 300 * time.Millisecond, 300 * time.Millisecond}
	for i, r := range a.told {
		if r.Attempt != i+1 || r.Wait != want[i] || !errors.Is(r.Err, syscall.ECONNREFUSED) || r.Lost != 0 {
			t.Errorf("told %+v", r)
		}
	}
	if got := strings.Join(a.log, " "); got != "retry retry retry retry close" {
		t.Errorf("log %q", got)
	}
}

// TestReconnectRow holds when the waits begin anew: when a connection has lived
// longer than the wait before it, so that a server that accepts and resets at once
// is not called without end.
func TestReconnectRow(t *testing.T) {
	a := newAgain(t, conn.Reconnect{}, conn.Config{}, nil)
	for range 3 {
		a.accept().Reset()
		a.Settle("a loss", func() bool { return !a.c.Connected() })
	}
	a.accept()
	a.Now += time.Minute
	a.Turn()
	a.peer.Reset()
	a.Turns(3)
	var got []string
	for _, r := range a.told {
		got = append(got, fmt.Sprint(r.Attempt, r.Wait))
	}
	// The first connection had no wait before it.
	if want := []string{"1 100ms", "2 200ms", "3 400ms", "1 100ms"}; !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
	a.c.Abort()
	a.ended(conn.Aborted)
}

// TestReconnectEnds holds that the peer's end of file is a loss, behind OnEOF,
// and that the next connection hears its own bytes, and its own end.
func TestReconnectEnds(t *testing.T) {
	for _, hook := range []bool{false, true} {
		t.Run(fmt.Sprint(hook), func(t *testing.T) {
			a := newAgain(t, conn.Reconnect{}, conn.Config{}, func(a *again) {
				if hook {
					a.onEOF = func(c *conn.Conn) {}
				}
			})
			for i := range 3 {
				peer := a.accept()
				a.got = nil
				if i == 1 { // What was not heard of one connection is not heard on the next.
					peer.Feed([]byte("unheard"))
					a.c.PauseRead() // It is received all the same, and kept.
					a.Turns(3)
					_ = a.write(10)
					peer.Reset()
					a.Settle("a loss", func() bool { _ = a.write(1); a.Turn(); return !a.c.Connected() })
					a.c.ResumeRead()
					if a.Turns(3); len(a.got) > 0 {
						t.Errorf("heard %q", a.got)
					}
					continue
				}
				peer.Feed(fmt.Append(nil, "data ", i))
				a.Turns(3)
				if string(a.got) != fmt.Sprint("data ", i) {
					t.Fatalf("connection %d: got %q", i, a.got)
				}
				peer.CloseWrite()
				a.Settle("a loss", func() bool { return !a.c.Connected() })
				a.Turns(3)
				if r := a.told[len(a.told)-1]; r.Err != io.EOF {
					t.Errorf("told %+v", r)
				}
			}
			if n := a.count("eof"); hook && n != 2 {
				t.Errorf("%d OnEOF", n)
			}
			a.c.Close()
			a.ended(conn.Local)
		})
	}
}

// TestReconnectDrops holds that what is queued at a loss is dropped by default,
// told, counted, given back and drained.
func TestReconnectDrops(t *testing.T) {
	a := newAgain(t, conn.Reconnect{}, marks(500, 0, 5000), nil)
	a.accept()
	a.window = 1000
	a.stuff()
	given := 0
	_ = a.write(600)
	a.c.SendBytes(make([]byte, 100), func() { given++ })
	a.Turns(2)
	a.wantLog("full")
	a.peer.Reset()
	a.Settle("a loss", func() bool { return len(a.told) == 1 })
	a.Turn()
	a.wantLog("full retry drain")
	if r := a.told[0]; r.Lost != 700 || given != 1 || a.c.Pending() != 0 || a.c.Stats().LostBytes != 700 {
		t.Errorf("told %+v, given back %d, pending %d", r, given, a.c.Pending())
	}
	_, _ = a.c.Write([]byte("next"))
	a.accept().AutoRead(true)
	a.Turns(3)
	if got := string(a.peer.Received()); got != "next" {
		t.Errorf("the peer has %q", got)
	}
	a.gone()
	if a.err != nil || a.lost != 700 {
		t.Errorf("closed with %v, %d bytes lost", a.err, a.lost)
	}
}

// TestReconnectKeeps holds what is kept: whole messages that were not begun, in
// front of those of the next OnOpen.
func TestReconnectKeeps(t *testing.T) {
	a := newAgain(t, conn.Reconnect{Keep: true}, conn.Config{}, func(a *again) {
		a.onOpen = func(c *conn.Conn) { _, _ = c.Write([]byte(" open")) }
	})
	a.accept() // 5 bytes.
	_ = a.write(900)
	_ = a.write(200) // Of which the peer's window takes 95.
	_, _ = a.c.Write([]byte("kept"))
	a.c.Ref().Write([]byte(" and"))
	a.c.Ref().Write([]byte(" mail"))
	a.Turns(3)
	a.peer.Reset()
	a.Settle("a loss", func() bool { return len(a.told) == 1 })
	if r := a.told[0]; r.Lost != 105 {
		t.Errorf("told %+v", r)
	}
	a.accept().AutoRead(true)
	a.Turns(3)
	if got := string(a.peer.Received()); got != "kept and mail open" {
		t.Errorf("the peer has %q", got)
	}
	a.gone()
}

// TestReconnectStream holds that a SendFrom does not outlive a loss: it is told,
// and with Keep what was sent behind it is kept.
func TestReconnectStream(t *testing.T) {
	for _, keep := range []bool{false, true} {
		t.Run(fmt.Sprint(keep), func(t *testing.T) {
			a := newAgain(t, conn.Reconnect{Keep: keep}, conn.Config{}, nil)
			a.accept()
			var errs []error
			_, _ = a.c.Write([]byte("before"))
			for range 2 {
				a.c.SendFrom(strings.NewReader(strings.Repeat("x", 5000)), -1, func(_ int64, err error) { errs = append(errs, err) })
				_, _ = a.c.Write([]byte("kept"))
			}
			a.Turns(5)
			a.peer.Reset()
			a.Settle("a loss", func() bool { return len(a.told) == 1 })
			a.Turns(2)
			if len(errs) != 2 || errs[0] == nil || errs[1] == nil {
				t.Errorf("the streams are told %v", errs)
			}
			a.accept().AutoRead(true)
			_, _ = a.c.Write([]byte(" new"))
			a.Turns(3)
			if got := string(a.peer.Received()); got != map[bool]string{false: " new", true: "keptkept new"}[keep] {
				t.Errorf("the peer has %q", got)
			}
			a.gone()
		})
	}
}

// TestReconnectClose ends a connection while it waits for its next attempt.
func TestReconnectClose(t *testing.T) {
	for _, tc := range []struct {
		name    string
		end     func(c *conn.Conn)
		pending int
		reason  conn.Reason
	}{
		{"Close", (*conn.Conn).Close, 0, conn.Local},
		{"Close", (*conn.Conn).Close, 10, conn.Refused},
		{"CloseWrite", (*conn.Conn).CloseWrite, 0, conn.Refused},
		{"Abort", (*conn.Conn).Abort, 10, conn.Aborted},
		{"shutdown", func(c *conn.Conn) { c.Stop(c.Loop(), true) }, 0, conn.Shutdown},
	} {
		t.Run(name("%s %d", tc.name, tc.pending), func(t *testing.T) {
			a := newAgain(t, conn.Reconnect{}, conn.Config{}, func(a *again) {
				a.onClose = func(c *conn.Conn, _ error) {
					if s := c.Ref().Write([]byte("x")); s != conn.Closed {
						t.Errorf("a send in OnClose is answered %v", s)
					}
				}
			})
			a.Turn()
			_ = a.write(tc.pending)
			a.refuse()
			tc.end(a.c)
			a.Settle("close", a.isClosed)
			a.Now += time.Minute
			a.Turns(3)
			a.ended(tc.reason)
			if len(a.far.peers) != 1 || a.lost != tc.pending {
				t.Errorf("%d attempts, %d bytes lost", len(a.far.peers), a.lost)
			}
		})
	}
}

// TestRedialInOnClose is workerman's defect 11 as its programs meet it: they
// connect again in OnClose and send at once. Here that is another connection, and
// what is sent to it arrives.
func TestRedialInOnClose(t *testing.T) {
	w := newWorld(t, 1, aiotest.Config{})
	d, f := w.dialer(&conn.Dialer{})
	closes := 0
	var h *conn.Funcs
	h = &conn.Funcs{Close: func(c *conn.Conn, _ error) {
		if closes++; closes == 1 {
			next, err := d.Dial(c.Loop(), "tcp", "192.0.2.1:7", h)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = next.Write([]byte("again"))
		}
	}, Data: func(c *conn.Conn, in *buf.Buf) { c.Close() }}
	if _, err := d.Dial(w.Loop, "tcp", "192.0.2.1:7", h); err != nil {
		t.Fatal(err)
	}
	for i := range 2 {
		w.Settle("a socket", func() bool { return len(f.waiting()) > 0 })
		p := f.last()
		p.AutoRead(true)
		p.Accept()
		if i == 0 {
			for range 3 {
				w.Turn()
			}
			p.Reset()
		} else {
			w.Settle("the message", func() bool { return string(p.Received()) == "again" })
			p.Feed([]byte("bye"))
			w.Settle("FIN", p.EOF)
			p.CloseWrite()
		}
	}
	w.Settle("close", func() bool { return closes == 2 })
	w.Finish()
}

// TestReconnectNetConn holds that a connection that somebody reads as a net.Conn
// does not go on as another stream.
func TestReconnectNetConn(t *testing.T) {
	a := newAgain(t, conn.Reconnect{}, conn.Config{}, func(a *again) {
		a.onOpen = func(c *conn.Conn) { _, _ = c.NetConn() }
	})
	a.refuse() // Before it is connected nobody reads it.
	a.accept().Reset()
	a.ended(conn.PeerReset)
	if len(a.far.peers) != 2 {
		t.Errorf("%d attempts", len(a.far.peers))
	}
}

// TestSimReconnectFile sends a file on each connection to a peer that resets it at
// any time, and messages beside it: each is told once, of a file with a failure unless the
// kernel has taken it all.
func TestSimReconnectFile(t *testing.T) {
	file := tempFile(t, noise(21, 60_000))
	looptest.Seeds(t, 300, func(t *testing.T, seed uint64) {
		faults := aiotest.Faults()
		faults.Reset, faults.NoMemory = 0.01, 0.01
		w := newWorld(t, seed, faults)
		d, f := w.dialer(&conn.Dialer{Reconnect: &conn.Reconnect{Keep: seed%2 == 0}, Config: conn.Config{HighWater: 4000, Limit: 4000}})
		taken, told, closes := 0, 0, 0
		c, err := d.Dial(w.Loop, "tcp", "192.0.2.1:7", &conn.Funcs{
			Open: func(c *conn.Conn) {
				_, _ = c.Write(make([]byte, w.Rand.IntN(500)))
				for range 1 + w.Rand.IntN(2) {
					if s := c.SendFrom(file, -1, func(n int64, err error) {
						if told++; err == nil && n != 60_000 {
							t.Errorf("told %d bytes and no error", n)
						}
					}); s <= conn.Full {
						taken++
					}
					_, _ = c.Write(make([]byte, w.Rand.IntN(500)))
				}
			},
			Close: func(*conn.Conn, error) { closes++ },
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 300 {
			for _, p := range f.waiting() {
				p.Accept()
			}
			if len(f.peers) > 0 && !f.last().Connecting() {
				switch w.Rand.IntN(40) {
				case 0:
					f.last().Reset()
				case 1, 2, 3:
					_, _ = f.last().Read(make([]byte, 1+w.Rand.IntN(30_000)))
				}
			}
			switch w.Rand.IntN(20) {
			case 0:
				_, _ = c.Write(make([]byte, w.Rand.IntN(500)))
			case 1:
				if c.SendBytes(make([]byte, 1+w.Rand.IntN(500)), func() { told++ }) <= conn.Full {
					taken++
				}
			}
			w.Turn()
			w.Now += time.Duration(w.Rand.IntN(50)) * time.Millisecond
		}
		c.Abort()
		w.Settle("close", func() bool { return closes == 1 })
		if told != taken {
			t.Errorf("%d streams taken, %d told", taken, told)
		}
		w.Finish()
	})
}

// TestKeepBehindFile loses a connection in the middle of a file that follows a message
// which has gone whole: what is sent later is all that is sent then.
func TestKeepBehindFile(t *testing.T) {
	file := tempFile(t, noise(22, 50_000))
	a := newAgain(t, conn.Reconnect{Keep: true}, conn.Config{}, nil)
	a.accept()
	gone, told := false, false
	if s := a.c.SendBytes(noise(23, 100), func() { gone = true }); s != conn.Queued {
		t.Fatal(s)
	}
	a.c.SendFrom(file, -1, func(_ int64, err error) { told = err != nil })
	a.Turns(5)
	a.peer.Reset()
	a.Settle("OnRetry", func() bool { return len(a.told) > 0 })
	peer := a.accept()
	a.Turns(5)
	if err := a.write(1); err != nil || !gone || !told {
		t.Fatalf("%v, told of the message %v, of the file %v", err, gone, told)
	}
	peer.AutoRead(true)
	a.Turns(3)
	if got := peer.Received(); len(got) != 1 {
		t.Errorf("%d bytes arrived, want 1", len(got))
	}
	a.c.Abort()
	a.ended(conn.Aborted)
}

// TestReconnectBrokenSource holds that a source of ours that fails is final: the next
// OnOpen would send it again.
func TestReconnectBrokenSource(t *testing.T) {
	a := newAgain(t, conn.Reconnect{}, conn.Config{}, func(a *again) {
		a.onOpen = func(c *conn.Conn) { c.SendFrom(strings.NewReader("short"), 10, nil) }
	})
	a.accept()
	a.ended(conn.StreamFailed)
	if len(a.told) > 0 {
		t.Errorf("told %v", a.told)
	}
}
