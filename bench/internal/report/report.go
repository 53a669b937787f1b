// Package report is what a load test found: the raw figures, what they say, and
// how that is shown.
package report

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/penstock-go/penstock/bench/internal/host"
	"github.com/penstock-go/penstock/bench/internal/load"
	"github.com/penstock-go/penstock/bench/internal/scenario"
	"github.com/penstock-go/penstock/bench/internal/stats"
	"github.com/penstock-go/penstock/bench/internal/subject"
)

// Version is that of the format of the raw figures.
const Version = 1

// Report is a run of the load test. Its JSON is the raw figures: everything
// that is shown is computed from them.
type Report struct {
	Version     int              `json:"version"`
	Started     time.Time        `json:"started"`
	Took        time.Duration    `json:"took_ns"`
	Command     []string         `json:"command"`
	Partial     string           `json:"partial,omitempty"` // why it is not whole
	Target      string           `json:"target,omitempty"`  // a server that ran already, and is all that was measured
	Environment host.Environment `json:"environment"`
	Layout      string           `json:"layout"`           // which processors served and which generated
	Rounds      int              `json:"rounds,omitempty"` // of a scenario of the usual kind
	Warm        time.Duration    `json:"warm_ns,omitempty"`
	Window      time.Duration    `json:"window_ns,omitempty"`
	Subjects    []Subject        `json:"subjects"`
	Scenarios   []Scenario       `json:"scenarios"`
	Runs        []Run            `json:"runs"`
	Notes       []string         `json:"notes,omitempty"`
}

// Subject is a server that was measured.
type Subject struct {
	Name  string `json:"name"`
	How   string `json:"how"`
	Base  string `json:"base"`            // that it is compared with
	Again string `json:"again,omitempty"` // it is that subject once more: the A/A pair
	Own   bool   `json:"own,omitempty"`   // it is of this library
	Error string `json:"error,omitempty"` // why it is not there
}

// Scenario is what was run, in the order of the tables.
type Scenario struct {
	Name     string        `json:"name"`
	Why      string        `json:"why"`
	Kind     scenario.Kind `json:"kind"`
	Variants []string      `json:"variants"`
	Note     string        `json:"note,omitempty"`  // why there are no figures
	Fewer    bool          `json:"fewer,omitempty"` // connections than it is made for
}

// Run is one measurement.
type Run struct {
	Scenario string         `json:"scenario"`
	Variant  string         `json:"variant,omitempty"`
	Subject  string         `json:"subject"`
	Round    int            `json:"round"`
	Result   *load.Result   `json:"result,omitempty"`
	Stats    *subject.Stats `json:"stats,omitempty"` // what a subject of this library counted in the window
	Error    string         `json:"error,omitempty"`
}

// Read reads the raw figures of a run.
func Read(name string) (*Report, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s is no report: %w", name, err)
	}
	if r.Version != Version {
		return nil, fmt.Errorf("%s: version %d, and this program reads %d", name, r.Version, Version)
	}
	return &r, nil
}

// Write writes the raw figures and the page into a folder and returns the names of what
// is there whole: a page that fails does not cost the figures.
func (r *Report) Write(dir, name string) (names []string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, f := range []struct {
		ending string
		make   func() ([]byte, error)
	}{{".json", r.raw}, {".html", r.HTML}} {
		text, err := f.make()
		if err != nil {
			return names, err
		}
		full := filepath.Join(dir, name+f.ending)
		if err := os.WriteFile(full, text, 0o644); err != nil {
			_ = os.Remove(full) // A part of it is worse than nothing.
			return names, err
		}
		names = append(names, full)
	}
	return names, nil
}

func (r *Report) raw() ([]byte, error) {
	text, err := json.Marshal(r) // Indented it would be half as long again.
	return append(text, '\n'), err
}

// metric is a figure of a measurement; 0 is none.
type metric func(*Run) float64

func cpuTime(r *Run) float64    { return r.Result.CPUPerMessage() }
func throughput(r *Run) float64 { return r.Result.PerSecond() }
func p50(r *Run) float64        { return float64(r.Result.Latency.P50) }
func p99(r *Run) float64        { return float64(r.Result.Latency.P99) }
func p999(r *Run) float64       { return float64(r.Result.Latency.P999) }
func busy(r *Run) float64       { return r.Result.Busy }

// values returns a figure of a subject, by round.
func (r *Report) values(scenario, variant, subject string, m metric) map[int]float64 {
	all := map[int]float64{}
	for i := range r.Runs {
		run := &r.Runs[i]
		if run.Scenario == scenario && run.Variant == variant && run.Subject == subject && run.Result != nil {
			if v := m(run); v > 0 {
				all[run.Round] = v
			}
		}
	}
	return all
}

// median returns the median of a figure over the rounds, and whether there is one.
func (r *Report) median(scenario, variant, subject string, m metric) (float64, bool) {
	var all []float64
	for _, v := range r.values(scenario, variant, subject, m) {
		all = append(all, v)
	}
	if len(all) == 0 {
		return 0, false
	}
	return stats.Median(all), true
}

// ratio compares two subjects pair by pair.
func (r *Report) ratio(scenario, variant, a, b string, m metric) stats.Ratio {
	return stats.Pair(r.values(scenario, variant, a, m), r.values(scenario, variant, b, m))
}

// noise is the spread of the A/A pair in a scenario, whichever subject ran twice.
func (r *Report) noise(scenario, variant string, m metric) float64 {
	for _, s := range r.Subjects {
		if s.Again != "" {
			if pair := r.ratio(scenario, variant, s.Name, s.Again, m); pair.Pairs > 0 {
				return stats.Noise(pair)
			}
		}
	}
	return stats.Noise(stats.Ratio{})
}

// subjects returns those that are there, without the second of the A/A pair.
func (r *Report) subjects() []Subject {
	return slices.DeleteFunc(slices.Clone(r.Subjects), func(s Subject) bool { return s.Error != "" || s.Again != "" })
}

// best returns the subject of a family, its name or its name with a dash and
// more, that has the least of a figure.
func (r *Report) best(scenario, variant string, m metric, families ...string) (string, bool) {
	type entry struct {
		name  string
		value float64
	}
	var all []entry
	for _, s := range r.subjects() {
		for _, f := range families {
			if s.Own || s.Name != f && !strings.HasPrefix(s.Name, f+"-") {
				continue
			}
			if v, ok := r.median(scenario, variant, s.Name, m); ok {
				all = append(all, entry{s.Name, v})
			}
		}
	}
	if len(all) == 0 {
		return "", false
	}
	return slices.MinFunc(all, func(a, b entry) int { return cmp.Compare(a.value, b.value) }).name, true
}

// of returns the scenarios of a kind that have figures.
func (r *Report) of(kind scenario.Kind) []Scenario {
	var all []Scenario
	for _, s := range r.Scenarios {
		if s.Kind == kind && s.Note == "" && slices.ContainsFunc(r.Runs, func(x Run) bool { return x.Scenario == s.Name && x.Result != nil }) {
			all = append(all, s)
		}
	}
	return all
}

// Failures lists what went wrong: for each subject of a scenario its first error, and
// how often there was one.
func (r *Report) Failures() []string {
	type failure struct {
		text  string
		count int
		alike bool
	}
	all := map[string]*failure{}
	var order []string
	for _, run := range r.Runs {
		if run.Error == "" {
			continue
		}
		where := strings.TrimSuffix(run.Scenario+"/"+run.Variant, "/")
		if run.Subject != "" {
			where += ", " + run.Subject
		}
		f := all[where]
		if f == nil {
			f = &failure{text: run.Error, alike: true}
			all[where] = f
			order = append(order, where)
		}
		f.count++
		f.alike = f.alike && f.text == run.Error
	}
	for i, where := range order {
		f := all[where]
		order[i] = where + ": " + f.text
		switch {
		case f.count > 1 && f.alike:
			order[i] += fmt.Sprintf(" (%d times)", f.count)
		case f.count > 1:
			order[i] += fmt.Sprintf(" (the first of %d failures)", f.count)
		}
	}
	return order
}
