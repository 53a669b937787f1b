package conn_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// TestRecvLimit has a handler keep every block of one connection: its reading stops
// at the limit, goes on when blocks are released, and others are served throughout.
func TestRecvLimit(t *testing.T) {
	const limit, sent = 512 << 10, 8 << 20
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		var kept []buf.Buf // of the loop
		keeps := make(chan conn.Ref, 1)
		heard := 0
		l := listen(t, g, &conn.Funcs{
			Data: func(c *conn.Conn, in *buf.Buf) {
				switch {
				case heard == 0 && in.Bytes()[0] == 'k':
					keeps <- c.Ref()
					fallthrough
				case c.User() != nil:
					c.SetUser(true)
					heard += in.Len()
					kept = append(kept, in.Take())
				default:
					c.Send(in)
				}
			},
		}, conn.Config{RecvLimit: limit, RecvBuffer: 64 << 10})
		greedy, fair := dial(t, l), dial(t, l)
		defer greedy.Close()
		defer fair.Close()
		wrote := make(chan error, 1)
		go func() {
			_, err := greedy.Write(bytes.Repeat([]byte("k"), sent))
			wrote <- err
		}()
		ref := <-keeps
		type look struct {
			kept, heard, inUse int
			paused             bool
		}
		ask := func(release bool) look {
			answer := make(chan look, 1)
			ref.Do(func(c *conn.Conn) {
				if release {
					for i := range kept {
						kept[i].Release()
					}
					kept = kept[:0]
				}
				answer <- look{c.Kept(), heard, 0, c.ReadPaused()}
			})
			s := <-answer
			s.inUse = inUse(g)
			return s
		}
		pauses := 0
		testutil.Eventually(t, 30*time.Second, "all bytes", func() bool {
			s := ask(false)
			if s.kept > limit-1+reactor.BulkBlock {
				t.Fatalf("%d bytes are kept, limit %d", s.kept, limit)
			}
			if !s.paused {
				return s.heard == sent
			}
			pauses++
			for range 3 { // A stop is a stop, and costs the other nothing.
				_, _ = fair.Write([]byte("still there"))
				if n, err := fair.Read(make([]byte, 20)); n == 0 {
					t.Fatalf("the other connection: %v", err)
				}
			}
			if again := ask(false); again.heard != s.heard || !again.paused || again.inUse > limit+8<<20 {
				t.Fatalf("%+v, and then %+v", s, again)
			}
			ask(true)
			return false
		})
		if err := <-wrote; err != nil || pauses < sent/(limit+256<<10)/2 {
			t.Errorf("%d pauses, %v", pauses, err)
		}
		if s := ask(true); s.kept != 0 || s.paused {
			t.Errorf("at the end %+v", s)
		}
	})
}

// TestRecvLimitCountsSends holds that blocks which wait in a send queue count for
// whom they were received from, and that those which are given back do not.
func TestRecvLimitCountsSends(t *testing.T) {
	cfg := marks(1<<20, 0, 1<<20)
	cfg.RecvLimit = 3 * reactor.SmallBlock
	r := newRig(t, 64, cfg, func(r *rig) {
		r.onData = func(c *conn.Conn, in *buf.Buf) {
			if len(r.got) > 100<<10 {
				return
			}
			c.Send(in)
		}
	})
	r.stuff()
	for range 10 {
		r.peer.Feed(make([]byte, 4000))
		r.Turns(2)
	}
	if n := r.c.Kept(); n < cfg.RecvLimit || n > cfg.RecvLimit+reactor.BulkBlock || !r.c.ReadPaused() {
		t.Errorf("%d bytes kept, paused: %v", n, r.c.ReadPaused())
	}
	r.peer.AutoRead(true)
	r.Settle("all", func() bool { return len(r.got) == 40_000 && r.c.Pending() == 0 })
	if n := r.c.Kept(); n != 0 || r.c.ReadPaused() {
		t.Errorf("%d bytes kept at the end, paused: %v", n, r.c.ReadPaused())
	}
	// What is not kept pauses nothing, however small the limit.
	cfg.RecvLimit = 1
	one := r.second(cfg, nil)
	for range 5 {
		one.peer.Feed(make([]byte, 100))
		one.Turn()
		if one.c.ReadPaused() {
			t.Fatal("paused by what was not kept")
		}
	}
	one.c.Close()
	one.peer.CloseWrite()
	one.peer.AutoRead(true)
	r.Settle("close", one.isClosed)
	r.gone()
}

// TestRecvLimitUnread holds that bytes which a handler gives back to be heard again
// are not kept: they would pause what they wait for.
func TestRecvLimitUnread(t *testing.T) {
	cfg := marks(1<<20, 0, 1<<20)
	cfg.RecvLimit = reactor.SmallBlock
	times := 0
	r := newRig(t, 64, cfg, func(r *rig) {
		r.onData = func(c *conn.Conn, in *buf.Buf) {
			if times++; times < 5 {
				c.Unread(in)
			}
		}
	})
	r.peer.Feed([]byte("again"))
	r.Settle("heard", func() bool { return times == 5 })
	if r.Turns(2); r.c.Kept() != 0 || r.c.ReadPaused() {
		t.Errorf("%d bytes kept, paused: %v", r.c.Kept(), r.c.ReadPaused())
	}
	r.gone()
}

// TestSimRecvLimit has handlers keep and release blocks at random, also behind the
// end of their connection: every byte is heard, in order, and what is kept stays
// within the limit and one block.
func TestSimRecvLimit(t *testing.T) {
	looptest.Seeds(t, 300, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, aiotest.Faults())
		fd, peer := w.Fake.Open()
		var kept []buf.Buf
		var got, sent []byte
		var c *conn.Conn
		limit, closed := 1+w.Rand.IntN(100_000), false
		cfg := w.config()
		cfg.RecvLimit = limit
		conn.New(w.Loop, int(fd), &conn.Funcs{
			Open: func(o *conn.Conn) { c = o },
			Data: func(_ *conn.Conn, in *buf.Buf) {
				if c.Kept()-in.Cap() >= limit {
					t.Fatalf("heard with %d bytes kept, limit %d", c.Kept()-in.Cap(), limit)
				}
				got = append(got, in.Bytes()...)
				if w.Rand.IntN(4) > 0 {
					kept = append(kept, in.Take())
				}
			},
			Close: func(*conn.Conn, error) { closed = true },
		}, cfg)
		release := func(n int) {
			for range min(n, len(kept)) {
				i := w.Rand.IntN(len(kept))
				kept[i].Release()
				kept = append(kept[:i], kept[i+1:]...)
			}
		}
		for range 100 {
			if w.Rand.IntN(2) == 0 {
				data := make([]byte, 1+w.Rand.IntN(8000))
				for i := range data {
					data[i] = byte(w.Rand.Uint32())
				}
				sent = append(sent, data...)
				peer.Feed(data)
			}
			if w.Rand.IntN(5) == 0 {
				release(w.Rand.IntN(10))
			}
			w.Turn()
			held := 0
			for i := range kept {
				held += kept[i].Cap()
			}
			if held != c.Kept() || c.ReadPaused() != (held >= limit) {
				t.Fatalf("%d bytes are kept, counted are %d of %d; paused: %v", held, c.Kept(), limit, c.ReadPaused())
			}
		}
		peer.CloseWrite()
		peer.AutoRead(true)
		w.Settle("close", func() bool {
			if !closed {
				release(1)
			}
			return closed
		})
		if !bytes.Equal(got, sent) {
			t.Fatalf("%d bytes sent, %d heard", len(sent), len(got))
		}
		release(len(kept))
		w.Finish()
	})
}
