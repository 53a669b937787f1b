package reactor

import (
	"runtime"
	"time"

	"github.com/penstock-go/penstock/aio"
)

// salvage ends the parties of a loop that has failed: its engine, or the goroutine of
// its thread. Nothing of the loop's own was interrupted but at the edge at which panics
// end, so handlers run as ever. They may end further goroutines.
func (l *Loop) salvage() {
	e := &deadEngine{l: l, caps: l.caps, stats: l.engine.Stats()}
	l.closeEngine()
	l.engine, l.onStop = e, nil
	for ended := false; !ended; {
		gone := make(chan struct{})
		go func() {
			defer close(gone)
			runtime.LockOSThread()
			defer enterThread()()
			l.isHere()
			for !l.guarded((*Loop).work) { // What is left of the turn that has failed.
			}
			l.stop(true)
			ended = l.serve() == nil
		}()
		<-gone
	}
}

// deadStep is how long a loop without an engine sleeps: nothing wakes it.
const deadStep = time.Millisecond

// deadEngine is in the place of an engine that is gone, until all parties have ended. It
// answers each operation with ECANCELED, those that were with the engine too.
type deadEngine struct {
	l     *Loop
	caps  aio.Caps
	stats aio.Stats
	at    uint32           // the slot whose party was asked last
	lost  []aio.Completion // to be told
	told  int              // of them
}

// Submit implements aio.Engine. What has a completion is asked for by Wait.
func (e *deadEngine) Submit(op *aio.Op) { perform(op) }

// Try implements aio.Engine.
func (e *deadEngine) Try(*aio.Op) int { return 0 }

// Wait implements aio.Engine.
func (e *deadEngine) Wait(done []aio.Completion, d time.Duration) (n int, err error) {
	if e.told == len(e.lost) {
		e.ask(len(done))
	}
	n = copy(done, e.lost[e.told:])
	if e.told += n; n == 0 && d != 0 {
		time.Sleep(deadStep)
	}
	return n, nil
}

// ask collects what the parties have in flight, until it is about n or all were asked.
func (e *deadEngine) ask(n int) {
	e.lost, e.told = e.lost[:0], 0
	t := &e.l.table
	for range t.used {
		if len(e.lost) >= n {
			return
		}
		e.at = (e.at + 1) % t.used
		if s := t.list.At(e.at).sink; s != nil {
			e.lost = s.InFlight(e.lost)
		}
	}
}

// Wake implements aio.Engine.
func (e *deadEngine) Wake() {}

// Caps implements aio.Engine.
func (e *deadEngine) Caps() aio.Caps { return e.caps }

// Stats implements aio.Engine.
func (e *deadEngine) Stats() aio.Stats { return e.stats }

// Close implements aio.Engine.
func (e *deadEngine) Close() error { return nil }
