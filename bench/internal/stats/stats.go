// Package stats compares figures that were measured side by side.
//
// The machines of load tests change their speed from minute to minute, all
// programs alike. So what is compared is never two averages but pairs: two
// subjects in the same round, one after the other. The median of their ratios
// stands, with its spread; and a pair of twice the same subject, measured in
// the same way, says how small a difference means anything.
package stats

import (
	"math"
	"slices"
)

// Median returns the middle of the values, NaN of none.
func Median(values []float64) float64 {
	v := slices.Sorted(slices.Values(values))
	n := len(v)
	switch {
	case n == 0:
		return math.NaN()
	case n%2 == 1:
		return v[n/2]
	}
	return (v[n/2-1] + v[n/2]) / 2
}

// Ratio is one subject in relation to another.
type Ratio struct {
	Median float64 `json:"median"`
	Low    float64 `json:"low"` // to High: the spread, see cutOf
	High   float64 `json:"high"`
	Pairs  int     `json:"pairs"`
}

// Pair returns the ratio of a to b, round by round. A round that one of them
// has not, because it failed there, does not count.
func Pair(a, b map[int]float64) Ratio {
	var all []float64
	for round, x := range a {
		if y, ok := b[round]; ok && y > 0 && x > 0 {
			all = append(all, x/y)
		}
	}
	return Of(all)
}

// Of returns the ratio that the pairs' ratios give.
func Of(ratios []float64) Ratio {
	v := slices.Sorted(slices.Values(ratios))
	r := Ratio{Median: Median(v), Pairs: len(v)}
	if len(v) == 0 {
		r.Median = 0
		return r
	}
	cut := cutOf(len(v))
	r.Low, r.High = v[cut], v[len(v)-1-cut]
	return r
}

// miss is how often the spread may not hold the median that any number of pairs more
// would come to.
const miss = 0.05

// cutOf returns how many of n sorted values to leave out at each end, so that the rest
// spans the median of what they are drawn from, whatever that is, but for one case in
// twenty: no coin falls as unevenly more often (the sign test). Up to eight values it is
// all of them, which below six does not even hold that often.
func cutOf(n int) (cut int) {
	below := math.Pow(0.5, float64(n)) // The chance that at most cut are below the median.
	for term := below; 2*below <= miss && cut < (n-1)/2; cut++ {
		term *= float64(n-cut) / float64(cut+1)
		below += term
	}
	return max(0, cut-1)
}

// leastPairs is how many pairs say something about their spread.
const leastPairs = 3

// Noise returns how far a pair of twice the same subject is from 1: a
// difference smaller than that is not resolved. With fewer than three such
// pairs nothing is, and the answer is infinite.
func Noise(same Ratio) float64 {
	if same.Pairs < leastPairs {
		return math.Inf(1)
	}
	return max(math.Abs(same.Median-1), same.High-1, 1-same.Low)
}

// Resolved reports whether r differs from 1 by more than the noise, and so does all of
// its spread from 1.
func (r Ratio) Resolved(noise float64) bool {
	return r.Pairs > 0 && math.Abs(r.Median-1) > noise && !r.Holds(1)
}

// Holds reports whether x is within the spread.
func (r Ratio) Holds(x float64) bool { return r.Low <= x && x <= r.High }

// Rotate returns the order of n subjects in a round, a row of Williams' square: in
// n rounds, or 2n where n is odd, each comes once, or twice, at each place and
// as often behind each of the others. So none is always first, nor always behind the
// same one's heat, as in a mere rotation.
func Rotate(n, round int) []int {
	order := make([]int, n)
	for i := range order {
		at := (i + 1) / 2
		if i%2 == 0 {
			at = n - at
		}
		order[i] = (at + round) % n
	}
	if n%2 == 1 && round%2 == 1 {
		slices.Reverse(order)
	}
	return order
}
