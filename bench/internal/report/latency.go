package report

import (
	"math"
	"slices"
	"strings"

	"github.com/HdrHistogram/hdrhistogram-go"

	"github.com/penstock-go/penstock/bench/internal/load"
	"github.com/penstock-go/penstock/bench/internal/stats"
)

// history is the latencies of an open loop by round.
type history map[int]*hdrhistogram.Histogram

// history reads those of a subject. Older raw figures have no histograms.
func (r *Report) history(scenario, subject string) history {
	all := history{}
	for i := range r.Runs {
		x := &r.Runs[i]
		if x.Scenario != scenario || x.Subject != subject || x.Result == nil || x.Result.Latency.All == "" {
			continue
		}
		if h, err := x.Result.Latency.Decode(); err == nil {
			all[x.Round] = h
		}
	}
	return all
}

// at returns the latency at a percentile of all messages of all rounds but one, in ns.
func (h history) at(percent float64, without int) float64 {
	sum := load.NewHistogram()
	for round, one := range h {
		if round != without {
			sum.Merge(one)
		}
	}
	return float64(sum.ValueAtQuantile(percent))
}

// allRounds leaves none out.
const allRounds = -1

// quantiles returns what looks up the latency of an open loop at a percentile, in ns: of
// all messages of all rounds. In older raw figures, which have no histograms, it is the
// median of the rounds.
func (r *Report) quantiles(scenario, subject string) func(percent float64) float64 {
	if h := r.history(scenario, subject); len(h) > 0 {
		return func(percent float64) float64 { return h.at(percent, allRounds) }
	}
	at := load.Quantiles()
	return func(percent float64) float64 {
		v, _ := r.median(scenario, "", subject, func(x *Run) float64 {
			if i := slices.Index(at, percent); i >= 0 && i < len(x.Result.Latency.Curve) {
				return float64(x.Result.Latency.Curve[i])
			}
			return 0
		})
		return v
	}
}

// pooledRatio is one shown percentile by another. The median of pairs has no place for a
// stall that comes in one round of five; here it counts by the messages that it delayed.
// The spread holds what any number of rounds would come to but for about one case in
// twenty, by how much the ratio changes when each round is left out in turn (the jackknife,
// of its logarithm): where one round makes the figure, it is wide.
func pooledRatio(a, b history, percent float64) stats.Ratio {
	var ratio stats.Ratio
	var all []float64
	for round := range a {
		if _, ok := b[round]; ok && len(a) > 1 && len(b) > 1 {
			all = append(all, math.Log(a.at(percent, round)/b.at(percent, round)))
		}
	}
	n := float64(len(all))
	if n == 0 {
		return ratio
	}
	mean, squares := 0.0, 0.0
	for _, x := range all {
		mean += x / n
	}
	for _, x := range all {
		squares += (x - mean) * (x - mean)
	}
	off := math.Exp(student(len(all)) * math.Sqrt(squares*(n-1)/n))
	ratio.Median, ratio.Pairs = a.at(percent, allRounds)/b.at(percent, allRounds), len(all)
	ratio.Low, ratio.High = ratio.Median/off, ratio.Median*off
	if len(all) == 1 {
		ratio.Low, ratio.High = 0, math.Inf(1)
	}
	return ratio
}

// student returns how many standard errors of n rounds hold all but one case in twenty
// (Student's t).
func student(n int) float64 {
	few := [...]float64{12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23}
	if n-2 < len(few) {
		return few[max(0, n-2)]
	}
	return 1.96 + 2.7/float64(n-1)
}

// pooledNoise is what the A/A pair shows in the same way.
func (r *Report) pooledNoise(scenario string, percent float64) float64 {
	for _, s := range r.Subjects {
		if s.Again != "" {
			if same := pooledRatio(r.history(scenario, s.Name), r.history(scenario, s.Again), percent); same.Pairs > 0 {
				return stats.Noise(same)
			}
		}
	}
	return math.Inf(1)
}

// latencyGoals compares what the table of the open loops shows.
func (r *Report) latencyGoals() []Goal {
	const row = "open-50"
	var all []Goal
	own := r.history(row, "uring")
	for _, f := range []struct {
		name    string
		percent float64
	}{{"p50", 50}, {"p99", 99}, {"p99.9", 99.9}} {
		g := Goal{Row: row, What: "uring: " + f.name + " at half load against gnet", Limit: latencyOfGnet, Verdict: Open}
		gnet, peer := r.quickest(row, "gnet", f.percent)
		if peer == nil {
			g.Note = "needs -compare, and that peer"
			all = append(all, g)
			continue
		}
		g.What += " (" + gnet + ")"
		all = append(all, g.judge(pooledRatio(own, peer, f.percent), r.pooledNoise(row, f.percent)))
	}
	return all
}

// quickest returns the subject of a family with the least latency at a percentile.
func (r *Report) quickest(scenario, family string, percent float64) (name string, rounds history) {
	least := math.Inf(1)
	for _, s := range r.subjects() {
		if s.Own || s.Name != family && !strings.HasPrefix(s.Name, family+"-") {
			continue
		}
		if h := r.history(scenario, s.Name); len(h) > 0 {
			if v := h.at(percent, allRounds); v < least {
				name, rounds, least = s.Name, h, v
			}
		}
	}
	return name, rounds
}
