package conn_test

import (
	"fmt"
	"net"
	"os"
	"runtime/debug"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/invariants"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// TestStalledReaders holds the formula of the memory: a connection whose peer
// does not read holds at most Limit - 1 bytes and its longest message, in
// blocks of which the first may be half gone and the last half filled.
func TestStalledReaders(t *testing.T) {
	stalled := 1000
	if invariants.Enabled || testing.Short() {
		stalled = 200
	}
	const high, block, window = 64 << 10, reactor.BulkBlock, 64 << 10
	for _, tc := range []struct {
		name string
		each int // bytes of blocks a connection may hold
		feed func(c *conn.Conn)
	}{
		{"small writes", high + 100 + 2*block, func(c *conn.Conn) {
			for p := make([]byte, 100); ; {
				if _, err := c.Write(p); err != nil {
					return
				}
			}
		}},
		{"blocks", high + block + 2*block, func(c *conn.Conn) {
			for {
				b := c.Loop().Bulk().Get()
				b.Extend(block)
				s := c.Send(&b)
				if b.Release(); s >= conn.Rejected {
					return
				}
			}
		}},
		{"sparse blocks", high + 5000 + 2*block, func(c *conn.Conn) {
			for {
				b := c.Loop().Bulk().Get()
				b.Extend(5000)
				s := c.Send(&b)
				if b.Release(); s >= conn.Rejected {
					return
				}
			}
		}},
		{"echo", high + 2*window + 3*block + 32*reactor.SmallBlock, nil}, // And what had come before the pause.
	} {
		t.Run(name("%s", tc.name), func(t *testing.T) {
			looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
				stalled := stalled
				if tc.feed == nil {
					stalled /= 4 // Each peer is filled by hand, which takes a while.
				}
				cfg := conn.Config{HighWater: high, SendBuffer: 16 << 10, RecvBuffer: window, PauseOnFull: tc.feed == nil}
				stall(t, g, cfg, stalled, tc.each, tc.feed)
			})
		})
	}
}

func stall(t *testing.T, g *reactor.Group, cfg conn.Config, stalled, each int, feed func(c *conn.Conn)) {
	var opened atomic.Int64
	h := echo()
	h.Open = func(c *conn.Conn) {
		if opened.Add(1); feed != nil {
			var again func()
			again = func() { // The kernel's own buffers fill little by little.
				feed(c)
				c.Loop().AfterFunc(20*time.Millisecond, c, again)
			}
			again()
		}
	}
	l := listen(t, g, h, cfg)
	debug.FreeOSMemory()
	used, resident := inUse(g), rss(t)
	peers := make([]*net.TCPConn, stalled)
	for i := range peers {
		peers[i] = dial(t, l)
		defer peers[i].Close()
		_ = peers[i].SetReadBuffer(16 << 10)
	}
	testutil.Eventually(t, 10*time.Second, "open", func() bool { return opened.Load() == int64(stalled) })
	if feed == nil {
		push(peers)
	}
	settled, last := 0, -1
	testutil.Eventually(t, 20*time.Second, "stall", func() bool {
		time.Sleep(50 * time.Millisecond)
		now := inUse(g)
		if now != last {
			settled, last = 0, now
		}
		settled++
		return settled > 4
	})
	s := g.Stats()[0]
	grown, rose := s.InUse-used, rss(t)-resident
	// What a receive has and the pools round up is the same for any number.
	const constant = 16 << 20
	if most := stalled*each + constant; grown > most {
		t.Errorf("%d stalled readers hold %d bytes of blocks, %d each; at most %d", stalled, grown, grown/stalled, most)
	}
	// With invariants every block that was in use once is filled, and resident.
	if most := stalled*(each+16<<10) + 2*constant; rose > most && !invariants.Enabled {
		t.Errorf("the process grew by %d bytes, %d each; at most %d", rose, rose/stalled, most)
	}
	t.Logf("%d readers: %d bytes of blocks each, %d mapped each, process grew by %d each",
		stalled, grown/stalled, s.Mapped/stalled, rose/stalled)
	_ = g.Close() // The peers first would flush.
}

// push has each peer send until nothing goes any more.
func push(peers []*net.TCPConn) {
	data := make([]byte, 8<<10)
	for range 2 {
		for _, p := range peers {
			_ = p.SetWriteDeadline(time.Now().Add(2 * time.Millisecond))
			for {
				if _, err := p.Write(data); err != nil {
					break
				}
			}
		}
	}
}

func rss(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		t.Fatal(err)
	}
	var size, resident int
	if _, err := fmt.Sscan(string(text), &size, &resident); err != nil {
		t.Fatal(err)
	}
	return resident * os.Getpagesize()
}

// TestSharedFanOut holds that one payload for many costs its bytes once.
func TestSharedFanOut(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		payload := buf.NewShared(make([]byte, 1<<20))
		var opened atomic.Int64
		l := listen(t, g, &conn.Funcs{Open: func(c *conn.Conn) {
			c.SendShared(payload)
			opened.Add(1)
		}}, conn.Config{SendBuffer: 16 << 10})
		used := inUse(g)
		for range 50 {
			defer dial(t, l).Close()
		}
		testutil.Eventually(t, 5*time.Second, "open", func() bool { return opened.Load() == 50 })
		if n := inUse(g) - used; n > 8<<20 {
			t.Errorf("%d bytes of blocks for one payload", n)
		}
		_ = g.Close()
		if payload.Release(); payload.Bytes() != nil {
			t.Error("a count was not given back")
		}
	})
}
