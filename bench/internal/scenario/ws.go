package scenario

import (
	"slices"
	"strings"

	"github.com/penstock-go/penstock/bench/internal/load"
)

// TakeoverWindow is the window of each direction in the protocol ws-deflate, in
// bytes: that which gws takes by default, so that the two do the same work.
const TakeoverWindow = 4 << 10

// webSockets lists what is run over WebSockets.
func webSockets() []Scenario {
	echo := func(name, why string, conns, size, depth int) Scenario {
		return Scenario{Name: name, Why: why, Kind: CPU, Protocol: "ws",
			Variants: one(load.Spec{Shape: load.Closed, WS: load.Plain, Conns: conns, Size: size, Depth: depth})}
	}
	all := []Scenario{
		echo("ws-echo-64-c1", "a WebSocket, 64 B: sleep and wake at each message, and framing", 1, 64, 1),
		echo("ws-echo-64-c64", "64 WebSockets, 64 B: what framing costs beside echo-64-c64", 64, 64, 1),
		echo("ws-echo-64-c1000", "1000 WebSockets, 64 B: whether many cost more a message", 1000, 64, 1),
		echo("ws-echo-64-c64-d16", "64 B, 16 in flight: little system call a message, so framing and unmasking weigh most", 64, 64, 16),
		echo("ws-echo-1k-c64", "1 KiB: the size of a usual message", 64, 1<<10, 1),
		echo("ws-echo-16k-c64", "16 KiB: where unmasking and copying weigh", 64, 16<<10, 1),
		{Name: "ws-broadcast-c1000", Why: "a message of 1 KiB to 1000 WebSockets: framed once", Kind: CPU, Protocol: "ws-fanout",
			Variants: one(load.Spec{Shape: load.Fanout, WS: load.Plain, Conns: 1000, Size: 1 << 10})},
		{Name: "ws-broadcast-deflate", Why: "1 KiB of JSON to 1000 WebSockets that take it compressed, without context takeover: compressed once", Kind: CPU, Protocol: "ws-fanout",
			Variants: one(load.Spec{Shape: load.Fanout, WS: load.DeflateAlone, Conns: 1000, Size: 1 << 10})},
		{Name: "ws-deflate-1k", Why: "1 KiB of JSON, compressed both ways with context takeover, windows of 4 KiB", Kind: CPU, Protocol: "ws-deflate",
			Variants: one(load.Spec{Shape: load.Closed, WS: load.Deflate, Conns: 64, Size: 1 << 10, Depth: 1})},
		{Name: "ws-idle-10k", Why: "10000 WebSockets that compress without context takeover: resident memory of each, before and after one echo", Kind: Memory, Protocol: "ws",
			Variants: one(load.Spec{Shape: load.Idle, WS: load.DeflateAlone, Conns: 10_000, Size: 1 << 10})},
		{Name: "ws-idle-takeover", Why: "10000 WebSockets with context takeover, windows of 4 KiB: resident memory of each, before and after so many echoes that the windows are full", Kind: Memory, Protocol: "ws-deflate",
			Variants: one(load.Spec{Shape: load.Idle, WS: load.Deflate, Conns: 10_000, Size: 1 << 10, Echoes: TakeoverWindow>>10 + 1})},
	}
	for i := range all {
		all[i].Apart = true
		if all[i].Kind == Memory {
			all[i].Rounds = 0.1
		}
	}
	return all
}

// Usual returns those that run when none is asked for by name.
func Usual(all []Scenario) []Scenario {
	return slices.DeleteFunc(slices.Clone(all), func(s Scenario) bool { return s.Apart })
}

// WebSocket reports whether the scenario needs a server of WebSockets.
func (s Scenario) WebSocket() bool { return strings.HasPrefix(s.Protocol, "ws") }
