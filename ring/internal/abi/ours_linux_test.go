//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package abi_test

import (
	"bytes"
	"runtime"
	"testing"
	"time"

	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/ring"
	"golang.org/x/sys/unix"
)

// What giouring gets wrong beyond single entries, ring has to get right with
// the kernel as the judge.

const patience = 20 * time.Second

// ourRing opens a ring on the test's thread, to be closed at the end.
func ourRing(t *testing.T, cfg ring.Config) *ring.Ring {
	t.Helper()
	runtime.LockOSThread()
	r, err := ring.New(cfg)
	testutil.SkipIfKernelOlder(t, "6.1", "io_uring", err)
	t.Cleanup(func() {
		must(t, r.Close())
		runtime.UnlockOSThread()
	})
	return r
}

// TestBufRingAbove4096 takes every buffer of a ring of 8192 once, in its order,
// and looks where the bytes went.
func TestBufRingAbove4096(t *testing.T) {
	const entries, burst = 8192, 32
	r := ourRing(t, ring.Config{Entries: 64})
	mem, err := unix.Mmap(-1, 0, entries, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	must(t, err)
	defer unix.Munmap(mem)
	bufs, err := r.NewBufRing(9, entries)
	must(t, err)
	for i := range entries {
		bufs.Add(mem[i:][:1], uint16(i))
	}
	bufs.Commit()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(pair[0])
	sent := make([]byte, entries)
	for i := range sent {
		sent[i] = byte(i>>8) ^ byte(i)
	}
	for next, armed := 0, false; next < entries; {
		_, err := unix.Write(pair[1], sent[next:][:burst])
		must(t, err)
		for due := next + burst; next < due; {
			if !armed {
				r.SQE().PrepRecvMultishot(int32(pair[0]), 9, 0)
				armed = true
			}
			_, err := r.Enter(1, testutil.Timeout(patience))
			must(t, err)
			if r.Ready() == 0 {
				t.Fatalf("no completion after %d", next)
			}
			for ; r.Ready() > 0; r.Advance(1) {
				c := r.CQE(0)
				if id, ok := c.BufferID(); !ok || int(id) != next || c.Res != 1 {
					t.Fatalf("completion %d has buffer %d, %v, result %d", next, id, ok, c.Res)
				}
				armed = c.More()
				next++
			}
		}
	}
	if !bytes.Equal(mem, sent) {
		t.Error("bytes went to other buffers than the completions say")
	}
	end(t, r, pair[1])
	must(t, bufs.Close())
}

// end makes the receive that is in flight complete, if one is, by closing the
// other side.
func end(t *testing.T, r *ring.Ring, peer int) {
	t.Helper()
	must(t, unix.Close(peer))
	s := r.SQE()
	s.PrepCancelAny()
	s.UserData = user
	for {
		_, err := r.Enter(1, testutil.Timeout(patience))
		must(t, err)
		if r.Ready() == 0 {
			t.Fatal("the cancel does not complete")
		}
		over := false
		for ; r.Ready() > 0; r.Advance(1) {
			over = over || r.CQE(0).UserData == user
		}
		if over {
			return
		}
	}
}

// TestEntriesZeroed holds that Ring.SQE hands out entries without a trace of
// their past.
func TestEntriesZeroed(t *testing.T) {
	r := ourRing(t, ring.Config{Entries: 8})
	for range r.Entries() {
		s := r.SQE()
		s.PrepNop()
		// The kernel may refuse such no-ops; they are consumed all the same.
		s.OpFlags, s.Addr3, s.UserData, s.BufIndex, s.SpliceFDIn = unix.MSG_NOSIGNAL, 1, user, 3, 4
	}
	n, err := r.Enter(uint32(r.Entries()), testutil.Timeout(patience))
	must(t, err)
	if n != r.Entries() {
		t.Fatalf("%d of %d entries consumed", n, r.Entries())
	}
	r.Advance(r.Ready())
	for i := range r.Entries() {
		s := r.SQE()
		if *s != (ring.SQE{}) {
			t.Errorf("entry %d comes with %+v", i, *s)
		}
		s.PrepNop()
	}
}
