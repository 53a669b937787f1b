// Command firehose shows a send queue at work: a server that sends as fast as
// it is read, and a reader whose speed the keys + and - change. The terminal
// shows the reader's queue against its marks, how often it was full and drained,
// and what goes in and out.
//
//	go run ./examples/firehose
//
// Beside it the server takes other clients, with the protocol of
// 'penstock serve firehose':
//
//	printf 'SEND 1000000 abc\nQUIT\n' | nc 127.0.0.1 8484 | sha256sum
//
// Without a terminal it prints one line a second.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "firehose:", err)
		os.Exit(1)
	}
}

// options is the command line.
type options struct {
	listen    string
	engine    reactor.EngineKind
	loops     int
	high, low int
	rate      int64
	length    time.Duration
}

func parse(args []string) (o options, err error) {
	var engine string
	f := flag.NewFlagSet("firehose", flag.ExitOnError)
	f.StringVar(&o.listen, "listen", "127.0.0.1:8484", "`address` to listen on; port 0 takes a free one")
	f.StringVar(&engine, "engine", "auto", "`engine`: auto, uring or epoll")
	f.IntVar(&o.loops, "loops", 0, "`number` of loops; 0 is one for each CPU")
	f.IntVar(&o.high, "high", conn.DefaultHighWater, "high water of a send queue, in `bytes`")
	f.IntVar(&o.low, "low", 0, "low water of a send queue, in `bytes`")
	f.Int64Var(&o.rate, "rate", 8<<20, "what the reader reads at first, in `bytes` a second; 0 pauses it")
	f.DurationVar(&o.length, "for", 0, "stop after this `time`; 0 runs until q or Ctrl-C")
	_ = f.Parse(args) // It exits by itself.
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", f.Arg(0))
	}
	if o.rate < 0 || o.length < 0 {
		return o, fmt.Errorf("-rate and -for are not below 0")
	}
	o.engine, err = reactor.ParseEngine(engine)
	return o, err
}

func run(args []string) error {
	o, err := parse(args)
	if err != nil {
		return err
	}
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	s, err := serve(o)
	if err != nil {
		return err
	}
	defer s.group.Close() // Does nothing after a Shutdown.

	t, interactive := openTerminal()
	defer t.restore()
	r, err := newReader(s.door.String(), o.rate, t.guard)
	if err != nil {
		return err
	}
	<-s.ready
	d := &display{server: s, reader: r, options: o, term: t, started: time.Now()}
	var keys <-chan key
	period := time.Second
	if interactive {
		keys, period = t.keys(), time.Second/10
	}
	d.watch(period, keys, signals)
	t.restore()
	return d.finish(signals)
}

// finish ends the server in order and prints the summary: the reader reads what
// was admitted, as fast as it can, and nothing may be missing.
func (d *display) finish(signals <-chan os.Signal) error {
	d.reader.rate.Store(-1)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- d.server.group.Shutdown(ctx) }()
	select {
	case err := <-ended:
		if err != nil {
			return err
		}
	case <-signals:
		return fmt.Errorf("stopped at once")
	}
	end, readErr := <-d.server.end, <-d.reader.done
	n := end.stats
	switch read := uint64(d.reader.read.Load()); {
	case end.err != nil:
		return end.err
	case readErr != nil:
		return readErr
	case read != n.BytesOut || n.LostBytes != 0:
		return fmt.Errorf("%d bytes were sent and %d lost, but %d read", n.BytesOut, n.LostBytes, read)
	case n.Full != n.Drain:
		return fmt.Errorf("%d fulls and %d drains", n.Full, n.Drain)
	}
	fmt.Printf("done: engine %s, %v: %s sent and read, SHA-256 ok; %d fulls, %d drains, equal; at most %s pending\n",
		d.server.group.Info().Engine, time.Since(d.started).Round(time.Millisecond),
		bytesText(float64(n.BytesOut)), n.Full, n.Drain, bytesText(float64(n.PendingMax)))
	return nil
}
