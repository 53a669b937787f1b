package main

import (
	"fmt"
	"math"
	"runtime/metrics"
	"slices"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// summary is what the tables show of a distribution.
type summary struct {
	N                   int64
	P50, P99, P999, Max time.Duration
}

// serverReport is what the server has measured.
type serverReport struct {
	Late   summary // of a goroutine that sleeps 1 ms
	Pauses summary // of all goroutines, by the collector
	Busy   float64 // CPU time of the loops' threads, of the time they had
}

// loadReport is what the generator has measured.
type loadReport struct {
	Trip summary // round trips, from the time a message was due
}

// result is one cell, measured.
type result struct {
	serverReport
	loadReport
	seconds float64
	foreign float64 // CPUs that other programs used meanwhile
}

// newHistogram holds times from 1 µs to 10 s, to three digits.
func newHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(1, 10_000_000, 3) }

// record adds one time, cut to what the histogram holds.
func record(h *hdrhistogram.Histogram, d time.Duration) {
	_ = h.RecordValue(min(max(0, d.Microseconds()), h.HighestTrackableValue()))
}

func summarize(h *hdrhistogram.Histogram) summary {
	at := func(q float64) time.Duration { return time.Duration(h.ValueAtQuantile(q)) * time.Microsecond }
	return summary{h.TotalCount(), at(50), at(99), at(99.9), time.Duration(h.Max()) * time.Microsecond}
}

// since summarizes what one of the runtime's histograms has counted between two
// readings. A bucket stands for its upper bound.
func since(before, after *metrics.Float64Histogram) summary {
	counts := slices.Clone(after.Counts)
	total := uint64(0)
	for i := range counts {
		if before != nil {
			counts[i] -= before.Counts[i]
		}
		total += counts[i]
	}
	at := func(q float64) time.Duration {
		rank := uint64(math.Ceil(q * float64(total)))
		for i, n := range counts {
			if n >= rank && n > 0 {
				return bound(after.Buckets, i)
			}
			rank -= min(rank, n)
		}
		return 0
	}
	return summary{int64(total), at(0.50), at(0.99), at(0.999), at(1)}
}

// bound returns the upper bound of bucket i, or the lower where that is infinite.
func bound(buckets []float64, i int) time.Duration {
	b := buckets[i+1]
	if math.IsInf(b, 1) {
		b = buckets[i]
	}
	return time.Duration(max(0, b) * float64(time.Second))
}

// median takes the median of each figure over the rounds of a cell, and the
// worst of the disturbances.
func median(rounds []result) result {
	m := rounds[0]
	pick := func(of func(r *result) *time.Duration) {
		var all []time.Duration
		for i := range rounds {
			all = append(all, *of(&rounds[i]))
		}
		slices.Sort(all)
		*of(&m) = all[len(all)/2]
	}
	for _, s := range []func(r *result) *summary{
		func(r *result) *summary { return &r.Late },
		func(r *result) *summary { return &r.Pauses },
		func(r *result) *summary { return &r.Trip },
	} {
		pick(func(r *result) *time.Duration { return &s(r).P50 })
		pick(func(r *result) *time.Duration { return &s(r).P99 })
		pick(func(r *result) *time.Duration { return &s(r).P999 })
		pick(func(r *result) *time.Duration { return &s(r).Max })
	}
	var busy []float64
	for _, r := range rounds {
		busy = append(busy, r.Busy)
		m.foreign = max(m.foreign, r.foreign)
	}
	slices.Sort(busy)
	m.Busy = busy[len(busy)/2]
	return m
}

// ms prints a time in milliseconds, to about two digits.
func ms(d time.Duration) string {
	v := float64(d) / float64(time.Millisecond)
	switch {
	case v < 9.95:
		return fmt.Sprintf("%.2f", v)
	case v < 99.5:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.0f", v)
}
