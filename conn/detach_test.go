package conn_test

import (
	"bytes"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
)

// left is what a Detach has told.
type left struct {
	calls int
	conn.Departure
	err error
}

func (l *left) hear(d conn.Departure, err error) { l.calls++; l.Departure, l.err = d, err }

// TestSimDetach moves a connection from handler to handler, each time by Detach
// and New, at any moment of a conversation: no byte is lost, doubled or moved, in
// either direction.
func TestSimDetach(t *testing.T) {
	looptest.Seeds(t, 300, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, aiotest.Config{
			SplitRecv: 0.3, LateRecv: 0.3, FinalRecv: 0.2, NoBuffers: 0.1, LateCancel: 0.5, CancelRace: 0.5,
			ShortSend: 0.3, WouldBlock: 0.3, LateSend: 0.3, LateFinal: 0.3, ZeroCopy: seed%2 == 0,
		})
		cfg, err := conn.Config{HighWater: 4000, CloseTimeout: time.Hour, ZeroCopyMin: 500, PauseOnFull: seed%3 == 0}.Check()
		if err != nil {
			t.Fatal(err)
		}
		fd, peer := w.Fake.Open()
		var fed, heard, sent []byte
		var c *conn.Conn
		closes := 0
		h := &conn.Funcs{
			Open: func(o *conn.Conn) { c = o },
			Data: func(c *conn.Conn, in *buf.Buf) {
				if w.Rand.IntN(4) == 0 { // Has its share, and gives the rest back.
					n := w.Rand.IntN(in.Len())
					heard = append(heard, in.Bytes()[:n]...)
					in.Advance(n)
					rest := in.Take()
					c.Unread(&rest)
					return
				}
				heard = append(heard, in.Bytes()...)
			},
			Close: func(_ *conn.Conn, err error) {
				closes++
				var ce *conn.CloseError
				if !errors.As(err, &ce) || ce.Reason != conn.Detached || ce.LostBytes > 0 {
					t.Errorf("OnClose: %v", err)
				}
			},
		}
		conn.New(w.Loop, int(fd), h, cfg)
		for move := range 6 {
			for range w.Rand.IntN(20) {
				data := make([]byte, 1+w.Rand.IntN(9000))
				for i := range data {
					data[i] = byte(w.Rand.Uint32())
				}
				switch w.Rand.IntN(5) {
				case 0:
					peer.Feed(data)
					fed = append(fed, data...)
				case 1:
					if n, _ := c.Write(data); n > 0 {
						sent = append(sent, data...)
					}
				case 2:
					if c.Ref().Write(data) <= conn.Full {
						sent = append(sent, data...)
					}
				case 3:
					if c.PauseRead(); w.Rand.IntN(2) == 0 {
						c.ResumeRead()
					}
				}
				peer.AutoRead(w.Rand.IntN(2) == 0)
				w.Turn()
			}
			var gone left
			ref := c.Ref()
			c.Detach(func(d conn.Departure, err error) {
				if closes != move+1 {
					t.Error("told before OnClose")
				}
				gone.hear(d, err)
			})
			if _, err := c.Write([]byte("late")); !errors.Is(err, conn.ErrClosed) || ref.Write([]byte("late")) != conn.Closed {
				t.Error("a send after Detach was taken")
			}
			peer.AutoRead(true)
			w.Settle("detach", func() bool { return gone.calls > 0 })
			if gone.err != nil || gone.FD != int(fd) || w.Fake.InFlight() != 0 {
				t.Fatalf("told %v, descriptor %d of %d; %d operations in flight", gone.err, gone.FD, fd, w.Fake.InFlight())
			}
			heard = append(heard, gone.Input...)
			conn.New(w.Loop, gone.FD, h, cfg)
		}
		peer.CloseWrite()
		h.Close = nil
		w.Settle("the end", func() bool { return w.Fake.OpenFDs() == 0 })
		if !bytes.Equal(heard, fed) || !bytes.Equal(peer.Received(), sent) {
			t.Errorf("heard %d bytes of %d, the peer has %d of %d", len(heard), len(fed), len(peer.Received()), len(sent))
		}
		w.Finish()
	})
}

// TestDetachFails holds that a connection that ends before it could leave tells
// why, once, behind OnClose.
func TestDetachFails(t *testing.T) {
	reason := func(want conn.Reason) func(error) bool {
		return func(err error) bool {
			var ce *conn.CloseError
			return errors.As(err, &ce) && ce.Reason == want
		}
	}
	closed := func(err error) bool { return err == net.ErrClosed }
	for name, tc := range map[string]struct {
		end  func(r *rig)
		want func(error) bool
	}{
		"close":   {func(r *rig) { r.c.Close() }, closed},
		"abort":   {func(r *rig) { r.c.Abort() }, reason(conn.Aborted)},
		"reset":   {func(r *rig) { r.peer.Reset(); r.Turn() }, reason(conn.PeerReset)},
		"timeout": {func(r *rig) { r.Now += 2 * time.Hour }, reason(conn.WriteTimeout)},
		"stop":    {func(r *rig) { r.c.Stop(r.Loop, true) }, reason(conn.Shutdown)},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 100, marks(1000, 0, 1000), nil)
			r.stuff()
			_ = r.write(500)
			var first, second left
			r.c.Detach(func(d conn.Departure, err error) {
				if !r.isClosed() {
					t.Error("told before OnClose")
				}
				first.hear(d, err)
			})
			r.c.Detach(second.hear)
			r.Turn()
			if second.calls != 1 || second.err != net.ErrClosed || first.calls != 0 {
				t.Fatalf("the second was told %v, the first is done: %v", second.err, first.calls)
			}
			tc.end(r)
			if name == "close" {
				r.peer.AutoRead(true)
				r.peer.CloseWrite()
			}
			r.Settle("close", r.isClosed)
			if r.Turn(); first.calls != 1 || !tc.want(first.err) || first.FD != 0 {
				t.Errorf("told %d times: %v, descriptor %d", first.calls, first.err, first.FD)
			}
			r.Finish()
		})
	}
}

// TestDetachHalfClosed detaches behind a CloseWrite: the peer gets its end of file
// all the same, and the new owner the peer's.
func TestDetachHalfClosed(t *testing.T) {
	r := newRig(t, 100, marks(1000, 0, 1000), nil)
	r.stuff()
	_ = r.write(300)
	r.c.CloseWrite()
	var gone left
	r.c.Detach(gone.hear)
	r.peer.Feed([]byte("last words"))
	r.peer.AutoRead(true)
	r.Settle("detach", func() bool { return gone.calls > 0 })
	if gone.err != nil || !r.peer.EOF() || len(r.peer.Received()) != 400 {
		t.Fatalf("told %v; the peer has %d bytes, end of file %v", gone.err, len(r.peer.Received()), r.peer.EOF())
	}
	r.peer.CloseWrite()
	next := &rig{world: r.world, peer: r.peer}
	next.onEOF = func(c *conn.Conn) { c.Close() }
	conn.New(r.Loop, gone.FD, next.handler(), conn.Config{})
	r.Settle("close", next.isClosed)
	if next.got = append(gone.Input, next.got...); string(next.got) != "last words" {
		t.Errorf("heard %q", next.got)
	}
	r.Finish()
}

// TestDetachLeaves holds that a handler which keeps part of a message gives it
// back, and that what it gives back comes first.
func TestDetachLeaves(t *testing.T) {
	w := newWorld(t, 1, aiotest.Config{})
	cfg, _ := conn.Config{}.Check()
	fd, peer := w.Fake.Open()
	h := &keeper{}
	c := conn.New(w.Loop, int(fd), h, cfg)
	peer.Feed([]byte("half of"))
	w.Settle("bytes", func() bool { return h.kept.Len() > 0 })
	c.PauseRead()
	w.Turn()
	peer.Feed([]byte(" a message"))
	w.Turn()
	var gone left
	c.Detach(gone.hear)
	w.Settle("detach", func() bool { return gone.calls > 0 })
	all := string(gone.Input)
	peer.CloseWrite()
	conn.New(w.Loop, gone.FD, &conn.Funcs{Data: func(_ *conn.Conn, in *buf.Buf) { all += string(in.Bytes()) }}, cfg)
	w.Settle("the end", func() bool { return w.Fake.OpenFDs() == 0 })
	if all != "half of a message" || !strings.HasPrefix(string(gone.Input), "half of") {
		t.Errorf("%q, of it before the end %q", all, gone.Input)
	}
	w.Finish()
}

// keeper holds what it gets until it leaves.
type keeper struct {
	conn.NopHandler
	kept buf.Buf
}

func (k *keeper) OnData(_ *conn.Conn, in *buf.Buf) { k.kept = in.Take() }
func (k *keeper) OnLeave(c *conn.Conn)             { c.Unread(&k.kept) }

// TestDetachEndsTimers holds that nothing of a connection runs behind the OnClose
// of its Detach: no timer, no deadline.
func TestDetachEndsTimers(t *testing.T) {
	r := newRig(t, 100, conn.Config{IdleTimeout: 100 * time.Millisecond}, func(r *rig) {
		r.onTimeout = func(*conn.Conn, conn.Reason) bool { r.note("timeout"); return true }
	})
	late := func(*conn.Conn) { r.note("timer") }
	r.c.Every(10*time.Millisecond, late)
	r.c.AfterFunc(200*time.Millisecond, late)
	var gone left
	r.c.Detach(gone.hear)
	r.Settle("detach", func() bool { return gone.calls > 0 })
	r.Turns(500)
	if gone.err != nil || !r.isClosed() {
		t.Errorf("told %v", gone.err)
	}
	conn.New(r.Loop, gone.FD, conn.NopHandler{}, conn.Config{}).Abort()
	r.Settle("the end", func() bool { return r.Fake.OpenFDs() == 0 })
	r.Finish()
}

// TestDetachOfPipe holds that a source whose sink is full can leave: what waits for
// its failure is called home. The sink is reset, as its pipe is broken.
func TestDetachOfPipe(t *testing.T) {
	for _, half := range []bool{false, true} {
		a, b, _ := newPipe(t, 1000, marks(4000, 0, 4000), nil, conn.PipeConfig{OneWay: true})
		a.feed(make([]byte, 20_000))
		if !a.c.ReadPaused() {
			t.Fatal("the source is read although the sink is full")
		}
		if half {
			a.c.CloseWrite()
			a.Turns(2)
		}
		var gone left
		a.c.Detach(gone.hear)
		if a.Turns(10); gone.calls != 1 || gone.err != nil || a.peer.EOF() != half {
			t.Fatalf("told %d times: %v; end of file %v", gone.calls, gone.err, a.peer.EOF())
		}
		conn.New(a.Loop, gone.FD, conn.NopHandler{}, conn.Config{}).Abort()
		b.Settle("the end", func() bool { return b.isClosed() && b.Fake.OpenFDs() == 0 })
		b.wantReason(conn.PipeBroken, b.lost)
		a.Finish()
	}
}
