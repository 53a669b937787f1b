package conn_test

import (
	"fmt"
	"io"
	"log/slog"
	"testing"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// BenchmarkFanOut is what a payload for 1000 connections costs beside the kernel: one a
// turn, and some that go together.
func BenchmarkFanOut(b *testing.B) {
	for _, tc := range []struct{ each, size int }{{1, 64}, {2, 64}, {4, 64}, {4, 500}} {
		b.Run(fmt.Sprintf("%dx%d", tc.each, tc.size), func(b *testing.B) { fanOut(b, tc.each, tc.size) })
	}
}

func fanOut(b *testing.B, each, size int) {
	e := &aiotest.Willing{}
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
	shared := buf.NewShared(make([]byte, size))
	b.ReportAllocs()
	for b.Loop() {
		for range each {
			for _, c := range conns {
				c.SendShared(shared)
			}
		}
		for more := true; more; more = !e.Idle() {
			if err := l.Turn(0); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(conns)*each), "ns/member")
}
