package stats

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func TestMedian(t *testing.T) {
	for _, tc := range []struct {
		in   []float64
		want float64
	}{
		{[]float64{3}, 3},
		{[]float64{9, 1, 2}, 2},
		{[]float64{4, 1, 3, 2}, 2.5},
	} {
		in := slices.Clone(tc.in)
		if got := Median(in); got != tc.want {
			t.Errorf("median of %v is %v, want %v", tc.in, got, tc.want)
		}
		if !slices.Equal(in, tc.in) {
			t.Errorf("%v became %v", tc.in, in)
		}
	}
	if !math.IsNaN(Median(nil)) {
		t.Error("nothing has a median")
	}
}

// TestPair has a machine that becomes twice as slow: the averages say nothing,
// the pairs all.
func TestPair(t *testing.T) {
	a := map[int]float64{0: 110, 1: 220, 2: 330, 3: 100, 9: 7}
	b := map[int]float64{0: 100, 1: 200, 2: 300, 3: 100, 4: 1}
	want := Ratio{Median: 1.1, Low: 1, High: 1.1, Pairs: 4}
	got := Pair(a, b)
	if got.Pairs != want.Pairs || math.Abs(got.Median-want.Median) > 1e-9 || got.Low != want.Low || math.Abs(got.High-want.High) > 1e-9 {
		t.Errorf("%+v, want %+v", got, want)
	}
	if r := Pair(a, nil); r.Pairs != 0 || r.Resolved(0) {
		t.Errorf("a pair with nobody: %+v", r)
	}
}

func TestSpread(t *testing.T) {
	if r := Of([]float64{1, 9, 1.2, 0.1, 1.1}); r.Low != 0.1 || r.High != 9 || r.Median != 1.1 {
		t.Errorf("of five: %+v", r)
	}
	many := make([]float64, 20)
	for i := range many {
		many[len(many)-1-i] = float64(i)
	}
	if r := Of(many); r.Low != 5 || r.High != 14 || r.Median != 9.5 {
		t.Errorf("of twenty: %+v", r)
	}
}

// TestSpreadHoldsMedian draws from values that are far from any bell: the spread holds
// their median as often as is said, and with more of them it is narrower.
func TestSpreadHoldsMedian(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	draw := func() float64 { return 1 / (0.01 + rng.Float64()) }
	const median, times = 1 / 0.51, 20_000
	last := math.Inf(1)
	for _, n := range []int{6, 9, 12, 20, 40} {
		missed, width := 0, 0.0
		for range times {
			v := make([]float64, n)
			for i := range v {
				v[i] = draw()
			}
			r := Of(v)
			if width += (r.High - r.Low) / times; !r.Holds(median) {
				missed++
			}
		}
		if missed > times*miss*11/10 {
			t.Errorf("of %d values, the spread has not held the median %d times of %d", n, missed, times)
		}
		if width >= last {
			t.Errorf("of %d values, the spread is %.2f wide, of fewer %.2f", n, width, last)
		}
		last = width
	}
}

func TestResolved(t *testing.T) {
	noise := Noise(Ratio{Median: 1.01, Low: 0.96, High: 1.03, Pairs: 5})
	if math.Abs(noise-0.04) > 1e-9 {
		t.Errorf("noise %v, want 0.04", noise)
	}
	for median, want := range map[float64]bool{1.03: false, 0.97: false, 1.05: true, 0.95: true} {
		if got := (Ratio{Median: median, Low: median, High: median, Pairs: 5}).Resolved(noise); got != want {
			t.Errorf("%v resolved: %v", median, got)
		}
	}
	if (Ratio{Median: 1.1, Low: 0.9, High: 1.2, Pairs: 5}).Resolved(noise) {
		t.Error("resolved, and its own spread holds 1")
	}
	two := Ratio{Median: 2, Low: 2, High: 2, Pairs: 5}
	if two.Resolved(Noise(Ratio{})) {
		t.Error("resolved without an A/A pair")
	}
	if two.Resolved(Noise(Ratio{Median: 1, Low: 1, High: 1, Pairs: 2})) {
		t.Error("resolved by two pairs, whose spread says nothing")
	}
}

// TestRotate sees each subject at each place, and behind each other one, equally often.
func TestRotate(t *testing.T) {
	for n := 1; n <= 9; n++ {
		rounds := n
		if n%2 == 1 {
			rounds = 2 * n
		}
		places, behind := map[[2]int]int{}, map[[2]int]int{}
		for round := range rounds {
			order := Rotate(n, round)
			for i, who := range order {
				places[[2]int{i, who}]++
				if i > 0 {
					behind[[2]int{order[i-1], who}]++
				}
			}
		}
		for who := range n {
			for other := range n {
				if got := places[[2]int{other, who}]; got != rounds/n {
					t.Errorf("of %d, number %d is %d times at place %d in %d rounds", n, who, got, other, rounds)
				}
				if got := behind[[2]int{other, who}]; other != who && got != rounds/n {
					t.Errorf("of %d, number %d is %d times behind %d in %d rounds", n, who, got, other, rounds)
				}
			}
		}
	}
}
