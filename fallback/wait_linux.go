package fallback

import (
	"fmt"
	"math"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/aio"
)

const (
	// skipMost is how many Waits may serve what is known before one looks for
	// new events, so that busy connections do not keep others waiting.
	skipMost = 8
	// starvedRetry bounds the sleep of a Wait while a Recv waits for blocks: what
	// was missing may have been memory of the system, which nobody releases here.
	starvedRetry = 100 * time.Millisecond
)

// Wait implements aio.Engine.
//
// A send that was taken whole and is not Prompt does not keep Wait from
// sleeping: it is told with the next event or at the end of d.
func (e *Engine) Wait(done []aio.Completion, d time.Duration) (int, error) {
	if e.alarm.rung && d < 0 {
		e.alarm.rung = false
		return 0, nil
	}
	// Where there is no alarm, the next Wait is as if it had rung.
	e.alarm.rung = e.alarm.rung && d == 0 || d > 0 && !e.alarm.ringWithin(d)
	if len(e.starved) > 0 {
		e.feedStarved(e.cfg.Batch / 2)
	}
	if e.busy() && e.skipped < skipMost {
		e.skipped++
		if n := e.collect(done); n > 0 {
			return n, nil
		}
	}
	return e.sleep(done, d)
}

// sleep waits for events, up to d, until there is something to tell.
func (e *Engine) sleep(done []aio.Completion, d time.Duration) (int, error) {
	var start time.Time
	if d > 0 {
		start = time.Now()
	}
	visible := false
	for left := d; ; {
		if len(e.starved) > 0 {
			e.feedStarved(1)
		}
		limit := e.patience(left)
		if limit > 0 && e.alarm.ringWithin(limit) {
			limit = -1
		}
		woken, interrupted, err := e.await(limit, visible)
		n := e.collect(done)
		if n == 0 && !interrupted && len(e.starved) > 0 {
			e.feedAll()
			n = e.collect(done)
		}
		switch {
		case n > 0:
			return n, err
		case woken || d == 0 || err != nil:
			return 0, err
		case e.alarm.rung && d < 0:
			e.alarm.rung = false
			return 0, nil
		case d > 0:
			if left = d - time.Since(start); left <= 0 {
				e.alarm.rung = false
				return 0, nil
			}
		}
		visible = interrupted
	}
}

// busy reports whether there is something to tell without a new event. A send
// that may wait does not, while a Recv waits for blocks: it may hold them.
func (e *Engine) busy() bool {
	return e.prompt > 0 || e.others.size > 0 || e.ready.size > 0 || e.sends.size > 0 && len(e.starved) > 0
}

// patience returns how long epoll may sleep when the caller would wait for d.
func (e *Engine) patience(d time.Duration) time.Duration {
	switch {
	case e.busy():
		return 0
	case len(e.starved) > 0 && (d < 0 || d > starvedRetry):
		return starvedRetry
	}
	return d
}

// await looks for events, sleeping up to d, and notes them.
func (e *Engine) await(d time.Duration, visible bool) (woken, interrupted bool, err error) {
	e.skipped = 0
	n, errno := e.epollWait(d, visible)
	switch errno {
	case 0:
	case unix.EINTR:
		return false, true, nil
	default:
		return false, false, fmt.Errorf("epoll_pwait: %w", errno)
	}
	for i := range e.events[:n] {
		ev := &e.events[i]
		data := uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32
		if data == wakeData {
			// Down before the caller looks at what the waker left for it: a
			// waker who still finds the flag up came before that look.
			e.woken.Store(false)
			e.stats.Wakes++
			woken = true
			continue
		}
		if data == alarmData {
			e.alarm.set, e.alarm.rung = false, true
			continue
		}
		e.note(data, ev.Events)
	}
	return woken, false, nil
}

// epollWait waits with a system call that the Go scheduler does not see, which
// is the fast way while there is traffic. A signal ends it with EINTR: the
// scheduler or the collector wants the processor, and the rest of the wait goes
// the visible way. Without asynchronous preemption (GODEBUG=asyncpreemptoff=1)
// nobody would ask, and goroutines beside a sleeping loop could starve.
func (e *Engine) epollWait(d time.Duration, visible bool) (int, syscall.Errno) {
	e.stats.Enters++
	call := syscall.RawSyscall6
	if visible {
		call = syscall.Syscall6
	}
	// The events are mapped memory, so the address stays right whatever the scheduler does.
	n, _, errno := call(unix.SYS_EPOLL_PWAIT, uintptr(e.epfd),
		uintptr(unsafe.Pointer(&e.events[0])), uintptr(len(e.events)), uintptr(milliseconds(d)), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// milliseconds rounds up: a wait that ends too early would be done twice.
func milliseconds(d time.Duration) int {
	switch {
	case d < 0:
		return -1
	case d > math.MaxInt32*time.Millisecond:
		return math.MaxInt32
	}
	return int((d + time.Millisecond - 1) / time.Millisecond)
}

// note keeps what an event says, and sends what waited for room.
func (e *Engine) note(data uint64, events uint32) {
	tok, _, _ := aio.Unpack(data)
	s := e.slots.Find(tok.Slot)
	if s == nil || s.gen != tok.Gen || s.flags&(registered|pollOnly) == 0 {
		return // about a descriptor that was closed here and lives on elsewhere
	}
	if there := events & uint32(s.poll); there != 0 {
		e.endPoll(s, tok, int32(there))
	}
	if s.has(pollOnly) {
		return
	}
	const ended = unix.EPOLLRDHUP | unix.EPOLLHUP | unix.EPOLLERR | unix.EPOLLPRI
	if events&(unix.EPOLLIN|ended) != 0 {
		s.flags |= readable
		if events&ended != 0 {
			s.flags |= hangup
		}
		if s.flags&(recvArmed|acceptArmed) != 0 && !s.has(waiting) {
			e.enqueue(s, tok.Slot)
		}
	}
	if events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		s.flags |= writable
		if s.wait != 0 {
			e.resume(s, tok)
		}
	}
}

// collect fills done: sends first, then what was cancelled or failed, then new bytes.
func (e *Engine) collect(done []aio.Completion) (n int) {
	for ; e.sends.size > 0 && n < len(done); n++ {
		s := e.sends.pop()
		if s.prompt {
			e.prompt--
		}
		done[n].Set(s.token, aio.Send, s.res, true)
		done[n].Batch = s.batch
	}
	for ; e.others.size > 0 && n < len(done); n++ {
		o := e.others.pop()
		done[n].Set(o.token, o.kind, o.res, true)
	}
	n += e.serve(done[n:])
	e.stats.Completed += uint64(n)
	return n
}

// serve receives and accepts by turns, one block or some connections a turn.
func (e *Engine) serve(done []aio.Completion) (n int) {
	most := min(len(done), e.cfg.Batch)
	for bytes := 0; e.ready.size > 0 && n < most && bytes < e.cfg.BatchBytes; {
		at := e.ready.pop()
		s := e.slots.At(at)
		s.flags &^= queued
		switch {
		case s.has(recvArmed | readable):
			for k := e.recv(s, at, done[n:]); k > 0; k-- {
				bytes += max(0, int(done[n].Res))
				n++
			}
		case s.has(acceptArmed | readable):
			n += e.accept(s, at, done[n:most])
		}
	}
	return n
}
