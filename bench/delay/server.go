package main

import (
	"encoding/json"
	"log/slog"
	"os"
	"runtime"
	"runtime/metrics"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// warmUp is how long the server and the generator run before they measure.
const warmUp = 100 * time.Millisecond

// serverCmd is the process that is measured: an echo server with company.
type serverCmd struct {
	Engine string
	Loops  int
	Procs  int
	Beside string
	Many   int
	Steps  int
	Each   time.Duration
}

// Run prints the address, waits for a line on stdin, measures, and prints the
// report. It ends when stdin does.
func (c *serverCmd) Run() error {
	runtime.GOMAXPROCS(c.Procs)
	kind, err := reactor.ParseEngine(c.Engine)
	if err != nil {
		return err
	}
	group, err := reactor.Start(reactor.Config{Loops: c.Loops, Engine: kind, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	echo := &conn.Funcs{Data: func(p *conn.Conn, in *buf.Buf) {
		compute(c.Steps)
		p.Send(in)
	}}
	l, err := conn.Listen(group, "tcp", "127.0.0.1:0", echo, conn.Config{PauseOnFull: true})
	if err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(l.Addr().String()); err != nil {
		return err
	}
	if err := waitLine(); err != nil {
		return err
	}
	startCompany(c.Beside, c.Many)
	time.Sleep(warmUp)
	if err := out.Encode(c.measure(group)); err != nil {
		return err
	}
	_ = waitLine() // The generator may still be sending.
	return group.Close()
}

// waitLine waits for a line on stdin.
func waitLine() error {
	var line [1]byte
	_, err := os.Stdin.Read(line[:])
	return err
}

// measure sleeps 1 ms again and again and looks how late it wakes.
func (c *serverCmd) measure(group *reactor.Group) serverReport {
	const pauses = "/sched/pauses/total/gc:seconds"
	before, after := []metrics.Sample{{Name: pauses}}, []metrics.Sample{{Name: pauses}}
	late := newHistogram()
	metrics.Read(before)
	used := readClocks(group)
	for end := time.Now().Add(c.Each); time.Now().Before(end); {
		start := time.Now()
		time.Sleep(time.Millisecond)
		record(late, time.Since(start)-time.Millisecond)
	}
	busy := readClocks(group).over(used)
	metrics.Read(after)
	return serverReport{
		Late:   summarize(late),
		Pauses: since(before[0].Value.Float64Histogram(), after[0].Value.Float64Histogram()),
		Busy:   busy,
	}
}

// clocks are the CPU times of the loops' threads, and when each was read.
type clocks struct{ used, at []time.Duration }

// readClocks reads each on its loop.
func readClocks(group *reactor.Group) clocks {
	type reading struct{ used, at time.Duration }
	start := processStart
	var c clocks
	for i := range group.Len() {
		answer := make(chan reading, 1)
		group.Loop(i).Post(func(*reactor.Loop) { answer <- reading{threadCPU(), time.Since(start)} })
		r := <-answer
		c.used, c.at = append(c.used, r.used), append(c.at, r.at)
	}
	return c
}

// over returns which part of the time since b the loops' threads have run.
func (c clocks) over(b clocks) float64 {
	share := 0.0
	for i := range c.used {
		share += float64(c.used[i]-b.used[i]) / float64(c.at[i]-b.at[i])
	}
	return share / float64(len(c.used))
}

var processStart = time.Now()
