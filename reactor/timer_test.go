package reactor

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// TestWheelAgainstModel adds, stops and resets timers at random and compares
// what fires, and when, with a list that is searched.
func TestWheelAgainstModel(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var w wheel
		due := map[*Timer]int64{}
		var timers []*Timer
		now := int64(0)
		for range 400 {
			switch rng.IntN(4) {
			case 0, 1:
				tm := &Timer{when: now + 1 + rng.Int64N(1<<(1+rng.IntN(40)))}
				w.add(tm)
				due[tm] = tm.when
				timers = append(timers, tm)
			case 2:
				if len(timers) > 0 {
					if tm := timers[rng.IntN(len(timers))]; tm.in != nil {
						w.remove(tm)
						delete(due, tm)
					}
				}
			}
			at, ok := w.next()
			earliest := int64(-1)
			for _, d := range due {
				if earliest < 0 || d < earliest {
					earliest = d
				}
			}
			if earliest >= 0 && (!ok || at > earliest) {
				t.Fatalf("seed %d: next is %d (%v), a timer is due at %d", seed, at, ok, earliest)
			}
			now += rng.Int64N(1 << (1 + rng.IntN(20)))
			if rng.IntN(3) == 0 && ok {
				now = max(w.now, at)
			}
			w.advance(now)
			last := int64(0)
			for tm := w.pop(); tm != nil; tm = w.pop() {
				d, known := due[tm]
				if !known || d > now || d < last {
					t.Fatalf("seed %d: at %d a timer fired that is due at %d (known: %v, the last one %d)", seed, now, d, known, last)
				}
				last = d
				delete(due, tm)
			}
			for _, d := range due {
				if d <= now {
					t.Fatalf("seed %d: a timer due at %d did not fire by %d", seed, d, now)
				}
			}
			if w.armed != len(due) {
				t.Fatalf("seed %d: %d armed, want %d", seed, w.armed, len(due))
			}
		}
	}
}

func TestTimersOfOneTickKeepTheirOrder(t *testing.T) {
	l, _ := handLoop(t)
	var got []int
	for i := range 10 {
		l.AfterFunc(5*time.Millisecond, nil, func() { got = append(got, i) })
	}
	turnUntil(t, l, "timers", func() bool { return len(got) == 10 })
	if !slices.IsSorted(got) {
		t.Errorf("order %v", got)
	}
}

func TestTimerStopAndReset(t *testing.T) {
	l, _ := handLoop(t)
	fired := map[string]int{}
	a := l.AfterFunc(time.Millisecond, nil, func() { fired["a"]++ })
	if !a.Stop() || a.Stop() {
		t.Error("Stop does not say whether the timer was armed")
	}
	b := l.AfterFunc(time.Hour, nil, func() { fired["b"]++ })
	b.Reset(time.Millisecond)
	var c *Timer
	c = l.AfterFunc(time.Millisecond, nil, func() {
		if fired["c"]++; fired["c"] < 3 {
			c.Reset(0) // Inside its own function.
		}
	})
	d := l.AfterFunc(2*time.Millisecond, nil, func() { fired["d"]++ })
	l.AfterFunc(2*time.Millisecond, nil, func() { d.Stop() })
	turnUntil(t, l, "timers", func() bool { return l.wheel.armed == 0 })
	if fired["a"] != 0 || fired["b"] != 1 || fired["c"] != 3 {
		t.Errorf("fired %v", fired)
	}
}

func TestTimersCost(t *testing.T) {
	l, _ := handLoop(t)
	tm := l.AfterFunc(time.Hour, nil, func() {})
	if n := testing.AllocsPerRun(1000, func() { tm.Reset(time.Hour) }); n != 0 {
		t.Errorf("Reset allocates %v times", n)
	}
}

func BenchmarkTimerReset(b *testing.B) {
	l, _ := handLoop(b)
	timers := make([]*Timer, 1<<20)
	for i := range timers {
		timers[i] = l.AfterFunc(time.Duration(i)*time.Millisecond+time.Minute, nil, func() {})
	}
	for i := 0; b.Loop(); i++ {
		timers[i%len(timers)].Reset(time.Duration(i%100000) * time.Millisecond)
	}
}
