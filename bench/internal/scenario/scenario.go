// Package scenario lists what a load test runs, each with the reason why.
package scenario

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/penstock-go/penstock/bench/internal/load"
)

// Kind says which figures of a scenario count.
type Kind string

// The kinds.
const (
	CPU     Kind = "cpu"     // CPU time a message
	Latency Kind = "latency" // of an open loop
	Memory  Kind = "memory"  // bytes a connection
	Slow    Kind = "slow"    // CPU time and latency with slow readers beside, in relation to none
	Delay   Kind = "delay"   // of a goroutine beside the loops
)

// Marks of the scenario with slow readers, in bytes.
const (
	SlowHighWater  = 64 << 10
	SlowSendBuffer = 64 << 10
	// SlowBound is what a connection whose peer does not read costs at most: a
	// queue one byte below its mark and a block that came then, a block that was
	// received before reading paused, and the connection's record.
	SlowBound = SlowHighWater - 1 + 2*(64<<10) + 1<<10
)

// Variant is one way to run a scenario; most have one.
type Variant struct {
	Name     string
	Load     load.Spec // Target, PID, times and processors are filled in
	Capacity float64   // Load.Rate is this share of the measured capacity
}

// Scenario is one thing to measure.
type Scenario struct {
	Name     string
	Why      string
	Kind     Kind
	Protocol string
	Loops    int
	CPUs     int      // a machine needs for the figures to mean something
	Args     []string // for the subjects of this library
	Rounds   float64  // of the default number
	Own      bool     // only for the subjects of this library
	Apart    bool     // runs when it is asked for, or with the peers: there is no time for it else
	Fewer    bool     // connections than it is made for, since Fit
	Variants []Variant
}

// CapacityOf is the scenario from whose throughput the capacity follows.
const CapacityOf = "echo-64-c64"

func one(l load.Spec) []Variant { return []Variant{{Load: l}} }

func closed(conns, size, depth int) []Variant {
	return one(load.Spec{Shape: load.Closed, Conns: conns, Size: size, Depth: depth})
}

// All lists every scenario, for a process with so many descriptors.
func All(nofile int) []Scenario {
	all := []Scenario{
		{Name: "echo-64-c1", Why: "one connection, 64 B: sleep and wake of the server at each message", Variants: closed(1, 64, 1)},
		{Name: CapacityOf, Why: "64 connections, 64 B: what a message costs when messages come in bunches", Variants: closed(64, 64, 1)},
		{Name: "echo-64-c1000", Why: "1000 connections, 64 B: whether many connections cost more a message", Variants: closed(1000, 64, 1)},
		{Name: "echo-64-c64-d16", Why: "64 B, 16 in flight: one read with many messages, little system call a message", Variants: closed(64, 64, 16)},
		{Name: "echo-1k-c64", Why: "1 KiB: the size of a usual request", Variants: closed(64, 1<<10, 1)},
		{Name: "echo-16k-c64", Why: "16 KiB: where copying begins to weigh", Variants: closed(64, 16<<10, 1)},
		{Name: "echo-256k-c16", Why: "256 KiB: bulk, where receives must grow while they are filled", Variants: closed(16, 256<<10, 1)},
		{Name: "small-writes-c64", Why: "1 KiB answered by 16 writes of 64 B: many small writes a connection a turn", Protocol: "pieces", Variants: closed(64, 1<<10, 1)},
		{Name: "fanout-64-c1000", Why: "one payload of 64 B to 1000 subscribers: a turn of nothing but sends", Protocol: "fanout",
			Variants: one(load.Spec{Shape: load.Fanout, Conns: 1000, Size: 64})},
		{Name: "fanout-1k-c1000", Why: "one payload of 1 KiB to 1000 subscribers: shared, not copied", Protocol: "fanout",
			Variants: one(load.Spec{Shape: load.Fanout, Conns: 1000, Size: 1 << 10})},
		{Name: "short-c64", Why: "connect, one echo of 64 B, close: what a connection costs from accept to close",
			Variants: one(load.Spec{Shape: load.Short, Conns: 64, Size: 64})},
		{Name: "alloc-c64", Why: "an echo whose handler keeps 8 MiB alive and makes 1 KiB of garbage a message: the collector beside the loop", Protocol: "alloc",
			Variants: closed(64, 64, 1)},
		{Name: "loops-2", Why: "two loops: whether they stay out of each other's way", Loops: 2, CPUs: 4, Variants: closed(256, 64, 1)},
	}
	for i := range all {
		all[i].Kind = CPU
	}
	for _, share := range []int{25, 50, 75} {
		all = append(all, Scenario{Name: fmt.Sprint("open-", share), Kind: Latency, Rounds: 0.6,
			Why:      fmt.Sprintf("64 B on 64 connections at %d %% of the measured capacity, whatever the server does: latency without omission", share),
			Variants: []Variant{{Load: load.Spec{Shape: load.Open, Conns: 64, Size: 64}, Capacity: float64(share) / 100}}})
	}
	fast := load.Spec{Shape: load.Closed, Conns: 64, Size: 64, Depth: 1, Beside: 1000}
	stalled := fast
	stalled.Stalled = 512 << 10
	all = append(all,
		Scenario{Name: "slow-readers", Kind: Slow, Rounds: 0.25, Args: []string{"--high-water", fmt.Sprint(SlowHighWater), "--send-buffer", fmt.Sprint(SlowSendBuffer)},
			Why:      "64 fast connections beside 1000 that are silent, or that send and never read: the fast ones must not pay for the slow",
			Variants: []Variant{{Name: "none", Load: fast}, {Name: "stalled", Load: stalled}}},
		Scenario{Name: "idle-10k", Kind: Memory, Rounds: 0.1, Why: "10000 connections that do nothing: resident memory a connection, before and after one echo each",
			Variants: one(load.Spec{Shape: load.Idle, Conns: 10_000, Size: 64})},
		Scenario{Name: "idle-max", Kind: Memory, Rounds: 0.1, Why: "the same with as many as the limits allow",
			Variants: one(load.Spec{Shape: load.Idle, Conns: max(1, min(nofile-Spare, MaxIdle)), Size: 64})},
		Scenario{Name: "goroutine-delay", Kind: Delay, Rounds: 0.1, Args: []string{"--sleeper"}, Own: true,
			Why: "a goroutine beside the loop that sleeps 1 ms: how late it wakes while the loop is idle, half loaded and saturated",
			Variants: []Variant{
				{Name: "idle", Load: load.Spec{Shape: load.None}},
				{Name: "half", Load: load.Spec{Shape: load.Open, Conns: 64, Size: 64}, Capacity: 0.5},
				{Name: "full", Load: load.Spec{Shape: load.Closed, Conns: 64, Size: 64, Depth: 1}},
			}},
	)
	all = append(all, webSockets()...)
	for i := range all {
		all[i].fill()
	}
	return all
}

// Spare is how many descriptors a server and a generator need beside those of
// their connections, and MaxIdle what idle-max stops at on generous machines.
const (
	Spare   = 100
	MaxIdle = 50_000
)

func (s *Scenario) fill() {
	if s.Protocol == "" {
		s.Protocol = "echo"
	}
	if s.Loops == 0 {
		s.Loops = 1
	}
	if s.Rounds == 0 {
		s.Rounds = 1
	}
}

// Select returns those whose names match the expression.
func Select(all []Scenario, expression string) ([]Scenario, error) {
	re, err := regexp.Compile(expression)
	if err != nil {
		return nil, fmt.Errorf("-run: %w", err)
	}
	var some []Scenario
	var names []string
	for _, s := range all {
		names = append(names, s.Name)
		if re.MatchString(s.Name) {
			some = append(some, s)
		}
	}
	if len(some) == 0 {
		return nil, fmt.Errorf("-run: %q matches none of %s", expression, strings.Join(names, ", "))
	}
	return some, nil
}

// Fit lowers the numbers of connections to what a process with so many
// descriptors can have, and says so.
func (s *Scenario) Fit(nofile int) (note string) {
	room := max(1, nofile-Spare)
	for i := range s.Variants {
		l := &s.Variants[i].Load
		if want := l.Conns + l.Beside; want > room {
			l.Beside = room * l.Beside / want
			l.Conns = max(1, room-l.Beside)
			s.Fewer = true
			note = fmt.Sprintf("%s: the limit of %d descriptors allows %d connections instead of %d (ulimit -n)", s.Name, nofile, room, want)
		}
	}
	return note
}

// Shrink makes a scenario small, to see that it works.
func (s *Scenario) Shrink() {
	for i := range s.Variants {
		l := &s.Variants[i].Load
		l.Conns, l.Beside = min(l.Conns, 200), min(l.Beside, 50)
		l.Stalled = min(l.Stalled, 256<<10)
	}
}
