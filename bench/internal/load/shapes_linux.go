package load

import "github.com/HdrHistogram/hdrhistogram-go"

// closedShape keeps Depth messages on their way on each connection.
type closedShape struct{}

func (closedShape) begin(w *worker, _ int64) {
	for i := range w.clients {
		for range w.spec.Depth {
			w.clients[i].asked++
			w.ask(int32(i))
		}
	}
}

func (closedShape) feed(*worker, int64) (int64, error) { return never, nil }

func (closedShape) answer(w *worker, c *client, now int64) {
	w.record(now, c.times.pop(), now)
	if now < w.win.stop.Load() {
		c.asked++
		w.ask(c.index)
	}
}

// openShape sends a message each interval, on one connection after the other.
// The latency of each counts from when it was to be sent, not from when it
// was: a server that stalls delays the messages behind, and that is seen.
type openShape struct {
	interval float64 // ns
	sent     int64   // messages
	from     int64
	late     *hdrhistogram.Histogram
}

func (s *openShape) begin(_ *worker, now int64) { s.from = now }

func (s *openShape) feed(w *worker, now int64) (int64, error) {
	stop, from, to := w.win.stop.Load(), w.win.from.Load(), w.win.to.Load()
	for first, sends := s.sent, now; ; {
		due := s.from + int64(float64(s.sent)*s.interval)
		if due >= stop {
			return never, nil
		}
		if due > now {
			return due, nil
		}
		if s.sent == first {
			sends = w.now() // What was read in this turn took its time.
		}
		if due >= from && due < to {
			Record(s.late, sends-due)
		}
		i := int32(s.sent % int64(len(w.clients)))
		w.clients[i].times.push(due)
		w.ask(i)
		s.sent++
	}
}

func (s *openShape) answer(w *worker, c *client, now int64) {
	due := c.times.pop()
	w.record(due, due, now)
}

// unanswered records what was due in the window and has no answer, at the age
// it has now.
func (w *worker) unanswered() (n int64) {
	now := w.now()
	for i := range w.clients {
		for _, due := range w.clients[i].times.waiting() {
			if due >= w.win.from.Load() && due < w.win.to.Load() {
				Record(w.times, now-due)
				n++
			}
		}
	}
	return n
}
