package reactor

import (
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// handLoop is a loop on the fake, with a clock that jumps to the next timer.
func handLoop(tb testing.TB) (*Loop, *aiotest.Fake) {
	small, _ := buf.NewPool(buf.Config{BlockSize: SmallBlock, SlabBlocks: 8})
	bulk, _ := buf.NewPool(buf.Config{BlockSize: BulkBlock, SlabBlocks: 8})
	now := time.Duration(0)
	fake := aiotest.NewFake(1, bulk, aiotest.Config{OnIdle: func(d time.Duration) { now += max(0, d) }})
	l := NewLoop(LoopConfig{Engine: fake, Small: small, Bulk: bulk, Logger: slog.New(slog.DiscardHandler), Clock: func() time.Duration { return now }})
	tb.Cleanup(func() {
		small.Close()
		bulk.Close()
	})
	return l, fake
}

func turnUntil(t *testing.T, l *Loop, what string, ok func() bool) {
	t.Helper()
	for range 1000 {
		if ok() {
			return
		}
		if err := l.Turn(time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	t.Fatalf("%s: not within 1000 turns", what)
}

// sink records what it is told.
type sink struct {
	done     []aio.Completion
	panics   int
	stops    int
	inFlight []aio.Completion
	detach   func()
	complete func(c *aio.Completion)
}

func (s *sink) Complete(_ *Loop, c *aio.Completion) {
	s.done = append(s.done, *c)
	if s.complete != nil {
		s.complete(c)
	}
}
func (s *sink) Flush(*Loop) {}
func (s *sink) Stop(*Loop, bool) {
	s.stops++
	if s.detach != nil {
		s.detach()
	}
}
func (s *sink) Panicked(*Loop, any) { s.panics++ }
func (s *sink) InFlight(list []aio.Completion) []aio.Completion {
	return append(list, s.inFlight...)
}

func TestTokensReachNobodyElse(t *testing.T) {
	l, _ := handLoop(t)
	seen := map[aio.Token]bool{}
	for range 5000 {
		s := &sink{}
		tok := l.Attach(s)
		if seen[tok] {
			t.Fatalf("token %+v was handed out twice", tok)
		}
		seen[tok] = true
		if l.Lookup(tok) != s {
			t.Fatal("a token does not reach its party")
		}
		l.Detach(tok)
		l.Detach(tok) // Twice does nothing.
		other := &sink{}
		next := l.Attach(other)
		if l.Lookup(tok) != nil {
			t.Fatal("a stale token reaches somebody")
		}
		l.Detach(next)
	}
	if l.table.used > 3 {
		t.Errorf("%d slots for two parties", l.table.used)
	}
}

// TestSlotsCost holds what a crowd costs the table: its slots and no garbage on the
// way, and nothing when another crowd comes behind it.
func TestSlotsCost(t *testing.T) {
	l, _ := handLoop(t)
	const crowd = 10_000
	tokens, s := make([]aio.Token, crowd), &sink{}
	come := func() uint64 {
		before, _ := testutil.Allocated()
		for i := range tokens {
			tokens[i] = l.Attach(s)
		}
		after, _ := testutil.Allocated()
		return after - before
	}
	if each := come() / crowd; each > 30 {
		t.Errorf("%d bytes for each of a crowd", each)
	}
	// The counter is the process's, in which others allocate now and then:
	// garbage of the table's own would be in every count.
	again := uint64(math.MaxUint64)
	for range 5 {
		for _, tok := range tokens {
			l.Detach(tok)
		}
		again = min(again, come())
	}
	if again > 1000 {
		t.Errorf("%d bytes for a crowd in the place of another", again)
	}
	if l.table.used != crowd {
		t.Errorf("%d slots for %d parties", l.table.used, crowd)
	}
}

func TestGenerationsWrap(t *testing.T) {
	l, _ := handLoop(t)
	tok := l.Attach(&sink{})
	l.table.list.At(tok.Slot).gen = 1<<aio.GenBits - 1
	tok.Gen = 1<<aio.GenBits - 1
	l.Detach(tok)
	if next := l.Attach(&sink{}); next.Gen == 0 || next == tok {
		t.Errorf("token %+v after %+v", next, tok)
	}
}

// TestPanicsEndAtTheEdge has every kind of callback panic: the rest of the
// turn happens, the party is told, and the next turn is as any other.
func TestPanicsEndAtTheEdge(t *testing.T) {
	l, fake := handLoop(t)
	fd, peer := fake.Open()
	fd2, peer2 := fake.Open()
	bad, good := &sink{complete: func(*aio.Completion) { panic("in Complete") }}, &sink{}
	badToken, goodToken := l.Attach(bad), l.Attach(good)
	l.Submit(&aio.Op{Token: badToken, Kind: aio.Recv, FD: fd})
	l.Submit(&aio.Op{Token: goodToken, Kind: aio.Recv, FD: fd2})
	peer.Feed([]byte("x"))
	peer2.Feed([]byte("y"))
	ran := 0
	l.Remote().Post(func(*Loop) { panic("in mail") })
	l.Remote().Post(func(l *Loop) {
		ran++
		l.As(bad)
		l.Defer(func() { panic("in deferred work") })
		l.Defer(func() { ran++ })
	})
	l.AfterFunc(0, bad, func() { panic("in a timer") })
	l.AfterFunc(0, good, func() { ran++ })
	turnUntil(t, l, "all", func() bool { return ran == 3 && len(good.done) == 1 && l.panics == 4 })
	if bad.panics != 3 || good.panics != 0 {
		t.Errorf("the parties heard of %d and %d panics, want 3 and 0", bad.panics, good.panics)
	}
	if n := l.bulk.InUse(); n != 0 {
		t.Errorf("%d blocks leaked", n)
	}
}

func TestDeferGoesOnNextTurn(t *testing.T) {
	l, _ := handLoop(t)
	n := 0
	var again func()
	again = func() {
		if n++; n < 5 {
			l.Defer(again)
		}
	}
	l.Defer(again)
	for i := 1; i <= 5; i++ {
		if err := l.Turn(-1); err != nil { // Must not sleep: there is work.
			t.Fatal(err)
		}
		if n != i {
			t.Fatalf("after %d turns the work ran %d times", i, n)
		}
	}
}

// onEngines runs fn on a group for each engine that this host gives.
func onEngines(t *testing.T, loops int, fn func(t *testing.T, g *Group)) {
	for _, kind := range []EngineKind{Uring, Epoll} {
		t.Run(kind.String(), func(t *testing.T) {
			g, err := Start(Config{Loops: loops, Engine: kind, Logger: slog.New(slog.DiscardHandler)})
			if err != nil {
				if kind == Uring {
					testutil.SkipIfKernelOlder(t, "6.1", "io_uring", err)
				}
				t.Fatal(err)
			}
			fn(t, g)
			if err := g.Close(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestPostsArriveInOrderAndWake(t *testing.T) {
	onEngines(t, 2, func(t *testing.T, g *Group) {
		const posters, each = 8, 5000
		var wg sync.WaitGroup
		var total atomic.Int64
		for range posters {
			wg.Add(1)
			go func() {
				defer wg.Done()
				last := -1
				for i := range each {
					g.Loop(i % 2 * 0).Post(func(*Loop) {
						if i != last+1 {
							t.Errorf("post %d after %d", i, last)
						}
						last = i
						total.Add(1)
					})
				}
			}()
		}
		wg.Wait()
		testutil.Eventually(t, 10*time.Second, "all posts", func() bool { return total.Load() == posters*each })
		for _, s := range g.Stats() {
			if s.Engine.Wakes > s.Turns {
				t.Errorf("%d wakes in %d turns", s.Engine.Wakes, s.Turns)
			}
		}
		// One at a time, each to a loop that has gone to sleep.
		for i := range 200 {
			ran := make(chan struct{})
			g.Loop(i % 2).Post(func(*Loop) { close(ran) })
			select {
			case <-ran:
			case <-time.After(testutil.Timeout(10 * time.Second)):
				t.Fatal("a post did not wake the loop")
			}
		}
	})
}

func TestTimersFireOnSleepingLoops(t *testing.T) {
	onEngines(t, 1, func(t *testing.T, g *Group) {
		start := time.Now()
		fired := make(chan time.Duration, 2)
		g.Loop(0).Post(func(l *Loop) {
			l.AfterFunc(30*time.Millisecond, nil, func() { fired <- time.Since(start) })
			l.AfterFunc(10*time.Millisecond, nil, func() { fired <- time.Since(start) })
		})
		for _, least := range []time.Duration{10 * time.Millisecond, 30 * time.Millisecond} {
			select {
			case d := <-fired:
				if d < least {
					t.Errorf("a timer of %v fired after %v", least, d)
				}
			case <-time.After(testutil.Timeout(10 * time.Second)):
				t.Fatal("a timer did not wake the loop")
			}
		}
	})
}

func TestIdleLoopsSleep(t *testing.T) {
	onEngines(t, 1, func(t *testing.T, g *Group) {
		before := g.Stats()[0].Turns
		time.Sleep(300 * time.Millisecond)
		if turns := g.Stats()[0].Turns - before; turns > 20 {
			t.Errorf("an idle loop turned %d times in 300 ms", turns)
		}
	})
}

// TestSpin has loops that look for 5 ms before they sleep: posts and timers come
// while they look and while they sleep.
func TestSpin(t *testing.T) {
	for _, kind := range []EngineKind{Auto, Epoll} {
		g, err := Start(Config{Loops: 1, Engine: kind, Spin: 5 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		for i := range 40 {
			time.Sleep(time.Duration(i%8) * time.Millisecond)
			ran := make(chan struct{})
			g.Loop(0).Post(func(l *Loop) {
				l.AfterFunc(time.Duration(i%10)*time.Millisecond, nil, func() { close(ran) })
			})
			select {
			case <-ran:
			case <-time.After(testutil.Timeout(10 * time.Second)):
				t.Fatal("a post or a timer was lost")
			}
		}
		s := g.Stats()[0]
		if s.Engine.Enters < 200 {
			t.Errorf("%v: %d system calls: the loop did not spin", kind, s.Engine.Enters)
		}
		time.Sleep(30 * time.Millisecond)
		before := g.Stats()[0].Turns
		time.Sleep(100 * time.Millisecond)
		if n := g.Stats()[0].Turns - before; n > 10 {
			t.Errorf("%v: an idle loop turned %d times", kind, n)
		}
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	}
}
