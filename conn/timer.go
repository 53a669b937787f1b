package conn

import (
	"time"

	"github.com/penstock-go/penstock/reactor"
)

// Timer runs a function of a connection on its loop, until the connection is
// closed: from Close or Abort on it does not run.
//
// Thread: that of its connection.
type Timer struct {
	c     *Conn
	fn    func(*Conn)
	every bool
	timer *reactor.Timer

	linked     bool
	next, prev *Timer // of the same connection
}

// AfterFunc runs fn after d, once, rounded up to a millisecond.
func (c *Conn) AfterFunc(d time.Duration, fn func(*Conn)) *Timer {
	t := &Timer{c: c, fn: fn}
	t.Reset(d)
	return t
}

// Every runs fn each d, first after d. A time that the loop was late for is
// made up for once, and not as often as it was missed; those after it are where
// they would have been. Below a millisecond d is one.
func (c *Conn) Every(d time.Duration, fn func(*Conn)) *Timer {
	t := &Timer{c: c, fn: fn, every: true}
	t.Reset(d)
	return t
}

// Stop disarms t and reports whether it was to run.
func (t *Timer) Stop() bool {
	if !t.linked {
		return false
	}
	t.timer.Stop()
	t.unlink()
	return true
}

// Reset has t run d from now, and then, if it is one of Every, each time as
// before. It does nothing once the connection is closed.
func (t *Timer) Reset(d time.Duration) {
	c := t.c
	if c.state >= closing {
		return
	}
	switch {
	case t.timer != nil:
		t.timer.Reset(d)
	case t.every:
		t.timer = c.loop.Every(d, c, t.run)
	default:
		t.timer = c.loop.AfterFunc(d, c, t.run)
	}
	if !t.linked {
		t.link()
	}
}

// run is the function of the loop's timer.
func (t *Timer) run() {
	if !t.every {
		t.unlink()
	}
	t.fn(t.c)
}

func (t *Timer) link() {
	k := t.c.ticking()
	t.linked, t.next = true, k.timers
	if t.next != nil {
		t.next.prev = t
	}
	k.timers = t
}

func (t *Timer) unlink() {
	if t.prev != nil {
		t.prev.next = t.next
	} else {
		t.c.clock.timers = t.next
	}
	if t.next != nil {
		t.next.prev = t.prev
	}
	t.linked, t.next, t.prev = false, nil, nil
}
