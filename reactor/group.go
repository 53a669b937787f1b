package reactor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
)

// ErrEnded says that the group has ended.
var ErrEnded = errors.New("reactor: the group has ended")

// ErrOnLoop says that what would have waited for a loop was called on it.
var ErrOnLoop = errors.New("reactor: a loop cannot wait for itself")

// Group is the loops of a service.
//
// Thread: any, for every method.
type Group struct {
	cfg   Config
	info  Info
	loops []*Loop
	done  chan struct{} // closed when every loop has ended
	wg    sync.WaitGroup
	work  *workers

	mu  sync.Mutex
	err error // the first failure of a loop
}

// opener makes the engine of one loop, on its thread.
type opener func(small, bulk *buf.Pool) (aio.Engine, error)

// Start opens the engines, starts the loops and has each run Config.OnStart. It
// warns when GOMAXPROCS leaves no P to other goroutines. When it fails, nothing
// is left behind.
func Start(cfg Config) (*Group, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	g := &Group{cfg: cfg, done: make(chan struct{}), work: newWorkers(cfg.Workers, nil)}
	open, info, err := choose(cfg)
	if err != nil {
		return nil, err
	}
	if err = g.open(open); err != nil && cfg.Engine == Auto && info.Engine == "uring" && unavailable(err) {
		// One ring was to be had and the others not: locked memory, most often.
		open, info.Engine, info.Reason = openEpoll, "epoll", err.Error()
		err = g.open(open)
	}
	if err != nil {
		return nil, err
	}
	if err = g.run(); err != nil {
		return nil, err
	}
	info.Loops, info.Features = cfg.Loops, g.loops[0].caps.Features
	g.info = info
	level := slog.LevelInfo
	if cfg.Engine == Auto && info.Engine == "epoll" { // What was hoped for is not to be had.
		level = slog.LevelWarn
	}
	cfg.Logger.Log(context.Background(), level, "penstock started", "engine", info.Engine, "reason", info.Reason, "loops", info.Loops, "kernel", info.Kernel)
	warn(cfg, os.Getenv("GODEBUG"))
	go func() {
		g.wg.Wait()
		g.work.close()
		close(g.done)
	}()
	return g, nil
}

// run starts the loops one after the other. When one cannot, none is left.
func (g *Group) run() error {
	for i, l := range g.loops {
		g.wg.Add(1)
		l.start <- true
		err := <-l.started
		if err == nil {
			continue
		}
		g.each(func(l *Loop) { l.stop(true) })
		g.wg.Wait()
		g.drop(g.loops[i+1:])
		g.work.close()
		return err
	}
	return nil
}

// drop ends loops that were not started.
func (g *Group) drop(loops []*Loop) {
	for _, l := range loops {
		l.start <- false
		<-l.gone
	}
}

// warn tells of settings of the process that the loops' raw waits do not bear.
// They belong to the program, so none is changed here.
func warn(cfg Config, godebug string) {
	if n := runtime.GOMAXPROCS(0); n <= cfg.Loops {
		cfg.Logger.Warn("GOMAXPROCS leaves no processor to other goroutines: set it to the number of loops plus 2, and 1 for each goroutine that computes for long",
			"GOMAXPROCS", n, "loops", cfg.Loops, "advised", cfg.Loops+2)
	}
	for setting := range strings.SplitSeq(godebug, ",") {
		if setting == "asyncpreemptoff=1" {
			cfg.Logger.Warn("GODEBUG has asyncpreemptoff=1: an idle loop will stop other goroutines and the collector; take it away")
		}
	}
}

// open makes all loops, each engine on the thread that will run it.
func (g *Group) open(open opener) error {
	cpus := affinity()
	g.loops = nil
	for i := range g.cfg.Loops {
		opened := make(chan error)
		go g.thread(i, cpus, open, opened)
		if err := <-opened; err != nil {
			g.drop(g.loops)
			return fmt.Errorf("loop %d: %w", i, err)
		}
	}
	return nil
}

// newLoop makes a loop for the calling thread, and ties that to its CPU.
func (g *Group) newLoop(id int, cpus []int, open opener) (*Loop, error) {
	if g.cfg.Pin && len(cpus) > 0 {
		if err := pin(cpus[id%len(cpus)]); err != nil {
			return nil, err
		}
	}
	small, bulk, err := g.cfg.pools()
	if err != nil {
		return nil, err
	}
	engine, err := open(small, bulk)
	if err != nil {
		return nil, err
	}
	l := NewLoop(LoopConfig{ID: id, Engine: engine, Small: small, Bulk: bulk, Logger: g.cfg.Logger, Spin: g.cfg.Spin, workers: g.work})
	l.start, l.started, l.gone = make(chan bool), make(chan error, 1), make(chan struct{})
	return l, nil
}

func (g *Group) failed(err error) {
	if err == nil {
		return
	}
	g.cfg.Logger.Error("a loop failed", "error", err, "stack", string(debug.Stack()))
	g.mu.Lock()
	if g.err == nil {
		g.err = err
	}
	g.mu.Unlock()
	g.each(func(l *Loop) { l.stop(true) })
}

// each posts fn to every loop.
func (g *Group) each(fn func(*Loop)) {
	for _, l := range g.loops {
		l.Remote().Post(fn)
	}
}

// Info returns what was chosen at the start, and why.
func (g *Group) Info() Info { return g.info }

// Len returns the number of loops.
func (g *Group) Len() int { return len(g.loops) }

// Loop returns the handle of loop i.
func (g *Group) Loop(i int) Remote { return g.loops[i].Remote() }

// Done returns a channel that is closed when every loop has ended.
func (g *Group) Done() <-chan struct{} { return g.done }

// Shutdown asks every party to end: listeners stop accepting, connections
// flush and close. What has not ended when ctx is done is ended at once. It
// returns when all loops have ended, and Loop.Work that runs has returned, with the
// first failure of a loop, or with ctx's error when it had to use force. Work that
// outlasts ctx goes on, since nobody can end it, and nobody hears of its end. Work that
// calls Shutdown waits for itself until ctx is done.
//
// On a loop of the group, as in a handler, all this begins, and Shutdown returns
// ErrOnLoop at once, since the loop would wait for itself. Done tells when all have
// ended; ctx must outlive the call then, a deferred cancel would be force.
func (g *Group) Shutdown(ctx context.Context) error {
	if g.here() != nil {
		go func() { _ = g.Shutdown(ctx) }()
		return ErrOnLoop
	}
	g.each(func(l *Loop) { l.stop(false) })
	select {
	case <-g.done:
		if err := g.failure(); err != nil {
			return err
		}
		return g.work.wait(ctx)
	case <-ctx.Done():
	}
	g.each(func(l *Loop) { l.stop(true) })
	<-g.done
	if err := g.failure(); err != nil {
		return err
	}
	return ctx.Err()
}

// Close ends everything at once; what was pending is lost, as OnClose tells. It does
// not wait for Loop.Work that runs. On a loop of the group it returns ErrOnLoop, as
// Shutdown does.
func (g *Group) Close() error {
	g.each(func(l *Loop) { l.stop(true) })
	if g.here() != nil {
		return ErrOnLoop
	}
	<-g.done
	return g.failure()
}

func (g *Group) failure() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// here returns the loop of g that the caller runs on, or nil.
func (g *Group) here() *Loop {
	if l := loopHere(); slices.Contains(g.loops, l) {
		return l
	}
	return nil
}
