package conn_test

import (
	"runtime"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// treadmill is an engine without a kernel: each Wait brings a message to some
// connections, and tells the sends that were submitted since.
type treadmill struct {
	small   *buf.Pool
	readers []aio.Token
	sent    []aio.Completion
	at      int
}

func (e *treadmill) Caps() aio.Caps   { return aio.Caps{Engine: "none", MaxOut: 64} }
func (e *treadmill) Stats() aio.Stats { return aio.Stats{} }
func (e *treadmill) Wake()            {}
func (e *treadmill) Close() error     { return nil }
func (e *treadmill) Try(*aio.Op) int  { return 0 }

func (e *treadmill) Submit(op *aio.Op) {
	switch op.Kind {
	case aio.Recv:
		e.readers = append(e.readers, op.Token)
	case aio.Send:
		n := 0
		for _, p := range op.Out {
			n += len(p)
		}
		e.sent = append(e.sent, aio.Completion{})
		done := &e.sent[len(e.sent)-1]
		done.Set(op.Token, aio.Send, int32(n), true)
		done.Batch = op.Batch
	}
}

func (e *treadmill) Wait(done []aio.Completion, _ time.Duration) (n int, err error) {
	n = copy(done, e.sent)
	e.sent = e.sent[:0]
	if n > 0 || len(e.readers) == 0 {
		return n, nil
	}
	for ; n < min(64, len(done)); n++ {
		e.at = (421*e.at + 7919) % len(e.readers) // all, in an order that nobody foresees
		b := e.small.Get()
		b.Extend(64)
		done[n].Set(e.readers[e.at], aio.Recv, 64, false)
		done[n].In = b
	}
	return n, nil
}

// BenchmarkTurn is what a message costs in an echo but for the kernel and the engine,
// with few connections, with a deadline each, and with so many that they are not in the
// caches.
func BenchmarkTurn(b *testing.B) {
	for _, tc := range []struct {
		name  string
		conns int
		idle  time.Duration
	}{{"64", 64, 0}, {"64-timed", 64, time.Hour}, {"10000", 10_000, 0}} {
		b.Run(tc.name, func(b *testing.B) {
			small, _ := buf.NewPool(buf.Config{BlockSize: reactor.SmallBlock})
			bulk, _ := buf.NewPool(buf.Config{BlockSize: reactor.BulkBlock})
			e := &treadmill{small: small}
			l := reactor.NewLoop(reactor.LoopConfig{Engine: e, Small: small, Bulk: bulk})
			cfg, _ := conn.Config{PauseOnFull: true, IdleTimeout: tc.idle}.Check()
			one := conn.New(l, -1, echo(), cfg)
			for range tc.conns - 1 {
				conn.Another(one, -1)
			}
			_ = l.Turn(0)
			runtime.GC() // Else it may run meanwhile.
			for b.Loop() {
				_ = l.Turn(0) // 64 messages
				_ = l.Turn(0) // and what became of the answers
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/message")
		})
	}
}
