package fallback

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/internal/invariants"
)

// pollAlways are the events that nobody has to ask for, as poll(2) says. Their
// numbers, and those of the others, are the same for poll(2) and epoll.
const pollAlways = unix.POLLERR | unix.POLLHUP

// pollFD starts a Poll. A descriptor that nothing else uses is reported once,
// for the events that are asked for. Beside a Recv, Send or Accept it is
// registered for edges, so what is there already has to be looked for.
func (e *Engine) pollFD(op *aio.Op) {
	s := e.slot(op.Token)
	if s.poll != 0 {
		invariants.Broken("fallback: poll while another one of %+v is in flight", op.Token)
	}
	s.poll = uint16(op.Events) | pollAlways
	if s.has(registered) && s.fd == op.FD {
		if there := pollNow(op.FD, int16(op.Events)); there != 0 {
			e.endPoll(s, op.Token, there)
		}
		return
	}
	switch errno := e.registerOnce(s, op); errno {
	case 0:
	case unix.EPERM: // A regular file: poll(2) calls it ready, epoll refuses it.
		e.endPoll(s, op.Token, int32(op.Events&(unix.POLLIN|unix.POLLOUT)))
	default:
		e.endPoll(s, op.Token, -int32(errno))
	}
}

// endPoll ends the Poll of s.
func (e *Engine) endPoll(s *slot, tok aio.Token, res int32) {
	s.poll = 0
	e.others.push(finalDone{token: tok, kind: aio.Poll, res: res})
}

// registerOnce puts the descriptor of op into the epoll set for one report.
// Behind it the kernel keeps the entry, which then reports nothing.
func (e *Engine) registerOnce(s *slot, op *aio.Op) unix.Errno {
	data := op.Token.Pack(0, 0)
	events := uint32(s.poll) | unix.EPOLLONESHOT
	first, second := unix.EPOLL_CTL_ADD, unix.EPOLL_CTL_MOD
	if s.has(pollOnly) && s.fd == op.FD {
		first, second = second, first
	}
	err := e.control(first, op.FD, events, data)
	if err == unix.EEXIST || err == unix.ENOENT {
		// It was there for another party, or was closed behind our back.
		err = e.control(second, op.FD, events, data)
	}
	if err != nil {
		return err.(unix.Errno)
	}
	s.fd = op.FD
	s.flags |= pollOnly
	s.flags &^= registered
	return 0
}

// pollNow is poll(2) without waiting: events, or a negative errno.
func pollNow(fd int32, events int16) int32 {
	p := unix.PollFd{Fd: fd, Events: events}
	var now unix.Timespec
	for {
		// The call does not sleep, so the scheduler need not know of it, and nothing moves.
		_, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
		switch errno {
		case 0:
			return int32(uint16(p.Revents))
		case unix.EINTR:
			continue
		}
		return -int32(errno)
	}
}
