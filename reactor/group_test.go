package reactor

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
)

func TestConfigIsChecked(t *testing.T) {
	for _, cfg := range []Config{{Loops: -1}, {Loops: 5000}, {Engine: 9}, {PoolBytes: 1}, {Spin: -1}, {Spin: time.Second}} {
		if g, err := Start(cfg); err == nil {
			g.Close()
			t.Errorf("%+v was taken", cfg)
		}
	}
	if _, err := ParseEngine("kqueue"); err == nil {
		t.Error("kqueue was taken for an engine")
	}
	for _, k := range []EngineKind{Auto, Uring, Epoll} {
		if got, err := ParseEngine(k.String()); err != nil || got != k {
			t.Errorf("ParseEngine(%q) = %v, %v", k, got, err)
		}
	}
}

func TestStartSaysWhatItRunsOn(t *testing.T) {
	var log bytes.Buffer
	g, err := Start(Config{Loops: 1, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	info := g.Info()
	if info.Engine != "uring" && info.Engine != "epoll" || info.Reason == "" || info.Loops != 1 || info.CPUs < 1 || info.Kernel == "" {
		t.Errorf("info %+v", info)
	}
	if !strings.Contains(log.String(), "engine="+info.Engine) {
		t.Errorf("the log does not name the engine: %s", &log)
	}
}

// TestWarnsOfTooFewProcessors: as many Ps as loops is the setting to avoid.
func TestWarnsOfTooFewProcessors(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, c := range []struct {
		procs, loops int
		warns        bool
	}{{1, 1, true}, {2, 2, true}, {3, 2, false}, {3, 1, false}} {
		runtime.GOMAXPROCS(c.procs)
		var log bytes.Buffer
		g, err := Start(Config{Loops: c.loops, Engine: Epoll, Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		g.Close()
		if warned := strings.Contains(log.String(), "level=WARN"); warned != c.warns {
			t.Errorf("GOMAXPROCS %d with %d loops: warned %v, want %v", c.procs, c.loops, warned, c.warns)
		}
	}
}

func TestWarnsWithoutAsynchronousPreemption(t *testing.T) {
	for godebug, warns := range map[string]bool{"": false, "gctrace=0": false, "gctrace=0,asyncpreemptoff=1": true, "asyncpreemptoff=0": false} {
		var log bytes.Buffer
		cfg := Config{Loops: 0, Logger: slog.New(slog.NewTextHandler(&log, nil))}
		if warn(cfg, godebug); strings.Contains(log.String(), "asyncpreemptoff") != warns {
			t.Errorf("GODEBUG=%q: %s", godebug, &log)
		}
	}
}

func TestGoexitIsAFailure(t *testing.T) {
	g, err := Start(Config{Loops: 2, Engine: Epoll, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	g.Loop(0).Post(func(*Loop) { runtime.Goexit() })
	<-g.Done() // The other loop is ended with it.
	if err := g.Close(); !errors.Is(err, errGoexit) {
		t.Errorf("Close = %v", err)
	}
}

func TestPinnedLoopsStart(t *testing.T) {
	g, err := Start(Config{Loops: 3, Pin: true, Engine: Epoll, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	cpus := make(chan int, 3)
	for i := range 3 {
		g.Loop(i).Post(func(*Loop) { cpus <- len(affinity()) })
	}
	for range 3 {
		if n := <-cpus; n != 1 {
			t.Errorf("a pinned loop may run on %d CPUs", n)
		}
	}
	g.Close()
}

// TestFailedStartLeavesNothing: the second loop cannot open its engine.
func TestFailedStartLeavesNothing(t *testing.T) {
	opened := 0
	_, err := Start(Config{Loops: 3, Logger: slog.New(slog.DiscardHandler), NewEngine: func(small, bulk *buf.Pool) (aio.Engine, error) {
		if opened++; opened == 2 {
			return nil, errors.New("no more")
		}
		return openEpoll(small, bulk)
	}})
	if err == nil || !strings.Contains(err.Error(), "no more") {
		t.Errorf("Start = %v", err)
	}
}

func TestShutdownAsksThenForces(t *testing.T) {
	onEngines(t, 1, func(t *testing.T, g *Group) {
		s := &sink{}
		ready := make(chan struct{})
		g.Loop(0).Post(func(l *Loop) {
			tok := l.Attach(s)
			s.detach = func() {
				if s.stops == 2 { // It ends only when forced.
					l.Detach(tok)
				}
			}
			close(ready)
		})
		<-ready
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := g.Shutdown(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("Shutdown = %v", err)
		}
		if s.stops != 2 {
			t.Errorf("asked %d times", s.stops)
		}
		if g.Loop(0).Post(func(*Loop) {}) {
			t.Error("an ended loop takes posts")
		}
		if n := len(g.Stats()); n != 0 {
			t.Errorf("%d loops answer after the end", n)
		}
		if err := g.Shutdown(context.Background()); err != nil {
			t.Errorf("a second Shutdown: %v", err)
		}
	})
}

func TestProbe(t *testing.T) {
	info := Probe()
	if info.Engine == "uring" {
		have := map[string]bool{}
		for _, f := range info.Features {
			have[f.Name] = f.Have
			if f.Kernel == "" {
				t.Errorf("feature %q does not say which kernel has it", f.Name)
			}
		}
		if len(have) < 5 {
			t.Errorf("features %v", info.Features)
		}
	}
	if info.Engine == "" || info.Reason == "" || info.NoFile == 0 {
		t.Errorf("%+v", info)
	}
}

// TestGroupOnLoop calls on a loop what waits for all loops: it does not hang, and
// what was asked for happens.
func TestGroupOnLoop(t *testing.T) {
	for name, end := range map[string]func(g *Group) error{
		"Close":    (*Group).Close,
		"Shutdown": func(g *Group) error { return g.Shutdown(context.Background()) },
	} {
		onEngines(t, 2, func(t *testing.T, g *Group) {
			told := make(chan error, 1)
			g.Loop(1).Post(func(l *Loop) {
				if s := g.Stats(); len(s) != 1 || s[0].Loop != 1 || s[0].Turns == 0 {
					t.Errorf("Stats on loop 1: %+v", s)
				}
				told <- end(g)
			})
			if err := <-told; err != ErrOnLoop {
				t.Errorf("%s: %v", name, err)
			}
			<-g.Done()
			if err := end(g); err != nil {
				t.Errorf("%s from elsewhere: %v", name, err)
			}
		})
	}
}
