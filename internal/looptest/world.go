// Package looptest runs tests of what lives on a loop: on one that is turned by hand on
// a simulated kernel, and on those of the real engines.
package looptest

import (
	"log/slog"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// World is one loop on a simulated kernel with a simulated clock.
type World struct {
	T           testing.TB
	Rand        *rand.Rand
	Fake        *aiotest.Fake
	Loop        *reactor.Loop
	Small, Bulk *buf.Pool
	Now         time.Duration
}

// Options shape a World.
type Options struct {
	Seed   uint64 // of the kernel, and of Rand
	Faults aiotest.Config
	// BulkBytes is how much there is in large blocks. Default 0: no bound.
	BulkBytes int
	// Engine returns what the loop sees of the kernel. Default: all of it.
	Engine func(aio.Engine) aio.Engine
	// Go is as in [reactor.LoopConfig].
	Go func(func())
}

// New returns a world. In a third of the seeds its kernel sends at once.
func New(t testing.TB, o Options) *World {
	t.Helper()
	w := &World{T: t, Rand: rand.New(rand.NewPCG(o.Seed, 1))}
	w.Small, _ = buf.NewPool(buf.Config{BlockSize: reactor.SmallBlock, SlabBlocks: 8})
	w.Bulk, _ = buf.NewPool(buf.Config{BlockSize: reactor.BulkBlock, SlabBlocks: 8, MaxBytes: o.BulkBytes})
	o.Faults.OnIdle = func(d time.Duration) { w.Now += max(0, min(d, time.Second)) }
	o.Faults.Bulk = w.Bulk
	o.Faults.Immediate = o.Faults.Immediate || o.Seed%3 == 0
	w.Fake = aiotest.NewFake(o.Seed, w.Small, o.Faults)
	var engine aio.Engine = w.Fake
	if o.Engine != nil {
		engine = o.Engine(engine)
	}
	w.Loop = reactor.NewLoop(reactor.LoopConfig{
		Engine: engine, Small: w.Small, Bulk: w.Bulk,
		Clock:  func() time.Duration { return w.Now },
		Logger: slog.New(slog.DiscardHandler),
		Go:     o.Go,
	})
	return w
}

// Turn turns the loop and lets a little time pass.
func (w *World) Turn() {
	w.T.Helper()
	if err := w.Loop.Turn(0); err != nil {
		w.T.Fatal(err)
	}
	w.Now += time.Millisecond
}

// Turns turns the loop n times.
func (w *World) Turns(n int) {
	w.T.Helper()
	for range n {
		w.Turn()
	}
}

// Pass lets d pass, in steps by which no timer is late by more than 10 ms.
func (w *World) Pass(d time.Duration) {
	w.T.Helper()
	for end := w.Now + d; w.Now < end; w.Now += 9 * time.Millisecond {
		w.Turn()
	}
}

// Settle turns until ok, and fails when that does not come about.
func (w *World) Settle(what string, ok func() bool) {
	w.T.Helper()
	const most = 50_000
	for range most {
		if ok() {
			return
		}
		w.Turn()
	}
	w.T.Fatalf("%s: not within %d turns", what, most)
}

// Held returns the memory of the world and all else: the heap, and blocks in use.
func (w *World) Held() int {
	for range 2 { // A Shared is gone when its finalizers have run.
		runtime.GC()
		time.Sleep(time.Millisecond)
	}
	return testutil.Heap() + w.Small.InUse()*reactor.SmallBlock + w.Bulk.InUse()*reactor.BulkBlock
}

// Costs checks that so many bytes that wait cost no more than four times as much, and 64
// KiB; before is what was held without them.
func (w *World) Costs(before, pending int) {
	w.T.Helper()
	held := w.Held() - before
	w.T.Logf("%d bytes for %d pending, %.2f times", held, pending, float64(held)/float64(pending))
	if held > 4*pending+64<<10 {
		w.T.Errorf("%d bytes pending cost %d", pending, held)
	}
}

// Finish checks that nothing was left behind: no operation, no descriptor, no block.
func (w *World) Finish() {
	w.T.Helper()
	w.Settle("operations home", func() bool { return w.Fake.InFlight() == 0 })
	if n := w.Fake.OpenFDs(); n != 0 {
		w.T.Errorf("%d descriptors left open", n)
	}
	if err := w.Fake.Close(); err != nil {
		w.T.Error(err)
	}
	if a, b := w.Small.InUse(), w.Bulk.InUse(); a != 0 || b != 0 {
		w.T.Fatalf("%d small and %d bulk blocks leaked", a, b)
	}
	w.Small.Close()
	w.Bulk.Close()
}
