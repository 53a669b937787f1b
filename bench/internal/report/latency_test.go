package report

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/bench/internal/load"
)

// latencies is a round of an open loop with these percentiles, in ns.
func latencies(p50, p99, p999 float64) load.Latency {
	h := load.NewHistogram()
	for i := range 1000 {
		switch {
		case i < 985:
			load.Record(h, int64(p50))
		case i < 997:
			load.Record(h, int64(p99))
		default:
			load.Record(h, int64(p999))
		}
	}
	l := load.Summarize(h)
	l.All, _ = load.Encode(h) // What cannot be encoded is missed below.
	return l
}

// stalled is a fixture in which one subject stood still in one of five rounds, for so
// long that 5 % of its messages there waited.
func stalled(subject string) *Report {
	r := fixture(costs{"gnet-1": 1.2})
	for i := range r.Runs {
		run := &r.Runs[i]
		if run.Scenario == "open-50" && run.Subject == subject && run.Round == 3 {
			run.Result.Latency = latencies(50_000, 90_000_000, 90_000_000)
		}
	}
	return r
}

// TestQuantiles sees a stall that was in one of five rounds, which no median of rounds has.
func TestQuantiles(t *testing.T) {
	r := stalled("uring")
	of := r.quantiles("open-50", "uring")
	if of(50) > 60_000 || of(99.9) < 80_000_000 {
		t.Errorf("p50 %v, p99.9 %v", of(50), of(99.9))
	}
	if v, _ := r.median("open-50", "", "uring", p999); v > 100_000 {
		t.Errorf("the median of the rounds is %v: nothing is tested", v)
	}
	for i := range r.Runs {
		r.Runs[i].Result.Latency.All = ""
	}
	if old := r.quantiles("open-75", "uring"); old(99.9) == 0 {
		t.Error("raw figures without histograms have no latencies")
	}
	if g := goal(t, r, "open-50", "uring: p50"); g.Verdict != Open {
		t.Errorf("%+v", g)
	}
}

// TestLatencyGoals has a goal's figure be the quotient of two that the table shows, and
// one that a single round decides be not resolved, whoever stalled.
func TestLatencyGoals(t *testing.T) {
	for _, tc := range []struct {
		stalls  string
		verdict Verdict
		note    string
	}{
		{"uring", Short, "not resolved"},
		{"gnet-1", Pass, "by less than its own spread"},
		{"uring again", Pass, "by less than the spread of the A/A pair"},
	} {
		r := stalled(tc.stalls)
		g := goal(t, r, "open-50", "uring: p99.9")
		shown := r.quantiles("open-50", "uring")(99.9) / r.quantiles("open-50", "gnet-1")(99.9)
		if g.Value != shown || g.Verdict != tc.verdict || g.Close != (tc.note != "") || !strings.Contains(g.Note, tc.note) {
			t.Errorf("%s stalls: %+v, and the table shows %v", tc.stalls, g, shown)
		}
	}
	if g := goal(t, fixture(costs{}), "open-50", "uring: p99.9"); g.Verdict != Open || g.Note == "" {
		t.Errorf("without gnet: %+v", g)
	}
}

// TestPooledSpread compares what is the same, on a machine whose rounds differ: the spread
// holds 1 in all but few cases, with few rounds and with many.
func TestPooledSpread(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	rounds := func(n int) history {
		h := history{}
		for round := range n {
			one, speed := load.NewHistogram(), 1+0.15*rng.NormFloat64()
			for range 1000 {
				_ = one.RecordValue(int64(10_000 * speed * (1 + rng.ExpFloat64())))
			}
			h[round] = one
		}
		return h
	}
	for _, n := range []int{5, 12} {
		missed := 0
		const times = 200
		for range times {
			if r := pooledRatio(rounds(n), rounds(n), 99); !r.Holds(1) {
				missed++
			}
		}
		if missed > times/8 {
			t.Errorf("with %d rounds 1 was outside of the spread %d times of %d", n, missed, times)
		}
	}
}
