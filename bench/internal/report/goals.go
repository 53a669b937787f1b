package report

import (
	"fmt"
	"math"
	"slices"

	"github.com/penstock-go/penstock/bench/internal/scenario"
	"github.com/penstock-go/penstock/bench/internal/stats"
)

// Verdict is what became of a goal.
type Verdict string

// The verdicts.
const (
	Pass  Verdict = "pass"
	Short Verdict = "falls short"
	Open  Verdict = "not measured"
)

// Goal is something that this library is to reach, and whether it does.
type Goal struct {
	Row     string // a scenario
	What    string
	Limit   float64 // at most
	Value   float64
	Low     float64 // to High: the spread
	High    float64
	Unit    string // of Limit and Value; "" for a ratio
	Verdict Verdict
	Close   bool // to Limit, by less than the run resolves
	Note    string
}

// rowGoal is the limits of one scenario: against the best server in C, and
// against gnet on machines of either kind; 0 is none.
type rowGoal struct {
	scenario               string
	bestC, isolated, cheap float64
	anywhere               float64 // against gnet on any machine
}

func rowGoals() []rowGoal {
	return []rowGoal{
		{scenario: "echo-64-c1", bestC: 1.10, isolated: 0.80, cheap: 0.92},
		{scenario: "echo-64-c64", bestC: 1.05, isolated: 0.55, cheap: 0.77},
		{scenario: "echo-64-c1000", bestC: 1.05, isolated: 0.55, cheap: 0.77},
		{scenario: "echo-64-c64-d16", bestC: 1.05, isolated: 0.65, cheap: 0.77},
		{scenario: "echo-1k-c64", bestC: 1.05, isolated: 0.55, cheap: 0.77},
		{scenario: "echo-16k-c64", bestC: 1.05, isolated: 0.60, cheap: 0.82},
		{scenario: "echo-256k-c16", bestC: 1.08, isolated: 0.75, cheap: 0.90, anywhere: 1.00},
		{scenario: "fanout-64-c1000", bestC: 1.05, isolated: 0.56},
		{scenario: "fanout-1k-c1000", bestC: 1.05, isolated: 0.56},
		{scenario: "short-c64", anywhere: 0.85},
	}
}

// Limits of the goals that are the same for every row or stand alone.
const (
	ownC          = 1.10 // epoll against C on epoll
	ownGnet       = 0.90 // epoll against gnet
	slackOfC      = 1.05 // times C against gnet, where that is above the column
	idleBytes     = 350
	idleConns     = 10_000
	slowRatio     = 1.10
	latencyOfGnet = 1.00
)

// A machine whose null system call costs more than isolatedCall isolates page
// tables or does as much; there C on io_uring takes less than isolatedRatio of
// gnet at 64 B and 64 connections.
const (
	isolatedCall  = 400 // ns
	isolatedRatio = 0.60
)

// Column says which column of the goals against gnet holds on this machine,
// and why.
func (r *Report) Column() (isolated bool, why string) {
	call := r.Environment.NullCall
	isolated = call >= isolatedCall
	why = fmt.Sprintf("a null system call costs %.0f ns", call)
	c, okC := r.best(scenario.CapacityOf, "", cpuTime, "c")
	gnet, okG := r.best(scenario.CapacityOf, "", cpuTime, "gnet")
	if okC && okG {
		ratio := r.ratio(scenario.CapacityOf, "", c, gnet, cpuTime).Median
		why += fmt.Sprintf(", and %s takes %.2f of %s at 64 B and 64 connections", c, ratio, gnet)
		isolated = isolated && ratio < isolatedRatio
	}
	if isolated {
		return true, "system calls are dear here (" + why + "): the column for page-table isolation"
	}
	return false, "system calls are cheap here (" + why + "): the column for cheap system calls"
}

// Goals evaluates all of them.
func (r *Report) Goals() []Goal {
	var all []Goal
	isolated, _ := r.Column()
	for _, row := range rowGoals() {
		all = append(all, r.goalsOf(row, isolated)...)
	}
	for _, engine := range []string{"uring", "epoll"} {
		all = append(all, r.memoryGoal(engine))
		all = append(all, r.slowGoals(engine)...)
	}
	all = append(append(all, r.latencyGoals()...), r.webSocketGoals()...)
	for i, g := range all {
		if slices.ContainsFunc(r.Scenarios, func(s Scenario) bool { return s.Name == g.Row && s.Fewer }) {
			all[i] = Goal{Row: g.Row, What: g.What, Limit: g.Limit, Unit: g.Unit, Verdict: Open, Note: "needs more connections than the limits allow"}
		}
	}
	return all
}

func (r *Report) goalsOf(row rowGoal, isolated bool) []Goal {
	var all []Goal
	bestC, okC := r.best(row.scenario, "", cpuTime, "c")
	gnet, okG := r.best(row.scenario, "", cpuTime, "gnet")
	if row.bestC > 0 {
		all = append(all, r.against(row.scenario, "uring", bestC, okC, "the best of C", row.bestC, ""))
		limit := row.cheap
		if isolated {
			limit = row.isolated
		}
		note := ""
		if okC && okG {
			if byC := slackOfC * r.ratio(row.scenario, "", bestC, gnet, cpuTime).Median; byC > limit {
				limit, note = byC, fmt.Sprintf("%.2f times C against gnet, above the column", slackOfC)
			}
		}
		if limit > 0 || note != "" {
			all = append(all, r.against(row.scenario, "uring", gnet, okG, "gnet", limit, note))
		}
		_, hasC := r.median(row.scenario, "", "c-epoll", cpuTime)
		all = append(all, r.against(row.scenario, "epoll", "c-epoll", hasC, "C on epoll", ownC, ""))
	}
	all = append(all, r.against(row.scenario, "epoll", gnet, okG, "gnet", ownGnet, ""))
	if row.anywhere > 0 {
		all = append(all, r.against(row.scenario, "uring", gnet, okG, "gnet on any machine", row.anywhere, ""))
	}
	return all
}

// against is a goal that is a ratio of CPU times.
func (r *Report) against(row, own, peer string, have bool, called string, limit float64, note string) Goal {
	g := Goal{Row: row, What: own + " against " + called, Limit: limit, Verdict: Open, Note: note}
	if !have {
		g.Note = "needs -compare, and that peer"
		return g
	}
	if peer != called {
		g.What += " (" + peer + ")"
	}
	return g.judge(r.ratio(row, "", own, peer, cpuTime), r.noise(row, "", cpuTime))
}

// judge compares a ratio with the limit. Above is above, and below is below: Close
// alone says that the difference is within what the A/A pair showed, or that the limit
// is within the spread of the ratio itself.
func (g Goal) judge(ratio stats.Ratio, noise float64) Goal {
	if ratio.Pairs == 0 {
		g.Verdict = Open
		return g
	}
	g.Value, g.Low, g.High = ratio.Median, ratio.Low, ratio.High
	if g.Verdict = Pass; g.Value > g.Limit {
		g.Verdict = Short
	}
	within := max(g.Value, g.Limit) <= min(g.Value, g.Limit)*(1+noise)
	if g.Close = within || ratio.Holds(g.Limit); !g.Close {
		return g
	}
	if g.Note != "" {
		g.Note += "; "
	}
	switch {
	case math.IsInf(noise, 1):
		g.Note += "too few rounds: not resolved"
	case within:
		g.Note += "by less than the spread of the A/A pair: not resolved"
	default:
		g.Note += "by less than its own spread: not resolved"
	}
	return g
}

func (r *Report) memoryGoal(engine string) Goal {
	g := Goal{Row: "idle-10k", What: engine + ": resident memory an idle connection", Limit: idleBytes, Unit: "B", Verdict: Open}
	idle, _, conns := r.memory("idle-10k", engine)
	if conns == 0 {
		return g
	}
	if conns < idleConns { // What a process holds once weighs on few.
		g.Note = fmt.Sprintf("needs %d connections: at %d it is %.0f B", idleConns, conns, idle)
		return g
	}
	return g.settle(idle)
}

// settle compares one figure with the limit.
func (g Goal) settle(v float64) Goal {
	g.Value, g.Low, g.High = v, v, v
	if g.Verdict = Pass; v > g.Limit {
		g.Verdict = Short
	}
	return g
}

// memory returns the bytes a connection, idle and after one echo each.
func (r *Report) memory(scenario, subject string) (idle, after float64, conns int) {
	bytes := func(of func(*Run) int64) float64 {
		var all []float64
		for i := range r.Runs {
			run := &r.Runs[i]
			if run.Scenario == scenario && run.Subject == subject && run.Result != nil && run.Result.Conns > 0 {
				conns = run.Result.Conns
				all = append(all, float64(of(run)-run.Result.RSSBefore)/float64(conns))
			}
		}
		return stats.Median(all)
	}
	idle = bytes(func(x *Run) int64 { return x.Result.RSSIdle })
	after = bytes(func(x *Run) int64 { return x.Result.RSSAfter })
	return idle, after, conns
}

func (r *Report) slowGoals(engine string) []Goal {
	var all []Goal
	for _, f := range []struct {
		what string
		m    metric
	}{{"CPU time a message of the fast ones", cpuTime}, {"p99 of the fast ones", p99}} {
		g := Goal{Row: "slow-readers", What: engine + ": " + f.what + ", 1000 stalled against none", Limit: slowRatio, Verdict: Open}
		all = append(all, g.judge(r.slow(engine, f.m), r.slowNoise(f.m)))
	}
	g := Goal{Row: "slow-readers", What: engine + ": resident memory a stalled connection, against the sum of its limits", Limit: scenario.SlowBound, Unit: "B", Verdict: Open}
	if bytes, ok := r.stalledBytes(engine); ok {
		g = g.settle(bytes)
	}
	return append(all, g)
}

// slow is a figure with stalled readers beside, in relation to silent ones.
func (r *Report) slow(subject string, m metric) stats.Ratio {
	return stats.Pair(r.values("slow-readers", "stalled", subject, m), r.values("slow-readers", "none", subject, m))
}

// slowConns returns how many connections were fast and how many stalled.
func (r *Report) slowConns() (fast, stalled int) {
	for _, run := range r.Runs {
		if run.Scenario == "slow-readers" && run.Result != nil && run.Result.Stalled > 0 {
			return run.Result.Conns, run.Result.Stalled
		}
	}
	return 0, 0
}

// slowNoise is the A/A pair of that: nobody stalled in either.
func (r *Report) slowNoise(m metric) float64 { return r.noise("slow-readers", "none", m) }

// stalledBytes is how much a stalled connection has the server keep.
func (r *Report) stalledBytes(subject string) (float64, bool) {
	var all []float64
	for i := range r.Runs {
		run := &r.Runs[i]
		if run.Scenario == "slow-readers" && run.Variant == "stalled" && run.Subject == subject && run.Result != nil && run.Result.Stalled > 0 {
			all = append(all, float64(run.Result.RSSAfter-run.Result.RSSBefore)/float64(run.Result.Stalled))
		}
	}
	return stats.Median(all), len(all) > 0
}

// Tally counts the goals that were measured, those of them that are not reached, and of
// both how many are so by less than the run resolves.
type Tally struct{ Measured, Short, ShortClose, PassClose int }

// Count counts.
func Count(goals []Goal) (t Tally) {
	for _, g := range goals {
		switch {
		case g.Verdict == Open:
			continue
		case g.Verdict == Short:
			t.Short++
			if g.Close {
				t.ShortClose++
			}
		case g.Close:
			t.PassClose++
		}
		t.Measured++
	}
	return t
}

// String is one sentence, or nothing where nothing was measured.
func (t Tally) String() string {
	if t.Measured == 0 {
		return ""
	}
	less := func(n int) string {
		if n == 0 {
			return ""
		}
		return fmt.Sprintf(", %d of them by less than this run resolves", n)
	}
	return fmt.Sprintf("%d of %d goals that were measured fall short%s; %d are reached%s.",
		t.Short, t.Measured, less(t.ShortClose), t.Measured-t.Short, less(t.PassClose))
}
