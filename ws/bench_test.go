package ws_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/conn"
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
				w := newWorld(b, 1, aiotest.Config{SendBufferMin: 64 << 20, SendBufferMax: 64 << 20})
				cfg, _ := conn.Config{HighWater: 16 << 20}.Check()
				fd, peer := w.fake.Open()
				peer.Feed(handshake())
				var c *conn.Conn
				w.loop.Defer(func() { c = conn.New(w.loop, int(fd), s, cfg) })
				w.turns(3)
				n := max(1, 2000/(size+6))
				var frames []frame
				for range n {
					frames = append(frames, frame{op: byte(op), data: strings.Repeat("x", size)})
				}
				p := encode(true, frames...)
				for i := 0; b.Loop(); i++ {
					in := w.small.Get()
					in.Append(p)
					s.OnData(c, &in)
					in.Release()
					if i%64 == 63 {
						b.StopTimer()
						w.turns(2)
						peer.ReadAll()
						b.StartTimer()
					}
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/message")
			})
		}
	}
}
