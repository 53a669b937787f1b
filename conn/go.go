package conn

import (
	"github.com/penstock-go/penstock/reactor"
)

// maxGo bounds the works of one connection that wait.
const maxGo = 1 << 10

// jobs is the work of one connection that runs elsewhere, one after the other. It
// outlives the connection.
type jobs struct {
	c     *Conn
	queue []work
	runs  bool // the first of queue is with the pool
	stops bool // Close when there is no more
}

type work struct {
	fn   func()
	done func(*Conn)
}

// Go runs fn, the work, on a goroutine of the group's pool, where it may block, and
// then done, which may be nil, back on the loop. From the call until behind done
// the connection's reading is paused, as by PauseRead, so that its input waits for
// the answer. The works of one connection run one after the other, in the order of
// the calls, each with its done before the next begins.
//
// It reports false when work will not run: after Close, or when 1024 wait. Else
// work runs, also when the connection has gone meanwhile; done then does not, and
// is counted in reactor.LoopStats. A panic in work, and runtime.Goexit, end the
// connection, as a panic of its handler does. When the group shuts down, a
// connection that is open closes behind its works. What has not begun when the loop
// ends never runs: that is so by force, and of works behind which Close was called.
//
// work must not touch c, nor what belongs to the loop; it may hold a Ref. How many
// run at once is reactor.Config.Workers.
func (c *Conn) Go(fn func(), done func(c *Conn)) bool {
	if c.state >= closing {
		return false
	}
	j := c.aside().jobs
	if j == nil {
		j = &jobs{c: c}
		c.beside.jobs = j
	}
	if len(j.queue) >= maxGo {
		return false
	}
	j.queue = append(j.queue, work{fn, done})
	c.hold(byWork)
	c.touch()
	j.start(c.loop)
	return true
}

// start hands the next work to the pool.
func (j *jobs) start(l *reactor.Loop) {
	if !j.runs && len(j.queue) > 0 {
		j.runs = true
		l.Work(j.queue[0].fn, j.back)
	}
}

// back is the end of a work, on the loop.
func (j *jobs) back(l *reactor.Loop, failure *reactor.Failure) {
	done, c := j.queue[0].done, j.c
	j.queue[0] = work{}
	j.queue, j.runs = j.queue[1:], false
	defer j.next(l)
	switch {
	case c.state > closing: // It is gone, or as good as gone.
		if done != nil {
			l.Undone(1)
		}
	case failure != nil:
		l.Blame(c, failure)
	case done != nil:
		l.As(c)
		done(c)
	}
}

// next goes on: with the next work, or with reading.
func (j *jobs) next(l *reactor.Loop) {
	if j.start(l); j.runs {
		return
	}
	if j.queue = nil; j.c.state > closing {
		return
	}
	j.c.resume(byWork)
	j.c.touch()
	if j.stops {
		j.c.Close()
	}
}

// afterWork reports whether the connection has work that is to end before it
// closes, and then has it close behind that.
func (c *Conn) afterWork() bool {
	if b := c.beside; b != nil && b.jobs != nil && b.jobs.runs && c.state < closing {
		b.jobs.stops = true
		return true
	}
	return false
}
