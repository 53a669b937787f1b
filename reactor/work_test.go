package reactor_test

import (
	"context"
	"errors"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// TestWork holds that works begin in order on so many goroutines at the most, that
// each done runs on the loop with how the work has ended, and that a work which
// ends its goroutine costs none.
func TestWork(t *testing.T) {
	g, err := reactor.Start(reactor.Config{Loops: 1, Workers: 1, Engine: reactor.Epoll})
	if err != nil {
		t.Fatal(err)
	}
	const works = 40
	var order []int // By one goroutine at a time.
	failures := make(chan string, works)
	g.Loop(0).Post(func(l *reactor.Loop) {
		for i := range works {
			l.Work(func() {
				order = append(order, i)
				switch {
				case i%3 == 1:
					panic(errors.New("boom"))
				case i%3 == 2:
					runtime.Goexit()
				}
			}, func(on *reactor.Loop, f *reactor.Failure) {
				if on != l || !reactor.OnLoop() {
					t.Error("done elsewhere")
				}
				if f == nil {
					failures <- ""
				} else {
					failures <- f.Error()
				}
			})
		}
	})
	for i := range works {
		want := []string{"", "work panicked: boom", "work called runtime.Goexit"}[i%3]
		if got := <-failures; got != want {
			t.Errorf("work %d ended with %q, want %q", i, got, want)
		}
	}
	for i, n := range order {
		if i != n {
			t.Fatalf("out of order: %v", order)
		}
	}
	if reactor.OnLoop() {
		t.Error("the test is on a loop")
	}
	if err := g.Close(); err != nil {
		t.Error(err)
	}
}

// TestShutdownWaitsForWork holds that Shutdown waits for work, as long as its
// context lets it, and Close does not.
func TestShutdownWaitsForWork(t *testing.T) {
	for _, how := range []string{"in time", "too late", "close"} {
		g, err := reactor.Start(reactor.Config{Loops: 1, Engine: reactor.Epoll})
		if err != nil {
			t.Fatal(err)
		}
		free, began := make(chan struct{}), make(chan struct{})
		var ended atomic.Bool
		g.Loop(0).Post(func(l *reactor.Loop) {
			l.Work(func() { close(began); <-free; ended.Store(true) }, func(*reactor.Loop, *reactor.Failure) {})
		})
		<-began
		ctx, cancel := context.WithTimeout(context.Background(), testutil.Timeout(20*time.Second))
		var want error
		switch how {
		case "in time":
			time.AfterFunc(20*time.Millisecond, func() { close(free) })
		case "too late":
			cancel()
			ctx, cancel = context.WithTimeout(context.Background(), 20*time.Millisecond)
			want = context.DeadlineExceeded
		}
		if how == "close" {
			err = g.Close()
		} else {
			err = g.Shutdown(ctx)
		}
		if cancel(); !errors.Is(err, want) || ended.Load() != (how == "in time") {
			t.Errorf("%s: %v, ended: %v", how, err, ended.Load())
		}
		if how != "in time" {
			close(free)
		}
		testutil.Eventually(t, 5*time.Second, "end", ended.Load)
	}
}

// TestFailedStartGivesUpWork: of the work that an OnStart has given before it fails, what
// has not begun never runs.
func TestFailedStartGivesUpWork(t *testing.T) {
	began, free, late := make(chan struct{}), make(chan struct{}), make(chan struct{})
	done := func(*reactor.Loop, *reactor.Failure) {}
	refused := errors.New("no licence")
	_, err := reactor.Start(reactor.Config{Loops: 1, Workers: 1, Engine: reactor.Epoll, OnStart: func(l *reactor.Loop) error {
		l.Work(func() { close(began); <-free }, done)
		l.Work(func() { close(late) }, done)
		<-began
		return refused
	}})
	if !errors.Is(err, refused) {
		t.Errorf("Start = %v", err)
	}
	close(free)
	select {
	case <-late:
		t.Error("work ran for a group that never was")
	case <-time.After(50 * time.Millisecond):
	}
}
