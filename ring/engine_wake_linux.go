//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"os"
	"sync"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/internal/sys"
	"golang.org/x/sys/unix"
)

// waker is an eventfd under a multishot poll. Each write wakes the poll, so
// nobody has to read it, and a wait costs no further entry.
type waker struct {
	mu    sync.Mutex
	fd    int  // -1 before it is open, and once it is closed
	armed bool // the poll is with the kernel, as the loop knows it
}

func (w *waker) open() (err error) {
	w.fd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	return os.NewSyscallError("ring: eventfd", err)
}

func (w *waker) wake() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fd >= 0 {
		_ = sys.EventfdWrite(w.fd, 1) // It fails only when 2^64-2 wakes were written.
	}
}

func (w *waker) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fd >= 0 {
		_ = unix.Close(w.fd)
	}
	w.fd = -1 // The number may be somebody else's by now.
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
