// Package load is the generator of a load test: a process of its own, on
// processors of its own, that must not be the bottleneck and says how busy it was.
//
// It is one loop a thread on non-blocking sockets and an edge-triggered epoll,
// without a goroutine a connection. A turn first reads from all sockets that
// have something and then writes to all that may be written to, so that the
// server finds work in bunches, as from many clients at once. Where it has a
// processor for itself it polls and never sleeps, so that no wake of its own
// is in a latency.
package load

import (
	"errors"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// ErrReach is the error of a server to which there is no connection.
var ErrReach = errors.New("cannot reach")

// Shape is how the generator behaves.
type Shape string

// The shapes.
const (
	Closed Shape = "closed" // a connection keeps Depth messages on their way
	Open   Shape = "open"   // messages at a fixed rate, whatever became of those before
	Fanout Shape = "fanout" // one connection publishes, the others subscribe
	Short  Shape = "short"  // connect, one echo, close
	Idle   Shape = "idle"   // many connections that do nothing: memory
	None   Shape = "none"   // no connection at all, for as long as the others would run
)

// Spec is one measurement.
type Spec struct {
	Target string // host:port
	Shape  Shape
	Conns  int
	Size   int           // bytes of a message
	WS     WS            // its messages are those of a WebSocket: Closed, Open, Fanout and Idle
	Echoes int           // Idle: messages on each connection before memory is read again; 0: 1
	Depth  int           // Closed: messages on their way on a connection
	Rate   float64       // Open: messages a second
	Warm   time.Duration // runs before it measures
	Window time.Duration // measures
	Drain  time.Duration // waits for the last answers; 0: 10 s, and 2 s for Open
	PID    int           // of the server, for its CPU clock and memory; 0: unknown
	CPUs   []int         // one thread of the generator runs on each
	Spin   bool          // polls instead of sleeping: it has its processors for itself

	Beside  int // Closed: so many connections more, beside those that are measured
	Stalled int // bytes that each of those sends at most without reading an answer; 0: they are silent
}

func (s *Spec) fill() {
	s.Echoes = max(1, s.Echoes)
	if s.Drain == 0 {
		s.Drain = 10 * time.Second
		if s.Shape == Open { // What is late is counted there, and not an error.
			s.Drain = 2 * time.Second
		}
	}
}

// Result is what one measurement gave.
type Result struct {
	Conns      int           `json:"conns"` // that could be made
	Elapsed    time.Duration `json:"elapsed_ns"`
	Messages   int64         `json:"messages"`      // answered within the window
	Checked    int64         `json:"checked_bytes"` // that came back and were right, warm-up and end included
	CPU        time.Duration `json:"server_cpu_ns"` // of the server within the window; 0: unknown
	Busy       float64       `json:"generator_busy"`
	Waited     float64       `json:"kept_from_cpu"` // share of the window that the generator was ready and others had its CPU
	Rate       float64       `json:"offered_rate,omitempty"`
	Unanswered int64         `json:"unanswered,omitempty"` // Open: not answered within Drain of the end
	Latency    Latency       `json:"latency"`
	Late       *Latency      `json:"sent_late,omitempty"` // Open: by how much the generator itself sent too late

	RSSBefore int64    `json:"rss_before,omitempty"` // of the server, in bytes: Idle, and Beside
	RSSIdle   int64    `json:"rss_idle,omitempty"`
	RSSAfter  int64    `json:"rss_after,omitempty"`   // Idle: after Echoes each; Beside: with all stalled
	Stalled   int      `json:"stalled,omitempty"`     // Beside: connections that stalled
	StallSent int64    `json:"stall_bytes,omitempty"` // what all stalled connections sent before they stuck
	Notes     []string `json:"notes,omitempty"`
}

// CPUPerMessage returns the server's CPU time for a message in ns, 0 when it
// is unknown.
func (r *Result) CPUPerMessage() float64 {
	if r.Messages == 0 {
		return 0
	}
	return float64(r.CPU) / float64(r.Messages)
}

// PerSecond returns the messages a second.
func (r *Result) PerSecond() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Messages) / r.Elapsed.Seconds()
}

// Latency sums up a histogram, in ns.
type Latency struct {
	N     int64   `json:"n"`
	P50   int64   `json:"p50"`
	P90   int64   `json:"p90"`
	P99   int64   `json:"p99"`
	P999  int64   `json:"p999"`
	Max   int64   `json:"max"`
	Curve []int64 `json:"curve,omitempty"` // at Quantiles

	// All is the histogram, as HdrHistogram's tools read it: Open, where those of all
	// rounds are put together.
	All string `json:"histogram,omitempty"`
}

// Quantiles are where the curve of a latency is taken, in percent.
func Quantiles() []float64 {
	return []float64{0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 99.95, 99.99, 100}
}

// NewHistogram holds times from 100 ns to 60 s, to three digits.
func NewHistogram() *hdrhistogram.Histogram { return hdrhistogram.New(100, int64(time.Minute), 3) }

// Record adds one time, cut to what the histogram holds.
func Record(h *hdrhistogram.Histogram, ns int64) {
	_ = h.RecordValue(min(max(0, ns), h.HighestTrackableValue()))
}

// Summarize reads a histogram.
func Summarize(h *hdrhistogram.Histogram) Latency {
	l := Latency{N: h.TotalCount(), P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90),
		P99: h.ValueAtQuantile(99), P999: h.ValueAtQuantile(99.9), Max: h.Max()}
	for _, q := range Quantiles() {
		l.Curve = append(l.Curve, h.ValueAtQuantile(q))
	}
	return l
}

// Encode returns what Latency.All holds.
func Encode(h *hdrhistogram.Histogram) (string, error) {
	text, err := h.Encode(hdrhistogram.V2CompressedEncodingCookieBase)
	return string(text), err
}

// Decode returns the histogram that All holds.
func (l *Latency) Decode() (*hdrhistogram.Histogram, error) {
	return hdrhistogram.Decode([]byte(l.All))
}

// Event is one line that the generator prints: at the start of the window, and
// at the end with the result or an error.
type Event struct {
	Window bool    `json:"window,omitempty"`
	Result *Result `json:"result,omitempty"`
	Error  string  `json:"error,omitempty"`
}

// fifo holds the times of the messages on their way on a connection.
type fifo struct {
	times []int64
	head  int
}

func (f *fifo) push(t int64) {
	if f.head > 64 && 2*f.head > len(f.times) { // The used half goes.
		f.times = f.times[:copy(f.times, f.times[f.head:])]
		f.head = 0
	}
	f.times = append(f.times, t)
}

func (f *fifo) pop() int64 {
	t := f.times[f.head]
	if f.head++; f.head == len(f.times) {
		f.times, f.head = f.times[:0], 0
	}
	return t
}

func (f *fifo) waiting() []int64 { return f.times[f.head:] }
