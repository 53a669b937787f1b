//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"time"

	"github.com/penstock-go/penstock/aio"
	"golang.org/x/sys/unix"
)

// alarm ends waits in time. It is one timeout in the kernel that stays over many
// waits: a time with each enter is a timer of the kernel that is set and cancelled
// each time, which on a virtual machine costs as much as a message.
//
// A wait that needs it later than it is set lets it ring, which is one wake for
// nothing, and sets it anew then.
type alarm struct {
	began time.Time     // of the engine: times are since then
	set   bool          // it is with the kernel
	at    time.Duration // when it rings at the latest
}

func (a *alarm) now() time.Duration { return time.Since(a.began) }

// ringBy has the alarm ring at that time or before. It is false when the kernel
// takes no entry for it: then the next Wait is as if it had rung.
func (e *Engine) ringBy(at time.Duration) bool {
	a := &e.alarm
	if a.set && a.at <= at {
		return true
	}
	s := e.entry()
	if s == nil {
		e.rung = true
		return false
	}
	ts := e.ring.Timespec(max(1, at-a.now()))
	if a.set {
		// Should it ring just now, there is nothing to move, and its own answer comes.
		s.PrepTimeoutUpdate(ts, aio.Token{}.Pack(kindAlarm, 0), 0)
		s.Flags = SQECQESkipSuccess
	} else {
		s.PrepTimeout(ts, 0, 0)
		s.UserData = aio.Token{}.Pack(kindAlarm, 0)
		e.inflight++
	}
	a.set, a.at = true, at
	return true
}

// rang is the answer to the alarm.
func (e *Engine) rang(c *CQE) {
	e.alarm.set, e.rung = false, true
	if c.Res != -int32(unix.ETIME) && c.Res != -int32(unix.ECANCELED) && e.err == nil {
		e.err = unix.Errno(-c.Res)
	}
}
