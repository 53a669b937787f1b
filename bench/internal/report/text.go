package report

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/penstock-go/penstock/bench/internal/scenario"
)

// Line is one fact about the machine.
type Line struct{ Key, Value string }

// Machine lists what a reader must know of the machine and the run.
func (r *Report) Machine() []Line {
	e := r.Environment
	var have, lack, mitigations []string
	for _, name := range slices.Sorted(maps.Keys(e.Features)) {
		if e.Features[name] {
			have = append(have, name)
		} else {
			lack = append(lack, name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(e.Mitigations)) {
		mitigations = append(mitigations, name+": "+e.Mitigations[name])
	}
	kind, isolation := "", "no"
	if e.Virtual {
		kind = ", virtual"
	}
	if e.Isolation {
		isolation = "yes"
	}
	measured := ""
	if r.Window > 0 {
		measured = fmt.Sprintf("%d rounds of most scenarios; a window of %v after %v of warm-up; new processes every few rounds", r.Rounds, r.Window.Round(time.Millisecond), r.Warm.Round(time.Millisecond))
	}
	lines := []Line{
		{"processor", fmt.Sprintf("%s, %d CPUs%s, %.1f GiB", e.CPU, e.CPUs, kind, float64(e.Memory)/(1<<30))},
		{"kernel", fmt.Sprintf("%s; page-table isolation: %s; a null system call: %.0f ns", e.Kernel, isolation, e.NullCall)},
		{"mitigations", strings.Join(mitigations, "; ")},
		{"settings", e.Tuning},
		{"engine", e.Engine},
		{"features", strings.Join(have, " ")},
		{"missing", strings.Join(lack, " ")},
		{"build", strings.TrimSpace(fmt.Sprintf("%s %s, commit %s %s", e.Go, e.Arch, e.Commit, e.Flags))},
		{"command", strings.Join(r.Command, " ")},
		{"processors", r.Layout},
		{"measured", measured},
		{"descriptors", fmt.Sprint(e.NoFile)},
		{"load", fmt.Sprintf("%s before, %s after; others used %.2f CPUs during the run", e.LoadBefore, e.LoadAfter, e.Foreign)},
		{"time", fmt.Sprintf("%s, %.0f s", r.Started.UTC().Format("2006-01-02 15:04 MST"), r.Took.Seconds())},
	}
	return slices.DeleteFunc(lines, func(l Line) bool { return l.Value == "" })
}

// leastCPUs is how many a server and a generator that polls use.
const leastCPUs = 2

// noisy is from how many CPUs used by others on the run is not to be believed.
const noisy = 0.1

// Disturbed is from which share of a window on, in which others had the generator's CPU, a
// measurement is made again, once, and warned of if that did not help. A quiet machine is
// below 0.01.
const Disturbed = 0.05

// disturbed counts the measurements in which others had the CPUs.
func (r *Report) disturbed() (n int) {
	for _, run := range r.Runs {
		if run.Result != nil && run.Result.Waited >= Disturbed {
			n++
		}
	}
	return n
}

// mute lists who answered nothing within a window, and so has no figure there.
func (r *Report) mute() []string {
	counts := map[string]int{}
	for _, sc := range r.Scenarios {
		for _, run := range r.Runs {
			if run.Scenario == sc.Name && run.Result != nil && run.Result.Messages == 0 && sc.Kind != scenario.Memory && sc.Kind != scenario.Delay {
				counts[sc.Name+", "+run.Subject]++
			}
		}
	}
	var all []string
	for _, who := range slices.Sorted(maps.Keys(counts)) {
		all = append(all, fmt.Sprintf("%s: no answer came within the window of %v, %d times; -for makes it longer.", who, r.Window.Round(time.Millisecond), counts[who]))
	}
	return all
}

// Warnings are what a reader must see first.
func (r *Report) Warnings() []string {
	var all []string
	if r.Partial != "" {
		all = append(all, "This report is partial: "+r.Partial+".")
	}
	all = append(all, r.Failures()...)
	if r.Environment.Foreign > noisy && r.Target == "" { // The target may be one of those others.
		all = append(all, fmt.Sprintf("The machine was not quiet: other programs used %.2f CPUs. Run it again when they do not.", r.Environment.Foreign))
	}
	if q := r.Environment.Quota; q > 0 && q < leastCPUs {
		all = append(all, fmt.Sprintf("A cgroup allows this process %.2g CPUs, and server and generator need two: they were stopped again and again, and no figure here is to be believed.", q))
	}
	all = append(all, r.mute()...)
	if n := r.disturbed(); n > 0 {
		all = append(all, fmt.Sprintf("In %d of %d measurements others had the generator's CPU for a twentieth of the time or more; their latencies and throughputs are not to be believed.", n, len(r.Runs)))
	}
	for _, s := range r.Subjects {
		if s.Error != "" {
			all = append(all, s.Name+" is not there: "+s.Error)
		}
	}
	for _, s := range r.Scenarios {
		if s.Note != "" {
			all = append(all, s.Name+": "+s.Note)
		}
	}
	return append(all, r.Notes...)
}

const (
	red    = "\x1b[31m"
	green  = "\x1b[32m"
	dim    = "\x1b[2m"
	bold   = "\x1b[1m"
	normal = "\x1b[0m"
)

// Text writes the report for a terminal.
func (r *Report) Text(w io.Writer, colour bool) error {
	p := printer{w: w, colour: colour}
	p.line("")
	for _, l := range r.Machine() {
		p.line(fmt.Sprintf("%-12s %s", l.Key, l.Value))
	}
	for _, t := range r.Tables(false) {
		p.table(t)
	}
	if warnings := r.Warnings(); len(warnings) > 0 {
		p.line("")
		for _, text := range warnings {
			p.line(p.paint("! "+text, bold))
		}
	}
	goals := r.Goals()
	tally := Count(goals)
	p.line("")
	switch {
	case tally.Short > 0:
		p.line(p.paint(tally.String(), red))
	case tally.Measured > 0:
		p.line(tally.String())
	}
	if more := len(goals) - tally.Measured; more > 0 && r.Target == "" {
		p.line(fmt.Sprintf("%d more goals were not measured; most need -compare.", more))
	}
	return p.err
}

// printer remembers the first error.
type printer struct {
	w      io.Writer
	colour bool
	err    error
}

func (p *printer) line(s string) {
	if p.err == nil {
		_, p.err = fmt.Fprintln(p.w, s)
	}
}

func (p *printer) paint(s, how string) string {
	if !p.colour || how == "" {
		return s
	}
	return how + s + normal
}

// pageWidth is how many columns of text a table may have; one that is wider goes on below.
const pageWidth = 160

func (p *printer) table(t Table) {
	p.line("")
	p.line(p.paint(t.Title, bold))
	widths := make([]int, len(t.Head))
	for i, h := range t.Head {
		widths[i] = utf8.RuneCountInString(h)
		for _, row := range t.Rows {
			widths[i] = max(widths[i], utf8.RuneCountInString(row[i].Text))
		}
	}
	for from := 1; from == 1 || from < len(t.Head); {
		to, width := from, 2+widths[0]
		for to < len(t.Head) && (to == from || width+2+widths[to] <= pageWidth || to == len(t.Head)-1 && t.Head[to] == "note") {
			width += 2 + widths[to]
			to++
		}
		if from > 1 {
			p.line("")
		}
		p.columns(t, widths, from, to)
		from = max(to, 2)
	}
	if t.Note != "" {
		p.line(p.paint(t.Note, dim))
	}
}

// columns prints the first column, and some of the others.
func (p *printer) columns(t Table, widths []int, from, to int) {
	of := func(row []Cell) []Cell { return append(row[:1:1], row[from:to]...) }
	wide := append(widths[:1:1], widths[from:to]...)
	var head []Cell
	for _, h := range t.Head {
		head = append(head, text(h))
	}
	p.row(of(head), wide)
	for _, row := range t.Rows {
		p.row(of(row), wide)
	}
}

func (p *printer) row(row []Cell, widths []int) {
	var b strings.Builder
	for i, c := range row {
		s := p.paint(c.Text, map[Class]string{Good: green, Bad: red, Unresolved: dim}[c.Class])
		if i < len(row)-1 {
			s += strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.Text)+2)
		}
		b.WriteString(s)
	}
	p.line("  " + strings.TrimRight(b.String(), " "))
}
