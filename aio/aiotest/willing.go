package aiotest

import (
	"time"

	"github.com/penstock-go/penstock/aio"
)

// Willing is an engine that takes every Send whole, tells that with the next Wait, and
// costs next to nothing: for benchmarks of what stands above an engine. All other
// operations are in flight for ever, and of the other methods it has none.
type Willing struct {
	aio.Engine
	done []aio.Completion
	told int
}

// Caps implements aio.Engine.
func (e *Willing) Caps() aio.Caps { return aio.Caps{Engine: "fake", MaxOut: DefaultMaxOut} }

// Submit implements aio.Engine.
func (e *Willing) Submit(op *aio.Op) {
	if op.Kind == aio.Send {
		n := 0
		for _, p := range op.Out {
			n += len(p)
		}
		e.done = append(e.done, aio.Completion{Token: op.Token, Kind: aio.Send, First: true, Final: true, Batch: op.Batch, Res: int32(n)})
	}
}

// Wait implements aio.Engine.
func (e *Willing) Wait(done []aio.Completion, _ time.Duration) (int, error) {
	n := copy(done, e.done[e.told:])
	if e.told += n; e.told == len(e.done) {
		e.done, e.told = e.done[:0], 0
	}
	return n, nil
}

// Idle reports whether all sends were told.
func (e *Willing) Idle() bool { return len(e.done) == 0 }
