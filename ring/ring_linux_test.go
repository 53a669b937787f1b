//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring_test

import (
	"bytes"
	"errors"
	"runtime"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/ring"
	"golang.org/x/sys/unix"
)

// next waits for one completion and returns a copy.
func next(t testing.TB, r *ring.Ring) ring.CQE {
	t.Helper()
	if r.Ready() == 0 {
		_, err := r.Enter(1, testutil.Timeout(patience))
		must(t, err)
	}
	if r.Ready() == 0 {
		t.Fatal("no completion")
	}
	defer r.Advance(1)
	return *r.CQE(0)
}

func wantRes(t testing.TB, r *ring.Ring, data uint64, res int32) {
	t.Helper()
	if c := next(t, r); c.UserData != data || c.Res != res {
		t.Fatalf("operation %d ended with %d, want %d with %d", c.UserData, c.Res, data, res)
	}
}

func TestSizes(t *testing.T) {
	if n := unsafe.Sizeof(ring.SQE{}); n != 64 {
		t.Errorf("an SQE has %d bytes", n)
	}
	if n := unsafe.Sizeof(ring.CQE{}); n != 16 {
		t.Errorf("a CQE has %d bytes", n)
	}
	r := newRing(t, ring.Config{Entries: 100})
	if r.Entries() != 128 || r.CQEntries() != 512 {
		t.Errorf("%d and %d entries, want 128 and 512", r.Entries(), r.CQEntries())
	}
}

func TestBatchesOfNops(t *testing.T) {
	r := newRing(t, ring.Config{Entries: 8})
	for round := range 1000 {
		n := 0
		for s := r.SQE(); s != nil; s = r.SQE() {
			s.PrepNop()
			s.UserData = uint64(round*8 + n)
			n++
		}
		if n != 8 {
			t.Fatalf("%d entries before the queue is full, want 8", n)
		}
		got, err := r.Enter(8, -1)
		must(t, err)
		if got != 8 || r.Ready() != 8 {
			t.Fatalf("%d taken, %d answered", got, r.Ready())
		}
		for i := range 8 {
			if want := uint64(round*8 + i); r.CQE(i).UserData != want {
				t.Fatalf("answer %d, want %d", r.CQE(i).UserData, want)
			}
		}
		r.Advance(8)
	}
}

func TestEnterTimeout(t *testing.T) {
	r := newRing(t, ring.Config{})
	start := time.Now()
	for range 3 {
		n, err := r.Enter(1, 2*time.Millisecond)
		if n != 0 || err != nil || r.Ready() != 0 {
			t.Fatalf("%d, %v, %d ready", n, err, r.Ready())
		}
	}
	if d := time.Since(start); d < 6*time.Millisecond {
		t.Errorf("three waits of 2 ms took %v", d)
	}
	// With a submission the kernel reports neither the time nor a signal.
	a, _ := socketPair(t)
	s := r.SQE()
	s.PrepPollAdd(int32(a), unix.POLLIN)
	s.UserData = 1
	n, err := r.Enter(1, time.Millisecond)
	if n != 1 || err != nil || r.Ready() != 0 {
		t.Errorf("%d, %v, %d ready", n, err, r.Ready())
	}
	s = r.SQE()
	s.PrepPollRemove(1)
	s.UserData = 2
	_, err = r.Enter(2, -1)
	must(t, err)
	r.Advance(r.Ready())
}

// A raw wait holds the only P. The collector and other goroutines must still
// get it: by a signal, which makes the wait one that the scheduler sees.
func TestWaitLetsOthersRun(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	r := newRing(t, ring.Config{})
	a, b := socketPair(t)
	for range 3 {
		wrote := make(chan error, 1)
		go func() {
			for range 3 {
				runtime.GC()
				time.Sleep(time.Millisecond)
			}
			_, err := unix.Write(b, []byte("x"))
			wrote <- err
		}()
		s := r.SQE()
		s.PrepPollAdd(int32(a), unix.POLLIN)
		_, err := r.Enter(1, -1)
		must(t, err)
		if r.Ready() != 1 {
			t.Fatalf("%d ready after a wait without end", r.Ready())
		}
		r.Advance(1)
		must(t, <-wrote)
		readAll(t, a)
	}
}

func TestOverflowLosesNothing(t *testing.T) {
	r := newRing(t, ring.Config{Entries: 8, CQEntries: 16})
	const n = 100
	sent := 0
	for sent < n {
		for s := r.SQE(); s != nil; s = r.SQE() {
			s.PrepNop()
			s.UserData = uint64(sent)
			sent++
		}
		_, err := r.Enter(0, 0)
		must(t, err)
	}
	if !r.Overflowed() {
		t.Errorf("%d answers fit a queue of %d", sent, r.CQEntries())
	}
	for i := range sent {
		wantRes(t, r, uint64(i), 0)
	}
	if r.Overflowed() {
		t.Error("the overflow does not end")
	}
}

func TestReadWriteSplice(t *testing.T) {
	r := newRing(t, ring.Config{})
	a, b := socketPair(t)
	var p [2]int
	must(t, unix.Pipe2(p[:], unix.O_CLOEXEC))
	defer unix.Close(p[0])
	defer unix.Close(p[1])
	out, in := random(t, 1000), offHeap(t, 1000)
	s := r.SQE()
	s.PrepWrite(int32(b), out, ring.CurrentOffset)
	s.UserData = 1
	wantRes(t, r, 1, 1000)
	s = r.SQE()
	s.PrepSplice(int32(a), ring.CurrentOffset, int32(p[1]), ring.CurrentOffset, 1000, 0)
	s.UserData = 2
	wantRes(t, r, 2, 1000)
	s = r.SQE()
	s.PrepRead(int32(p[0]), in, ring.CurrentOffset)
	s.UserData = 3
	wantRes(t, r, 3, 1000)
	if !bytes.Equal(in, out) {
		t.Error("bytes differ")
	}
}

func TestConnectAcceptShutdownClose(t *testing.T) {
	r := newRing(t, ring.Config{})
	mem := offHeap(t, 4096)
	ln, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(ln)
	must(t, unix.Bind(ln, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, unix.Listen(ln, 1))
	sa, err := unix.Getsockname(ln)
	must(t, err)
	port := sa.(*unix.SockaddrInet4).Port
	addr := (*unix.RawSockaddrInet4)(unsafe.Pointer(&mem[0])) // in a mapping, so aligned
	*addr = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: uint16(port>>8 | port&255<<8), Addr: [4]byte{127, 0, 0, 1}}

	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	s := r.SQE()
	s.PrepConnect(int32(fd), (*unix.RawSockaddrAny)(unsafe.Pointer(addr)), uint32(unsafe.Sizeof(*addr)))
	s.UserData = 1
	wantRes(t, r, 1, 0)

	from := (*unix.RawSockaddrAny)(unsafe.Pointer(&mem[128]))
	size := (*uint32)(unsafe.Pointer(&mem[1024]))
	*size = uint32(unsafe.Sizeof(*from))
	s = r.SQE()
	s.PrepAccept(int32(ln), from, size, unix.SOCK_CLOEXEC)
	s.UserData = 2
	c := next(t, r)
	if c.Res < 0 || c.UserData != 2 || from.Addr.Family != unix.AF_INET {
		t.Fatalf("accept: %+v, family %d", c, from.Addr.Family)
	}
	s = r.SQE()
	s.PrepShutdown(int32(fd), unix.SHUT_WR)
	s.UserData = 3
	wantRes(t, r, 3, 0)
	in := offHeap(t, 16)
	s = r.SQE()
	s.PrepRecv(c.Res, in, 0)
	s.UserData = 4
	wantRes(t, r, 4, 0)
	for _, fd := range []int32{int32(fd), c.Res} {
		s = r.SQE()
		s.PrepClose(fd)
		s.UserData = 5
		wantRes(t, r, 5, 0)
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != syscall.EBADF {
		t.Errorf("the descriptor is open after close: %v", err)
	}
}

func TestTimeouts(t *testing.T) {
	r := newRing(t, ring.Config{})
	a, _ := socketPair(t)
	s := r.SQE()
	s.PrepTimeout(r.Timespec(time.Millisecond), 0, 0)
	s.UserData = 1
	wantRes(t, r, 1, -int32(unix.ETIME))

	s = r.SQE()
	s.PrepTimeout(r.Timespec(time.Hour), 0, 0)
	s.UserData = 2
	s = r.SQE()
	s.PrepTimeoutRemove(2, 0)
	s.UserData, s.Flags = 3, ring.SQECQESkipSuccess
	wantRes(t, r, 2, -int32(unix.ECANCELED))

	in := offHeap(t, 16)
	s = r.SQE()
	s.PrepRecv(int32(a), in, 0)
	s.UserData, s.Flags = 4, ring.SQEIOLink
	s = r.SQE()
	s.PrepLinkTimeout(r.Timespec(time.Millisecond), 0)
	s.UserData = 5
	got := map[uint64]int32{}
	for range 2 {
		c := next(t, r)
		got[c.UserData] = c.Res
	}
	if got[4] != -int32(unix.ECANCELED) && got[4] != -int32(unix.EINTR) {
		t.Errorf("a receive that ran out of time: %d", got[4])
	}
}

func TestCancelKinds(t *testing.T) {
	r := newRing(t, ring.Config{})
	a, _ := socketPair(t)
	poll := func(n int) {
		for i := range n {
			s := r.SQE()
			s.PrepPollAdd(int32(a), unix.POLLIN)
			s.UserData = uint64(10 + i)
		}
	}
	for _, c := range []struct {
		name string
		prep func(*ring.SQE)
		n    int
	}{
		{"by user data", func(s *ring.SQE) { s.PrepCancel(10, 0) }, 1},
		{"by descriptor", func(s *ring.SQE) { s.PrepCancelFD(int32(a), ring.CancelAll) }, 3},
		{"any", func(s *ring.SQE) { s.PrepCancelAny() }, 3},
	} {
		poll(c.n)
		s := r.SQE()
		c.prep(s)
		s.UserData = 1
		for range c.n + 1 {
			if got := next(t, r); got.UserData != 1 && got.Res != -int32(unix.ECANCELED) {
				t.Errorf("%s: operation %d ended with %d", c.name, got.UserData, got.Res)
			}
		}
	}
}

func TestMsgRing(t *testing.T) {
	r := newRing(t, ring.Config{})
	heard := make(chan ring.CQE)
	fd := make(chan int)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with the goroutine
		to, err := ring.New(ring.Config{})
		if err != nil {
			close(fd)
			return
		}
		defer to.Close()
		fd <- to.FD()
		_, _ = to.Enter(1, testutil.Timeout(patience))
		if to.Ready() == 0 {
			close(heard)
			return
		}
		heard <- *to.CQE(0)
	}()
	to, ok := <-fd
	if !ok {
		t.Fatal("no second ring")
	}
	s := r.SQE()
	s.PrepMsgRing(int32(to), 42, 4711)
	s.UserData = 1
	wantRes(t, r, 1, 0)
	if c := <-heard; c.Res != 42 || c.UserData != 4711 {
		t.Errorf("heard %+v", c)
	}
}

func TestSendmsgAndZeroCopy(t *testing.T) {
	r := newRing(t, ring.Config{})
	a, b := tcpPair(t)
	out := random(t, 3000)
	mem := offHeap(t, 4096)
	iov := (*[2]unix.Iovec)(unsafe.Pointer(&mem[0]))
	msg := (*unix.Msghdr)(unsafe.Pointer(&mem[512]))
	iov[0].Base, iov[1].Base = &out[0], &out[1000]
	iov[0].SetLen(1000)
	iov[1].SetLen(2000)
	msg.Iov = &iov[0]
	msg.SetIovlen(2)
	for _, c := range []struct {
		name string
		prep func(*ring.SQE)
		zc   bool
	}{
		{"send", func(s *ring.SQE) { s.PrepSend(int32(a), out, unix.MSG_NOSIGNAL) }, false},
		{"sendmsg", func(s *ring.SQE) { s.PrepSendmsg(int32(a), msg, unix.MSG_NOSIGNAL) }, false},
		{"send_zc", func(s *ring.SQE) { s.PrepSendZC(int32(a), out, unix.MSG_NOSIGNAL, ring.SendZCReportUsage) }, true},
		{"sendmsg_zc", func(s *ring.SQE) { s.PrepSendmsgZC(int32(a), msg, unix.MSG_NOSIGNAL, ring.SendZCReportUsage) }, true},
	} {
		s := r.SQE()
		c.prep(s)
		s.UserData = 1
		first := next(t, r)
		if first.Res != 3000 || first.More() != c.zc {
			t.Fatalf("%s: %+v", c.name, first)
		}
		var got []byte
		testutil.Eventually(t, patience, c.name, func() bool {
			got = append(got, readAll(t, b)...)
			return len(got) >= 3000
		})
		if !bytes.Equal(got, out) {
			t.Errorf("%s: bytes differ", c.name)
		}
		if c.zc {
			if n := next(t, r); !n.Notif() || n.More() || !n.Copied() {
				t.Errorf("%s: notification %+v, want one that says copied, as loopback does", c.name, n)
			}
		}
	}
}

func TestBufRingOfManySizes(t *testing.T) {
	r := newRing(t, ring.Config{})
	a, b := socketPair(t)
	for _, n := range []int{1, 8, 4096, 32768} {
		br, err := r.NewBufRing(7, n)
		must(t, err)
		mem := offHeap(t, n)
		for i := range n {
			br.Add(mem[i:i+1], uint16(i))
		}
		br.Commit()
		s := r.SQE()
		s.PrepRecvMultishot(int32(a), 7, 0)
		s.UserData = 1
		rounds := min(n, 300)
		for i := range rounds {
			_, err := unix.Write(b, []byte{byte(i)})
			must(t, err)
			c := next(t, r)
			id, ok := c.BufferID()
			if !ok || int(id) != i || c.Res != 1 || mem[id] != byte(i) {
				t.Fatalf("%d buffers: byte %d came as %+v in %d", n, i, c, id)
			}
		}
		s = r.SQE()
		s.PrepCancel(1, 0)
		s.Flags, s.UserData = ring.SQECQESkipSuccess, 2
		for c := next(t, r); c.More(); {
			c = next(t, r)
		}
		for r.Ready() > 0 {
			r.Advance(1)
		}
		must(t, br.Close())
	}
	if _, err := r.NewBufRing(1, 3); err == nil {
		t.Error("three buffers are taken for a power of two")
	}
}

// TestLimitRecv: a multishot receive ends with the buffer that passes its limit.
func TestLimitRecv(t *testing.T) {
	const n, size = 8, 4096
	r := newRing(t, ring.Config{})
	if !r.Have("recv_multishot_limit") {
		testutil.SkipIfKernelOlder(t, "6.17", "recv_multishot_limit", errors.ErrUnsupported)
	}
	br, err := r.NewBufRing(1, n)
	must(t, err)
	mem := offHeap(t, n*size)
	for i := range uint16(n) {
		br.Add(mem[int(i)*size:][:size], i)
	}
	br.Commit()
	a, b := socketPair(t)
	_, err = unix.Write(b, make([]byte, n*size))
	must(t, err)
	s := r.SQE()
	s.PrepRecvMultishot(int32(a), 1, 0)
	s.LimitRecv(2*size + 1)
	for _, more := range []bool{true, true, false} {
		if c := next(t, r); c.Res != size || c.More() != more {
			t.Errorf("told %d, more: %v, want %d and %v", c.Res, c.More(), size, more)
		}
	}
	must(t, br.Close())
}

func TestForeignThreadIsRefused(t *testing.T) {
	r := newRing(t, ring.Config{})
	answer := make(chan error)
	go func() {
		runtime.LockOSThread()
		_, err := r.Enter(0, 0)
		answer <- err
	}()
	if err := <-answer; err == nil || errors.Is(err, ring.ErrUnavailable) {
		t.Errorf("enter on another thread: %v", err)
	}
}
