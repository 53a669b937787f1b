//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"os"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Ring is one io_uring instance.
//
// Thread: the one that called New, to which the goroutine must be locked
// (runtime.LockOSThread): the kernel refuses entries from any other.
type Ring struct {
	fd         int
	enterFD    uintptr // fd, or its index when it is registered
	enterFlags uintptr
	flags      uint32 // of io_uring_setup
	enters     uint64 // system calls made to enter
	have       features
	sq         submissionQueue
	cq         completionQueue

	rings, entries, private []byte // the mappings, for munmap
	arg                     *enterArgs
	times                   []unix.Timespec // one for each entry, see Timespec
}

// enterArgs is what io_uring_enter reads by address, so it is kept off the heap.
type enterArgs struct {
	events geteventsArg
	ts     unix.Timespec
}

// New sets up a ring with the best features the kernel has.
//
// Errors: *UnavailableError when this process cannot have io_uring, or not
// enough locked memory for it; a plain error for a lack of descriptors, which
// names the cure.
//
// Thread: the ring belongs to the calling thread until Close.
func New(cfg Config) (*Ring, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	hidden, err := parseFeatures(cfg.Hide)
	if err != nil {
		return nil, err
	}
	fd, p, err := setup(cfg, hidden)
	if err != nil {
		return nil, err
	}
	r := &Ring{fd: fd, enterFD: uintptr(fd), flags: p.flags, have: featuresOf(&p) &^ hidden}
	if err := r.open(&p, hidden); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

func (r *Ring) open(p *params, hidden features) error {
	for _, need := range []features{featSingleMmap, featExtArg} {
		if r.have&need == 0 {
			return missing(need)
		}
	}
	if err := r.mmap(p); err != nil {
		return err
	}
	if r.have&featNoIowait != 0 {
		r.enterFlags |= enterNoIowait // a wait for peers is idle time, not a wait for a disk
	}
	if hidden&featRegisterRingFDs == 0 {
		r.registerFD()
	}
	return r.probe(hidden)
}

// Close ends the ring. What is in flight is cancelled by the kernel, some time
// later: bytes that such operations name must outlive them, so reap all that
// matters first. A BufRing must be closed before.
func (r *Ring) Close() error {
	if r.fd < 0 {
		return nil
	}
	r.unregisterFD()
	for _, m := range []*[]byte{&r.rings, &r.entries, &r.private} {
		if *m != nil {
			_ = unix.Munmap(*m)
			*m = nil
		}
	}
	err := unix.Close(r.fd)
	r.fd = -1
	r.sq, r.cq, r.arg, r.times = submissionQueue{}, completionQueue{}, nil, nil
	return os.NewSyscallError("ring: close", err)
}

// FD returns the descriptor, for PrepMsgRing from another ring or for poll(2).
func (r *Ring) FD() int { return r.fd }

// enterAttempts bounds how often the kernel may say that it has no memory for
// requests right now, before that is the caller's problem.
const enterAttempts = 8

// Enter submits what was prepared and waits until waitFor completions are
// ready, at most for timeout; timeout < 0 is without end. With waitFor 0 it does
// not wait, but still collects what is done. It returns how many entries the
// kernel took. Fewer than prepared, without an error, means that the completion
// queue is full: read it and enter again. Running out of time is no error.
//
// Thread: a wait is invisible to the Go scheduler until the runtime interrupts
// it, see the package documentation.
func (r *Ring) Enter(waitFor uint32, timeout time.Duration) (submitted int, err error) {
	var deadline time.Time
	if waitFor > 0 && timeout > 0 {
		deadline = time.Now().Add(timeout)
	}
	if timeout == 0 {
		waitFor = 0
	}
	r.sq.publish()
	before := r.sq.consumed()
	for visible, attempts := false, 0; ; {
		if r.cq.ready() >= waitFor {
			waitFor = 0 // what is left is to submit
		}
		errno := r.enterOnce(waitFor, timeout, visible)
		submitted = int(r.sq.consumed() - before)
		pending, ready := r.sq.pending(), r.cq.ready()
		switch errno {
		case 0, unix.EINTR:
			if pending == 0 && ready >= waitFor {
				return submitted, nil
			}
		case unix.ETIME:
			return submitted, nil
		case unix.EBUSY, unix.EAGAIN:
			// Full, or short of memory: reading completions cures both.
			if attempts++; ready > 0 {
				return submitted, nil
			}
			if attempts >= enterAttempts {
				return submitted, os.NewSyscallError("ring: io_uring_enter", errno)
			}
			time.Sleep(time.Millisecond)
		default:
			return submitted, os.NewSyscallError("ring: io_uring_enter", errno)
		}
		// A signal ended the wait, most likely because the runtime wants this P:
		// the next wait is one that the scheduler sees. After a submission the
		// kernel reports neither the signal nor the time.
		visible = pending == 0
		if waitFor > 0 && timeout > 0 {
			if timeout = time.Until(deadline); timeout <= 0 {
				timeout, waitFor = 0, 0
				if pending == 0 {
					return submitted, nil
				}
			}
		}
	}
}

// enterOnce makes one system call, or none when there is nothing to do.
func (r *Ring) enterOnce(waitFor uint32, timeout time.Duration, visible bool) syscall.Errno {
	flags := r.enterFlags
	if waitFor > 0 || r.wantsEvents() {
		flags |= enterGetevents
	}
	toSubmit := r.sq.pending()
	if toSubmit == 0 && flags&enterGetevents == 0 {
		return 0
	}
	var arg unsafe.Pointer
	var size uintptr
	if waitFor > 0 && timeout > 0 {
		r.arg.ts = unix.NsecToTimespec(int64(timeout))
		// Both are in the ring's private mapping, which never moves.
		r.arg.events = geteventsArg{ts: uint64(uintptr(unsafe.Pointer(&r.arg.ts)))}
		arg, size = unsafe.Pointer(&r.arg.events), unsafe.Sizeof(r.arg.events)
		flags |= enterExtArg
	}
	r.enters++
	var errno syscall.Errno
	if visible {
		_, _, errno = unix.Syscall6(unix.SYS_IO_URING_ENTER, r.enterFD, uintptr(toSubmit), uintptr(waitFor), flags, uintptr(arg), size)
	} else {
		_, _, errno = unix.RawSyscall6(unix.SYS_IO_URING_ENTER, r.enterFD, uintptr(toSubmit), uintptr(waitFor), flags, uintptr(arg), size)
	}
	return errno
}

// wantsEvents reports whether completions may be waiting that only an enter
// with GETEVENTS brings into the queue.
func (r *Ring) wantsEvents() bool {
	if r.flags&setupDeferTaskrun != 0 {
		return true // work is deferred to exactly such a call
	}
	return r.sq.flags.Load()&(sqTaskrun|sqCQOverflow) != 0
}

// Overflowed reports whether completions wait in the kernel because the queue
// was full. Read the queue; the next Enter brings them. None is lost.
func (r *Ring) Overflowed() bool { return r.sq.flags.Load()&sqCQOverflow != 0 }
