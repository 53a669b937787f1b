package reactor

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync"

	"github.com/penstock-go/penstock/internal/invariants"
)

// DefaultWorkers is how many goroutines of a group may be busy with Work.
const DefaultWorkers = 64

// Failure is how work ended that did not return.
type Failure struct {
	Value any    // what it panicked with; nil: it called runtime.Goexit
	Stack []byte // of its goroutine
}

// Error implements error.
func (f *Failure) Error() string {
	if f.Value == nil {
		return "work called runtime.Goexit"
	}
	return fmt.Sprintf("work panicked: %v", f.Value)
}

// Unwrap returns what the work panicked with, if that is an error.
func (f *Failure) Unwrap() error {
	err, _ := f.Value.(error)
	return err
}

// Work has fn run on a goroutine of the group's pool, where it may block, and
// then done on this loop: with nil when fn has returned, with the Failure when it
// has panicked or called runtime.Goexit. Works begin in the order of the calls, on
// Config.Workers goroutines at the most; the others wait, in a queue without a bound:
// who has work for each message of a peer bounds it, as conn.Conn.Go does by pausing its
// reading. A goroutine lives only as long as there is work for it.
//
// A loop that ends does not wait: of its work, what has not begun never runs, and
// no done does. Group.Shutdown then waits for what runs.
//
// Thread: that of l. fn must not touch what belongs to the loop.
func (l *Loop) Work(fn func(), done func(l *Loop, failure *Failure)) {
	l.workers.add(job{fn: fn, done: done, loop: l.Remote()})
}

// job is one Work.
type job struct {
	fn   func()
	done func(*Loop, *Failure)
	loop Remote
}

// workers is the pool of a group.
type workers struct {
	most int
	run  func(func()) // has a function run on a goroutine of its own

	mu      sync.Mutex
	busy    int
	closed  bool
	queue   []job // that nobody has begun; from head on
	head    int
	waiting []chan struct{} // of those who wait until nobody is busy
}

func newWorkers(most int, run func(func())) *workers {
	if run == nil {
		run = func(fn func()) { go fn() }
	}
	return &workers{most: most, run: run}
}

func (w *workers) add(j job) {
	if w.take(j) {
		w.run(func() { w.work(j) })
	}
}

// take reports whether a goroutine more is to begin with j; else it waits.
func (w *workers) take(j job) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.closed:
	case w.busy < w.most:
		w.busy++
		return true
	default:
		w.queue = append(w.queue, j)
	}
	return false
}

// work is the life of a goroutine: one work after the other. When one ends the
// goroutine, another goes on in its place.
func (w *workers) work(j job) {
	ended := true
	defer func() {
		if ended {
			w.run(w.goOn)
		}
	}()
	for ok := true; ok; j, ok = w.next() {
		j.do()
	}
	ended = false
}

func (w *workers) goOn() {
	if j, ok := w.next(); ok {
		w.work(j)
	}
}

// next takes the oldest job. When there is none, a goroutine less is busy.
func (w *workers) next() (j job, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.head == len(w.queue) {
		w.queue, w.head = nil, 0
		if w.busy--; w.busy == 0 {
			for _, c := range w.waiting {
				close(c)
			}
			w.waiting = nil
		}
		return job{}, false
	}
	j = w.queue[w.head]
	w.queue[w.head] = job{}
	w.head++
	return j, true
}

// do runs the work, and posts how it ended.
func (j *job) do() {
	failure := &Failure{}
	defer func() {
		if failure != nil {
			failure.Value = recover()
			if v, ours := failure.Value.(invariants.Violation); ours {
				panic(v)
			}
			failure.Stack = debug.Stack()
		}
		done := j.done
		j.loop.Post(func(l *Loop) { done(l, failure) })
	}()
	j.fn()
	failure = nil
}

// close gives up what has not begun.
func (w *workers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed, w.queue, w.head = true, nil, 0
}

// wait waits until nobody is busy, or ctx is done.
func (w *workers) wait(ctx context.Context) error {
	w.mu.Lock()
	idle := make(chan struct{})
	if w.busy == 0 {
		close(idle)
	} else {
		w.waiting = append(w.waiting, idle)
	}
	w.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Blame has s end for a failure of work that ran for it, as for a handler's panic:
// it is counted, and logged with the stack of the work.
func (l *Loop) Blame(s Sink, f *Failure) {
	l.panics++
	l.log.Error("work failed", "loop", l.id, "panic", f.Error(), "stack", string(f.Stack))
	s.Panicked(l, f)
}

// Undone counts done functions of Work whose party has gone.
func (l *Loop) Undone(n int) { l.undone += uint64(n) }
