package fallback

import (
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// alarm ends waits in time. It is one timerfd in the epoll set, and stays set over
// many waits: the time-out of an epoll_wait(2) is a timer of the kernel that is set
// and cancelled each time, which on a virtual machine costs as much as a message.
//
// A wait that needs it later than it is set lets it ring, which is one wake for
// nothing, and sets it anew then.
type alarm struct {
	fd    int           // -1: there is none, and the waits have time-outs
	began time.Time     // of the engine: times are since then
	set   bool          // it was, and has not rung
	at    time.Duration // when it rings at the latest
	rung  bool          // it has, and no Wait has ended for it
}

// openAlarm makes the alarm. Where the system has no more descriptors, or none of
// this kind, the engine does without.
func (e *Engine) openAlarm() {
	a := &e.alarm
	a.began = time.Now()
	fd, err := unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return
	}
	// Edge-triggered it needs no read: each time that it rings is an edge.
	if e.control(unix.EPOLL_CTL_ADD, int32(fd), unix.EPOLLIN|unix.EPOLLET, alarmData) != nil {
		_ = unix.Close(fd)
		return
	}
	a.fd = fd
}

// ringWithin has the alarm ring in d or before. It is false where there is none.
func (a *alarm) ringWithin(d time.Duration) bool {
	if a.fd < 0 {
		return false
	}
	now := time.Since(a.began)
	at := now + min(d, math.MaxInt64-now)
	if a.set && a.at <= at {
		return true
	}
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(int64(max(1, d)))}
	if unix.TimerfdSettime(a.fd, 0, &spec, nil) != nil {
		return false
	}
	a.set, a.at = true, at
	return true
}
