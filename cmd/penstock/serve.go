package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/cmd/penstock/internal/eventlog"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// errTold ends a run that has said already what there was to say.
var errTold = errors.New("stopped at once")

// lastEvents is how long the end waits for events to be written, and leastEvents the
// same when nothing is left of the time to stop.
const (
	lastEvents  = time.Second
	leastEvents = 50 * time.Millisecond
)

// lastWords is how long the end waits for a stderr that takes nothing.
const lastWords = time.Second

// hardEnd is how much of the time to stop is left for what is still open to be reset,
// or a tenth of it.
const hardEnd = 100 * time.Millisecond

// Run serves until it is told to stop.
func (c *serveCmd) Run(s streams) error {
	endpoints, cfg, err := c.check()
	if err != nil {
		return err
	}
	srv := &server{streams: s, drain: c.DrainTimeout, signals: make(chan os.Signal, 2)}
	// Notified before anything is opened, so that no moment is left at which a
	// signal would end the process in its default way. A reader of stdout or
	// of the events that goes away must not end it either.
	signal.Notify(srv.signals, syscall.SIGINT, syscall.SIGTERM)
	signal.Ignore(syscall.SIGPIPE)
	if c.Events != nil {
		if err := srv.openEvents(*c.Events); err != nil {
			return err
		}
	}
	if err := srv.start(c); err != nil {
		return err
	}
	k, err := newKind(c, &srv.tracker)
	if err == nil {
		cfg.ConnLimit, err = srv.limit(int(c.MaxConns), endpoints)
	}
	for i := 0; i < len(endpoints) && err == nil; i++ {
		err = srv.listen(endpoints[i], k, cfg)
	}
	if err != nil {
		_ = srv.group.Close()
		return err
	}
	return srv.run()
}

// check returns the addresses to listen on and the configuration of their
// connections, or what is wrong with the command line.
func (c *serveCmd) check() (endpoints []endpoint, cfg conn.Config, err error) {
	datagrams, known := kinds[c.Kind]
	if !known {
		return nil, cfg, wrong("unknown kind %q: it is echo, discard, firehose or ws-echo", c.Kind)
	}
	for _, flag := range c.Listen {
		e, err := parseListen(flag)
		if err == nil && e.network == "udp" && !datagrams {
			err = wrong("--listen: %s is not for datagrams, as in %q; echo and discard are", c.Kind, flag)
		}
		if err != nil {
			return nil, cfg, err
		}
		endpoints = append(endpoints, e)
	}
	if err := c.checkLimits(); err != nil {
		return nil, cfg, err
	}
	cfg, err = c.config()
	return endpoints, cfg, err
}

// checkLimits looks at the flags that are numbers and names.
func (c *serveCmd) checkLimits() error {
	if _, err := reactor.ParseEngine(c.Engine); err != nil {
		return wrong("--engine: %q is not auto, uring or epoll", c.Engine)
	}
	switch {
	case c.Loops < 0 || c.Loops > 1024:
		return wrong("--loops: %d is not a number from 0, one for each CPU, to 1024", c.Loops)
	case c.SlowPeer != "reject" && c.SlowPeer != "close":
		return wrong("--slow-peer: %q is not reject or close", c.SlowPeer)
	case c.MaxMessage.bytes == 0:
		return wrong("--max-message: 0 bytes are not above 0")
	case c.Events != nil && (*c.Events == "" || (*c.Events)[0] == '-' && *c.Events != "-"):
		return wrong("--events: %q is not the name of a file, nor - for stdout; a name that begins with - is ./-", *c.Events)
	case c.MaxConns < 0:
		return wrong("--max-conns: %d is below 0", c.MaxConns)
	case c.IdleTimeout < 0:
		return wrong("--idle-timeout: %v is below 0", c.IdleTimeout)
	case c.CloseTimeout <= 0:
		return wrong("--close-timeout: %v is not above 0", c.CloseTimeout)
	case c.DrainTimeout < 0:
		return wrong("--drain-timeout: %v is below 0", c.DrainTimeout)
	}
	return nil
}

// config returns the configuration of the connections.
func (c *serveCmd) config() (cfg conn.Config, err error) {
	limit := c.HighWater
	if c.SendLimit != nil {
		limit = *c.SendLimit
	}
	switch {
	case c.HighWater.bytes == 0:
		return cfg, wrong("--high-water: 0 bytes are not above 0")
	case c.LowWater.bytes >= c.HighWater.bytes:
		return cfg, wrong("--low-water: %v are not below --high-water, %v", c.LowWater, c.HighWater)
	case limit.bytes < c.HighWater.bytes:
		return cfg, wrong("--send-limit: %v are below --high-water, %v", limit, c.HighWater)
	}
	cfg = conn.Config{
		HighWater: c.HighWater.bytes, LowWater: c.LowWater.bytes, Limit: limit.bytes,
		PauseOnFull: c.Kind == "echo" || c.Kind == "ws-echo", CloseTimeout: c.CloseTimeout, IdleTimeout: c.IdleTimeout,
	}
	if c.SendMemory.bytes > 0 {
		policy := conn.BudgetReject
		if c.SlowPeer == "close" {
			policy = conn.BudgetClose
		}
		cfg.Budget = conn.NewBudget(c.SendMemory.bytes, policy)
	}
	if cfg, err = cfg.Check(); err != nil {
		return cfg, wrong("%v", err)
	}
	return cfg, nil
}

// server is one run of serve.
type server struct {
	streams
	drain   time.Duration
	signals chan os.Signal
	tracker tracker
	group   *reactor.Group
	lines   []string // what stdout gets when all listeners accept
}

// openEvents has the events written to a file of that name, or to stdout.
func (s *server) openEvents(name string) error {
	w, torn := s.out, false
	if name != "-" {
		flags := os.O_WRONLY | os.O_CREATE | os.O_APPEND
		if info, err := os.Stat(name); err == nil && info.Mode()&fs.ModeNamedPipe != 0 {
			// Opened for writing alone it would wait for a reader, who may
			// come late, or go and come again.
			flags = os.O_RDWR
		}
		f, err := os.OpenFile(name, flags, 0o644)
		if err != nil {
			return fmt.Errorf("--events: %w; choose a file that can be written, or - for stdout", err)
		}
		w, torn = f, endsInPart(f)
	}
	s.tracker.log = eventlog.New(w, eventlog.Queued, func(err error) {
		fmt.Fprintf(s.err, "penstock: --events: %v; events that cannot be written are dropped\n", err)
	})
	if torn {
		s.tracker.log.EndLine()
	}
	return nil
}

// endsInPart reports whether the last line of a file has no end, as far as that can be
// known: a full disk or a kill may have cut it short.
func endsInPart(f *os.File) bool {
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() == 0 {
		return false
	}
	r, err := os.Open(f.Name())
	if err != nil {
		return false
	}
	defer r.Close()
	last := make([]byte, 1)
	_, err = r.ReadAt(last, info.Size()-1)
	return err == nil && last[0] != '\n'
}

// start starts the loops.
func (s *server) start(c *serveCmd) error {
	kind, err := reactor.ParseEngine(c.Engine)
	if err != nil {
		return err
	}
	loops := int(c.Loops)
	if loops == 0 {
		loops = reactor.CPUs()
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(loops + 2)
	}
	// Warnings only: what was chosen is told on stdout.
	logger := slog.New(slog.NewTextHandler(s.err, &slog.HandlerOptions{Level: slog.LevelWarn}))
	s.group, err = reactor.Start(reactor.Config{Loops: loops, Pin: c.Pin, Engine: kind, Logger: logger})
	if errors.Is(err, syscall.EMFILE) && !strings.Contains(err.Error(), "ulimit") { // The self-test of a ring says so.
		err = fmt.Errorf("%w: raise the limit on descriptors (ulimit -n), or take fewer loops with --loops", err)
	}
	return err
}

// run tells that it serves, and serves until a signal, or until a loop fails.
func (s *server) run() error {
	told := make(chan struct{})
	go s.tell(told) // It serves, and hears signals, also while nobody reads that.
	var failure error
	patience := lastEvents
	select {
	case <-s.group.Done():
		failure = s.group.Close()
	case <-s.signals:
		end := time.Now().Add(s.drain)
		ctx, cancel := context.WithDeadline(context.Background(), end.Add(-min(s.drain/10, hardEnd)))
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- s.group.Shutdown(ctx) }()
		select {
		case failure = <-ended:
		case <-s.signals:
			s.summary()
			return errTold
		}
		patience = max(leastEvents, min(lastEvents, time.Until(end)))
	}
	if errors.Is(failure, context.DeadlineExceeded) {
		failure = nil
	}
	if failure != nil {
		s.say("penstock: a loop failed: %v; this is a defect, please report it\n", failure)
	}
	hurried := s.written(told, patience)
	s.summary()
	if failure != nil || hurried {
		return errTold
	}
	return nil
}

// tell prints the lines of the listeners, and starts the events: not before, so that
// stdout has those lines first.
func (s *server) tell(told chan<- struct{}) {
	defer close(told)
	for _, line := range s.lines {
		_, _ = io.WriteString(s.out, line) // Nobody may be reading: serving goes on.
	}
	if s.tracker.log != nil {
		s.tracker.log.Start()
	}
}

// written waits until what was told and the events are written, for at most patience,
// and reports whether a signal has ended that.
func (s *server) written(told <-chan struct{}, patience time.Duration) (hurried bool) {
	late := time.After(patience)
	done := make(chan struct{})
	go func() {
		defer close(done)
		<-told
		if s.tracker.log != nil {
			s.tracker.log.Close(patience)
		}
	}()
	select {
	case <-done:
	case <-late:
	case <-s.signals:
		return true
	}
	return false
}

// summary is the last line.
func (s *server) summary() {
	closed, opened := s.tracker.closed.Load(), s.tracker.opened.Load()
	s.say("stopped: served=%d open=%d lost_bytes=%d\n", closed, opened-closed, s.tracker.lost.Load())
}

// say prints to stderr. Who does not read it cannot keep the process from its end.
func (s *server) say(format string, args ...any) {
	said := make(chan struct{})
	go func() {
		defer close(said)
		fmt.Fprintf(s.err, format, args...)
	}()
	select {
	case <-said:
	case <-time.After(lastWords):
	}
}
