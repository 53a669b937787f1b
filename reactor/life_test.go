package reactor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/internal/testutil"
)

// diary is what hooks write, from any loop.
type diary struct {
	mu    sync.Mutex
	lines []string
}

func (d *diary) add(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *diary) of(loop int) (lines []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, line := range d.lines {
		if rest, ok := strings.CutPrefix(line, fmt.Sprint(loop, " ")); ok {
			lines = append(lines, rest)
		}
	}
	return lines
}

// hooked is a configuration whose hooks write into d.
func hooked(d *diary, kind EngineKind, loops int) Config {
	return Config{
		Loops: loops, Engine: kind, Logger: slog.New(slog.DiscardHandler),
		OnStart: func(l *Loop) error { d.add("%d start", l.ID()); return nil },
		OnStop:  func(l *Loop) { d.add("%d stop", l.ID()) },
		OnEnd:   func(l *Loop) { d.add("%d end", l.ID()) },
	}
}

// TestHooksRunOnceInOrder: OnStart, what the loop does, OnStop before its parties
// hear of the end, OnEnd behind the last of them.
func TestHooksRunOnceInOrder(t *testing.T) {
	for _, kind := range []EngineKind{Uring, Epoll} {
		t.Run(kind.String(), func(t *testing.T) {
			d := &diary{}
			g, err := Start(hooked(d, kind, 3))
			if err != nil {
				if kind == Uring {
					testutil.SkipIfKernelOlder(t, "6.1", "io_uring", err)
				}
				t.Fatal(err)
			}
			if !slices.Equal(d.lines, []string{"0 start", "1 start", "2 start"}) {
				t.Errorf("at the start: %q", d.lines)
			}
			for i := range 3 {
				g.Loop(i).Post(func(l *Loop) {
					d.add("%d post", i)
					s := &sink{}
					token := l.Attach(s)
					s.detach = func() {
						d.add("%d asked", i)
						if s.stops == 1 {
							l.AfterFunc(time.Millisecond, s, func() {
								d.add("%d closed", i)
								l.Detach(token)
							})
						}
					}
				})
			}
			if err := g.Shutdown(context.Background()); err != nil {
				t.Error(err)
			}
			if err := g.Close(); err != nil { // Asked again, the hooks stay silent.
				t.Error(err)
			}
			for i := range 3 {
				if got, want := d.of(i), []string{"start", "post", "stop", "asked", "closed", "end"}; !slices.Equal(got, want) {
					t.Errorf("loop %d: %q, want %q", i, got, want)
				}
			}
		})
	}
}

// TestForceIsNoSecondStop: OnStop does not hear of the force behind a request.
func TestForceIsNoSecondStop(t *testing.T) {
	d := &diary{}
	g, err := Start(hooked(d, Epoll, 1))
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	g.Loop(0).Post(func(l *Loop) {
		s := &sink{}
		token := l.Attach(s)
		s.detach = func() {
			if s.stops == 2 {
				l.Detach(token)
			}
		}
		close(done)
	})
	<-done
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := g.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown = %v", err)
	}
	if got := d.of(0); !slices.Equal(got, []string{"start", "stop", "end"}) {
		t.Errorf("%q", got)
	}
}

// TestOnStartCanUseTheLoop: a timer, deferred work and a post of it run.
func TestOnStartCanUseTheLoop(t *testing.T) {
	fired := make(chan string, 3)
	cfg := Config{Loops: 1, Engine: Epoll, Logger: slog.New(slog.DiscardHandler), OnStart: func(l *Loop) error {
		l.Every(time.Millisecond, nil, func() {
			select {
			case fired <- "tick":
			default:
			}
		})
		l.Defer(func() { fired <- "deferred" })
		if !l.Post(func(p *Loop) { fired <- fmt.Sprint("posted on ", p == l) }) {
			t.Error("a loop that starts takes no post")
		}
		return nil
	}}
	g, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for deadline := time.After(testutil.Timeout(10 * time.Second)); len(seen) < 3; {
		select {
		case what := <-fired:
			seen[what] = true
		case <-deadline:
			t.Fatalf("only %v", seen)
		}
	}
	if !seen["posted on true"] {
		t.Errorf("%v", seen)
	}
	if err := g.Close(); err != nil { // A periodic timer does not keep it alive.
		t.Error(err)
	}
}

// TestOnStartEndsStart has one of three loops fail in every way it can: Start says
// so, the loops that ran get their hooks, the others none, and nothing is left,
// which TestMain sees to.
func TestOnStartEndsStart(t *testing.T) {
	refused := errors.New("no licence")
	for name, c := range map[string]struct {
		fail func() error
		want error
		text string
	}{
		"error":  {func() error { return refused }, refused, "loop 1: reactor: OnStart: no licence"},
		"panic":  {func() error { panic("broken") }, nil, "OnStart panicked"},
		"goexit": {func() error { runtime.Goexit(); return nil }, errGoexit, "Goexit"},
	} {
		for _, kind := range []EngineKind{Uring, Epoll} {
			t.Run(name+"/"+kind.String(), func(t *testing.T) {
				d := &diary{}
				cfg := hooked(d, kind, 3)
				stops := 0
				cfg.OnStart = func(l *Loop) error {
					d.add("%d start", l.ID())
					if l.ID() == 1 {
						s := &sink{}
						token := l.Attach(s) // A connection that it has opened is ended.
						s.detach = func() { stops++; l.Detach(token) }
						l.Every(time.Hour, nil, func() {})
						return c.fail()
					}
					return nil
				}
				g, err := Start(cfg)
				if g != nil || err == nil {
					t.Fatalf("Start = %v, %v", g, err)
				}
				if kind == Uring && !strings.Contains(err.Error(), c.text) {
					testutil.SkipIfKernelOlder(t, "6.1", "io_uring", err)
				}
				if c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.text) {
					t.Errorf("Start = %v, want %q", err, c.text)
				}
				for i, want := range [][]string{{"start", "stop", "end"}, {"start"}, nil} {
					if got := d.of(i); !slices.Equal(got, want) {
						t.Errorf("loop %d: %q, want %q", i, got, want)
					}
				}
				if stops != 1 {
					t.Errorf("what OnStart had opened was ended %d times", stops)
				}
			})
		}
	}
}

// TestHooksPanic: the loops end as ever, and every party is asked to.
func TestHooksPanic(t *testing.T) {
	for name, end := range map[string]func(){"panic": func() { panic("in a hook") }, "goexit": runtime.Goexit} {
		d := &diary{}
		cfg := hooked(d, Epoll, 2)
		cfg.OnStop = func(l *Loop) { d.add("%d stop", l.ID()); panic("in OnStop") }
		cfg.OnEnd = func(l *Loop) { d.add("%d end", l.ID()); end() }
		g, err := Start(cfg)
		if err != nil {
			t.Fatal(err)
		}
		asked := make(chan struct{}, 4)
		for i := range 2 {
			g.Loop(i).Post(func(l *Loop) {
				for _, panics := range []bool{true, false} {
					s := &sink{}
					token := l.Attach(s)
					s.detach = func() {
						asked <- struct{}{}
						l.Detach(token)
						if panics {
							panic("in Stop")
						}
					}
				}
			})
		}
		if err := g.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(asked) != 4 {
			t.Errorf("%s: %d of 4 parties were asked to end behind panics", name, len(asked))
		}
		for i := range 2 {
			if got := d.of(i); !slices.Equal(got, []string{"start", "stop", "end"}) {
				t.Errorf("%s: loop %d: %q", name, i, got)
			}
		}
	}
}

// TestFailedLoopEnds: a loop whose engine fails has OnEnd and no OnStop; the others
// have both.
func TestFailedLoopEnds(t *testing.T) {
	d := &diary{}
	cfg := hooked(d, Auto, 2)
	opened := 0
	var broken *failing
	cfg.NewEngine = func(small, bulk *buf.Pool) (aio.Engine, error) {
		e, err := openEpoll(small, bulk)
		if opened++; opened == 1 && err == nil {
			broken = &failing{Engine: e}
			return broken, nil
		}
		return e, err
	}
	g, err := Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	g.Loop(0).Post(func(*Loop) { broken.fails = true })
	<-g.Done()
	if err := g.Close(); !errors.Is(err, errBroken) {
		t.Errorf("Close = %v", err)
	}
	if got := d.of(0); !slices.Equal(got, []string{"start", "end"}) {
		t.Errorf("the loop that failed: %q", got)
	}
	if got := d.of(1); !slices.Equal(got, []string{"start", "stop", "end"}) {
		t.Errorf("the other one: %q", got)
	}
}

var errBroken = errors.New("out of order")

// failing is an engine that fails on demand.
type failing struct {
	aio.Engine
	fails bool
}

func (f *failing) Wait(done []aio.Completion, d time.Duration) (int, error) {
	if f.fails {
		return 0, errBroken
	}
	return f.Engine.Wait(done, d)
}

// TestPostOrder: Post on the loop stands behind what others have posted, and is
// nobody's; Defer is the party's own.
func TestPostOrder(t *testing.T) {
	l, _ := handLoop(t)
	party := &sink{}
	var got []string
	l.Remote().Post(func(l *Loop) {
		l.As(party)
		l.Post(func(*Loop) { got = append(got, "posted"); panic("for nobody") })
		l.Post(func(*Loop) { got = append(got, "posted too") })
		l.Defer(func() { got = append(got, "deferred"); panic("for the party") })
	})
	l.Remote().Post(func(*Loop) { got = append(got, "behind") })
	turnUntil(t, l, "all", func() bool { return len(got) == 4 })
	if want := []string{"behind", "deferred", "posted", "posted too"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if party.panics != 1 {
		t.Errorf("the party heard of %d panics, want that of its own", party.panics)
	}
}
