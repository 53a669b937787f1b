package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/penstock-go/penstock/bench/internal/scenario"
)

// lifetime is for how many rounds a server runs. The less time passes between two
// measurements that are compared the better, and to start a server takes some of it. After
// that come new ones: what depends on where a process has its memory differs from one to
// the next.
const lifetime = 2

// crew is the servers that run from round to round, idle while others are measured.
type crew map[*candidate]*server

// hire starts the servers of a scenario that may run on. Where memory is what counts, that
// is nobody: each measurement has a new process, as has each of who is not in the crew.
func (b *bench) hire(ctx context.Context, s scenario.Scenario) crew {
	all := crew{}
	if s.Kind != scenario.CPU && s.Kind != scenario.Latency {
		return all
	}
	for _, c := range b.candidates {
		if c.path == "" || !c.runs(s) || ctx.Err() != nil {
			continue
		}
		if server, err := b.serve(ctx, s, c); err == nil { // Else it is tried, and told, when its turn comes.
			all[c] = server
		}
	}
	return all
}

// serve starts the server of a candidate.
func (b *bench) serve(ctx context.Context, s scenario.Scenario, c *candidate) (*server, error) {
	cpus, _ := b.place(s.Loops)
	args := append(slices.Clone(c.args), "--protocol", s.Protocol, "--listen", "127.0.0.1:0", "--loops", fmt.Sprint(s.Loops))
	if c.Own {
		args = append(args, s.Args...)
	}
	return startServer(ctx, cpus, c.path, args...)
}

// dismiss ends the server of a candidate that has failed. It has a new one for each
// measurement until the next are hired.
func (all crew) dismiss(c *candidate) {
	if server := all[c]; server != nil {
		server.end()
		delete(all, c)
	}
}

// end ends everybody.
func (all crew) end() {
	for _, server := range all {
		_ = server.in.Close() // They end beside one another.
	}
	for c := range all {
		all.dismiss(c)
	}
}
