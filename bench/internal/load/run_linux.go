package load

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/bench/internal/host"
	"github.com/penstock-go/penstock/bench/internal/pattern"
)

// runner is one thread of load.
type runner interface{ run() error }

// generator is one measurement.
type generator struct {
	spec    Spec
	pattern *pattern.Pattern
	dialer  *dialer
	base    time.Time
	window  window
	answer  answer         // of the server to a handshake
	ids     []atomic.Int32 // of the threads of load, once they run
	workers []*worker
	runners []runner
	beside  *crowd
	kept    time.Duration // from a CPU, all threads of load together, from just before the window
	result  Result
}

// calm lies between what is done before a window and the window itself: whoever did it
// had a CPU that the load or the server needs, and what that has delayed must be past.
const calm = 10 * time.Millisecond

// Run measures as spec says. opened is called just before the window begins. When ctx
// ends, the answer is that of ctx.
func Run(ctx context.Context, spec Spec, opened func()) (*Result, error) {
	// Nothing here lives long enough to be worth a pause.
	defer debug.SetGCPercent(debug.SetGCPercent(-1))
	host.NoFile()
	spec.fill()
	g := &generator{spec: spec, pattern: pattern.New(), base: time.Now()}
	g.window.from.Store(never)
	g.window.to.Store(never)
	g.window.stop.Store(never)
	var err error
	if spec.Shape != None {
		if g.dialer, err = newDialer(spec.Target); err != nil {
			return nil, err
		}
	}
	defer g.close()
	switch spec.Shape {
	case None:
		return g.nothing(ctx, opened)
	case Idle:
		return g.idle(ctx, opened)
	case Closed, Open, Fanout, Short:
		if err := g.prepare(); err != nil {
			return nil, err
		}
		return g.measure(ctx, opened)
	}
	return nil, fmt.Errorf("unknown shape %q", spec.Shape)
}

func (g *generator) close() {
	for _, w := range g.workers {
		w.close()
	}
	if g.beside != nil {
		g.beside.close()
	}
}

// threads is how many the generator runs.
func (g *generator) threads() int {
	if g.spec.Shape == Fanout {
		return 1
	}
	return max(1, min(len(g.spec.CPUs), g.spec.Conns))
}

// prepare makes the connections.
func (g *generator) prepare() error {
	n := g.threads()
	if g.spec.Shape == Short {
		if err := g.hire(n); err != nil {
			return err
		}
		g.result.Conns = g.spec.Conns
		for i, w := range g.workers {
			g.runners = append(g.runners, newShort(w, g.dialer, g.pattern, (g.spec.Conns+n-1-i)/n, i, n))
		}
		return g.reach()
	}
	fds, note, err := g.dialer.dialAll(g.spec.Conns, 0)
	if err != nil {
		return err
	}
	g.note(note)
	g.result.Conns = len(fds)
	if g.answer, err = g.greet(fds, g.spec.WS); err == nil {
		err = g.hire(n)
	}
	if err != nil {
		closeAll(fds)
		return err
	}
	for i, fd := range fds {
		stream := g.pattern.Stream(i)
		if g.spec.Shape == Fanout {
			stream = g.pattern.Stream(0)
		}
		if err := g.workers[i%n].add(fd, i, stream); err != nil {
			closeAll(fds[i+1:])
			return err
		}
	}
	for _, w := range g.workers {
		g.runners = append(g.runners, w)
		if g.spec.Shape == Open {
			w.shape = &openShape{interval: 1e9 * float64(n) / g.spec.Rate, late: NewHistogram()}
		}
	}
	if g.spec.Shape == Fanout {
		return g.prepareFanout()
	}
	if g.spec.Beside > 0 {
		return g.prepareBeside()
	}
	return nil
}

// hire makes the threads.
func (g *generator) hire(n int) error {
	for range n {
		t, err := g.talk()
		if err != nil {
			return err
		}
		w, err := newWorker(&g.spec, g.base, &g.window, closedShape{}, t)
		if err != nil {
			return err
		}
		g.workers = append(g.workers, w)
	}
	return nil
}

// reach sees that there is a server before many connections are tried at once.
func (g *generator) reach() error {
	fd, err := g.dialer.dial(0)
	if err == nil {
		closeAll([]int{fd})
	}
	return err
}

func (g *generator) prepareFanout() error {
	publisher, err := g.dialer.dial(0)
	if err != nil {
		return err
	}
	if g.spec.WS != Raw {
		if _, err := g.greet([]int{publisher}, Plain); err != nil {
			closeAll([]int{publisher})
			return err
		}
	}
	w := g.workers[0]
	f := newFanout(publisher, g.spec.Size, g.pattern.Stream(0))
	w.shape = f
	w.clients = append(w.clients, client{fd: publisher}) // To be closed with the others.
	all := w.clients
	w.clients = all[:len(all)-1]
	if g.spec.WS != Raw {
		f.says = publications(f.stream, &g.spec, w.talk)
		err = f.join(w)
	} else {
		err = f.subscribe(w)
	}
	if err == nil {
		err = acknowledge(w.clients)
	}
	g.runners = []runner{publishing{w, all}}
	return err
}

// publishing is a worker whose publisher is closed with it.
type publishing struct {
	*worker
	all []client
}

func (p publishing) run() error {
	defer func() { p.clients = p.all }()
	return p.worker.run()
}

func (g *generator) prepareBeside() error {
	var err error
	if g.beside, err = g.crowd(g.spec.Conns, g.spec.Beside, stallBuffer); err != nil {
		return err
	}
	g.beside.most = int64(g.spec.Stalled)
	g.note(g.beside.note)
	if g.spec.Stalled > 0 {
		g.result.Stalled = len(g.beside.clients)
	}
	if g.spec.PID == 0 {
		return g.beside.stall()
	}
	if g.result.RSSBefore, err = settledRSS(g.spec.PID); err != nil {
		return err
	}
	if err = g.beside.stall(); err != nil {
		return err
	}
	g.result.StallSent = g.beside.sent()
	g.result.RSSAfter, err = settledRSS(g.spec.PID)
	return err
}

func (g *generator) note(text string) {
	if text != "" {
		g.result.Notes = append(g.result.Notes, text)
	}
}

// snapshot is what is counted at one moment.
type snapshot struct {
	at, idle time.Duration
	answered int64
	cpu      time.Duration
}

func (g *generator) snapshot() (s snapshot, err error) {
	if g.spec.PID != 0 {
		if s.cpu, err = host.ProcessClock(g.spec.PID); err != nil {
			return s, fmt.Errorf("the server is gone: %w", err)
		}
	}
	s.at = time.Since(g.base)
	for _, w := range g.workers {
		s.answered += w.answered.Load()
		s.idle += time.Duration(w.idle.Load())
	}
	return s, nil
}

// waited is how long the threads of load were ready to run and had no CPU.
func (g *generator) waited() (sum time.Duration) {
	for i := range g.ids {
		if id := g.ids[i].Load(); id != 0 {
			sum += host.Waited(int(id))
		}
	}
	return sum
}

// measure runs the load and takes what falls into the window.
func (g *generator) measure(ctx context.Context, opened func()) (*Result, error) {
	runtime.GOMAXPROCS(len(g.runners) + 2)
	g.ids = make([]atomic.Int32, len(g.runners))
	ended := make(chan error, len(g.runners))
	for i, r := range g.runners {
		go func() { ended <- g.thread(i, r) }()
	}
	left := len(g.runners)
	var failures error
	wait := func(d time.Duration) bool { // False when it is over before.
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
			return true
		case <-ctx.Done():
			failures = errors.Join(failures, ctx.Err())
		case err := <-ended:
			left--
			failures = errors.Join(failures, err, errors.New("the load ended before its time"))
		}
		return false
	}
	var from, to snapshot
	open := wait(g.spec.Warm)
	if open {
		opened()
		g.kept = -g.waited()
		open = wait(calm)
	}
	if open {
		var err error
		from, err = g.snapshot()
		failures = errors.Join(failures, err)
		g.window.to.Store(int64(from.at + g.spec.Window))
		g.window.from.Store(int64(from.at))
		if wait(g.spec.Window - (time.Since(g.base) - from.at)) {
			to, err = g.snapshot()
			failures = errors.Join(failures, err)
			g.kept += g.waited()
		}
	}
	g.window.stop.Store(int64(time.Since(g.base)))
	for ; left > 0; left-- {
		failures = errors.Join(failures, <-ended)
	}
	if failures != nil {
		return nil, first(failures)
	}
	return g.finish(from, to)
}

// first returns the first of joined errors: what came after follows from it.
func first(err error) error {
	for {
		j, ok := err.(interface{ Unwrap() []error }) // The join itself is looked at.
		if !ok || len(j.Unwrap()) == 0 {
			return err
		}
		err = j.Unwrap()[0]
	}
}

// thread runs one worker on a thread of its own.
func (g *generator) thread(i int, r runner) error {
	if len(g.spec.CPUs) > 0 {
		runtime.LockOSThread() // Never unlocked: the thread ends with the goroutine, and so does its binding.
		g.ids[i].Store(int32(unix.Gettid()))
		if err := host.Bind(g.spec.CPUs[i%len(g.spec.CPUs) : i%len(g.spec.CPUs)+1]); err != nil {
			return err
		}
	}
	return r.run()
}

func (g *generator) finish(from, to snapshot) (*Result, error) {
	r := &g.result
	r.Elapsed = to.at - from.at
	r.Messages = to.answered - from.answered
	r.CPU = to.cpu - from.cpu
	r.Busy = min(1, max(0, 1-float64(to.idle-from.idle)/float64(r.Elapsed)/float64(len(g.workers))))
	if g.spec.Spin { // On a shared CPU server and generator wait for each other.
		r.Waited = min(1, float64(g.kept)/float64(r.Elapsed+calm)/float64(len(g.workers)))
	}
	r.Rate = g.spec.Rate
	all, late := NewHistogram(), NewHistogram()
	for _, w := range g.workers {
		if g.spec.Shape == Open {
			r.Unanswered += w.unanswered()
			late.Merge(w.shape.(*openShape).late)
		}
		all.Merge(w.times)
		r.Checked += w.checked.Load()
	}
	r.Latency = Summarize(all)
	if g.spec.Shape == Open {
		l := Summarize(late)
		r.Late = &l
		var err error
		if r.Latency.All, err = Encode(all); err != nil {
			return nil, err
		}
	}
	if g.beside != nil {
		n, err := g.beside.drain()
		r.Checked += n
		return r, err
	}
	return r, nil
}
