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
	h := &husk{l: l, caps: l.caps, stats: l.engine.Stats()}
	l.closeEngine()
	l.engine, l.onStop = h, nil
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

// huskStep is how long a loop without an engine sleeps: nothing wakes it.
const huskStep = time.Millisecond

// husk is in the place of an engine that is gone, until all parties have ended. It
// answers each operation with ECANCELED, those that were with the engine too.
type husk struct {
	l     *Loop
	caps  aio.Caps
	stats aio.Stats
	at    uint32           // the slot whose party was asked last
	lost  []aio.Completion // to be told
	told  int              // of them
}

// Submit implements aio.Engine. What has a completion is asked for by Wait.
func (h *husk) Submit(op *aio.Op) { perform(op) }

// Try implements aio.Engine.
func (h *husk) Try(*aio.Op) int { return 0 }

// Wait implements aio.Engine.
func (h *husk) Wait(done []aio.Completion, d time.Duration) (n int, err error) {
	if h.told == len(h.lost) {
		h.ask(len(done))
	}
	n = copy(done, h.lost[h.told:])
	if h.told += n; n == 0 && d != 0 {
		time.Sleep(huskStep)
	}
	return n, nil
}

// ask collects what the parties have in flight, until it is about n or all were asked.
func (h *husk) ask(n int) {
	h.lost, h.told = h.lost[:0], 0
	t := &h.l.table
	for range t.used {
		if len(h.lost) >= n {
			return
		}
		h.at = (h.at + 1) % t.used
		if s := t.list.At(h.at).sink; s != nil {
			h.lost = s.InFlight(h.lost)
		}
	}
}

// Wake implements aio.Engine.
func (h *husk) Wake() {}

// Caps implements aio.Engine.
func (h *husk) Caps() aio.Caps { return h.caps }

// Stats implements aio.Engine.
func (h *husk) Stats() aio.Stats { return h.stats }

// Close implements aio.Engine.
func (h *husk) Close() error { return nil }
