// Command delay measures how late goroutines run beside the loops of a server,
// and what they and the garbage collector cost the loops, for several values of
// GOMAXPROCS. It starts a server and a load generator as processes of their own
// for each measurement. See docs/scheduling.md for what comes out, and why.
package main

import (
	"fmt"
	"os"
	"time"

	"github.com/alecthomas/kong"
)

// cli is the command line. The server and the generator are this program again.
type cli struct {
	Run    runCmd    `cmd:"" default:"withargs" help:"Measure, and print tables."`
	Server serverCmd `cmd:"" hidden:""`
	Load   loadCmd   `cmd:"" hidden:""`
}

// runCmd says what to measure.
type runCmd struct {
	For      time.Duration `default:"4m" help:"Time that everything may take together, when no cell has to be repeated. Default ${default}."`
	Markdown bool          `help:"Print tables as markdown."`
	Engine   []string      `default:"uring,epoll" help:"Engines. Default ${default}."`
	Place    []string      `default:"one,all,quota" help:"Where the server runs: one is one loop on one CPU, with the generator on another; all is a loop for each CPU, which the generator shares; quota is one loop on all CPUs with a cgroup quota of one. Default ${default}."`
	Procs    []string      `default:"loops,loops+1,loops+2,2*loops" help:"Values of GOMAXPROCS: loops, loops+N, N*loops or N. Default ${default}."`
	Beside   []string      `default:"nothing,computes,allocates,sleepers,gc" help:"What runs beside the loops: nothing, goroutines that compute or allocate, 1000 that sleep and wake, a collection forced every 20 ms. Default ${default}."`
	Load     []string      `default:"idle,half,full" help:"Load on the loops: none, an open loop of --rate, as much as they take. Default ${default}."`
	Rate     int           `default:"5000" help:"Messages a second at half load, over all connections. Default ${default}."`
	Many     int           `default:"1" help:"Number of goroutines that compute, or allocate. Default ${default}."`
	Steps    int           `default:"4000" help:"Multiplications that the handler does for each message, about 1 ns each: with none, the generator would be the slower side and no loop saturated. Default ${default}."`
	Rounds   int           `default:"1" help:"Measurements of each cell; the table has their medians. Default ${default}."`
	Noise    float64       `default:"0.2" help:"Repeat a measurement, up to three times, while other programs use more than so many CPUs. Default ${default}."`
	Wait     time.Duration `default:"0s" help:"Time to wait for other programs to become as quiet as --noise says, before each measurement. Default ${default}."`
}

func main() {
	var c cli
	ctx := kong.Parse(&c, kong.Name("delay"),
		kong.Description("Measure the delay of goroutines beside the loops of a server, by GOMAXPROCS."))
	if err := ctx.Run(); err != nil {
		fmt.Fprintf(os.Stderr, "delay: %v\n", err)
		os.Exit(1)
	}
}
