package reactor

import (
	"syscall"

	"github.com/penstock-go/penstock/aio"
)

// Watch calls a function on its loop whenever a descriptor of the user's own is
// ready: a pipe, an eventfd, a timerfd, an inotify or signalfd descriptor, the
// socket of a C library. See [Loop.Watch].
//
// Thread: its loop.
//
// Cost: one slot of the loop, and one operation of the engine each time it fires.
type Watch struct {
	loop   *Loop
	fn     func(ready uint32, err error)
	token  aio.Token
	fd     int32
	events uint32
	armed  bool // a Poll is in flight
	ended  bool
}

// Watch calls fn on the loop when fd has one of events, which are those of
// poll(2): unix.POLLIN, POLLPRI, POLLOUT, POLLRDHUP. ready has those that are
// there, and POLLERR and POLLHUP unasked. It is level-triggered: fn is called in
// each turn until what it was called for is gone, so it reads what there is, or
// stops the watch. It must not block. fn never runs inside Watch.
//
// A failure is told once, as err, and ends the watch: EBADF for what is no
// descriptor, EPERM for a regular file or a directory, which are always ready,
// ENOMEM or ENOSPC when the kernel has no room for it. A panic in fn ends the
// watch, and nothing else.
//
// The loop does not wait for watches when it ends; they are still served while its
// connections flush, and are dropped when the last one is gone.
//
// Ownership: fd stays the caller's, who reads, writes and closes it; Watch changes
// nothing about it, also not its blocking mode. Stop the watch before fd is closed:
// a number that is closed under a watch may come back as another file. A descriptor
// may have one watch a loop, and none when it belongs to a connection; dup(2) makes
// one for a second watch.
func (l *Loop) Watch(fd int, events uint32, fn func(ready uint32, err error)) *Watch {
	w := &Watch{loop: l, fn: fn, fd: int32(fd), events: events}
	w.token = l.table.attach((*watcher)(w)) // Not Attach: the loop may end without it.
	l.watches++
	if err := watchable(fd); err != nil {
		l.later = append(l.later, task{(*watcher)(w), func() { w.fail(err) }})
		return w
	}
	w.arm()
	return w
}

// Stop ends the watch and reports whether it was one. fn is not called again, also
// not for what is ready already. It may be called at any time, also inside fn, and
// more than once; fd may be closed when it has returned.
func (w *Watch) Stop() bool {
	if w.ended {
		return false
	}
	w.ended = true
	l := w.loop
	if w.armed {
		l.Submit(&aio.Op{Token: w.token, Kind: aio.Cancel, Target: aio.Poll, FD: w.fd})
	}
	l.table.detach(w.token)
	l.watches--
	return true
}

func (w *Watch) arm() {
	w.armed = true
	w.loop.Submit(&aio.Op{Token: w.token, Kind: aio.Poll, FD: w.fd, Events: w.events})
}

// fail tells err once.
func (w *Watch) fail(err error) {
	if w.Stop() {
		w.fn(0, err)
	}
}

// watcher is a Watch as its loop sees it.
type watcher Watch

// Complete implements Sink.
func (p *watcher) Complete(_ *Loop, c *aio.Completion) {
	w := (*Watch)(p)
	w.armed = false
	if c.Res < 0 {
		w.fail(syscall.Errno(-c.Res))
		return
	}
	w.fn(uint32(c.Res), nil)
	if !w.ended {
		w.arm()
	}
}

// Stop implements Sink: a watch is dropped when the last party is gone.
func (*watcher) Stop(*Loop, bool) {}

// Flush implements Sink.
func (*watcher) Flush(*Loop) {}

// InFlight implements Sink. Nobody waits for the Poll.
func (*watcher) InFlight(list []aio.Completion) []aio.Completion { return list }

// Panicked implements Sink.
func (p *watcher) Panicked(*Loop, any) { (*Watch)(p).Stop() }
