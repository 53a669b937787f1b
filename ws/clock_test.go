package ws_test

import (
	"bytes"
	"math"
	"testing"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/ws"
)

// TestLongestTimes holds that the longest times are long, and do not come at once.
func TestLongestTimes(t *testing.T) {
	const ever = time.Duration(math.MaxInt64)
	for _, cfg := range []ws.Config{
		{HandshakeTimeout: ever}, {CloseTimeout: ever}, {PingAfter: ever}, {PingAfter: time.Hour, PongWithin: ever},
		{HandshakeTimeout: ever, CloseTimeout: ever, PingAfter: ever, PongWithin: ever},
	} {
		r := newRig(t, options{cfg: cfg})
		r.peer.AutoRead(true)
		r.Pass(time.Second)
		r.peer.Feed(handshake())
		if r.Turns(4); r.opens != 1 {
			t.Fatalf("%+v: told %q", cfg, r.got())
		}
		r.Pass(time.Second)
		r.c.Close(ws.Normal, "")
		r.Pass(time.Second)
		_, behind, _ := bytes.Cut(r.got(), []byte("\r\n\r\n"))
		if !bytes.Equal(behind, encode(false, bye(1000))) || r.closes != 0 {
			t.Errorf("%+v: told % x, closed %d times", cfg, behind, r.closes)
		}
		r.gone()
	}
}

// TestClockTurnsOver holds that the clock goes on when the loop has run for more ticks
// than 32 bits can count, 198 days at the shortest: before, at, and after that.
func TestClockTurnsOver(t *testing.T) {
	const unit = 4 * time.Millisecond
	for _, start := range []time.Duration{(1<<32 - 10) * unit, 1<<32*unit - time.Millisecond, 1 << 32 * unit, (1<<32 + 1<<31 + 100) * unit} {
		r := &rig{World: looptest.New(t, looptest.Options{Seed: 1})}
		r.Now = start
		r.funcs = r.echo()
		var err error
		if r.server, err = ws.NewServer(r.funcs, ws.Config{PingAfter: 200 * time.Millisecond, PongWithin: 200 * time.Millisecond}); err != nil {
			t.Fatal(err)
		}
		below, _ := conn.Config{}.Check()
		fd, peer := r.Fake.Open()
		r.peer = peer
		r.peer.AutoRead(true)
		r.Loop.Defer(func() { conn.New(r.Loop, int(fd), r.server, below) })
		r.peer.Feed(handshake())
		for range 100 { // A loop that does not wait would need more.
			if err := r.Loop.Turn(time.Second); err != nil {
				t.Fatal(err)
			}
		}
		if after := r.Now - start; r.closes != 1 || r.server.Stats().PongTimeouts != 1 || after < 350*time.Millisecond {
			t.Errorf("from %v on: closed %d times after %v", start, r.closes, after)
		}
		r.gone()
	}
}
