package reactor

import (
	"math"
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
			at := w.next()
			earliest := int64(-1)
			for _, d := range due {
				if earliest < 0 || d < earliest {
					earliest = d
				}
			}
			if earliest >= 0 && (w.armed == 0 || at > earliest) {
				t.Fatalf("seed %d: next is %d of %d armed, a timer is due at %d", seed, at, w.armed, earliest)
			}
			now += rng.Int64N(1 << (1 + rng.IntN(20)))
			if rng.IntN(3) == 0 && w.armed > 0 {
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

// TestOrderOfOneTick holds that order for timers that were armed at different times,
// and so in slots of different width.
func TestOrderOfOneTick(t *testing.T) {
	for seed := range uint64(100) {
		rng := rand.New(rand.NewPCG(seed, 0))
		var w wheel
		armed := map[*Timer]int{}
		when := []int64{70, 4096, 5000, 5000 + wheelReach}[seed%4]
		for now := int64(0); now < when; now += 1 + rng.Int64N(1+(when-now)/4) {
			w.advance(now)
			for range rng.IntN(3) {
				tm := &Timer{when: when}
				w.add(tm)
				armed[tm] = len(armed)
			}
		}
		w.advance(when)
		for i := range len(armed) {
			if tm := w.pop(); tm == nil || armed[tm] != i {
				t.Fatalf("seed %d: timer %d of %d, due at %d, ran as number %d", seed, armed[tm], len(armed), when, i)
			}
		}
	}
}

// TestFarTimers holds that a time beyond all reckoning is far, and not past.
func TestFarTimers(t *testing.T) {
	l, _ := handLoop(t)
	for _, d := range []time.Duration{math.MaxInt64, math.MaxInt64 - 1, math.MaxInt64 - time.Second} {
		l.AfterFunc(d, nil, func() { t.Errorf("AfterFunc(%v) has run", d) })
		l.Every(d, nil, func() { t.Errorf("Every(%v) has run", d) })
	}
	near := false
	l.AfterFunc(5*time.Millisecond, nil, func() { near = true })
	turnUntil(t, l, "a near timer", func() bool { return near })
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

// TestTimerStopsInside: Stop inside the function, twice, and of others that are due
// in the same turn.
func TestTimerStopsInside(t *testing.T) {
	l, _ := handLoop(t)
	runs := 0
	var once, again, other *Timer
	once = l.AfterFunc(time.Millisecond, nil, func() {
		runs++
		for range 2 {
			if once.Stop() || once.Armed() {
				t.Error("a timer that runs for the only time was still to run")
			}
		}
	})
	again = l.Every(time.Millisecond, nil, func() {
		runs++
		if !again.Armed() || !again.Stop() || again.Stop() || again.Armed() {
			t.Error("Stop inside a periodic timer does not say that it was armed, or says it twice")
		}
		if !other.Stop() || other.Stop() {
			t.Error("a timer that is due in this turn was not armed, or is still")
		}
	})
	other = l.AfterFunc(time.Millisecond, nil, func() { t.Error("a stopped timer ran") })
	turnUntil(t, l, "timers", func() bool { return l.wheel.armed == 0 })
	if runs != 2 {
		t.Errorf("%d runs, want 2", runs)
	}
}

// TestEvery turns a loop whose clock the test moves. Late, a periodic timer runs
// once and keeps to its grid: workerman 2.7, where one delay shifts all later ticks.
func TestEvery(t *testing.T) {
	l, _ := handLoop(t)
	now := time.Duration(0)
	l.clock = func() time.Duration { return now }
	var at []time.Duration
	tm := l.Every(10*time.Millisecond+300*time.Microsecond, nil, func() { at = append(at, now) })
	until := func(end time.Duration) {
		for now < end {
			now = min(end, now+time.Millisecond)
			if err := l.Turn(0); err != nil {
				t.Fatal(err)
			}
		}
	}
	ms := func(list ...int) (times []time.Duration) {
		for _, n := range list {
			times = append(times, time.Duration(n)*time.Millisecond)
		}
		return times
	}
	until(63 * time.Millisecond)
	if want := ms(11, 21, 31, 42, 52, 62); !slices.Equal(at, want) {
		t.Errorf("ran at %v, want %v", at, want)
	}
	at = nil
	now = 99*time.Millisecond - time.Millisecond // Four are missed, the last one was due at 92.7 ms. A turn hears what has come.
	until(125 * time.Millisecond)
	if want := ms(100, 103, 114, 124); !slices.Equal(at, want) {
		t.Errorf("after a delay it ran at %v, want %v", at, want)
	}
	at = nil
	tm.Reset(2 * time.Millisecond)
	until(140 * time.Millisecond)
	if want := ms(127, 138); !slices.Equal(at, want) {
		t.Errorf("after Reset it ran at %v, want %v", at, want)
	}
	at = nil
	if !tm.Stop() || tm.Stop() || tm.Armed() {
		t.Error("Stop does not say whether the timer was armed")
	}
	if until(200 * time.Millisecond); at != nil {
		t.Errorf("a stopped timer ran at %v", at)
	}
}

// TestEveryInside resets, stops and panics inside the function.
func TestEveryInside(t *testing.T) {
	l, _ := handLoop(t)
	var a, b *Timer
	runs := [3]int{}
	a = l.Every(time.Millisecond, nil, func() {
		if runs[0]++; runs[0] == 3 {
			a.Stop()
			a.Reset(5 * time.Millisecond)
		}
		if runs[0] == 6 {
			a.Reset(time.Millisecond)
			a.Stop()
		}
	})
	owner := &sink{}
	b = l.Every(time.Microsecond, owner, func() { // A millisecond, really.
		if runs[1]++; runs[1] == 4 {
			panic("the fourth time")
		}
	})
	c := l.Every(-1, nil, func() { runs[2]++ })
	turnUntil(t, l, "the end of two", func() bool { return !a.Armed() && !b.Armed() && runs[2] == 20 })
	c.Stop()
	if runs[0] != 6 || runs[1] != 4 || owner.panics != 1 {
		t.Errorf("%d runs, want 6 and 4; the owner heard of %d panics", runs, owner.panics)
	}
	if b.Stop() || l.wheel.armed != 0 {
		t.Errorf("a timer whose function has panicked is armed; %d are", l.wheel.armed)
	}
}

// TestMillionTimers has a million, due at random, of which a third is stopped and a
// third is reset; what is due runs, once, in order, and others have their turns
// while ten thousand run that are due at once.
func TestMillionTimers(t *testing.T) {
	l, _ := handLoop(t)
	n := 1_000_000
	if testing.Short() { // The race detector takes ten times as long.
		n = 100_000
	}
	rng := rand.New(rand.NewPCG(1, 2))
	timers := make([]*Timer, n)
	ran, last := 0, int64(0)
	for i := range timers {
		timers[i] = l.AfterFunc(time.Duration(rng.IntN(3_600_000))*time.Millisecond, nil, func() {
			if ran++; timers[i].when < last {
				t.Errorf("timer %d of tick %d ran behind one of %d", i, timers[i].when, last)
			}
			last = timers[i].when
		})
	}
	if s := l.stats(); s.Timers != n {
		t.Errorf("%d armed", s.Timers)
	}
	want := n
	for i := range timers {
		switch i % 3 {
		case 0:
			timers[i].Stop()
			want--
		case 1:
			timers[i].Reset(time.Hour + time.Duration(i%60_000)*time.Millisecond)
		}
	}
	for l.wheel.armed > 0 {
		if err := l.Turn(time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	if ran != want {
		t.Errorf("%d ran, want %d", ran, want)
	}
	ran = 0
	for range 10_000 {
		l.AfterFunc(time.Millisecond, nil, func() { ran++ })
	}
	turnUntil(t, l, "the first of many", func() bool { return ran > 0 })
	if ran > expireMost {
		t.Errorf("%d timers ran in one turn, want at most %d", ran, expireMost)
	}
	turnUntil(t, l, "the rest", func() bool { return ran == 10_000 })
}

// million arms as many timers, spread over a minute.
func million(b *testing.B, l *Loop) []*Timer {
	b.Helper()
	timers := make([]*Timer, 1<<20)
	for i := range timers {
		timers[i] = l.AfterFunc(time.Minute+time.Duration(i*7919%60_000)*time.Millisecond, nil, func() {})
	}
	return timers
}

// BenchmarkTimerAdd arms and allocates a timer beside a million.
func BenchmarkTimerAdd(b *testing.B) {
	l, _ := handLoop(b)
	million(b, l)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		l.AfterFunc(time.Duration(i%60_000)*time.Millisecond, nil, func() {})
	}
}

// BenchmarkTimerStop stops one of a million and arms it again.
func BenchmarkTimerStop(b *testing.B) {
	l, _ := handLoop(b)
	timers := million(b, l)
	rng := rand.New(rand.NewPCG(1, 2))
	order := rng.Perm(len(timers))
	for i := 0; b.Loop(); i++ {
		timers[order[i%len(order)]].Stop()
		if i%len(order) == len(order)-1 {
			b.StopTimer()
			for _, t := range timers {
				t.Reset(time.Minute)
			}
			b.StartTimer()
		}
	}
}

// BenchmarkTimerExpire runs timers that are due, with what the wheel deals out before.
func BenchmarkTimerExpire(b *testing.B) {
	l, _ := handLoop(b)
	ran := 0
	fn := func() { ran++ }
	for b.Loop() {
		if l.wheel.armed == 0 {
			b.StopTimer()
			for i := range 1 << 20 {
				l.AfterFunc(time.Duration(i*7919%60_000)*time.Millisecond, nil, fn)
			}
			b.StartTimer()
		}
		for before := ran; ran == before; {
			if err := l.Turn(time.Hour); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(ran), "ns/timer")
}
