package subject

import (
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Delays sums up how late a goroutine ran, in ns.
type Delays struct {
	N    int64 `json:"n"`
	P50  int64 `json:"p50"`
	P99  int64 `json:"p99"`
	P999 int64 `json:"p999"`
	Max  int64 `json:"max"`
}

// nap is how long the sleeper asks to sleep.
const nap = time.Millisecond

// sleeper is a goroutine beside the loops that sleeps and looks how late it wakes.
type sleeper struct {
	mu   sync.Mutex
	late *hdrhistogram.Histogram // µs
	over bool
}

func newSleeper() *sleeper { return &sleeper{late: hdrhistogram.New(1, 10_000_000, 3)} }

// run sleeps until stop.
func (s *sleeper) run() {
	for more := true; more; {
		start := time.Now()
		time.Sleep(nap)
		more = s.record(time.Since(start) - nap)
	}
}

func (s *sleeper) record(late time.Duration) (more bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.late.RecordValue(min(max(0, late.Microseconds()), s.late.HighestTrackableValue()))
	return !s.over
}

func (s *sleeper) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.over = true
}

// read returns the delays since the last call.
func (s *sleeper) read() Delays {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := func(q float64) int64 { return s.late.ValueAtQuantile(q) * 1000 }
	d := Delays{N: s.late.TotalCount(), P50: at(50), P99: at(99), P999: at(99.9), Max: s.late.Max() * 1000}
	s.late.Reset()
	return d
}
