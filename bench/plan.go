package main

import (
	"math"
	"time"

	"github.com/penstock-go/penstock/bench/internal/scenario"
)

const (
	leastWindow = 100 * time.Millisecond
	mostWindow  = 2 * time.Second
	leastWarm   = 50 * time.Millisecond
	mostWarm    = 500 * time.Millisecond
	smokeWindow = 60 * time.Millisecond
	smokeWarm   = 20 * time.Millisecond
)

// plan is how long and how often everything runs.
type plan struct {
	rounds       int
	warm, window time.Duration
	steps        int // measurements in all
	total        time.Duration
	spare        time.Duration // beyond it, for measurements that others disturbed
}

// fewRounds is below how many pairs nothing can be resolved, and tailRounds the same for
// a tail beside slow readers, which a moment of the host's moves.
const (
	fewRounds  = 3
	tailRounds = 6
)

// of returns how often a scenario is run. One whose figures are compared is not
// run so seldom that they could not be, unless all are.
func (p plan) of(s scenario.Scenario) int {
	n := max(1, int(math.Round(float64(p.rounds)*s.Rounds)))
	switch s.Kind {
	case scenario.Latency:
		n = max(n, min(p.rounds, fewRounds))
	case scenario.Slow:
		n = max(n, min(p.rounds, tailRounds))
	}
	return n
}

// overhead is about what a measurement takes besides its window: to start and
// end the processes, to connect, and what a scenario waits for.
func overhead(s scenario.Scenario) time.Duration {
	switch s.Kind {
	case scenario.Memory:
		return 1500 * time.Millisecond
	case scenario.Slow:
		return 1200 * time.Millisecond
	}
	return 80 * time.Millisecond
}

// windows says whether a measurement takes a window of time.
func windows(s scenario.Scenario) bool { return s.Kind != scenario.Memory }

// warmUp is a third of the window: who compiles what is hot, or has yet to see the first
// collection, is measured when that is over, as far as there is time.
func warmUp(window time.Duration) time.Duration {
	return min(max(window/3, leastWarm), mostWarm)
}

// newPlan fits the scenarios into a time. subjects is how many run each. When
// the time is short there are fewer rounds, down to three, and then it is longer.
func newPlan(list []scenario.Scenario, subjects func(scenario.Scenario) int, budget time.Duration, rounds int) plan {
	for p := (plan{rounds: rounds}); ; p.rounds-- {
		fixed, measured := time.Duration(0), 0
		p.steps = 0
		for _, s := range list {
			n := p.of(s) * len(s.Variants) * subjects(s)
			p.steps += n
			fixed += time.Duration(n) * overhead(s)
			if windows(s) {
				measured += n
			}
		}
		p.window = leastWindow
		if measured > 0 {
			p.window = (budget - fixed) / time.Duration(measured) * 3 / 4
		}
		if p.window < leastWindow && p.rounds > fewRounds {
			continue
		}
		p.window = min(max(p.window, leastWindow), mostWindow)
		p.warm = warmUp(p.window)
		p.total = fixed + time.Duration(measured)*(p.warm+p.window)
		p.spare = p.total / 6
		return p
	}
}
