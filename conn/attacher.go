package conn

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"sync/atomic"

	"github.com/penstock-go/penstock/reactor"
)

// Attacher puts sockets that somebody else has made on the loops of a group, one
// after another, as a listener does its connections: they have one configuration in
// memory between them, and Config.MaxConns or ConnLimit bounds how many are open.
//
// Thread: any.
type Attacher struct {
	hooks  *hooks
	cfg    Config
	limit  *ConnLimit // nil: none
	places []place
	next   atomic.Uint32

	attached atomic.Uint64
	open     atomic.Int64
}

// AttacherStats is what an Attacher has counted.
type AttacherStats struct {
	Attached uint64 // connections whose OnOpen has run, or was to
	Open     int64  // of them, those that have not closed

	// Queues is what the queues of all its connections have met so far.
	Queues QueueStats
	// Closed is the sum of the counters of the connections that have closed;
	// its PendingMax is the most of any.
	Closed Stats
}

// place is an Attacher on one loop.
type place struct {
	remote reactor.Remote
	hosts  [2]*host // for TCP, and for unix sockets; seen only on the loop
	tally  connTally
}

// ErrMaxConns says that as many connections are open as may be. Unlike a listener's
// clients, whoever comes then does not wait.
var ErrMaxConns = errors.New("conn: as many connections as may be")

// NewAttacher returns an Attacher onto the loops of g, with cfg, whose connections h
// serves.
func NewAttacher(g *reactor.Group, h Handler, cfg Config) (*Attacher, error) {
	cfg, err := cfg.check(h)
	if err != nil {
		return nil, err
	}
	a := &Attacher{hooks: newHooks(h), cfg: cfg, limit: cfg.ConnLimit, places: make([]place, g.Len())}
	if cfg.MaxConns > 0 {
		a.limit, _ = NewConnLimit(cfg.MaxConns)
	}
	for i := range a.places {
		a.places[i].remote = g.Loop(i)
	}
	return a, nil
}

// Limit returns what bounds the connections, or nil.
func (a *Attacher) Limit() *ConnLimit { return a.limit }

// Stats returns the counters of all loops together.
func (a *Attacher) Stats() AttacherStats {
	s := AttacherStats{Attached: a.attached.Load(), Open: a.open.Load()}
	for i := range a.places {
		a.places[i].tally.addTo(&s.Queues, &s.Closed)
	}
	return s
}

// Attach is the function of that name, onto the next loop. user is the connection's
// User from its OnOpen on. The error may be ErrMaxConns beside those.
func (a *Attacher) Attach(s io.Closer, heard []byte, user any) error {
	if a.limit != nil && !a.limit.takeFree() {
		return ErrMaxConns
	}
	err := attach(s, heard, func(fd int, heard []byte) error { return a.put(fd, heard, user) })
	if err != nil {
		a.giveBack()
	}
	return err
}

// put has the next loop serve fd.
func (a *Attacher) put(fd int, heard []byte, user any) error {
	if err := prepare(fd, a.cfg); err != nil {
		return fmt.Errorf("conn: attach: %w", err)
	}
	heard = slices.Clone(heard)
	p := &a.places[(a.next.Add(1)-1)%uint32(len(a.places))]
	taken := p.remote.Post(func(l *reactor.Loop) {
		a.host(p, l, isUnix(fd)).open(fd, heard, user)
	})
	if !taken {
		return reactor.ErrEnded
	}
	return nil
}

// host returns the host of a place for one kind of socket.
func (a *Attacher) host(p *place, l *reactor.Loop, unix bool) *host {
	at := 0
	if unix {
		at = 1
	}
	if p.hosts[at] == nil {
		h := newHost(l, a.cfg, a.hooks)
		h.unix, h.count, h.tally = unix, a.counted, &p.tally
		p.hosts[at] = h
	}
	return p.hosts[at]
}

// counted hears of each connection more and less.
func (a *Attacher) counted(n int) {
	a.open.Add(int64(n))
	if n > 0 {
		a.attached.Add(1)
	} else {
		a.giveBack()
	}
}

// giveBack gives the place of a connection back.
func (a *Attacher) giveBack() {
	if a.limit != nil {
		a.limit.give()
	}
}
