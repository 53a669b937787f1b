package ws_test

import (
	"fmt"
	"io"
	"log/slog"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/reactor"
	"github.com/penstock-go/penstock/ws"
)

// BenchmarkEcho is what a message costs above the connection, in blocks of as many
// as fit into 2 KiB, or in a block of its own.
func BenchmarkEcho(b *testing.B) {
	for _, size := range []int{16, 64, 1000, 3000} {
		for _, op := range []ws.Op{ws.Text, ws.Binary} {
			b.Run(fmt.Sprint(op, "/", size), func(b *testing.B) {
				s, err := ws.NewServer(echoer(), ws.Config{})
				if err != nil {
					b.Fatal(err)
				}
				w := looptest.New(b, looptest.Options{Seed: 1, Faults: aiotest.Config{SendBufferMin: 64 << 20, SendBufferMax: 64 << 20}})
				cfg, _ := conn.Config{HighWater: 16 << 20}.Check()
				fd, peer := w.Fake.Open()
				peer.Feed(handshake())
				var c *conn.Conn
				w.Loop.Defer(func() { c = conn.New(w.Loop, int(fd), s, cfg) })
				w.Turns(3)
				n := max(1, 2000/(size+6))
				var frames []frame
				for range n {
					frames = append(frames, frame{op: byte(op), data: strings.Repeat("x", size)})
				}
				p := encode(true, frames...)
				for i := 0; b.Loop(); i++ {
					in := w.Small.Get()
					in.Append(p)
					s.OnData(c, &in)
					in.Release()
					if i%64 == 63 {
						b.StopTimer()
						w.Turns(2)
						peer.ReadAll()
						b.StartTimer()
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/message")
			})
		}
	}
}

// stage is a loop on an engine that is willing.
type stage struct {
	*aiotest.Willing
	loop *reactor.Loop
	pool *buf.Pool
	come aio.Completion // scratch of say
}

func newStage(b *testing.B) *stage {
	s := &stage{Willing: &aiotest.Willing{}}
	s.pool, _ = buf.NewPool(buf.Config{BlockSize: reactor.SmallBlock, SlabBlocks: 8})
	s.loop = reactor.NewLoop(reactor.LoopConfig{Engine: s.Willing, Small: s.pool, Bulk: s.pool, Logger: slog.New(slog.NewTextHandler(io.Discard, nil))})
	b.Cleanup(s.pool.Close)
	return s
}

// open opens a connection that has heard p.
func (s *stage) open(b *testing.B, h conn.Handler, p []byte) *conn.Conn {
	cfg, err := conn.Config{}.Check()
	if err != nil {
		b.Fatal(err)
	}
	c := conn.New(s.loop, -1, h, cfg)
	s.settle(b)
	if p != nil {
		s.say(c, p)
		s.settle(b)
	}
	return c
}

// say has p come on c.
func (s *stage) say(c *conn.Conn, p []byte) {
	s.come = aio.Completion{Kind: aio.Recv, First: true, Res: int32(len(p)), In: s.pool.Get()}
	s.come.In.Append(p)
	c.Complete(s.loop, &s.come)
	s.come.In.Release()
}

func (s *stage) settle(b *testing.B) {
	for more := true; more; more = !s.Idle() {
		if err := s.loop.Turn(0); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkEchoAlone is what a message costs that comes alone and is sent back, beside
// the kernel, and beside that what the same bytes cost without a WebSocket.
func BenchmarkEchoAlone(b *testing.B) {
	for _, size := range []int{64, 1024} {
		b.Run(fmt.Sprint("raw/", size), func(b *testing.B) {
			echoAlone(b, &conn.Funcs{Data: func(c *conn.Conn, in *buf.Buf) { c.Send(in) }}, nil, size)
		})
		b.Run(fmt.Sprint("ws/", size), func(b *testing.B) {
			server, err := ws.NewServer(echoer(), ws.Config{})
			if err != nil {
				b.Fatal(err)
			}
			echoAlone(b, server, handshake(), size)
		})
	}
}

func echoAlone(b *testing.B, h conn.Handler, head []byte, size int) {
	s := newStage(b)
	c := s.open(b, h, head)
	p := encode(true, frame{op: byte(ws.Binary), data: strings.Repeat("x", size)})
	b.ReportAllocs()
	for b.Loop() {
		s.say(c, p)
		s.settle(b)
	}
}

// BenchmarkPrepared is what a message for 1000 WebSockets costs beside the kernel.
func BenchmarkPrepared(b *testing.B) {
	var conns []*ws.Conn
	server, err := ws.NewServer(&ws.Funcs{Open: func(c *ws.Conn) { conns = append(conns, c) }}, ws.Config{Deflate: &ws.Deflate{}})
	if err != nil {
		b.Fatal(err)
	}
	s := newStage(b)
	for range 1000 {
		s.open(b, server, handshake("Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover"))
	}
	m := ws.Prepare(ws.Text, make([]byte, 1024))
	b.ReportAllocs()
	for b.Loop() {
		for _, c := range conns {
			c.SendPrepared(m)
		}
		s.settle(b)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(conns)), "ns/member")
}
