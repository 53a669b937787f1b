// Bench is the load test of this library: what a message costs, how long it
// takes, and what a connection holds, on the machine it runs on.
//
//	go run ./bench                     this library's two engines, about three minutes
//	go run ./bench -compare            the peers beside it, in the same run
//	go run ./bench -run 'echo|idle'    some of the scenarios; -list names them
//	go run ./bench -against HEAD~1     the working tree against a revision, pair by pair
//	go run ./bench -target tcp://127.0.0.1:8484
//	go run ./bench -readme bench/results/FILE.json
//
// It prints tables and writes report.html and report.json into bench/out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/bench/internal/load"
	"github.com/penstock-go/penstock/bench/internal/subject"
)

// The roles in which the program starts itself.
const (
	roleSubject = "subject"
	roleLoad    = "load"
)

func main() {
	os.Exit(start(os.Args[1:]))
}

// start runs the program in the role that its first argument names.
func start(args []string) int {
	if len(args) > 0 {
		var err error
		switch args[0] {
		case roleSubject:
			err = subject.Main(args[1:], os.Stdin, os.Stdout, os.Stderr)
		case roleLoad:
			err = load.Main(os.Stdin, os.Stdout)
		default:
			return tool(args, os.Stdout, os.Stderr)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		return 0
	}
	return tool(args, os.Stdout, os.Stderr)
}

// errUsage has been told by the package flag.
var errUsage = errors.New("usage")

func tool(args []string, out, errs io.Writer) int {
	// Notified, so that the first Ctrl-C ends the run and not the program; the
	// second ends the program, and with it those that it started.
	ends := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // It is by nohup; else a terminal that goes leaves a report too.
		ends = append(ends, syscall.SIGHUP)
	}
	// A write to a pipe that nobody reads any more is an error and not the end.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), ends...)
	defer stop()
	go func() {
		<-ctx.Done()
		stop()
	}()
	o, err := parse(args, errs)
	if err == nil {
		err = o.do(ctx, out, errs)
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errUsage):
		return 2
	case err != nil:
		fmt.Fprintln(errs, "bench:", err)
		return 1
	}
	return 0
}

// options are the command line.
type options struct {
	compare bool
	against string
	run     string
	target  string
	pid     int
	readme  string
	out     string
	name    string
	budget  time.Duration
	rounds  int
	engines string
	list    bool
	smoke   bool
	args    []string
}

func parse(args []string, errs io.Writer) (*options, error) {
	o := &options{args: args}
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(errs)
	f.BoolVar(&o.compare, "compare", false, "measure the peers of bench/compare too")
	f.StringVar(&o.against, "against", "", "compare the working tree with this git `revision`, pair by pair")
	f.StringVar(&o.run, "run", "", "run only scenarios whose names match this `regexp`")
	f.StringVar(&o.target, "target", "", "load the server at tcp://`host:port` instead")
	f.IntVar(&o.pid, "pid", 0, "process of the -target, if it runs here: for its CPU time and memory")
	f.StringVar(&o.readme, "readme", "", "write the table of README.md from this `file` of raw figures, and end")
	f.StringVar(&o.out, "out", "", "`folder` for the report (default bench/out)")
	f.StringVar(&o.name, "name", "report", "name of the report's files, without ending; auto: date and machine")
	f.DurationVar(&o.budget, "for", 0, "about how long the whole run may take (default 3m, with -compare 12m)")
	f.IntVar(&o.rounds, "rounds", 12, "rounds of each scenario")
	f.StringVar(&o.engines, "engines", "uring,epoll", "engines to measure; the first is what others are compared with")
	f.BoolVar(&o.list, "list", false, "list the scenarios, and end")
	f.BoolVar(&o.smoke, "smoke", false, "run everything small and for a moment, to see that it works")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return nil, err
		}
		return nil, errUsage
	}
	var err error
	f.Visit(func(given *flag.Flag) {
		if given.Value.String() == "" && given.Name != "run" {
			err = fmt.Errorf("-%s: nothing is named", given.Name)
		}
	})
	switch {
	case err != nil:
	case f.NArg() > 0:
		err = fmt.Errorf("unexpected %q; -run takes a regular expression, see -help", f.Arg(0))
	case o.rounds < 1:
		err = errors.New("-rounds: at least one")
	case o.name != filepath.Base(o.name):
		err = fmt.Errorf("-name: %q is more than the name of a file; -out names the folder", o.name)
	case o.budget < 0:
		err = errors.New("-for: not below 0")
	case o.target != "" && (o.compare || o.against != ""):
		err = errors.New("-target is measured alone: leave -compare and -against away")
	case o.pid != 0 && o.target == "":
		err = errors.New("-pid names the process of a -target")
	}
	if o.budget == 0 {
		o.budget = 3 * time.Minute
		if o.compare {
			o.budget = 12 * time.Minute
		}
	}
	return o, err
}
