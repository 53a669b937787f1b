//go:build linux

package fallback_test

import (
	"runtime"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/fallback"
	"github.com/penstock-go/penstock/internal/testutil"
)

func open(tb testing.TB, pool *buf.Pool) aio.Engine {
	tb.Helper()
	e, err := fallback.NewEngine(fallback.Config{Pool: pool})
	if err != nil {
		tb.Fatal(err)
	}
	return e
}

func TestConformance(t *testing.T) { aiotest.TestEngine(t, open) }

// TestConformanceSmall runs the suite with limits so small that every one is met.
func TestConformanceSmall(t *testing.T) {
	aiotest.TestEngine(t, func(tb testing.TB, pool *buf.Pool) aio.Engine {
		tb.Helper()
		e, err := fallback.NewEngine(fallback.Config{Pool: pool, Batch: 1, BatchBytes: 1, Events: 1})
		if err != nil {
			tb.Fatal(err)
		}
		return e
	})
}

// bench is an engine with its pool and some pairs.
type bench struct {
	*fallback.Engine
	tb   testing.TB
	pool *buf.Pool
	near []int32
	far  []int
	done []aio.Completion
}

func newBench(tb testing.TB, pairs int, cfg buf.Config) *bench {
	tb.Helper()
	runtime.LockOSThread()
	pool, err := buf.NewPool(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	b := &bench{Engine: open(tb, pool).(*fallback.Engine), tb: tb, pool: pool, done: make([]aio.Completion, 64)}
	for range pairs {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			tb.Fatal(err)
		}
		b.near, b.far = append(b.near, int32(fds[0])), append(b.far, fds[1])
	}
	tb.Cleanup(func() {
		for i := range b.near {
			_ = unix.Close(int(b.near[i]))
			_ = unix.Close(b.far[i])
		}
		if err := b.Close(); err != nil {
			tb.Error(err)
		}
		if !tb.Failed() {
			pool.Close()
		}
		runtime.UnlockOSThread()
	})
	return b
}

func (b *bench) op(i int, k aio.Kind) aio.Op {
	return aio.Op{Token: aio.Token{Slot: uint32(i), Gen: 1}, Kind: k, FD: b.near[i]}
}

func (b *bench) arm(i int) {
	op := b.op(i, aio.Recv)
	b.Submit(&op)
}

func (b *bench) wait(d time.Duration) []aio.Completion {
	b.tb.Helper()
	n, err := b.Wait(b.done, d)
	if err != nil {
		b.tb.Fatal(err)
	}
	return b.done[:n]
}

func (b *bench) feed(i int, data []byte) {
	b.tb.Helper()
	if _, err := unix.Write(b.far[i], data); err != nil {
		b.tb.Fatal(err)
	}
}

func TestConfig(t *testing.T) {
	if _, err := fallback.NewEngine(fallback.Config{}); err == nil {
		t.Error("an engine without a pool was opened")
	}
	pool, err := buf.NewPool(buf.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fallback.NewEngine(fallback.Config{Pool: pool, Batch: -1}); err == nil {
		t.Error("a negative limit was taken")
	}
}

func TestLayout(t *testing.T) {
	if fallback.SlotSize != 16 {
		t.Errorf("a slot is %d bytes, want 16", fallback.SlotSize)
	}
	want := fallback.MsghdrLayout
	got := want
	got.Size, got.Iov = unsafe.Sizeof(unix.Msghdr{}), unsafe.Offsetof(unix.Msghdr{}.Iov)
	got.Iovlen, got.Control = unsafe.Offsetof(unix.Msghdr{}.Iovlen), unsafe.Offsetof(unix.Msghdr{}.Control)
	if got != want {
		t.Errorf("struct msghdr is %+v in x/sys, %+v here", got, want)
	}
}

// TestForget holds that a forgotten descriptor leaves the epoll set: it would
// wake the loop for its next owner, and stay when its number is another file's.
func TestForget(t *testing.T) {
	b := newBench(t, 1, buf.Config{BlockSize: 4096})
	b.arm(0)
	if b.wait(0); !b.Watches(b.near[0]) {
		t.Fatal("an armed receive is not in the epoll set")
	}
	for _, k := range []aio.Kind{aio.Cancel, aio.Forget} {
		op := b.op(0, k)
		op.Target = aio.Recv
		b.Submit(&op)
		b.wait(0)
	}
	if b.Watches(b.near[0]) {
		t.Error("a forgotten descriptor is in the epoll set")
	}
}

// TestAllocs holds that an echo allocates nothing, with one element and with many.
func TestAllocs(t *testing.T) {
	b := newBench(t, 1, buf.Config{BlockSize: 4096})
	b.arm(0)
	msg, back := []byte("sixteen bytes..."), make([]byte, 64)
	out := make([][]byte, 0, 2)
	echo := func() {
		b.feed(0, msg)
		for got := 0; got < len(msg); {
			for _, c := range b.wait(-1) {
				if c.Kind != aio.Recv {
					continue
				}
				in := c.In.Bytes()
				got += len(in)
				out = append(out[:0], in[:1], in[1:])
				op := b.op(0, aio.Send)
				op.Out = out
				b.Submit(&op)
				c.In.Release()
			}
		}
		if n, err := unix.Read(b.far[0], back); err != nil || n != len(msg) {
			t.Fatalf("read %d, %v", n, err)
		}
	}
	echo()
	if n := testing.AllocsPerRun(200, echo); n != 0 {
		t.Errorf("an echo allocates %v times, want 0", n)
	}
}

// TestEntersPerEcho holds that a turn of echo needs one epoll_wait.
func TestEntersPerEcho(t *testing.T) {
	const turns, pairs = 100, 16
	b := newBench(t, pairs, buf.Config{BlockSize: 4096})
	for i := range pairs {
		b.arm(i)
	}
	b.wait(0)
	before := b.Stats().Enters
	for range turns {
		for i := range pairs {
			b.feed(i, []byte("ping"))
		}
		for got := 0; got < pairs; {
			for _, c := range b.wait(-1) {
				if c.Kind == aio.Recv {
					got++
					op := b.op(int(c.Token.Slot), aio.Send)
					op.Out = [][]byte{c.In.Bytes()}
					b.Submit(&op)
					c.In.Release()
				}
			}
		}
	}
	if n := b.Stats().Enters - before; n > turns+2 {
		t.Errorf("%d calls of epoll_wait in %d turns of %d echoes", n, turns, pairs)
	}
}

// TestFarEnd holds that a wait with a far end sets no timer of the kernel when an
// earlier one is set, which is what a timer of the loop costs an echo.
func TestFarEnd(t *testing.T) {
	b := newBench(t, 1, buf.Config{BlockSize: 4096})
	b.arm(0)
	var set time.Duration
	for i := range 100 {
		b.feed(0, []byte("ping"))
		for _, c := range b.wait(time.Hour) {
			c.In.Release()
		}
		if i == 0 {
			set = b.Alarm()
		}
	}
	if now := b.Alarm(); set == 0 || now != set {
		t.Errorf("the alarm was set to %v, and then to %v", set, now)
	}
	if b.wait(time.Minute / 1000); b.Alarm() >= set {
		t.Error("an earlier end did not move it")
	}
}

// TestStarvedSleeps holds that a starved engine does not spin, although the
// socket is readable and the party re-armed.
func TestStarvedSleeps(t *testing.T) {
	b := newBench(t, 2, buf.Config{BlockSize: 4096, SlabBlocks: 4, MaxBytes: 4 * 4096})
	var held []buf.Buf
	for range 4 {
		held = append(held, b.pool.Get())
	}
	for i := range 2 {
		b.arm(i)
		b.feed(i, []byte("x"))
	}
	told := 0
	for range 10 {
		for _, c := range b.wait(0) {
			if c.Err() != unix.ENOBUFS || !c.Final {
				t.Fatalf("recv without blocks: %v, final %v", c.Err(), c.Final)
			}
			told++
			b.arm(int(c.Token.Slot))
		}
	}
	if told != 2 {
		t.Fatalf("starvation told %d times, want 2", told)
	}
	before := b.Stats().Enters
	if cs := b.wait(350 * time.Millisecond); len(cs) != 0 {
		t.Fatalf("%d completions without blocks", len(cs))
	}
	if n := b.Stats().Enters - before; n > 20 {
		t.Errorf("%d calls of epoll_wait in one Wait that starves", n)
	}
	for i := range held {
		held[i].Release()
	}
	got := 0
	for got < 2 {
		for _, c := range b.wait(-1) {
			if c.Res != 1 {
				t.Fatalf("recv: %d, want the byte that waited", c.Res)
			}
			got++
			c.In.Release()
		}
	}
}

// TestWakeBesideClose races Wake with the end of the engine.
func TestWakeBesideClose(t *testing.T) {
	for range 200 {
		pool, err := buf.NewPool(buf.Config{})
		if err != nil {
			t.Fatal(err)
		}
		e := open(t, pool)
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for range 20 {
					e.Wake()
				}
			})
		}
		if _, err := e.Wait(make([]aio.Completion, 1), -1); err != nil {
			t.Fatal(err)
		}
		if err := e.Close(); err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		e.Wake()
	}
}

// TestCollectorInterrupts holds that a collection, which has to stop a loop that
// sleeps in a call the scheduler does not see, neither hangs nor ends the Wait.
func TestCollectorInterrupts(t *testing.T) {
	b := newBench(t, 1, buf.Config{BlockSize: 4096})
	b.arm(0)
	go func() {
		for range 5 {
			runtime.GC()
		}
		_, _ = unix.Write(b.far[0], []byte("x"))
	}()
	watchdog := time.AfterFunc(testutil.Timeout(20*time.Second), func() { panic("the wait never ended") })
	defer watchdog.Stop()
	cs := b.wait(-1)
	if len(cs) != 1 || cs[0].Res != 1 {
		t.Fatalf("%d completions, want one byte", len(cs))
	}
	cs[0].In.Release()
}

// TestDescriptorPassedOn gives a registered descriptor to another party: the
// new one hears of bytes that were there before, the old one of nothing.
func TestDescriptorPassedOn(t *testing.T) {
	b := newBench(t, 1, buf.Config{BlockSize: 4096})
	b.arm(0)
	op := b.op(0, aio.Cancel)
	op.Target = aio.Recv
	b.Submit(&op)
	if cs := b.wait(-1); len(cs) != 1 || cs[0].Err() != unix.ECANCELED {
		t.Fatalf("%d completions of a cancelled recv", len(cs))
	}
	b.feed(0, []byte("for the second"))
	second := aio.Token{Slot: 9, Gen: 4}
	b.Submit(&aio.Op{Token: second, Kind: aio.Recv, FD: b.near[0]})
	cs := b.wait(-1)
	if len(cs) != 1 || cs[0].Token != second || string(cs[0].In.Bytes()) != "for the second" {
		t.Fatalf("%d completions, want one of the second party", len(cs))
	}
	cs[0].In.Release()
}
