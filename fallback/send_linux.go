package fallback

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/internal/invariants"
)

// waitingSend is a Send that waits for room.
type waitingSend struct {
	out   [][]byte
	batch uint16
}

// send performs op, or lets it wait for room.
func (e *Engine) send(op *aio.Op) {
	s := e.slot(op.Token)
	if s.wait != 0 {
		invariants.Broken("fallback: send while another one of %+v waits for room", op.Token)
	}
	if op.Flags&aio.PollFirst != 0 {
		// A registration reports room that is there by now as an edge. After it,
		// an edge that came since the socket was full is remembered by writable.
		// So nothing is tried in vain here, and no edge is missed.
		if errno := e.register(s, op, streamEvents); errno != 0 {
			e.pushSend(sendDone{token: op.Token, batch: op.Batch, res: -int32(errno), prompt: true})
			return
		}
		e.keepWait(s, op)
		if s.has(writable) {
			e.resume(s, op.Token)
		}
		return
	}
	res, whole := e.sendNow(s, op.FD, op.Out)
	e.pushSend(sendDone{
		token: op.Token, batch: op.Batch, res: res,
		// Whoever must send the rest, or learn of a failure, is waiting too.
		prompt: !whole || op.Flags&aio.Prompt != 0,
	})
}

// resume sends what waited for room, unless there is none after all.
func (e *Engine) resume(s *slot, tok aio.Token) {
	w := &e.waits[s.wait-1]
	res, _ := e.sendNow(s, s.fd, w.out)
	if res == 0 {
		return
	}
	e.pushSend(sendDone{token: tok, batch: w.batch, res: res, prompt: true})
	e.freeWait(s)
}

// Try implements aio.Engine.
func (e *Engine) Try(op *aio.Op) int {
	s := e.slot(op.Token)
	if s.wait != 0 {
		invariants.Broken("fallback: try while a send of %+v waits for room", op.Token)
	}
	res, _ := e.sendNow(s, op.FD, op.Out)
	return int(res)
}

// sendNow sends what the socket takes now. whole says that it took everything;
// otherwise the socket is full, and the next room will be an edge.
func (e *Engine) sendNow(s *slot, fd int32, out [][]byte) (res int32, whole bool) {
	var n, size int
	var errno syscall.Errno
	// The engine holds the bytes while numbers in mapped memory point at them.
	// It also keeps the compiler from placing them on a stack, which moves.
	e.out = out
	if len(out) == 1 {
		size = len(out[0])
		n, errno = sendto(fd, out[0])
	} else {
		n, size, errno = e.sendmsg(fd, out)
	}
	e.out = nil
	switch {
	case errno == unix.EAGAIN:
		s.flags &^= writable
		return 0, false
	case errno != 0:
		return -int32(errno), false
	case n < size:
		s.flags &^= writable
	}
	return int32(n), n == size
}

func (e *Engine) pushSend(d sendDone) {
	d.batch &= aio.BatchMask // as it comes back from a ring
	if d.prompt {
		e.prompt++
	}
	e.sends.push(d)
}

func (e *Engine) keepWait(s *slot, op *aio.Op) {
	w := waitingSend{out: op.Out, batch: op.Batch}
	if n := len(e.free); n > 0 {
		s.wait = e.free[n-1] + 1
		e.free = e.free[:n-1]
		e.waits[s.wait-1] = w
		return
	}
	e.waits = append(e.waits, w)
	s.wait = uint32(len(e.waits))
}

func (e *Engine) freeWait(s *slot) {
	e.waits[s.wait-1] = waitingSend{}
	e.free = append(e.free, s.wait-1)
	s.wait = 0
}

// sendto is send(2) without waiting and without SIGPIPE.
func sendto(fd int32, b []byte) (int, syscall.Errno) {
	for {
		// b stays where it is: nothing moves during a call the scheduler does not see.
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, uintptr(fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// sendmsg is sendmsg(2) of all elements, without waiting and without SIGPIPE.
func (e *Engine) sendmsg(fd int32, out [][]byte) (n, size int, _ syscall.Errno) {
	if len(out) > maxOut {
		invariants.Broken("fallback: send of %d elements, at most %d are allowed", len(out), maxOut)
	}
	for i, p := range out {
		// Numbers, so that the mapped memory holds no Go pointer. Engine.out keeps
		// the bytes alive, and the heap does not move them.
		e.shm.iov[i] = iovec{base: uintptr(unsafe.Pointer(unsafe.SliceData(p))), len: uintptr(len(p))}
		size += len(p)
	}
	e.shm.hdr.iovlen = uintptr(len(out))
	for {
		r, _, errno := syscall.RawSyscall(unix.SYS_SENDMSG, uintptr(fd),
			uintptr(unsafe.Pointer(&e.shm.hdr)), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return 0, size, errno
		}
		return int(r), size, 0
	}
}
