package conn_test

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// willing is an engine that takes every send whole, and costs next to nothing.
type willing struct {
	aio.Engine
	done []aio.Completion
	told int
}

func (e *willing) Caps() aio.Caps { return aio.Caps{Engine: "fake", MaxOut: 64} }

func (e *willing) Submit(op *aio.Op) {
	if op.Kind == aio.Send {
		e.done = append(e.done, aio.Completion{Token: op.Token, Kind: aio.Send, First: true, Final: true, Batch: op.Batch, Res: int32(len(op.Out[0]))})
	}
}

func (e *willing) Wait(done []aio.Completion, _ time.Duration) (int, error) {
	n := copy(done, e.done[e.told:])
	if e.told += n; e.told == len(e.done) {
		e.done, e.told = e.done[:0], 0
	}
	return n, nil
}

// BenchmarkFanOut is what a payload for 1000 connections costs beside the kernel.
func BenchmarkFanOut(b *testing.B) {
	e := &willing{}
	small, _ := buf.NewPool(buf.Config{BlockSize: reactor.SmallBlock, SlabBlocks: 8})
	l := reactor.NewLoop(reactor.LoopConfig{Engine: e, Small: small, Bulk: small, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	cfg, err := conn.Config{}.Check()
	if err != nil {
		b.Fatal(err)
	}
	conns := []*conn.Conn{conn.New(l, -1, &conn.Funcs{}, cfg)}
	for len(conns) < 1000 {
		conns = append(conns, conn.NewBeside(conns[0], -1, &conn.Funcs{}))
	}
	shared := buf.NewShared(make([]byte, 64))
	b.ReportAllocs()
	for b.Loop() {
		for _, c := range conns {
			c.SendShared(shared)
		}
		for more := true; more; more = len(e.done) > 0 {
			if err := l.Turn(0); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(conns)), "ns/member")
}
