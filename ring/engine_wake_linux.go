//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"os"
	"sync"
	"unsafe"

	"github.com/penstock-go/penstock/aio"
	"golang.org/x/sys/unix"
)

// waker is an eventfd under a multishot poll. Each write wakes the poll, so
// nobody has to read it, and a wait costs no further entry.
type waker struct {
	mu    sync.Mutex
	fd    int // -1 once it is closed: the number may be somebody else's by then
	one   uint64
	armed bool // the poll is with the kernel, as the loop knows it
}

func (w *waker) open() error {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("ring: eventfd", err)
	}
	w.fd, w.one = fd, 1
	return nil
}

func (w *waker) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.one == 0 || w.fd < 0 {
		return
	}
	// The write never sleeps. It fails only when 2^64-2 wakes were written, and
	// the pointer is into w, which this frame keeps.
	_, _, _ = unix.RawSyscall(unix.SYS_WRITE, uintptr(w.fd), uintptr(unsafe.Pointer(&w.one)), unsafe.Sizeof(w.one))
}

func (w *waker) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.one != 0 && w.fd >= 0 {
		_ = unix.Close(w.fd)
	}
	w.fd = -1
}

func (e *Engine) armWake() {
	s := e.entry()
	if s == nil {
		return // Wait reports why
	}
	s.PrepPollAddMultishot(int32(e.wake.fd), unix.POLLIN)
	s.UserData = aio.Token{}.Pack(kindWake, 0)
	e.inflight++
	e.wake.armed = true
}

func (e *Engine) completeWake(c *CQE) {
	if c.Res > 0 {
		e.woken = true
		e.stats.Wakes++
	}
	e.wake.armed = c.More()
}
