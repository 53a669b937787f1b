package report

import (
	"fmt"

	"github.com/penstock-go/penstock/bench/internal/scenario"
	"github.com/penstock-go/penstock/bench/internal/stats"
)

// webSocketGoal is the limits of one scenario against the best peer in Go of some,
// on machines of either kind, and on any.
type webSocketGoal struct {
	scenario                  string
	isolated, cheap, anywhere float64
	called                    string
	peers                     []string
}

func webSocketRows() []webSocketGoal {
	goes := []string{"gws", "gobwas", "gorilla", "coder", "nbio"}
	const best = "the best of Go"
	return []webSocketGoal{
		{"ws-echo-64-c64", 0.50, 0.70, 0, best, goes},
		{"ws-echo-64-c1000", 0.50, 0.70, 0, best, goes},
		{"ws-echo-64-c64-d16", 0.50, 0.70, 0, best, goes},
		{"ws-echo-1k-c64", 0.50, 0.70, 0, best, goes},
		{"ws-echo-16k-c64", 0.70, 0.80, 0, best, goes},
		{"ws-broadcast-c1000", 0.40, 0.60, 0, "gws", goes[:1]},
		{"ws-broadcast-deflate", 0.40, 0.60, 0, "gws", goes[:1]},
		{"ws-deflate-1k", 0, 0, 0.80, "gws", goes[:1]},
	}
}

// Limits that stand alone.
const (
	webSocketOfRaw = 1.15 // an echo of 64 B against the same without framing
	webSocketOfBun = 0.90
	webSocketBytes = 600
	// takeoverBytes is what a connection with context takeover may cost beside its
	// two windows.
	takeoverBytes = 1 << 10
)

// webSocketGoals evaluates what is asked of WebSockets.
func (r *Report) webSocketGoals() []Goal {
	var all []Goal
	isolated, _ := r.Column()
	for _, row := range webSocketRows() {
		peer, ok := r.best(row.scenario, "", cpuTime, row.peers...)
		limit := row.anywhere
		switch {
		case limit > 0:
		case isolated:
			limit = row.isolated
		default:
			limit = row.cheap
		}
		all = append(all, r.against(row.scenario, "uring", peer, ok, row.called, limit, ""))
	}
	for _, form := range []string{"c1", "c64", "c1000", "c64-d16"} {
		row, raw := "ws-echo-64-"+form, "echo-64-"+form
		g := Goal{Row: row, What: "uring against its own " + raw, Limit: webSocketOfRaw, Verdict: Open}
		if _, ok := r.median(raw, "", "uring", cpuTime); !ok {
			g.Note = "needs " + raw + " in the same run"
		}
		ratio := stats.Pair(r.values(row, "", "uring", cpuTime), r.values(raw, "", "uring", cpuTime))
		all = append(all, g.judge(ratio, r.noise(row, "", cpuTime)))
		bun, ok := r.best(row, "", cpuTime, "bun")
		all = append(all, r.against(row, "uring", bun, ok, "bun", webSocketOfBun, ""))
	}
	for _, engine := range []string{"uring", "epoll"} {
		all = append(all, r.webSocketMemory("ws-idle-10k", engine, webSocketBytes, "")...)
		all = append(all, r.webSocketMemory("ws-idle-takeover", engine, takeoverBytes, " beside the windows")...)
	}
	return all
}

// webSocketMemory are the goals on a WebSocket before it has said anything, and, of
// one with takeover, when its windows are full.
func (r *Report) webSocketMemory(row, engine string, limit float64, beside string) []Goal {
	before := Goal{Row: row, What: engine + ": resident memory an idle WebSocket", Limit: limit, Unit: "B", Verdict: Open}
	idle, after, conns := r.memory(row, engine)
	switch {
	case conns >= idleConns:
		before = before.settle(idle)
	case conns > 0: // What a process holds once weighs on few.
		before.Note = fmt.Sprintf("needs %d connections: at %d it is %.0f B", idleConns, conns, idle)
	}
	if beside == "" {
		return []Goal{before}
	}
	full := Goal{Row: row, What: engine + ": the same with full windows," + beside, Limit: limit, Unit: "B", Verdict: Open}
	if conns >= idleConns {
		full = full.settle(after - 2*scenario.TakeoverWindow)
	}
	return []Goal{before, full}
}
