package subject

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// Protocols lists what a subject of this library can serve.
func Protocols() []string {
	return []string{"echo", "pieces", "alloc", "fanout", "ws", "ws-deflate", "ws-fanout"}
}

// monitorEvery is how often the counters are read, as a monitor would.
const monitorEvery = time.Second

// Stats is what a subject answers to a line "stats" on its standard input. The
// delays are those since the last answer.
type Stats struct {
	Enters  uint64 `json:"enters"` // system calls that submit or wait
	Turns   uint64 `json:"turns"`
	Starved uint64 `json:"starved"` // receives that found no buffer
	Open    int64  `json:"open"`    // connections
	Full    uint64 `json:"full"`    // times that a queue was full
	InUse   int    `json:"in_use"`  // bytes of blocks
	Late    Delays `json:"late"`    // of a goroutine that sleeps 1 ms, with --sleeper
}

// options are the command line.
type options struct {
	engine, protocol, listen string
	loops, procs             int
	highWater, sendBuffer    int
	sleeper                  bool
}

func parse(args []string, errs io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("subject", flag.ContinueOnError)
	f.SetOutput(errs)
	f.StringVar(&o.engine, "engine", "auto", "auto, uring or epoll")
	f.StringVar(&o.protocol, "protocol", "echo", "one of "+strings.Join(Protocols(), ", "))
	f.StringVar(&o.listen, "listen", "127.0.0.1:0", "address")
	f.IntVar(&o.loops, "loops", 1, "number of loops")
	f.IntVar(&o.procs, "procs", 0, "GOMAXPROCS; 0: loops plus 2")
	f.IntVar(&o.highWater, "high-water", conn.DefaultHighWater, "pending bytes that make a queue full")
	f.IntVar(&o.sendBuffer, "send-buffer", 0, "bytes of a socket's own send buffer; 0: the kernel's choice")
	f.BoolVar(&o.sleeper, "sleeper", false, "measure how late a goroutine that sleeps 1 ms wakes")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		return o, fmt.Errorf("unexpected %q", f.Arg(0))
	}
	if o.procs == 0 {
		o.procs = o.loops + 2
	}
	return o, nil
}

// Main serves until standard input closes or a signal comes.
func Main(args []string, in io.Reader, out, errs io.Writer) error {
	o, err := parse(args, errs)
	if err != nil {
		return err
	}
	runtime.GOMAXPROCS(o.procs)
	kind, err := reactor.ParseEngine(o.engine)
	if err != nil {
		return err
	}
	logger := slog.New(slog.NewTextHandler(errs, &slog.HandlerOptions{Level: slog.LevelWarn}))
	group, err := reactor.Start(reactor.Config{Loops: o.loops, Engine: kind, Logger: logger})
	if err != nil {
		return err
	}
	s := &server{group: group, out: json.NewEncoder(out)}
	handler, err := s.handler(o.protocol)
	if err != nil {
		return errors.Join(err, group.Close())
	}
	cfg := conn.Config{HighWater: o.highWater, LowWater: o.highWater / 2, Limit: o.highWater + inputMost, PauseOnFull: true, SendBuffer: o.sendBuffer}
	if s.listener, err = conn.Listen(group, "tcp", o.listen, handler, cfg); err != nil {
		return errors.Join(err, group.Close())
	}
	if o.sleeper {
		s.sleeper = newSleeper()
		defer s.sleeper.stop()
		go s.sleeper.run()
	}
	info := group.Info()
	debug.FreeOSMemory() // What the start has left behind is in nobody's first measurement of memory.
	if _, err := fmt.Fprintf(out, "listening on tcp://%s engine=%s loops=%d\n", s.listener.Addr(), info.Engine, info.Loops); err != nil {
		return errors.Join(err, group.Close())
	}
	return s.serve(in)
}

// server is a subject that runs.
type server struct {
	group    *reactor.Group
	listener *conn.Listener
	out      *json.Encoder
	sleeper  *sleeper // nil without
	counters
}

// serve answers the standard input until it closes, or until a signal.
func (s *server) serve(in io.Reader) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	lines := make(chan string)
	go func() {
		defer close(lines)
		for scan := bufio.NewScanner(in); scan.Scan(); {
			lines <- scan.Text()
		}
	}()
	monitor := time.NewTicker(monitorEvery)
	defer monitor.Stop()
	for {
		select {
		case line, more := <-lines:
			if !more {
				return s.end()
			}
			if line == "stats" {
				if err := s.out.Encode(s.stats()); err != nil {
					return errors.Join(err, s.end())
				}
			}
		case <-monitor.C:
			_, _ = s.group.Stats(), s.listener.Stats()
		case <-ctx.Done():
			return s.end()
		case <-s.group.Done():
			return s.group.Close()
		}
	}
}

// end closes by force: what is open then is open by intent of the load test.
func (s *server) end() error { return s.group.Close() }

func (s *server) stats() Stats {
	st := Stats{Open: s.listener.Stats().Open, Full: s.full.Load()}
	for _, l := range s.group.Stats() {
		st.Enters += l.Engine.Enters
		st.Starved += l.Engine.Starved
		st.Turns += l.Turns
		st.InUse += l.InUse
	}
	if s.sleeper != nil {
		st.Late = s.sleeper.read()
	}
	return st
}
