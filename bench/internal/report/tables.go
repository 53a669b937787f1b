package report

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/penstock-go/penstock/bench/internal/scenario"
	"github.com/penstock-go/penstock/bench/internal/stats"
)

// Class is how a cell looks.
type Class string

// The classes.
const (
	Plain      Class = ""
	Good       Class = "good"
	Bad        Class = "bad"
	Unresolved Class = "unresolved"
)

// Cell is one field of a table: what a terminal shows, and what a page can
// show besides.
type Cell struct {
	Text  string
	More  string
	Class Class
}

// Table is what terminal and page show alike.
type Table struct {
	Title string
	Note  string
	Head  []string
	Rows  [][]Cell
}

// none stands where there is no figure.
const none = "-"

func text(s string) Cell { return Cell{Text: s} }

// Tables computes all tables that have something in them. Goals that were not
// measured are shown on request only.
func (r *Report) Tables(allGoals bool) []Table {
	all := append(apart(r.cpuTable()), apart(r.rateTable())...)
	all = append(all, r.latencyTable(), r.memoryTable(), r.slowTable(), r.delayTable(), r.goalTable(allGoals))
	return slices.DeleteFunc(all, func(t Table) bool { return len(t.Rows) == 0 })
}

// apart makes of a table one of the raw bytes and one of the WebSockets, since most
// subjects have only one of the two, and leaves out the rows and columns that are empty.
func apart(t Table) []Table {
	var all []Table
	for _, webSocket := range []bool{false, true} {
		part := Table{Title: t.Title, Note: t.Note}
		rows := slices.DeleteFunc(slices.Clone(t.Rows), func(row []Cell) bool {
			return strings.HasPrefix(row[0].Text, "ws-") != webSocket || !slices.ContainsFunc(row[1:], func(c Cell) bool { return c.Text != none })
		})
		part.Rows = make([][]Cell, len(rows))
		for i, head := range t.Head {
			if i > 0 && !slices.ContainsFunc(rows, func(row []Cell) bool { return row[i].Text != none }) {
				continue
			}
			part.Head = append(part.Head, head)
			for j, row := range rows {
				part.Rows[j] = append(part.Rows[j], row[i])
			}
		}
		if webSocket {
			part.Title += ": WebSockets"
		}
		all = append(all, part)
	}
	return all
}

// ratioCell shows a ratio, marked when it is not resolved.
func ratioCell(ratio stats.Ratio, noise float64) Cell {
	if ratio.Pairs == 0 {
		return text(none)
	}
	c := Cell{Text: fmt.Sprintf("%.2f", ratio.Median), More: fmt.Sprintf("%.2f to %.2f", ratio.Low, ratio.High)}
	if !ratio.Resolved(noise) {
		c.Text += "≈"
		c.More += ", not resolved"
		c.Class = Unresolved
	}
	return c
}

func noiseCell(noise float64) Cell {
	if math.IsInf(noise, 1) {
		return text(none)
	}
	return text(fmt.Sprintf("±%.0f %%", 100*noise))
}

// bases are the subjects that others are compared with.
func (r *Report) bases() []string {
	var names []string
	for _, s := range r.subjects() {
		if !slices.Contains(names, s.Base) {
			names = append(names, s.Base)
		}
	}
	return names
}

// cpuTable has the figure of merit.
func (r *Report) cpuTable() Table {
	t := Table{Title: "CPU time of the server a message",
		Note: "In ns for what others are compared with; for the others the ratio to it, the median of pairs of one round. " +
			"A/A is the spread of the same server measured twice; ≈ stands for not resolved: the difference is smaller than that, or 1 is within its own spread.",
		Head: []string{"scenario"}}
	bases := r.bases()
	for _, base := range bases {
		t.Head = append(t.Head, base+", ns")
	}
	t.Head = append(t.Head, "A/A")
	for _, s := range r.subjects() {
		if s.Base != s.Name {
			t.Head = append(t.Head, s.Name)
		}
	}
	for _, sc := range r.of(scenario.CPU) {
		if len(r.values(sc.Name, "", bases[0], cpuTime)) == 0 {
			continue // A server elsewhere, whose CPU time nobody knows.
		}
		noise := r.noise(sc.Name, "", cpuTime)
		row := []Cell{text(sc.Name)}
		for _, base := range bases {
			row = append(row, r.figure(sc.Name, "", base, cpuTime, 1, "%.0f"))
		}
		row = append(row, noiseCell(noise))
		for _, s := range r.subjects() {
			if s.Base != s.Name {
				row = append(row, ratioCell(r.ratio(sc.Name, "", s.Name, s.Base, cpuTime), noise))
			}
		}
		t.Rows = append(t.Rows, row)
	}
	return t
}

// figure shows a median.
func (r *Report) figure(scenario, variant, subject string, m metric, unit float64, format string) Cell {
	v, ok := r.median(scenario, variant, subject, m)
	if !ok {
		return text(none)
	}
	return text(fmt.Sprintf(format, v/unit))
}

// rateTable has throughput and latency of the closed loops.
func (r *Report) rateTable() Table {
	t := Table{Title: "Throughput and latency of the closed loops",
		Note: "Thousand messages a second, then p50 / p99 in µs. A throughput at which the generator was more than 95 % busy is at least that (*). " +
			"A closed loop waits with the server, so its latencies leave out what a stall would have delayed: for latencies see the open loops.",
		Head: []string{"scenario"}}
	subjects := r.subjects()
	for _, s := range subjects {
		t.Head = append(t.Head, s.Name)
	}
	t.Head = append(t.Head, "generator busy")
	for _, sc := range r.of(scenario.CPU) {
		row := []Cell{text(sc.Name)}
		least, most := math.Inf(1), 0.0
		for _, s := range subjects {
			rate, ok := r.median(sc.Name, "", s.Name, throughput)
			if !ok {
				row = append(row, text(none))
				continue
			}
			mid, _ := r.median(sc.Name, "", s.Name, p50)
			high, _ := r.median(sc.Name, "", s.Name, p99)
			mark := ""
			if b, ok := r.median(sc.Name, "", s.Name, busy); ok {
				least, most = min(least, b), max(most, b)
				if b > 0.95 {
					mark = "*"
				}
			}
			row = append(row, text(fmt.Sprintf("%sk%s %s/%s", digits(rate/1e3), mark, micros(mid), micros(high))))
		}
		share := none
		if most > 0 {
			share = fmt.Sprintf("%.0f-%.0f %%", 100*least, 100*most)
		}
		t.Rows = append(t.Rows, append(row, text(share)))
	}
	return t
}

// digits shows three digits, and all that stand before the point.
func digits(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%.0f", v)
	}
	return fmt.Sprintf("%.3g", v)
}

// micros shows ns as µs, to about three digits.
func micros(ns float64) string {
	switch us := ns / 1e3; {
	case us < 10:
		return fmt.Sprintf("%.1f", us)
	default:
		return fmt.Sprintf("%.0f", us)
	}
}

// latencyTable has the open loops.
func (r *Report) latencyTable() Table {
	t := Table{Title: "Latency of the open loops, µs",
		Note: "At a fixed rate, from the time a message was to be sent, so that a stall counts for all that were due in it; of the messages of all rounds together, " +
			"so that one that came in a single round counts too. Sent late is by how much the generator itself was late, which is in the latencies.",
		Head: []string{"scenario", "subject", "rate /s", "p50", "p90", "p99", "p99.9", "most", "sent late p99.9", "CPU ns", "generator busy"}}
	for _, sc := range r.of(scenario.Latency) {
		for _, s := range r.subjects() {
			rate, ok := r.median(sc.Name, "", s.Name, func(x *Run) float64 { return x.Result.Rate })
			if !ok {
				continue
			}
			row := []Cell{text(sc.Name), text(s.Name), text(fmt.Sprintf("%.0f", rate))}
			of := r.quantiles(sc.Name, s.Name)
			for _, q := range []float64{50, 90, 99, 99.9, 100} {
				row = append(row, text(micros(of(q))))
			}
			row = append(row, r.figure(sc.Name, "", s.Name, func(x *Run) float64 {
				if x.Result.Late == nil {
					return 0
				}
				return float64(x.Result.Late.P999)
			}, 1e3, "%.1f"), r.figure(sc.Name, "", s.Name, cpuTime, 1, "%.0f"), r.figure(sc.Name, "", s.Name, busy, 0.01, "%.0f %%"))
			if lost, ok := r.median(sc.Name, "", s.Name, func(x *Run) float64 { return float64(x.Result.Unanswered) }); ok {
				row[2].Text += fmt.Sprintf(" (%.0f not answered)", lost)
				row[2].Class = Bad
			}
			t.Rows = append(t.Rows, row)
		}
	}
	return t
}

// memoryTable has resident memory.
func (r *Report) memoryTable() Table {
	t := Table{Title: "Resident memory of the server a connection, B",
		Note: "What the process grew by, divided by the connections; the kernel's own memory is not in it.",
		Head: []string{"scenario", "subject", "connections", "idle", "after its echoes"}}
	for _, sc := range r.of(scenario.Memory) {
		for _, s := range r.subjects() {
			if idle, after, n := r.memory(sc.Name, s.Name); n > 0 {
				t.Rows = append(t.Rows, []Cell{text(sc.Name), text(s.Name), text(fmt.Sprint(n)),
					text(fmt.Sprintf("%.0f", idle)), text(fmt.Sprintf("%.0f", after))})
			}
		}
	}
	return t
}

// slowTable has what slow readers cost the fast ones.
func (r *Report) slowTable() Table {
	fast, slow := r.slowConns()
	t := Table{Title: fmt.Sprintf("Slow readers: %d fast connections beside %d that send and never read, against as many that are silent", fast, slow),
		Note: fmt.Sprintf("The sum of the limits of a connection of this library is %d KiB here: what is queued below the high-water mark of %d KiB, "+
			"a block that came then, a block that was received before reading paused, and the record. A stalled connection sends 512 KiB at most; what others keep of it their way has no bound.",
			(scenario.SlowBound+1023)>>10, scenario.SlowHighWater>>10),
		Head: []string{"subject", "CPU ratio", "A/A", "p99 ratio", "A/A", "p99 stalled, µs", "memory a stalled connection, KiB"}}
	if len(r.of(scenario.Slow)) == 0 {
		return t
	}
	cpuNoise, tailNoise := r.slowNoise(cpuTime), r.slowNoise(p99)
	for _, s := range r.subjects() {
		ratio := r.slow(s.Name, cpuTime)
		bytes, ok := r.stalledBytes(s.Name)
		if ratio.Pairs == 0 && !ok {
			continue
		}
		memory := none
		if ok {
			memory = fmt.Sprintf("%.1f", bytes/1024)
		}
		t.Rows = append(t.Rows, []Cell{text(s.Name), ratioCell(ratio, cpuNoise), noiseCell(cpuNoise), ratioCell(r.slow(s.Name, p99), tailNoise), noiseCell(tailNoise),
			r.figure("slow-readers", "stalled", s.Name, p99, 1e3, "%.0f"), text(memory)})
	}
	return t
}

// delayTable has a goroutine beside the loop.
func (r *Report) delayTable() Table {
	t := Table{Title: "A goroutine beside one loop that sleeps 1 ms: how late it wakes, ms",
		Note: "GOMAXPROCS is the number of loops plus 2. For other settings and company: go run ./bench/delay.",
		Head: []string{"subject", "the loop is", "late p50", "p99", "most", "CPU of the process"}}
	for _, sc := range r.of(scenario.Delay) {
		for _, s := range r.subjects() {
			for _, v := range sc.Variants {
				late := func(of func(*Run) int64) Cell {
					return r.figure(sc.Name, v, s.Name, func(x *Run) float64 {
						if x.Stats == nil {
							return 0
						}
						return float64(of(x))
					}, 1e6, "%.2f")
				}
				used, ok := r.median(sc.Name, v, s.Name, func(x *Run) float64 { return float64(x.Result.CPU) / float64(x.Result.Elapsed) })
				if !ok {
					continue
				}
				t.Rows = append(t.Rows, []Cell{text(s.Name), text(v), late(func(x *Run) int64 { return x.Stats.Late.P50 }),
					late(func(x *Run) int64 { return x.Stats.Late.P99 }), late(func(x *Run) int64 { return x.Stats.Late.Max }),
					text(fmt.Sprintf("%.0f %%", 100*used))})
			}
		}
	}
	return t
}

// goalTable has the goals, those that are not reached first.
func (r *Report) goalTable(all bool) Table {
	_, why := r.Column()
	t := Table{Title: "Goals", Note: "Against gnet: " + why + ".", Head: []string{"row", "goal", "at most", "measured", "verdict", "note"}}
	goals := r.Goals()
	if !all {
		goals = slices.DeleteFunc(goals, func(g Goal) bool { return g.Verdict == Open })
	}
	order := []Verdict{Short, Pass, Open}
	slices.SortStableFunc(goals, func(a, b Goal) int {
		return cmp.Compare(slices.Index(order, a.Verdict), slices.Index(order, b.Verdict))
	})
	for _, g := range goals {
		value := Cell{Text: none}
		verdict := Cell{Text: string(g.Verdict)}
		if g.Verdict != Open {
			value = Cell{Text: g.show(g.Value), More: fmt.Sprintf("%s to %s", g.show(g.Low), g.show(g.High))}
			verdict.Class = Good
		}
		if g.Close {
			verdict.Text += "≈"
			verdict.Class = Unresolved
		}
		if g.Verdict == Short {
			value.Class, verdict.Class = Bad, Bad
		}
		t.Rows = append(t.Rows, []Cell{text(g.Row), text(g.What), text(g.show(g.Limit)), value, verdict, text(g.Note)})
	}
	return t
}

func (g Goal) show(v float64) string {
	switch g.Unit {
	case "":
		return fmt.Sprintf("%.2f", v)
	case "B":
		return fmt.Sprintf("%.0f B", v)
	}
	return strings.TrimSpace(fmt.Sprintf("%.3g %s", v, g.Unit))
}
