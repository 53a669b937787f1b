package reactor

import (
	"log/slog"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio"
)

// busy is an engine to which something comes in each Wait, until what an earlier one
// was given is over: then one without end ends with none.
type busy struct {
	aio.Engine
	now   time.Duration
	looks int // at the clock
	given time.Duration
	waits []time.Duration
}

func (b *busy) clock() time.Duration { b.looks++; return b.now }

func (b *busy) Caps() aio.Caps { return aio.Caps{} }

func (b *busy) Wait(done []aio.Completion, d time.Duration) (int, error) {
	b.waits = append(b.waits, d)
	b.now += time.Microsecond
	if d > 0 {
		b.given = b.now + d
	} else if d < 0 && b.given > 0 && b.now >= b.given {
		b.given = 0
		return 0, nil
	}
	done[0] = aio.Completion{Token: aio.Token{Slot: 7, Gen: 7}, Kind: aio.Recv, First: true}
	return 1, nil
}

func busyLoop(t *testing.T) (*Loop, *busy) {
	t.Helper()
	l, _ := handLoop(t)
	b := &busy{}
	return NewLoop(LoopConfig{Engine: b, Small: l.small, Bulk: l.bulk, Logger: slog.New(slog.DiscardHandler), Clock: b.clock}), b
}

// turn turns l n times, as a loop that is served.
func turn(t *testing.T, l *Loop, n int) {
	t.Helper()
	for range n {
		if err := l.Turn(-1); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNoLookAtTheClock: while the engine has been told when the next timer is due,
// turns do not ask what time it is; timers run in time all the same, also one that
// is armed meanwhile and is due before.
func TestNoLookAtTheClock(t *testing.T) {
	l, b := busyLoop(t)
	ran := map[string]time.Duration{}
	l.AfterFunc(time.Hour, nil, func() { ran["late"] = b.now })
	turn(t, l, 3)
	b.looks, b.waits = 0, nil
	turn(t, l, 1000)
	if b.looks > 0 {
		t.Errorf("1000 turns looked at the clock %d times", b.looks)
	}
	for _, d := range b.waits {
		if d >= 0 {
			t.Fatalf("a wait was given %v, though the engine knew", d)
		}
	}
	l.nowValid = false
	due := l.Now() + time.Second
	l.AfterFunc(time.Second, nil, func() { ran["early"] = b.now })
	turn(t, l, 3)
	b.now = due + 2*time.Millisecond
	turn(t, l, 3)
	if at, ok := ran["early"]; !ok || at > due+time.Second {
		t.Errorf("a timer due at %v ran at %v (%v)", due, at, ok)
	}
	b.now = time.Hour + time.Millisecond
	for turns := 0; ran["late"] == 0; turns++ {
		if turns > 10 {
			t.Fatal("the engine ended a wait, and the timer did not run")
		}
		turn(t, l, 1)
	}
}

// TestTimersOfALoopThatDoesNotWait: where work is left for the next turn the engine
// never ends a wait with none, so the loop looks itself.
func TestTimersOfALoopThatDoesNotWait(t *testing.T) {
	l, b := busyLoop(t)
	ran := false
	l.AfterFunc(time.Second, nil, func() { ran = true })
	turn(t, l, 3)
	var again func()
	again = func() { l.Defer(again) }
	l.Defer(again)
	turn(t, l, 3)
	b.now += time.Second + time.Millisecond
	if turn(t, l, 3); !ran {
		t.Error("a timer that is due did not run beside deferred work")
	}
}

// TestTimerDueBeforeTheWait: a timer whose time has come while handlers ran is for no
// wait to tell of.
func TestTimerDueBeforeTheWait(t *testing.T) {
	l, b := busyLoop(t)
	ran := 0
	for i := range 3 {
		l.AfterFunc(time.Second, nil, func() { ran++ })
		b.now += time.Second + time.Millisecond
		if turn(t, l, 2); ran != i+1 {
			t.Fatalf("%d timers are due, and %d ran", i+1, ran)
		}
	}
	l.AfterFunc(time.Second, nil, func() { ran++ })
	turn(t, l, 3)
	if b.now += time.Second + time.Millisecond; b.given == 0 {
		t.Error("the engine was not told of the next timer")
	}
	if turn(t, l, 3); ran != 4 {
		t.Error("the next timer did not run")
	}
}
