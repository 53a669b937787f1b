package reactor

import (
	"errors"
	"fmt"
	"runtime"
)

// errGoexit is why a loop ends whose handler ends the loop's goroutine, as
// t.FailNow does.
var errGoexit = errors.New("reactor: a handler called runtime.Goexit")

// thread is the life of one loop's thread. It is never unlocked, so the
// thread ends with the goroutine, and with it its affinity.
func (g *Group) thread(id int, cpus []int, open opener, opened chan<- error) {
	runtime.LockOSThread()
	defer enterThread()()
	l, err := g.newLoop(id, cpus, open)
	if err != nil {
		opened <- err
		return
	}
	l.isHere()
	g.loops = append(g.loops, l)
	opened <- nil
	defer close(l.gone)
	if run := <-l.start; !run {
		l.end()
		return
	}
	defer g.wg.Done()
	g.life(l)
}

// life is what a loop does between Start and its end.
func (g *Group) life(l *Loop) {
	err := errGoexit
	began := false
	defer func() {
		if !began {
			l.started <- fmt.Errorf("loop %d: %w", l.id, err)
		}
	}()
	defer l.end()
	defer func() {
		if began {
			g.failed(err)
		}
		if l.failed {
			l.salvage()
		}
	}()
	if err = l.begin(g.cfg.OnStart); err != nil {
		l.stop(true) // What it has opened so far goes with it.
		err = errors.Join(err, l.serve())
		return
	}
	l.onStop, l.onEnd = g.cfg.OnStop, g.cfg.OnEnd
	began = true
	l.started <- nil
	err = errGoexit // Unless serve returns.
	err = l.serve()
}

// begin runs OnStart.
func (l *Loop) begin(onStart func(*Loop) error) error {
	if onStart == nil {
		return nil
	}
	err := errGoexit
	if !l.guarded(func(l *Loop) { err = onStart(l) }) {
		return errors.New("reactor: OnStart panicked, as the log tells")
	}
	if err != nil {
		return fmt.Errorf("reactor: OnStart: %w", err)
	}
	return nil
}

// serve turns the loop until it was asked to end and nobody is left.
func (l *Loop) serve() error {
	for !l.idle() || !l.box.close(false) {
		if err := l.Turn(-1); err != nil {
			l.failed = true
			return fmt.Errorf("loop %d: %w", l.id, err)
		}
	}
	return nil
}

// stop asks every party to end; hard says at once.
func (l *Loop) stop(hard bool) {
	l.forced = l.forced || hard
	if !l.stopping {
		l.stopping = true
		if l.onStop != nil {
			l.current = nil
			l.guarded(l.onStop)
		}
	}
	for i := range l.table.used {
		if s := l.table.list.At(i).sink; s != nil {
			l.current = s
			l.guarded(func(l *Loop) { s.Stop(l, hard) })
		}
	}
	l.current = nil
}

// idle reports whether nobody is left on a loop that was asked to end.
func (l *Loop) idle() bool {
	return l.stopping && l.parties == 0 && len(l.later) == 0 && len(l.dirty) == 0
}

// end gives back what the loop holds.
func (l *Loop) end() {
	l.box.close(true)
	defer l.release() // Whatever the hook does, the loop's memory goes.
	if l.onEnd != nil {
		l.guarded(l.onEnd)
	}
}

func (l *Loop) release() {
	l.closeEngine()
	// A handler may have kept blocks: memory that somebody may still touch stays
	// mapped.
	if n := l.small.InUse() + l.bulk.InUse(); n > 0 {
		l.log.Error("blocks were not given back", "loop", l.id, "blocks", n)
		return
	}
	l.small.Close()
	l.bulk.Close()
}

func (l *Loop) closeEngine() {
	if err := l.engine.Close(); err != nil {
		l.log.Error("closing the engine", "loop", l.id, "error", err)
	}
}
