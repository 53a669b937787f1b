package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// none stands where there is nothing to measure.
const none = "-"

// table is a title over rows of cells.
type table struct {
	title string
	head  []string
	rows  [][]string
}

// write prints the table, as markdown or in columns.
func (t *table) write(w io.Writer, markdown bool) error {
	if markdown {
		var b strings.Builder
		line := func(row []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(row, " | ")) }
		fmt.Fprintf(&b, "%s\n\n", t.title)
		line(t.head)
		fmt.Fprintf(&b, "|%s\n", strings.Repeat("---|", len(t.head)))
		for _, row := range t.rows {
			line(row)
		}
		_, err := fmt.Fprintf(w, "%s\n", b.String())
		return err
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(tw, "%s\n", t.title)
	for _, row := range append([][]string{t.head}, t.rows...) {
		fmt.Fprintln(tw, strings.Join(row, "\t"))
	}
	fmt.Fprintln(tw)
	return tw.Flush()
}

// results are all cells that were measured.
type results struct {
	cells []cell
	of    map[cell]result
	noise float64 // above so many CPUs of others a figure is marked
}

// tables lays the results out: for each place and engine one of delays and
// round trips, and one of pauses.
func (r *results) tables() []table {
	var all []table
	var seen []setting
	for _, c := range r.cells {
		group := setting{engine: c.engine, place: c.place, loops: c.loops}
		if slices.Contains(seen, group) {
			continue
		}
		seen = append(seen, group)
		all = append(all, r.delays(group))
		if t := r.pauses(group); len(t.rows) > 0 {
			all = append(all, t)
		}
	}
	return all
}

// delays has a row for each GOMAXPROCS and company, columns for each load.
func (r *results) delays(group setting) table {
	t := table{title: title(group) + ": how late a goroutine runs after a sleep of 1 ms (p50 / p99 / most), and round trips (p50 / p99 / p99.9), ms"}
	t.head = []string{"GOMAXPROCS", "beside", "idle: late", "half: late", "half: round trip", "full: late", "full: round trip", "full: CPU of a loop"}
	for _, c := range r.rows(group) {
		row := []string{fmt.Sprint(c.procs), c.beside}
		for _, load := range []string{loadIdle, loadHalf, loadFull} {
			c.load = load
			m, ok := r.of[c]
			row = append(row, r.mark(m, ok, m.Late.N, m.Late.P50, m.Late.P99, m.Late.Max))
			if load != loadIdle {
				row = append(row, r.mark(m, ok, m.Trip.N, m.Trip.P50, m.Trip.P99, m.Trip.P999))
			}
		}
		busy := none
		if m, ok := r.of[c]; ok {
			busy = fmt.Sprintf("%.0f %%", 100*m.Busy)
		}
		t.rows = append(t.rows, append(row, busy))
	}
	return t
}

// pauses has the collector's pauses wherever it ran often.
func (r *results) pauses(group setting) table {
	t := table{title: title(group) + ": pauses by the collector (p50 / p99 / most), ms, and how many a second"}
	t.head = []string{"GOMAXPROCS", "beside", "idle", "half", "full"}
	for _, c := range r.rows(group) {
		if c.beside != besideGC && c.beside != besideAllocates {
			continue
		}
		row := []string{fmt.Sprint(c.procs), c.beside}
		for _, load := range []string{loadIdle, loadHalf, loadFull} {
			c.load = load
			m, ok := r.of[c]
			text := r.mark(m, ok, m.Pauses.N, m.Pauses.P50, m.Pauses.P99, m.Pauses.Max)
			if text != none {
				text += fmt.Sprintf(", %.0f/s", float64(m.Pauses.N)/m.seconds)
			}
			row = append(row, text)
		}
		t.rows = append(t.rows, row)
	}
	return t
}

// rows lists the cells of a group, without their load, each once.
func (r *results) rows(group setting) []cell {
	var rows []cell
	for _, c := range r.cells {
		if c.engine != group.engine || c.place != group.place {
			continue
		}
		if c.load = ""; !slices.Contains(rows, c) {
			rows = append(rows, c)
		}
	}
	return rows
}

// mark prints three times, with a star where others used the CPUs too.
func (r *results) mark(m result, ok bool, n int64, times ...time.Duration) string {
	if !ok || n == 0 {
		return none
	}
	var words []string
	for _, d := range times {
		words = append(words, ms(d))
	}
	text := strings.Join(words, " / ")
	if m.foreign > r.noise {
		text += " *"
	}
	return text
}

func title(s setting) string {
	where := map[string]string{
		onOne:   "one CPU, the generator on another",
		onAll:   "all CPUs, shared with the generator",
		onQuota: "all CPUs, with a cgroup quota of one",
	}
	loops := "1 loop"
	if s.loops > 1 {
		loops = fmt.Sprintf("%d loops", s.loops)
	}
	return fmt.Sprintf("**%s, %s on %s**", s.engine, loops, where[s.place])
}
