package conn_test

import (
	"context"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// runWork runs one work of a simulated loop, and reports whether there was one.
func (w *world) runWork() bool {
	if len(w.work) == 0 {
		return false
	}
	fn := w.work[0]
	w.work = w.work[1:]
	fn()
	return true
}

// TestGo holds that work runs off the loop's turn, that reading is paused until
// behind done, and that the works of a connection keep their order.
func TestGo(t *testing.T) {
	var steps []string
	r := newRig(t, 1<<20, marks(1000, 0, 1000), nil)
	r.onData = func(c *conn.Conn, in *buf.Buf) {
		for _, b := range in.Bytes() {
			name := string(b)
			steps = append(steps, "data "+name)
			if !c.Go(func() { steps = append(steps, "work "+name) }, func(o *conn.Conn) {
				if o != c {
					t.Error("done of another connection")
				}
				steps = append(steps, "done "+name)
				_, _ = c.Write([]byte(name))
			}) {
				t.Error("no work")
			}
			if !c.ReadPaused() {
				t.Error("reading goes on")
			}
		}
	}
	r.peer.Feed([]byte("ab"))
	r.Turns(3)
	r.peer.Feed([]byte("c"))
	r.peer.CloseWrite()
	r.Turns(5)
	if want := "data a data b"; strings.Join(steps, " ") != want {
		t.Fatalf("%q, want %q", steps, want)
	}
	for r.runWork() {
		r.Turns(5)
	}
	want := "data a data b work a done a work b done b data c work c done c"
	if got := strings.Join(steps, " "); got != want {
		t.Errorf("%q, want %q", got, want)
	}
	r.gone()
	if got := string(r.peer.Received()); got != "abc" || !errors.Is(r.err, io.EOF) {
		t.Errorf("the peer got %q, closed with %v", got, r.err)
	}
}

// TestGoWithoutDone holds that done may be nil, that what the user has paused stays
// paused, and that the number of works has a bound.
func TestGoWithoutDone(t *testing.T) {
	r := newRig(t, 64, marks(1000, 0, 1000), nil)
	ran, taken := 0, 0
	for range 2000 {
		if r.c.Go(func() { ran++ }, nil) {
			taken++
		}
	}
	r.c.PauseRead()
	for r.runWork() {
		r.Turn()
	}
	if ran != taken || taken != 1024 || !r.c.ReadPaused() {
		t.Errorf("%d taken, %d ran; paused: %v", taken, ran, r.c.ReadPaused())
	}
	r.c.ResumeRead()
	if r.c.ReadPaused() {
		t.Error("still paused")
	}
	r.c.Close()
	if r.c.Go(func() { t.Error("ran") }, nil) {
		t.Error("taken after the close")
	}
	r.gone()
}

// TestGoGone ends a connection while its work runs, and another takes its slot: what
// was taken runs, and no done.
func TestGoGone(t *testing.T) {
	r := newRig(t, 64, marks(1000, 0, 1000), nil)
	ran := 0
	for range 3 {
		r.c.Go(func() { ran++ }, func(*conn.Conn) { t.Error("done of one that has gone") })
	}
	r.c.Abort()
	r.Settle("close", r.isClosed)
	next := r.second(marks(1000, 0, 1000), nil)
	for r.runWork() {
		r.Turn()
	}
	if ran != 3 {
		t.Errorf("%d works ran, want 3", ran)
	}
	if next.c.ReadPaused() {
		t.Error("the heir is paused")
	}
	next.gone()
}

// TestGoFails holds that work that panics or ends its goroutine costs its
// connection, and nothing else: the goroutine is replaced, others go on.
func TestGoFails(t *testing.T) {
	for what, fn := range map[string]func(){
		"panic":  func() { panic("in work") },
		"error":  func() { panic(io.ErrNoProgress) },
		"goexit": runtime.Goexit,
		"nil":    func() { panic(nil) },
	} {
		looptest.Engines(t, reactor.Config{Workers: 1}, func(t *testing.T, g *reactor.Group) {
			ends := make(chan error, 2)
			l := listen(t, g, &conn.Funcs{
				Data: func(c *conn.Conn, in *buf.Buf) {
					work := func() {}
					if in.Bytes()[0] == '!' {
						work = fn
					}
					c.Go(work, func(c *conn.Conn) { _, _ = c.Write([]byte("ok")) })
				},
				Close: func(_ *conn.Conn, err error) { ends <- err },
			}, conn.Config{})
			good, bad := dial(t, l), dial(t, l)
			defer good.Close()
			defer bad.Close()
			_, _ = bad.Write([]byte("!"))
			var ce *conn.CloseError
			if err := <-ends; !errors.As(err, &ce) || ce.Reason != conn.HandlerPanic || ce.Err == nil {
				t.Errorf("%s: closed with %v", what, err)
			} else if what == "error" && !errors.Is(err, io.ErrNoProgress) {
				t.Errorf("%s: closed with %v", what, err)
			}
			if _, err := bad.Read(make([]byte, 1)); err == nil {
				t.Errorf("%s: the peer has an answer", what)
			}
			for range 3 {
				_, _ = good.Write([]byte("."))
				if _, err := io.ReadFull(good, make([]byte, 2)); err != nil {
					t.Fatalf("%s: the other connection: %v", what, err)
				}
			}
			if s := g.Stats()[0]; s.Panics != 1 {
				t.Errorf("%s: %d panics counted", what, s.Panics)
			}
		})
	}
}

// TestGoDonePanics holds that a done that panics ends its connection.
func TestGoDonePanics(t *testing.T) {
	r := newRig(t, 64, marks(1000, 0, 1000), nil)
	ran := 0
	r.c.Go(func() { ran++ }, func(*conn.Conn) { panic("in done") })
	r.c.Go(func() { ran++ }, func(*conn.Conn) { t.Error("done of one that has gone") })
	for r.runWork() {
		r.Turns(3)
	}
	r.Settle("close", r.isClosed)
	r.wantReason(conn.HandlerPanic, 0)
	if ran != 2 {
		t.Errorf("%d works ran", ran)
	}
	r.Finish()
}

// TestGoIsBounded has many connections work at once: never more than Workers, each
// in order, and no goroutine is left when there is nothing to do.
func TestGoIsBounded(t *testing.T) {
	const workers, conns, works = 3, 20, 10
	looptest.Engines(t, reactor.Config{Loops: 2, Workers: workers}, func(t *testing.T, g *reactor.Group) {
		var busy, most, dones, wrong atomic.Int64
		l := listen(t, g, &conn.Funcs{Open: func(c *conn.Conn) {
			var mine atomic.Int64
			next := 0
			for i := range works {
				c.Go(func() {
					n := busy.Add(1)
					for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
					}
					if mine.Add(1) != int64(i+1) {
						wrong.Add(1)
					}
					time.Sleep(100 * time.Microsecond)
					busy.Add(-1)
				}, func(*conn.Conn) {
					if next != i {
						wrong.Add(1)
					}
					next++
					dones.Add(1)
				})
			}
		}}, conn.Config{})
		before := runtime.NumGoroutine()
		for range conns {
			defer dial(t, l).Close()
		}
		testutil.Eventually(t, 20*time.Second, "all works", func() bool { return dones.Load() == conns*works })
		if m := most.Load(); m > workers || m < 2 || wrong.Load() > 0 {
			t.Errorf("%d at once, %d out of order", m, wrong.Load())
		}
		testutil.Eventually(t, 5*time.Second, "goroutines", func() bool { return runtime.NumGoroutine() <= before })
	})
}

// TestGoShutdown holds that a shutdown waits for the answer of work that has begun,
// and one by force for nothing.
func TestGoShutdown(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		free, began := make(chan struct{}), make(chan struct{})
		l := listen(t, g, &conn.Funcs{Data: func(c *conn.Conn, _ *buf.Buf) {
			c.Go(func() { close(began); <-free }, func(c *conn.Conn) { _, _ = c.Write([]byte("the answer")) })
		}}, conn.Config{})
		peer := dial(t, l)
		defer peer.Close()
		_, _ = peer.Write([]byte("?"))
		<-began
		down := make(chan error, 1)
		go func() { down <- g.Shutdown(t.Context()) }()
		time.Sleep(20 * time.Millisecond)
		if len(down) > 0 {
			t.Error("the group did not wait")
		}
		close(free)
		got, err := io.ReadAll(peer)
		if string(got) != "the answer" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		_ = peer.Close()
		if err := <-down; err != nil {
			t.Error(err)
		}
	})
	looptest.Engines(t, reactor.Config{Workers: 1}, func(t *testing.T, g *reactor.Group) {
		free, began := make(chan struct{}), make(chan struct{})
		var ended sync.WaitGroup
		ended.Add(1)
		l := listen(t, g, &conn.Funcs{Open: func(c *conn.Conn) {
			c.Go(func() { close(began); <-free; ended.Done() }, func(*conn.Conn) { t.Error("done") })
			c.Go(func() { t.Error("ran") }, nil)
		}}, conn.Config{})
		peer := dial(t, l)
		defer peer.Close()
		<-began
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if err := g.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Shutdown: %v", err)
		}
		close(free)
		ended.Wait()
	})
}

// TestSimGo has connections work, send, be paused, be reset and closed, while works
// end in any order among the connections: each done runs once and in order, or its
// connection has gone.
func TestSimGo(t *testing.T) {
	looptest.Seeds(t, 300, func(t *testing.T, seed uint64) {
		faults := aiotest.Faults()
		faults.Reset, faults.NoMemory = 0.002, 0.002
		w := newWorld(t, seed, faults)
		var all []*worker
		for range 1 + w.Rand.IntN(4) {
			fd, peer := w.Fake.Open()
			p := &worker{w: w, peer: peer}
			cfg := w.config()
			cfg.CloseTimeout = 5 * time.Second
			conn.New(w.Loop, int(fd), p, cfg)
			all = append(all, p)
		}
		for range 100 {
			for _, p := range all {
				if w.Rand.IntN(3) == 0 && !p.ended && !p.peer.WasReset() && p.closes == 0 {
					p.peer.Feed(make([]byte, 1+w.Rand.IntN(100)))
				}
				if p.closes == 0 {
					switch w.Rand.IntN(300) {
					case 0:
						p.c.Abort()
					case 1:
						p.c.Close()
					case 2:
						p.c.Stop(w.Loop, false)
					case 3:
						p.ended = true
						p.peer.CloseWrite()
					}
				}
				_, _ = p.peer.Read(make([]byte, 1+w.Rand.IntN(3000)))
			}
			for w.Rand.IntN(2) == 0 && len(w.work) > 0 { // In any order, as goroutines would.
				i := w.Rand.IntN(len(w.work))
				fn := w.work[i]
				w.work = slices.Delete(w.work, i, i+1)
				fn()
			}
			w.Turn()
		}
		for _, p := range all {
			p.peer.AutoRead(true)
			w.Settle("close", func() bool {
				w.runWork()
				if p.closes == 0 {
					p.c.Close()
				}
				return p.closes == 1
			})
		}
		for more := true; more; more = w.runWork() {
			w.Turn() // What ran last has posted that it has ended.
		}
		for _, p := range all {
			if p.ran != p.asked || p.dones > p.ran || p.failed {
				t.Fatalf("%d works, %d ran, %d dones; out of order or at the wrong time: %v", p.asked, p.ran, p.dones, p.failed)
			}
		}
		w.Finish()
	})
}

// worker answers what it hears by work.
type worker struct {
	conn.NopHandler
	w                 *world
	c                 *conn.Conn
	peer              *aiotest.Peer
	asked, ran, dones int
	closes            int
	ended, failed     bool
}

func (p *worker) OnOpen(c *conn.Conn)       { p.c = c }
func (p *worker) OnClose(*conn.Conn, error) { p.closes++ }
func (p *worker) OnData(c *conn.Conn, in *buf.Buf) {
	p.failed = p.failed || p.dones < p.asked // It was to be paused.
	for range 1 + p.w.Rand.IntN(3) {
		i := p.asked
		if p.w.Rand.IntN(4) == 0 {
			_, _ = c.Write(in.Bytes())
		}
		if c.Go(func() {
			p.failed = p.failed || p.ran != i
			p.ran++
		}, func(c *conn.Conn) {
			p.failed = p.failed || p.dones != i || p.closes > 0
			p.dones++
			_, _ = c.Write([]byte("done"))
		}) {
			p.asked++
		}
	}
}
