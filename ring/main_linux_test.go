//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/ring"
	"golang.org/x/sys/unix"
)

const patience = 20 * time.Second

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		child(role)
		return
	}
	if err := testutil.Denied(); err != nil {
		fmt.Println("no test of package ring can run: this host denies io_uring:", err)
		return
	}
	testutil.Main(m)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newRing opens a ring on the test's thread, to be closed at the end.
func newRing(t testing.TB, cfg ring.Config) *ring.Ring {
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

// socketPair returns two connected non-blocking stream sockets.
func socketPair(t testing.TB) (a, b int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fds[0]); unix.Close(fds[1]) })
	return fds[0], fds[1]
}

// tcpPair is socketPair over loopback.
func tcpPair(t testing.TB) (a, b int) {
	t.Helper()
	const flags = unix.SOCK_STREAM | unix.SOCK_CLOEXEC
	ln, err := unix.Socket(unix.AF_INET, flags, 0)
	must(t, err)
	defer unix.Close(ln)
	must(t, unix.Bind(ln, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	must(t, unix.Listen(ln, 1))
	to, err := unix.Getsockname(ln)
	must(t, err)
	b, err = unix.Socket(unix.AF_INET, flags, 0)
	must(t, err)
	must(t, unix.Connect(b, to))
	a, _, err = unix.Accept4(ln, unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	must(t, err)
	must(t, unix.SetNonblock(b, true))
	t.Cleanup(func() { unix.Close(a); unix.Close(b) })
	return a, b
}

// offHeap returns n bytes that never move, until the test ends.
func offHeap(t testing.TB, n int) []byte {
	t.Helper()
	b, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	must(t, err)
	t.Cleanup(func() { must(t, unix.Munmap(b)) })
	return b
}

func random(t testing.TB, n int) []byte {
	t.Helper()
	b := offHeap(t, n)
	rng := rand.New(rand.NewPCG(uint64(n), 1))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// loop is an engine with what a loop has around it.
type loop struct {
	*ring.Engine
	t    testing.TB
	pool *buf.Pool
	done []aio.Completion
}

// newLoop opens an engine on the test's thread. At the end all must be home.
func newLoop(t testing.TB, pc buf.Config, cfg ring.EngineConfig) *loop {
	t.Helper()
	runtime.LockOSThread()
	pool, err := buf.NewPool(pc)
	must(t, err)
	cfg.Pool = pool
	e, err := ring.NewEngine(cfg)
	testutil.SkipIfKernelOlder(t, "6.1", "ring.Engine", err)
	l := &loop{Engine: e, t: t, pool: pool, done: make([]aio.Completion, 64)}
	t.Cleanup(func() {
		must(t, e.Close())
		if n := pool.InUse(); n != 0 {
			t.Errorf("%d blocks are not home", n)
		} else {
			pool.Close()
		}
		runtime.UnlockOSThread()
	})
	return l
}

func smallPool(blocks int) buf.Config {
	return buf.Config{BlockSize: 4 << 10, SlabBlocks: 4, MaxBytes: blocks * 4 << 10}
}

// wait waits once and returns the completions.
func (l *loop) wait(d time.Duration) []aio.Completion {
	l.t.Helper()
	n, err := l.Wait(l.done, d)
	must(l.t, err)
	return l.done[:n]
}

// until hands completions to each until it says that all is well.
func (l *loop) until(what string, each func(*aio.Completion), ok func() bool) {
	l.t.Helper()
	for deadline := time.Now().Add(testutil.Timeout(patience)); !ok(); {
		if time.Now().After(deadline) {
			l.t.Fatalf("%s: not within %v", what, testutil.Timeout(patience))
		}
		cs := l.wait(time.Millisecond)
		for i := range cs {
			each(&cs[i])
		}
	}
}

func (l *loop) recv(slot uint32, fd int) {
	l.Submit(&aio.Op{Token: aio.Token{Slot: slot}, Kind: aio.Recv, FD: int32(fd)})
}

func (l *loop) send(slot uint32, fd int, batch uint16, flags aio.Flags, out ...[]byte) {
	l.Submit(&aio.Op{Token: aio.Token{Slot: slot}, Kind: aio.Send, FD: int32(fd), Batch: batch, Flags: flags, Out: out})
}

func (l *loop) cancel(slot uint32, k aio.Kind) {
	l.Submit(&aio.Op{Token: aio.Token{Slot: slot}, Kind: aio.Cancel, Target: k})
}

// fill writes to a non-blocking socket until it is full, and returns how much.
func fill(t testing.TB, fd int) (n int) {
	t.Helper()
	b := make([]byte, 64<<10)
	for {
		m, err := unix.Write(fd, b)
		if err == unix.EAGAIN {
			return n
		}
		must(t, err)
		n += m
	}
}

// readAll reads what waits in a non-blocking socket.
func readAll(t testing.TB, fd int) []byte {
	t.Helper()
	var all bytes.Buffer
	b := make([]byte, 64<<10)
	for {
		n, err := unix.Read(fd, b)
		if err == unix.EAGAIN || n == 0 && err == nil {
			return all.Bytes()
		}
		must(t, err)
		all.Write(b[:n])
	}
}
