package conn_test

import (
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/conn"
)

// unkind is an engine that refuses sends with a flag, and keeps the last
// completions of zero-copy sends back.
type unkind struct {
	aio.Engine
	flag    aio.Flags // 0 = every send
	errno   syscall.Errno
	refused []aio.Completion
	keep    bool
	kept    []aio.Completion
}

func (e *unkind) Submit(op *aio.Op) {
	if op.Kind == aio.Send && e.errno != 0 && op.Flags&e.flag == e.flag {
		e.refused = append(e.refused, aio.Completion{
			Token: op.Token, Kind: aio.Send, First: true, Final: true, Batch: op.Batch & aio.BatchMask, Res: -int32(e.errno)})
		return
	}
	e.Engine.Submit(op)
}

func (e *unkind) Wait(done []aio.Completion, d time.Duration) (n int, err error) {
	n = copy(done, e.refused)
	e.refused = e.refused[n:]
	if !e.keep {
		k := copy(done[n:], e.kept)
		e.kept = e.kept[k:]
		n += k
	}
	m, err := e.Engine.Wait(done[n:], d)
	for _, c := range done[n : n+m] {
		if e.keep && c.Kind == aio.Send && !c.First {
			e.kept = append(e.kept, c)
			continue
		}
		done[n] = c
		n++
	}
	return n, err
}

// newLending opens a connection that sends without a copy from 1000 bytes on.
func newLending(t *testing.T, e *unkind) *rig {
	t.Helper()
	const window = 1 << 20
	r := &rig{window: window, world: newWorld(t, 1, aiotest.Config{ZeroCopy: true, SendBufferMin: window, SendBufferMax: window})}
	e.Engine = r.Fake
	r.calls.Engine = e
	cfg := marks(window, 0, window)
	cfg.ZeroCopyMin = 1000
	r.join(cfg, nil)
	r.peer.AutoRead(true)
	return r
}

// TestLoanOutlastsManySends holds that a loan ends with its own completion,
// also when the numbers of sends have come round meanwhile.
func TestLoanOutlastsManySends(t *testing.T) {
	e := &unkind{keep: true}
	r := newLending(t, e)
	back := false
	if s := r.c.SendBytes(make([]byte, 2000), func() { back = true }); s != conn.Queued {
		t.Fatal(s)
	}
	for i := range 2*aio.BatchMask + 10 {
		_ = r.write(10)
		r.Turns(2)
		if back || r.c.Lent() != 2000 {
			t.Fatalf("after %d other sends: given back: %v, %d bytes lent", i, back, r.c.Lent())
		}
	}
	e.keep = false
	r.Turns(3)
	if !back || r.c.Lent() != 0 {
		t.Errorf("at the end: given back: %v, %d bytes lent", back, r.c.Lent())
	}
	r.gone()
}

// TestNoMemoryToLend holds that a zero-copy send that the kernel refuses for
// want of locked memory is sent by copy, and that it is not tried again.
func TestNoMemoryToLend(t *testing.T) {
	for _, errno := range []syscall.Errno{syscall.ENOMEM, syscall.ENOBUFS, syscall.EOPNOTSUPP} {
		e := &unkind{flag: aio.ZeroCopy, errno: errno}
		r := newLending(t, e)
		for range 3 {
			_ = r.write(5000)
			r.Turns(3)
		}
		if n := r.calls.sends; n != 4 {
			t.Errorf("%v: %d sends for 3 writes, want 4", errno, n)
		}
		r.gone()
		if n := len(r.peer.Received()); n != 15000 || r.err != nil {
			t.Errorf("%v: the peer has %d bytes of 15000, closed with %v", errno, n, r.err)
		}
	}
}

// TestErrorResets holds that a stream that ends in the middle because of an
// error on our side does not look whole to the peer.
func TestErrorResets(t *testing.T) {
	r := newLending(t, &unkind{errno: syscall.EIO})
	_ = r.write(500)
	r.Settle("close", r.isClosed)
	r.wantReason(conn.IOError, 500)
	if !r.peer.WasReset() {
		t.Error("the peer got an end of file")
	}
	r.Finish()
}

// TestManyLenders holds that to tell many lenders at once costs each the same.
func TestManyLenders(t *testing.T) {
	cost := func(n int) time.Duration {
		r := newRig(t, 64, marks(64<<20, 0, 64<<20), nil)
		told, p := 0, make([]byte, 16)
		for range n {
			r.c.SendBytes(p, func() { told++ })
		}
		r.c.Abort()
		start := time.Now()
		r.Turns(5)
		d := time.Since(start)
		if told != n {
			t.Fatalf("%d lenders of %d were told", told, n)
		}
		r.gone()
		return d
	}
	const n, times = 8000, 16
	few, many := cost(n), cost(n*times)
	for range 10 { // For a host that is busy.
		if many <= 6*times*few {
			return
		}
		few, many = min(few, cost(n)), min(many, cost(n*times))
	}
	if many > 6*times*few {
		t.Errorf("%d lenders cost %v, %d times as many %v", n, few, times, many)
	}
}
