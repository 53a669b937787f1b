package main

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/firehose"
	"github.com/penstock-go/penstock/reactor"
)

// server is the firehose, on an address for everybody and on one for the reader
// that is watched.
type server struct {
	firehose.Handler
	group *reactor.Group
	addr  conn.Addr    // for everybody
	door  conn.Addr    // for the reader
	open  atomic.Int64 // connections

	first sync.Once
	id    uint64        // of the watched connection, once ready is closed
	ref   conn.Ref      // the same
	ready chan struct{} // closed when there is one
	end   chan ended    // gets how it ended
}

// ended is what is known of a connection at its end.
type ended struct {
	stats conn.Stats
	err   error
}

// serve starts the server.
func serve(o options) (*server, error) {
	loops := o.loops
	if loops == 0 {
		loops = reactor.CPUs()
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(loops + 2) // A loop that waits keeps its processor.
	}
	logger := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn}))
	group, err := reactor.Start(reactor.Config{Loops: loops, Engine: o.engine, Logger: logger})
	if err != nil {
		return nil, err
	}
	s := &server{group: group, ready: make(chan struct{}), end: make(chan ended, 1)}
	cfg := conn.Config{
		HighWater: o.high, LowWater: o.low,
		SendBuffer: 256 << 10, // So that the queue fills, and not only the kernel.
	}
	if s.addr, err = s.listen(o.listen, s, cfg); err == nil {
		s.door, err = s.listen("127.0.0.1:0", watched{s}, cfg)
	}
	if err != nil {
		_ = group.Close()
		return nil, err
	}
	return s, nil
}

func (s *server) listen(addr string, h conn.Handler, cfg conn.Config) (conn.Addr, error) {
	l, err := conn.Listen(s.group, "tcp", addr, h, cfg)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return conn.Addr{}, fmt.Errorf("%s is taken: stop what listens there, or choose another address; -listen 127.0.0.1:0 takes a free port", addr)
	case err != nil:
		return conn.Addr{}, err
	}
	return l.Addr(), nil
}

// OnOpen implements conn.Handler.
func (s *server) OnOpen(c *conn.Conn) {
	s.open.Add(1)
	s.Handler.OnOpen(c)
}

// OnClose implements conn.Handler.
func (s *server) OnClose(c *conn.Conn, err error) {
	s.open.Add(-1)
	s.Handler.OnClose(c, err)
}

// watched serves the reader like everybody, and lets the display see it.
type watched struct{ *server }

// OnOpen implements conn.Handler.
func (w watched) OnOpen(c *conn.Conn) {
	w.first.Do(func() {
		w.id, w.ref = c.ID(), c.Ref()
		close(w.ready)
	})
	w.server.OnOpen(c)
}

// OnClose implements conn.Handler.
func (w watched) OnClose(c *conn.Conn, err error) {
	w.server.OnClose(c, err)
	if c.ID() == w.id {
		w.end <- ended{c.Stats(), err}
	}
}

// sample is the watched connection at one moment.
type sample struct {
	pending int
	full    bool
	stats   conn.Stats
}

// look asks for a sample, which comes from the connection's loop.
func (s *server) look(got chan<- sample) {
	s.ref.Do(func(c *conn.Conn) {
		select {
		case got <- sample{c.Pending(), c.IsFull(), c.Stats()}:
		default: // The last one was not taken yet.
		}
	})
}
