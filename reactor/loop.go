package reactor

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync/atomic"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/internal/invariants"
)

// batch is how many completions a turn dispatches at the most.
const batch = 256

// expireMost is how many timers a turn runs at the most, so that a million that
// are due at once leave connections their turns between.
const expireMost = 1024

// trimEvery is how often a loop looks for memory that a burst left behind.
const trimEvery = time.Second

// Sink is a party that waits for completions: a connection, a listener.
type Sink interface {
	// Complete hands over one completion. Bytes in c.In that are not taken
	// are released behind it.
	Complete(l *Loop, c *aio.Completion)
	// Flush runs at the end of a turn in which the party was touched: it submits
	// what it has collected. One that is never touched has an empty one.
	Flush(l *Loop)
	// Stop asks the party to end: at its own pace, or at once if hard is set.
	// It ends by Detach. It may be asked more than once.
	Stop(l *Loop, hard bool)
	// Panicked says that a handler that ran for the party has panicked, or has called
	// runtime.Goexit. The loop has counted it, and logged it with the party if that is
	// a fmt.Stringer.
	Panicked(l *Loop, value any)
	// InFlight appends to list an aio.Lost for each operation of the party that has a
	// completion to come. The loop asks when its engine is gone, and delivers them.
	InFlight(list []aio.Completion) []aio.Completion
}

// task is a function to run, and the party for which it runs.
type task struct {
	owner Sink
	fn    func()
}

// Loop is one core's world: an engine, its memory, and who waits for what.
//
// Thread: a *Loop is seen only by code that runs on it. Keep a Remote elsewhere.
type Loop struct {
	id          int
	engine      aio.Engine
	waker       aio.Engine // the one that was there first: other goroutines look here
	caps        aio.Caps
	small, bulk *buf.Pool
	log         *slog.Logger
	clock       func() time.Duration
	spin        time.Duration
	workers     *workers

	table slots
	wheel wheel
	trim  Timer

	// One turn. The phase and the cursors live here, so that a turn that a panic
	// has interrupted goes on behind it.
	phase     phase
	n, next   int
	alarm     int64 // the tick at which a Wait without end ends by itself; 0: none
	now       time.Duration
	nowValid  bool
	expired   int           // timers that ran
	judged    time.Duration // timers that are due up to here need not wait for what has come
	catchUp   time.Duration // until when they wait at the most, while they do
	dirty     []Sink
	flushNext int
	later     []task // filled by Defer
	running   []task // being run
	runNext   int
	mail      []func(*Loop)
	mailNext  int
	current   Sink

	box      mailbox
	stopping bool
	forced   bool // at once
	failed   bool // the engine, or a handler has called runtime.Goexit

	start   chan bool     // tells the thread to run, or to end at once
	started chan error    // how OnStart went
	gone    chan struct{} // closed when the thread has ended
	onStop  func(*Loop)   // of the Config, once OnStart has succeeded
	onEnd   func(*Loop)

	parties int // attached
	watches int
	panics  uint64
	turns   uint64
	posts   uint64
	undone  uint64 // dones of Work whose party had gone

	done [batch]aio.Completion // last, so that all else is close together
}

// phase is how far a turn has come.
type phase uint8

const (
	dispatching phase = iota
	expiring
	delivering
	deferring
	flushing
)

// LoopConfig is what a Loop is made of. Only tests make one by hand.
type LoopConfig struct {
	ID          int
	Engine      aio.Engine
	Small, Bulk *buf.Pool
	Logger      *slog.Logger
	// Clock returns the time since some start. Default: the monotonic clock.
	Clock func() time.Duration
	// Spin is as in Config.
	Spin time.Duration
	// Go has the function run on a goroutine for Loop.Work. Default: a new one.
	Go func(func())

	workers *workers // of the group
}

// NewLoop returns a loop that the caller turns by hand. Everybody but the
// tests of a simulated kernel uses Start.
func NewLoop(cfg LoopConfig) *Loop {
	l := &Loop{id: cfg.ID, engine: cfg.Engine, waker: cfg.Engine, caps: cfg.Engine.Caps(), small: cfg.Small, bulk: cfg.Bulk, log: cfg.Logger, clock: cfg.Clock, spin: cfg.Spin}
	if l.log == nil {
		l.log = slog.Default()
	}
	if l.clock == nil {
		start := time.Now()
		l.clock = func() time.Duration { return time.Since(start) }
	}
	if l.workers = cfg.workers; l.workers == nil {
		l.workers = newWorkers(DefaultWorkers, cfg.Go)
	}
	l.table.init()
	l.trim.fn = l.trimPools
	return l
}

// ID returns the number of the loop in its group, from 0.
func (l *Loop) ID() int { return l.id }

// Caps returns what the engine can do.
func (l *Loop) Caps() aio.Caps { return l.caps }

// Small returns the loop's pool of small blocks, for small traffic.
func (l *Loop) Small() *buf.Pool { return l.small }

// Bulk returns the loop's pool of large blocks, for what comes and goes in bulk.
func (l *Loop) Bulk() *buf.Pool { return l.bulk }

// Now returns the monotonic time since the loop was made, taken once a turn.
func (l *Loop) Now() time.Duration {
	if !l.nowValid {
		l.now, l.nowValid = l.clock(), true
	}
	return l.now
}

// Stopping reports whether the loop has been asked to end.
func (l *Loop) Stopping() bool { return l.stopping }

// Forced reports whether the loop has been asked to end at once: who comes now is
// to be stopped hard.
func (l *Loop) Forced() bool { return l.forced }

// Submit passes op to the engine.
func (l *Loop) Submit(op *aio.Op) { l.engine.Submit(op) }

// Try sends at once what the kernel takes of op; see aio.Engine.
func (l *Loop) Try(op *aio.Op) int { return l.engine.Try(op) }

// Attach gives s a token under which completions reach it.
func (l *Loop) Attach(s Sink) aio.Token {
	l.parties++
	return l.table.attach(s)
}

// Detach ends t. Completions that still come for it reach nobody.
func (l *Loop) Detach(t aio.Token) {
	if l.table.detach(t) {
		l.parties--
	}
}

// Lookup returns the party that t names, or nil when it is gone.
func (l *Loop) Lookup(t aio.Token) Sink { return l.table.lookup(t) }

// Touch has s flushed at the end of this turn. The caller keeps it from being
// touched twice.
func (l *Loop) Touch(s Sink) { l.dirty = append(l.dirty, s) }

// Post is Remote().Post: fn runs in one of the next turns, behind what other
// goroutines have posted before, and for nobody, so it survives the party that
// runs now. [Loop.Defer] takes no lock and is for the party's own work.
func (l *Loop) Post(fn func(*Loop)) bool { return l.Remote().Post(fn) }

// Defer runs fn later, for the party that runs now: the one that ends if fn panics.
// It runs behind the mail of this turn, or of the next if that is past. What defers
// itself again so runs once a turn: work that has no bound goes on by Defer, and
// others have their turn between.
func (l *Loop) Defer(fn func()) { l.later = append(l.later, task{l.current, fn}) }

// As names the party for which the loop runs from here to the end of the
// callback: the one that ends if the callback panics. It returns the one that was,
// for who calls As within somebody else's callback and goes back.
func (l *Loop) As(s Sink) (was Sink) {
	was, l.current = l.current, s
	return was
}

// Turn runs the loop once: it waits up to limit for the first event (limit < 0:
// without end), dispatches, runs timers, mail and deferred work, and flushes.
func (l *Loop) Turn(limit time.Duration) error {
	n, err := l.wait(l.patience(limit))
	l.box.asleep.Store(false)
	if err != nil {
		return err
	}
	if n == 0 {
		l.alarm = 0 // This may have been it.
	}
	l.turns++
	l.nowValid = false
	l.n, l.next = n, 0
	l.phase = dispatching
	for !l.guarded((*Loop).work) { // Over the panics of handlers.
	}
	return nil
}

// work is what a turn does behind its wait, from the phase on that it has reached.
// What begins a phase runs at the end of the one before, so it runs once.
func (l *Loop) work() {
	switch l.phase {
	case dispatching:
		l.dispatch()
		if l.wheel.armed > 0 && !l.alarmed() {
			l.wheel.advance(tick(l.Now()))
		}
		l.expired = 0
		l.phase = expiring
		fallthrough
	case expiring:
		switch {
		case l.wheel.expired.head == nil:
			l.catchUp = 0 // Whatever waited was stopped.
		case !l.catchesUp():
			l.expire()
		}
		if l.box.waiting.Load() {
			l.mail, l.mailNext = l.box.empty(l.mail), 0
			l.posts += uint64(len(l.mail))
		}
		l.phase = delivering
		fallthrough
	case delivering:
		if l.mailNext < len(l.mail) {
			l.deliver()
		}
		if len(l.later) > 0 {
			l.running, l.later, l.runNext = l.later, l.running[:0], 0
		}
		l.phase = deferring
		fallthrough
	case deferring:
		if l.runNext < len(l.running) {
			l.runDeferred()
		}
		l.phase = flushing
		fallthrough
	case flushing:
		l.flush()
	}
}

// wait waits for the engine, and before it sleeps looks again and again for as
// long as the loop spins.
func (l *Loop) wait(limit time.Duration) (n int, err error) {
	if l.spin > 0 && limit != 0 {
		end := l.clock() + l.spin
		if limit > 0 {
			end = min(end, l.clock()+limit)
		}
		for {
			n, err = l.engine.Wait(l.done[:], 0)
			if n > 0 || err != nil || l.box.waiting.Load() {
				return n, err
			}
			if l.clock() >= end {
				break
			}
		}
		if limit > 0 {
			limit = max(0, limit-l.spin)
		}
	}
	return l.engine.Wait(l.done[:], limit)
}

// patience returns how long the wait may last, and announces the sleep so
// that who posts from now on wakes the loop.
func (l *Loop) patience(limit time.Duration) time.Duration {
	if len(l.later) > 0 || len(l.dirty) > 0 {
		limit = 0
	}
	if limit >= 0 {
		l.alarm = 0 // Only a wait without end ends for what an earlier one was given.
	}
	if limit != 0 && l.wheel.armed > 0 && !l.alarmed() {
		at := l.wheel.next()
		d := max(0, time.Duration(at)*time.Millisecond-l.clock())
		if l.alarm = 0; limit < 0 || d < limit {
			if limit = d; d > 0 {
				l.alarm = at
			}
		}
	}
	if limit != 0 {
		l.box.asleep.Store(true)
		if l.box.waiting.Load() {
			l.alarm = 0
			return 0
		}
	}
	return limit
}

// alarmed reports whether no timer is due and the engine ends a Wait before one is,
// as it was asked to: then nobody has to look at the clock. Who spins looks anyway.
func (l *Loop) alarmed() bool {
	return l.alarm > 0 && l.alarm <= l.wheel.due && l.wheel.expired.head == nil && l.spin == 0
}

func (l *Loop) guarded(phase func(*Loop)) (done bool) {
	defer func() {
		if !done {
			l.recovered(recover())
		}
	}()
	phase(l)
	return true
}

// recovered is the edge at which a handler's panic ends.
func (l *Loop) recovered(value any) {
	if value == nil { // runtime.Goexit, which nobody can stop: the group hears of it.
		l.failed, value = true, errGoexit
	}
	if v, ours := value.(invariants.Violation); ours {
		panic(v) // Our own broken rule: a loop in an unknown state must not go on.
	}
	l.panics++
	args := []any{"loop", l.id, "panic", value, "stack", string(debug.Stack())}
	if s, ok := l.current.(fmt.Stringer); ok {
		args = append(args, "party", s.String()) // Here, since a logger may look at it elsewhere.
	}
	l.log.Error("handler panicked", args...)
	if l.next > 0 && l.next <= l.n {
		l.done[l.next-1].In.Release()
	}
	if s := l.current; s != nil {
		l.current = nil
		s.Panicked(l, value)
	}
}

func (l *Loop) dispatch() {
	for l.next < l.n {
		c := &l.done[l.next]
		l.next++
		if s := l.table.lookup(c.Token); s != nil {
			l.current = s
			s.Complete(l, c)
		}
		c.In.Release() // Whoever keeps the bytes has taken them out of c.
	}
	l.current = nil
}

func (l *Loop) expire() {
	for l.expired < expireMost {
		t := l.wheel.pop()
		if t == nil {
			break
		}
		l.expired++
		l.current = t.owner
		t.fn()
		l.current = nil
	}
}

func (l *Loop) deliver() {
	for l.mailNext < len(l.mail) {
		fn := l.mail[l.mailNext]
		l.mail[l.mailNext] = nil
		l.mailNext++
		fn(l)
		l.current = nil
	}
}

func (l *Loop) runDeferred() {
	for l.runNext < len(l.running) {
		t := l.running[l.runNext]
		l.running[l.runNext] = task{}
		l.runNext++
		l.current = t.owner
		t.fn()
		l.current = nil
	}
}

// flush lets the touched parties submit. Those that are touched meanwhile, by
// a handler that runs inside, have their turn before the loop sleeps.
func (l *Loop) flush() {
	for l.flushNext < len(l.dirty) {
		s := l.dirty[l.flushNext]
		l.dirty[l.flushNext] = nil
		l.flushNext++
		l.current = s
		s.Flush(l)
	}
	l.current = nil
	l.dirty, l.flushNext = l.dirty[:0], 0
	if !l.trim.Armed() && (l.bulk.Idle() || l.small.Idle()) {
		l.schedule(&l.trim, trimEvery)
	}
}

func (l *Loop) trimPools() {
	l.bulk.Trim()
	l.small.Trim()
}

// lastID numbers the connections of the process.
var lastID atomic.Uint64

// NextID returns a number that no other call in this process returns; they count up.
func (l *Loop) NextID() uint64 { return lastID.Add(1) }
