//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/penstock-go/penstock/aio"
	"golang.org/x/sys/unix"
)

// selfTestPatience is how long an answer that must come at once may take.
const selfTestPatience = 5 * time.Second

// SelfTest makes a ring and uses it: multishot accept and receive, cancel,
// optimistic send, poll of an eventfd. A kernel or a sandbox may promise these
// and not keep it, so a program calls this once before it relies on io_uring. It
// returns the features found. Cost: about a millisecond, on sockets of its own.
//
// Errors: *UnavailableError when io_uring cannot be used here; a plain error when
// the test could not be made, as for a lack of descriptors.
//
// Thread: any; the call locks its goroutine to the thread while it runs.
func SelfTest(cfg Config) ([]aio.Feature, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cfg.Entries, cfg.CQEntries = min(max(cfg.Entries, 8), 64), 0
	r, err := New(cfg)
	if err != nil {
		return features(0).list(), err
	}
	t := &selfTest{r: r}
	err = t.run()
	return r.Features(), errors.Join(err, r.Close())
}

// The user data of the operations in a self-test.
const (
	testAccept = iota + 1
	testRecv
	testSend
	testPoll
	testNop
	testCancel
)

type selfTest struct {
	r   *Ring
	fds []int
	mem [][]byte // mappings
	buf *BufRing
}

func (t *selfTest) run() (err error) {
	if lacks := engineNeeds &^ t.r.have; lacks != 0 {
		return missing(lacks)
	}
	defer func() {
		for _, fd := range t.fds {
			_ = unix.Close(fd)
		}
		for _, m := range t.mem {
			_ = unix.Munmap(m)
		}
	}()
	for _, part := range []struct {
		name string
		run  func() error
	}{
		{"accept", t.accept}, {"recv", t.recv}, {"send", t.send}, {"poll", t.poll},
	} {
		err := part.run()
		var errno *os.SyscallError
		var wrong *UnavailableError
		switch {
		case err == nil:
		case errors.Is(err, unix.EMFILE), errors.Is(err, unix.ENFILE):
			return fmt.Errorf("ring: self-test of %s: %w; %s", part.name, err, descriptorsCure)
		case errors.As(err, &wrong), errors.As(err, &errno):
			return err
		default:
			return &UnavailableError{Op: "self-test of " + part.name, Err: err,
				Cause: "the kernel does not do what it says it can",
				Cure:  "run another release of the kernel, 6.1 or later"}
		}
	}
	return nil
}

// expect waits for one completion and holds it against what must come.
func (t *selfTest) expect(data uint64, ok func(*CQE) bool) error {
	if t.r.Ready() == 0 {
		if _, err := t.r.Enter(1, selfTestPatience); err != nil {
			return enterRefused(err)
		}
	}
	if t.r.Ready() == 0 {
		return errors.New("an answer does not come")
	}
	c := *t.r.CQE(0)
	t.r.Advance(1)
	if c.Res == -int32(unix.EMFILE) || c.Res == -int32(unix.ENFILE) {
		return os.NewSyscallError("accept", unix.Errno(-c.Res))
	}
	if c.UserData != data || !ok(&c) {
		return fmt.Errorf("operation %d, for which %d was due, ended with %d, flags %#x", c.UserData, data, c.Res, c.Flags)
	}
	return nil
}

// cancel ends an operation and waits for its last completion.
func (t *selfTest) cancel(data uint64) error {
	s := t.r.SQE()
	s.PrepCancel(data, 0)
	s.UserData, s.Flags = testCancel, SQECQESkipSuccess
	return t.expect(data, func(c *CQE) bool { return c.Res == -int32(unix.ECANCELED) && !c.More() })
}

func (t *selfTest) keep(fds ...int) { t.fds = append(t.fds, fds...) }

// memory maps n bytes: what the kernel uses is not on the Go heap, which would keep it.
func (t *selfTest) memory(n int) ([]byte, error) {
	m, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, os.NewSyscallError("mmap", err)
	}
	t.mem = append(t.mem, m)
	return m, nil
}

func (t *selfTest) accept() error {
	const flags = unix.SOCK_STREAM | unix.SOCK_CLOEXEC | unix.SOCK_NONBLOCK
	ln, err := unix.Socket(unix.AF_UNIX, flags, 0)
	if err != nil {
		return os.NewSyscallError("socket", err)
	}
	t.keep(ln)
	// No name: the kernel invents an abstract one, so nothing stays behind.
	if err := unix.Bind(ln, &unix.SockaddrUnix{}); err != nil {
		return os.NewSyscallError("bind", err)
	}
	if err := unix.Listen(ln, 2); err != nil {
		return os.NewSyscallError("listen", err)
	}
	to, err := unix.Getsockname(ln)
	if err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	s := t.r.SQE()
	s.PrepAcceptMultishot(int32(ln), unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK)
	s.UserData = testAccept
	for range 2 {
		fd, err := unix.Socket(unix.AF_UNIX, flags, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		t.keep(fd)
		if err := unix.Connect(fd, to); err != nil {
			return os.NewSyscallError("connect", err)
		}
		err = t.expect(testAccept, func(c *CQE) bool {
			if c.Res >= 0 {
				t.keep(int(c.Res))
			}
			return c.Res >= 0 && c.More()
		})
		if err != nil {
			return err
		}
	}
	return t.cancel(testAccept)
}

func (t *selfTest) pair() (a, b int, err error) {
	p, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1, -1, os.NewSyscallError("socketpair", err)
	}
	t.keep(p[0], p[1])
	return p[0], p[1], nil
}

func (t *selfTest) recv() error {
	const n, size = 4, 4096
	mem, err := t.memory(n * size)
	if err != nil {
		return err
	}
	if t.buf, err = t.r.NewBufRing(0, n); err != nil {
		return err
	}
	for i := range uint16(n) {
		t.buf.Add(mem[int(i)*size:][:size], i)
	}
	t.buf.Commit()
	a, b, err := t.pair()
	if err != nil {
		return err
	}
	s := t.r.SQE()
	s.PrepRecvMultishot(int32(a), 0, 0)
	s.UserData = testRecv
	for _, text := range []string{"once", "and again"} {
		if _, err := unix.Write(b, []byte(text)); err != nil {
			return os.NewSyscallError("write", err)
		}
		err := t.expect(testRecv, func(c *CQE) bool {
			id, ok := c.BufferID()
			return ok && id < n && int(c.Res) == len(text) && c.More() &&
				bytes.Equal(mem[int(id)*size:][:len(text)], []byte(text))
		})
		if err != nil {
			return err
		}
	}
	if err := t.cancel(testRecv); err != nil {
		return err
	}
	return t.buf.Close()
}

// send holds the kernel to the rule of optimistic sends: silence is success,
// and what was short or would block says so, with the right count.
func (t *selfTest) send() error {
	a, b, err := t.pair()
	if err != nil {
		return err
	}
	big, err := t.memory(8 << 20) // longer than any default socket buffer
	if err != nil {
		return err
	}
	if err := t.sendOne(a, big[:1]); err != nil {
		return err
	}
	if err := t.expect(testNop, func(c *CQE) bool { return c.Res == 0 }); err != nil {
		return err
	}
	var took int32
	for _, want := range []func(int32) bool{
		func(res int32) bool { took = res; return res > 0 && int(res) < len(big) },
		func(res int32) bool { return res == -int32(unix.EAGAIN) },
	} {
		if err := t.sendOne(a, big); err != nil {
			return err
		}
		if err := t.expect(testSend, func(c *CQE) bool { return want(c.Res) }); err != nil {
			return err
		}
		if err := t.expect(testNop, func(*CQE) bool { return true }); err != nil {
			return err
		}
	}
	return holds(b, 1+int(took))
}

// sendOne submits an optimistic send of data, mapped memory, with a no-op behind it,
// and returns when the no-op has been answered.
func (t *selfTest) sendOne(fd int, data []byte) error {
	s := t.r.SQE()
	s.PrepSend(int32(fd), data, optimistic)
	s.UserData, s.Flags = testSend, SQECQESkipSuccess
	s = t.r.SQE()
	s.PrepNop()
	s.UserData = testNop
	_, err := t.r.Enter(1, selfTestPatience)
	return enterRefused(err)
}

// holds reports an error unless n bytes, and no more, wait in a socket.
func holds(fd, n int) error {
	buf := make([]byte, 64<<10)
	for n > 0 {
		got, err := unix.Read(fd, buf[:min(n, len(buf))])
		if err != nil || got == 0 {
			return fmt.Errorf("%d bytes of a short send are not there: %w", n, err)
		}
		n -= got
	}
	if got, _ := unix.Read(fd, buf); got > 0 {
		return fmt.Errorf("a short send took %d bytes more than it said", got)
	}
	return nil
}

func (t *selfTest) poll() error {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return os.NewSyscallError("eventfd", err)
	}
	t.keep(fd)
	s := t.r.SQE()
	s.PrepPollAddMultishot(int32(fd), unix.POLLIN)
	s.UserData = testPoll
	for range 3 {
		if _, err := t.r.Enter(0, 0); err != nil {
			return enterRefused(err)
		}
		if _, err := unix.Write(fd, []byte{1, 0, 0, 0, 0, 0, 0, 0}); err != nil {
			return os.NewSyscallError("write", err)
		}
		if err := t.expect(testPoll, func(c *CQE) bool { return c.Res&unix.POLLIN != 0 && c.More() }); err != nil {
			return err
		}
	}
	return t.cancel(testPoll)
}
