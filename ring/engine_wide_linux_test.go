//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/ring"
	"golang.org/x/sys/unix"
)

func (l *loop) recvWide(slot uint32, fd int) {
	l.Submit(&aio.Op{Token: aio.Token{Slot: slot}, Kind: aio.Recv, FD: int32(fd), Flags: aio.Bulk | aio.Wide})
}

// TestWideHolds: however many sockets have much at once, one receives, and holds no
// more blocks than it may bring. Without DEFER_TASKRUN the kernel answers all polls at once.
func TestWideHolds(t *testing.T) {
	const n, most = 100, 16
	l := newLoop(t, buf.Config{BlockSize: 4 << 10}, ring.EngineConfig{RecvBuffers: most, Hide: []string{"defer_taskrun"}})
	near, far := make([]int, n), make([]int, n)
	for i := range n {
		near[i], far[i] = socketPair(t)
		l.recvWide(uint32(i), near[i])
	}
	for range 10 { // They poll.
		l.wait(0)
	}
	total, got, peak := 0, 0, 0
	for i := range n {
		total += fill(t, far[i])
	}
	l.until("all bytes", func(c *aio.Completion) {
		peak = max(peak, l.pool.InUse())
		got += max(0, int(c.Res))
		c.In.Release()
		if c.Final {
			l.recvWide(c.Token.Slot, near[c.Token.Slot])
		}
	}, func() bool { return got >= total })
	if peak > aio.WideBlocks {
		t.Errorf("%d blocks in use at once, want %d at the most", peak, aio.WideBlocks)
	}
}

// TestWideErrorQueue: an error queue that is not empty is POLLERR for ever, and no
// reason to receive again and again.
func TestWideErrorQueue(t *testing.T) {
	l := newLoop(t, buf.Config{}, ring.EngineConfig{})
	a, b := tcpPair(t)
	const stamps = unix.SOF_TIMESTAMPING_TX_SOFTWARE | unix.SOF_TIMESTAMPING_SOFTWARE
	must(t, unix.SetsockoptInt(a, unix.SOL_SOCKET, unix.SO_TIMESTAMPING, stamps))
	_, err := unix.Write(a, []byte("hello"))
	must(t, err)
	for deadline := time.Now().Add(testutil.Timeout(patience)); ; { // until the stamp is there
		ready := []unix.PollFd{{Fd: int32(a)}}
		if n, _ := unix.Poll(ready, 10); n > 0 && ready[0].Revents&unix.POLLERR != 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no time stamp came")
		}
	}
	l.recvWide(1, a)
	before := l.Stats().Enters
	for range 5 {
		if cs := l.wait(20 * time.Millisecond); len(cs) != 0 {
			t.Fatalf("told %+v", cs)
		}
	}
	if n := l.Stats().Enters - before; n > 30 {
		t.Errorf("%d enters while nothing came", n)
	}
	_, err = unix.Write(b, []byte("bytes"))
	must(t, err)
	got := 0
	l.until("bytes", func(c *aio.Completion) { got += int(c.Res); c.In.Release() }, func() bool { return got == 5 })
}

// TestWideWithoutBlocks: a wide receive that finds the pool empty is starved as any
// other, submits nothing for that, and goes on.
func TestWideWithoutBlocks(t *testing.T) {
	entries := map[aio.Flags]uint64{}
	for _, flags := range []aio.Flags{aio.Bulk, aio.Bulk | aio.Wide} {
		t.Run("", func(t *testing.T) {
			l := newLoop(t, smallPool(4), ring.EngineConfig{RecvBuffers: 4})
			var held []buf.Buf
			for b := l.pool.Get(); !b.IsZero(); b = l.pool.Get() {
				held = append(held, b)
			}
			a, b := socketPair(t)
			_, err := unix.Write(b, []byte("bytes"))
			must(t, err)
			recv := func() { l.Submit(&aio.Op{Kind: aio.Recv, FD: int32(a), Flags: flags}) }
			starved, got := false, 0
			each := func(c *aio.Completion) {
				starved = starved || c.Err() == syscall.ENOBUFS
				got += max(0, int(c.Res))
				c.In.Release()
			}
			recv()
			l.until("starvation", each, func() bool { return starved })
			entries[flags] = l.Stats().Submitted
			recv()
			for i := range held {
				held[i].Release()
			}
			l.until("bytes", each, func() bool { return got == 5 })
		})
	}
	if narrow, wide := entries[aio.Bulk], entries[aio.Bulk|aio.Wide]; wide > narrow {
		t.Errorf("%d entries for a wide receive, %d for one of a block", wide, narrow)
	}
}

// TestWideCancel: a wide receive that waits is cancelled, and one that has bytes tells them.
func TestWideCancel(t *testing.T) {
	l := newLoop(t, buf.Config{}, ring.EngineConfig{})
	a, b := socketPair(t)
	for _, bytes := range []int{0, 5} {
		l.recvWide(1, a)
		l.wait(0)
		l.wait(0) // It has found nothing, and polls.
		if bytes > 0 {
			_, err := unix.Write(b, make([]byte, bytes))
			must(t, err)
		}
		l.cancel(1, aio.Recv)
		ended := false
		l.until("the end", func(c *aio.Completion) {
			if c.Err() != syscall.ECANCELED && int(c.Res) != bytes {
				t.Errorf("told %d with %d bytes there", c.Res, bytes)
			}
			c.In.Release()
			ended = c.Final
		}, func() bool { return ended })
	}
}

// TestWideOneByOne: of many that have something to receive one does so at a time, each in
// its turn, and one that waits for that is cancelled, whether it has polled before or not.
// An engine that closes in the middle takes those who wait with it.
func TestWideOneByOne(t *testing.T) {
	const n, size = 8, 100
	for _, tc := range []struct {
		name   string
		polled bool
		told   uint32 // and then it closes
	}{{"at once", false, n - 1}, {"polled", true, n - 1}, {"closed", false, n / 2}, {"polled and closed", true, n / 2}} {
		t.Run(tc.name, func(t *testing.T) {
			l := newLoop(t, buf.Config{}, ring.EngineConfig{})
			far := make([]int, n)
			for i := range far {
				var near int
				near, far[i] = socketPair(t)
				if l.recvWide(uint32(i), near); tc.polled { // The first receive of each is in vain.
					l.wait(0)
					l.wait(0)
				}
			}
			for _, fd := range far {
				_, err := unix.Write(fd, make([]byte, size))
				must(t, err)
			}
			if tc.polled {
				l.wait(0) // The polls have ended, and nobody has received.
			}
			l.cancel(n-1, aio.Recv)
			l.oneByOne(tc.told, n-1, size)
			for i := 0; i < 5 && tc.told == n-1; i++ {
				if cs := l.wait(0); len(cs) > 0 {
					t.Fatalf("told %d for %d behind the last", cs[0].Res, cs[0].Token.Slot)
				}
			}
		})
	}
}

// oneByOne waits until so many have had their bytes, in order, one a Wait, and until
// the last was told that it is cancelled.
func (l *loop) oneByOne(told, last uint32, size int) {
	l.t.Helper()
	next, cancelled := uint32(0), false
	for deadline := time.Now().Add(testutil.Timeout(patience)); next < told || !cancelled; {
		cs := l.wait(0)
		if len(cs) > 2 || time.Now().After(deadline) {
			l.t.Fatalf("%d completions of one wait, %d were told", len(cs), next)
		}
		for i := range cs {
			c := &cs[i]
			switch {
			case c.Token.Slot == last && c.Err() == syscall.ECANCELED && !cancelled:
				cancelled = true
			case c.Token.Slot == next && int(c.Res) == size:
				next++
			default:
				l.t.Fatalf("told %d for %d, want bytes for %d", c.Res, c.Token.Slot, next)
			}
			c.In.Release()
		}
	}
}

// TestWideClose: an engine that closes gives back the blocks of a wide receive of which
// it has told only some.
func TestWideClose(t *testing.T) {
	const block = 4 << 10
	l := newLoop(t, buf.Config{BlockSize: block}, ring.EngineConfig{})
	l.done = l.done[:1]
	a, b := socketPair(t)
	_, err := unix.Write(b, make([]byte, 2*block))
	must(t, err)
	l.recvWide(1, a)
	told := 0
	l.until("the first block", func(c *aio.Completion) { told += int(c.Res); c.In.Release() }, func() bool { return told > 0 })
	if told != block || l.pool.InUse() != aio.WideBlocks-1 {
		t.Errorf("%d bytes were told, and %d blocks are held", told, l.pool.InUse())
	}
}
