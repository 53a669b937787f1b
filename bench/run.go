package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/penstock-go/penstock/bench/internal/host"
	"github.com/penstock-go/penstock/bench/internal/load"
	"github.com/penstock-go/penstock/bench/internal/report"
	"github.com/penstock-go/penstock/bench/internal/scenario"
	"github.com/penstock-go/penstock/bench/internal/stats"
	"github.com/penstock-go/penstock/bench/internal/subject"
)

// patience bounds what a measurement may take beyond its window.
const patience = time.Minute

// bench is a run in progress.
type bench struct {
	*options
	root       string
	cpus       []int
	scenarios  []scenario.Scenario
	candidates []*candidate
	plan       plan
	report     *report.Report
	progress   *progress
	capacity   float64
	crew       crew
	errs       io.Writer
}

// do does what the command line asks for.
func (o *options) do(ctx context.Context, out, errs io.Writer) error {
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	root, rootErr := findRoot(dir)
	b := &bench{options: o, root: root, cpus: host.Spread(host.CPUs(), host.Core), errs: errs}
	if o.readme != "" {
		if rootErr != nil {
			return rootErr
		}
		return updateReadme(root, o.readme)
	}
	if len(b.cpus) == 0 {
		return errors.New("it needs Linux: the generator stands on epoll, and the servers on io_uring and epoll")
	}
	if (o.compare || o.against != "") && rootErr != nil {
		return rootErr
	}
	if b.scenarios, err = scenario.Select(scenario.All(host.NoFile()), o.run); err != nil {
		return err
	}
	if o.run == "" && !o.compare && !o.list && !o.smoke {
		b.scenarios = scenario.Usual(b.scenarios)
	}
	if o.list {
		for _, s := range b.scenarios {
			fmt.Fprintf(out, "%-18s %s\n", s.Name, s.Why)
		}
		return nil
	}
	return b.measureAll(ctx, out)
}

// errNothing is the answer to a Ctrl-C that comes early.
var errNothing = errors.New("interrupted before anything was measured")

// measureAll runs what was chosen, and reports what it gave, whole or not.
func (b *bench) measureAll(ctx context.Context, out io.Writer) error {
	if !b.smoke {
		dir, err := b.folder()
		if err != nil {
			return err
		}
		b.out = dir
	}
	started, busy, own := time.Now(), host.Busy(), host.SelfCPU()
	b.report = &report.Report{Version: report.Version, Started: started, Command: append([]string{"bench"}, b.args...),
		Environment: host.Read(ctx, b.root), Layout: b.layout()}
	dir, err := "", error(nil)
	if b.against != "" || b.compare {
		if dir, err = os.MkdirTemp(os.Getenv("GOTMPDIR"), "penstock-bench-"); err != nil {
			return err
		}
		defer func() { _ = os.RemoveAll(dir) }()
	}
	err = b.choose(ctx, dir)
	if ctx.Err() != nil {
		return errNothing
	}
	if err != nil {
		return err
	}
	b.fit()
	if b.smoke {
		b.plan = newPlan(b.scenarios, b.takers, 0, 1)
		b.plan.warm, b.plan.window = smokeWarm, smokeWindow
	} else {
		b.plan = newPlan(b.scenarios, b.takers, b.budget, b.rounds)
		fmt.Fprintf(b.errs, "%d scenarios, %d subjects, %d rounds of %v each: about %v\n",
			len(b.scenarios), len(b.alive()), b.plan.rounds, b.plan.window.Round(time.Millisecond), b.plan.total.Round(time.Second))
	}
	b.report.Rounds, b.report.Warm, b.report.Window = b.plan.rounds, b.plan.warm, b.plan.window
	b.progress = newProgress(b.errs, b.plan.steps)
	for _, s := range b.scenarios {
		if ctx.Err() == nil {
			b.scenario(ctx, s)
		}
	}
	b.progress.end()
	if ctx.Err() != nil {
		b.report.Partial = "it was interrupted"
	}
	b.report.Took = time.Since(started)
	e := &b.report.Environment
	e.LoadAfter = host.Load()
	e.Foreign = max(0, float64(host.Busy()-busy-(host.SelfCPU()-own))/float64(b.report.Took))
	return b.finish(out)
}

// choose decides who is measured. dir is for what is built for it.
func (b *bench) choose(ctx context.Context, dir string) error {
	if b.target != "" {
		return b.chooseTarget(ctx)
	}
	list, err := b.ours()
	if err != nil {
		return err
	}
	if b.against != "" {
		fmt.Fprintf(b.errs, "building the library at %s\n", b.against)
		program, commit, err := b.revision(ctx, b.against, dir)
		if err != nil {
			return err
		}
		list = withRevision(list, b.against, commit, program)
	}
	if b.compare {
		fmt.Fprintln(b.errs, "building the peers")
		peers, err := b.peers(ctx, dir)
		if err != nil && ctx.Err() == nil {
			b.note("%v; the run goes on without peers", err)
		}
		peers = slices.DeleteFunc(peers, func(p *candidate) bool { return !p.wanted(b.scenarios) })
		for _, p := range peers {
			p.Base = list[0].Name
		}
		list = append(list, peers...)
	}
	for _, c := range list {
		b.try(ctx, c)
	}
	b.candidates = again(list)
	for _, c := range b.candidates {
		if c.Error == "" && !b.has(c.Base) { // What it was to be compared with is not there.
			c.Base = b.alive()[0].Name
		}
		b.report.Subjects = append(b.report.Subjects, c.Subject)
		if c.Error != "" && ctx.Err() == nil {
			fmt.Fprintf(b.errs, "%s is not there: %s\n", c.Name, c.Error)
		}
	}
	if len(b.alive()) == 0 {
		return errors.New("no subject runs here")
	}
	return nil
}

// chooseTarget measures a server that runs already.
func (b *bench) chooseTarget(ctx context.Context) error {
	addr, ok := strings.CutPrefix(b.target, "tcp://")
	if !ok || addr == "" {
		return fmt.Errorf("-target: %q is not tcp://host:port", b.target)
	}
	if _, err := host.RSS(b.pid); b.pid != 0 && err != nil {
		return fmt.Errorf("-pid: no process %d runs here", b.pid)
	}
	b.target, b.report.Target = addr, b.target
	c := &candidate{Subject: report.Subject{Name: "target", Base: "target", How: "the server at tcp://" + addr}, protocols: []string{"echo"}}
	b.candidates = again([]*candidate{c})
	for _, c := range b.candidates {
		b.report.Subjects = append(b.report.Subjects, c.Subject)
	}
	b.scenarios = slices.DeleteFunc(b.scenarios, func(s scenario.Scenario) bool {
		return s.Protocol != "echo" || s.Own || s.Loops > 1 || b.pid == 0 && (s.Kind == scenario.Memory || s.Kind == scenario.Slow)
	})
	if len(b.scenarios) == 0 {
		return errors.New("-run: none of these can be measured at a -target; with -pid there are more")
	}
	_, err := load.Run(ctx, load.Spec{Target: addr, Shape: load.Closed, Conns: 1, Size: 1, Depth: 1, Window: time.Millisecond, Drain: 2 * time.Second}, func() {})
	if err != nil && !errors.Is(err, load.ErrReach) {
		err = fmt.Errorf("%s does not echo: %w", b.report.Target, err)
	}
	return err
}

func (b *bench) alive() []*candidate {
	return slices.DeleteFunc(slices.Clone(b.candidates), func(c *candidate) bool { return c.Error != "" })
}

func (b *bench) has(name string) bool {
	return slices.ContainsFunc(b.alive(), func(c *candidate) bool { return c.Name == name })
}

func (b *bench) takers(s scenario.Scenario) int {
	n := 0
	for _, c := range b.candidates {
		if c.runs(s) {
			n++
		}
	}
	return n
}

func (b *bench) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	b.report.Notes = append(b.report.Notes, text)
	fmt.Fprintln(b.errs, text)
}

// fit lowers what the limits of this process do not allow.
func (b *bench) fit() {
	for i := range b.scenarios {
		if b.smoke {
			b.scenarios[i].Shrink()
		}
		if note := b.scenarios[i].Fit(b.report.Environment.NoFile); note != "" {
			b.note("%s", note)
		}
	}
	if len(b.cpus) == 1 {
		b.note("one CPU: server and generator share it; the generator sleeps between messages, and latencies hold its wakes too")
	}
}

// scenario runs one, round by round.
func (b *bench) scenario(ctx context.Context, s scenario.Scenario) {
	row := report.Scenario{Name: s.Name, Why: s.Why, Kind: s.Kind, Fewer: s.Fewer}
	for _, v := range s.Variants {
		row.Variants = append(row.Variants, v.Name)
	}
	rounds := b.plan.of(s)
	if s.CPUs > len(b.cpus) {
		row.Note = fmt.Sprintf("figures need %d CPUs and there are %d; it was only seen to work", s.CPUs, len(b.cpus))
		b.progress.skip((rounds - 1) * b.takers(s) * len(s.Variants))
		rounds = 1
	}
	b.report.Scenarios = append(b.report.Scenarios, row)
	if err := b.needCapacity(ctx, s); err != nil {
		b.report.Runs = append(b.report.Runs, report.Run{Scenario: s.Name, Error: err.Error()})
		return
	}
	defer func() { b.crew.end() }()
	for round := range rounds {
		if round%lifetime == 0 {
			b.crew.end()
			b.crew = b.hire(ctx, s)
		}
		b.round(ctx, s, round)
	}
	b.progress.done(s.Name)
	if s.Name == scenario.CapacityOf {
		b.learnCapacity(b.report.Runs)
	}
}

// round measures everybody once.
func (b *bench) round(ctx context.Context, s scenario.Scenario, round int) {
	for _, i := range stats.Rotate(len(b.candidates), round) {
		c := b.candidates[i]
		for _, v := range s.Variants {
			if !c.runs(s) || ctx.Err() != nil {
				continue
			}
			b.progress.step(s.Name, c.Name)
			run := b.measure(ctx, s, v, c)
			run.Round = round
			if ctx.Err() == nil { // An interrupted one says nothing.
				b.report.Runs = append(b.report.Runs, run)
			}
		}
	}
}

// learnCapacity takes the throughput of the subject that others are compared
// with, or that of gnet if it is less: so the rates that follow are below the
// capacity of both that a goal compares, and one slow peer does not decide.
func (b *bench) learnCapacity(runs []report.Run) {
	rates := map[string][]float64{}
	for _, run := range runs {
		if run.Scenario == scenario.CapacityOf && run.Result != nil && run.Result.Messages > 0 {
			rates[run.Subject] = append(rates[run.Subject], run.Result.PerSecond())
		}
	}
	b.capacity = capacity(b.alive()[0].Base, rates)
}

func capacity(base string, rates map[string][]float64) float64 {
	gnet := 0.0
	for name, r := range rates {
		if strings.HasPrefix(name, "gnet") {
			gnet = max(gnet, stats.Median(r))
		}
	}
	switch own := rates[base]; {
	case len(own) == 0:
		return gnet
	case gnet > 0:
		return min(gnet, stats.Median(own))
	default:
		return stats.Median(own)
	}
}

// needCapacity measures it when a scenario needs it and nothing has before.
func (b *bench) needCapacity(ctx context.Context, s scenario.Scenario) error {
	if b.capacity > 0 || !slices.ContainsFunc(s.Variants, func(v scenario.Variant) bool { return v.Capacity > 0 }) {
		return nil
	}
	echo := scenario.Scenario{Name: scenario.CapacityOf, Protocol: "echo", Loops: 1}
	v := scenario.Variant{Load: load.Spec{Shape: load.Closed, Conns: 64, Size: 64, Depth: 1}}
	var runs []report.Run
	why := errors.New("there was no answer in time")
	for _, c := range slices.Repeat(b.candidates, 2) { // A busy machine may give nothing in one window.
		if c.runs(s) && ctx.Err() == nil {
			run := b.measure(ctx, echo, v, c)
			if run.Error != "" {
				why = errors.New(run.Error)
			}
			runs = append(runs, run)
		}
	}
	if b.learnCapacity(runs); b.capacity == 0 {
		return fmt.Errorf("the capacity, from which the rates follow, could not be measured: %w", why)
	}
	return nil
}

// measure measures one subject once, or twice when others had the CPUs and there is
// time left for it: on a machine that is never quiet nothing is gained by twice the time.
func (b *bench) measure(ctx context.Context, s scenario.Scenario, v scenario.Variant, c *candidate) report.Run {
	first := b.once(ctx, s, v, c)
	if b.smoke || b.plan.spare <= 0 || first.Result == nil || first.Result.Waited < report.Disturbed {
		return first
	}
	start := time.Now()
	second := b.once(ctx, s, v, c)
	b.plan.spare -= time.Since(start)
	if second.Result == nil || second.Result.Waited < first.Result.Waited {
		return second
	}
	return first
}

func (b *bench) once(ctx context.Context, s scenario.Scenario, v scenario.Variant, c *candidate) (run report.Run) {
	run = report.Run{Scenario: s.Name, Variant: v.Name, Subject: c.Name}
	ctx, cancel := context.WithTimeout(ctx, b.plan.window+patience)
	defer cancel()
	var err error
	if run.Result, run.Stats, err = b.attempt(ctx, s, v, c); err != nil {
		if errors.Is(ctx.Err(), context.DeadlineExceeded) {
			err = fmt.Errorf("no answer within %v", b.plan.window+patience)
		}
		run.Error = err.Error()
	}
	return run
}

func (b *bench) attempt(ctx context.Context, s scenario.Scenario, v scenario.Variant, c *candidate) (*load.Result, *subject.Stats, error) {
	serverCPUs, loadCPUs := b.place(s.Loops)
	spec := v.Load
	spec.Target, spec.PID = b.target, b.pid
	spec.Warm, spec.Window, spec.CPUs = b.plan.warm, b.plan.window, loadCPUs
	spec.Spin = !slices.Equal(serverCPUs, loadCPUs)
	if v.Capacity > 0 {
		spec.Rate = max(100, v.Capacity*b.capacity)
	}
	if c.path == "" {
		r, err := generate(ctx, nil, spec, func() {})
		return r, nil, err
	}
	server := b.crew[c]
	if server == nil {
		var err error
		if server, err = b.serve(ctx, s, c); err != nil {
			return nil, nil, err
		}
		defer server.end()
	}
	spec.Target, spec.PID = server.addr, server.cmd.Process.Pid
	var before *subject.Stats
	var asked error
	r, err := generate(ctx, loadCPUs, spec, func() {
		if c.Own {
			before, asked = server.stats(ctx)
		}
	})
	if err = errors.Join(err, asked); err != nil || !c.Own {
		if err != nil {
			b.crew.dismiss(c)
			if line := server.errors.line(); line != "" {
				err = fmt.Errorf("%w; the server said: %s", err, line)
			}
		}
		return r, nil, err
	}
	after, err := server.stats(ctx)
	if err != nil {
		b.crew.dismiss(c)
	}
	if err != nil || before == nil {
		return r, nil, err
	}
	after.Enters -= before.Enters
	after.Turns -= before.Turns
	after.Starved -= before.Starved
	return r, after, nil
}
