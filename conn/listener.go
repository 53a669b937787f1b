package conn

import (
	"errors"
	"sync/atomic"

	"github.com/penstock-go/penstock/reactor"
)

// Listener accepts connections for the loops of a group. A group has any number
// of them, and may get more while it runs.
//
// For TCP each loop has a listening socket of its own on the same address, and
// the kernel chooses one by a hash of the peer's address and port
// (SO_REUSEPORT), so that nothing is handed from loop to loop. With few
// connections the loops are not loaded evenly; with one loop there is one plain
// socket. A unix socket is one for all: loop 0 accepts, and hands the
// connections to all loops in turn.
//
// Thread: any, for every method.
type Listener struct {
	sockets
	limit     *ConnLimit // nil: none
	acceptors []*acceptor
	next      int // of acceptors: who gets the next connection of a unix socket; loop 0's

	listening atomic.Int32 // acceptors that have not left
	done      chan struct{}
}

// sockets are what a listener listens on.
type sockets struct {
	fds  []int // by loop; of a unix socket one, for loop 0
	at   Addr
	file *socketFile // of a unix socket that has one
}

// ListenerStats is what a listener has counted.
type ListenerStats struct {
	Accepted uint64 // connections taken
	Open     int64  // of them, those that have not closed
	Failed   uint64 // accepts that ended in an error
	Backoffs uint64 // of them, those for want of descriptors or memory

	// Queues is what the queues of all its connections have met so far.
	Queues QueueStats
	// Closed is the sum of the counters of the connections that have closed;
	// its PendingMax is the most of any.
	Closed Stats
}

// Listen serves network "tcp", "tcp4", "tcp6" or "unix" on address, as
// net.Listen writes it, with h for every connection. Port 0 takes a free port,
// see Addr. "tcp" without a host or with [::] serves IPv4 too, unless
// Config.V6Only is set.
//
// A port on which another process listens is refused, also when that process
// has set SO_REUSEPORT. A unix socket is a path, or an abstract name with @ in
// front. Where a file is in the way, it is replaced if it is the socket of a
// server that is gone; that of one that listens is refused, as is whatever is no
// socket. Of two that start at once, one is refused. To find out, Listen
// connects to what is there, and locks the directory (flock); where it cannot,
// since somebody else keeps it locked, it replaces nothing.
//
// The errors of the system wrap a syscall.Errno: EADDRINUSE for a name in use,
// EEXIST for a file that is no socket.
//
// Listen resolves names and waits for up to two seconds: for the lock, and for an
// address that nobody is seen to have. A process on io_uring that was killed
// keeps its address for some tenths of a second. So call it from a goroutine,
// not from a handler.
func Listen(g *reactor.Group, network, address string, h Handler, cfg Config) (*Listener, error) {
	cfg, err := cfg.check(h)
	if err != nil {
		return nil, err
	}
	if cfg.Mode != 0 && (network != "unix" || address != "" && address[0] == '@') {
		return nil, errors.New("conn: Mode without a file: it is for a unix socket that is a path")
	}
	s, err := openSockets(network, address, g.Len(), cfg)
	if err != nil {
		return nil, err
	}
	l := &Listener{sockets: s, limit: cfg.ConnLimit, done: make(chan struct{})}
	if cfg.MaxConns > 0 {
		l.limit, _ = NewConnLimit(cfg.MaxConns)
	}
	k := newHooks(h)
	for i := range g.Len() {
		a := &acceptor{listener: l, fd: -1, remote: g.Loop(i)}
		if i < len(s.fds) {
			a.fd = s.fds[i]
			l.listening.Add(1)
		}
		l.acceptors = append(l.acceptors, a)
	}
	for i := len(l.acceptors) - 1; i >= 0; i-- { // Loop 0 last: it may hand connections to the others.
		a := l.acceptors[i]
		if !a.remote.Post(func(loop *reactor.Loop) { a.start(loop, cfg, k) }) {
			err = reactor.ErrEnded
			a.abandon()
		}
	}
	if err != nil {
		l.Close() // Of loops that are still ending.
		return nil, err
	}
	return l, nil
}

// Addr returns the address, with the real port.
func (l *Listener) Addr() Addr { return l.at }

// Pause stops accepting until Resume; who comes meanwhile waits in the accept
// queue, up to Config.Backlog. Connections that are open stay so, and those that
// the kernel is accepting when the loops hear of it are still served.
func (l *Listener) Pause() { l.each((*acceptor).pause) }

// Resume accepts again after Pause.
func (l *Listener) Resume() { l.each((*acceptor).resume) }

// Close stops accepting. Connections that the kernel has set up and that wait
// to be accepted are served, those past the limit of connections excepted; those
// that are open stay so. The file of a unix socket is removed if it is still the
// one that Listen made. Done tells when it is over.
func (l *Listener) Close() { l.each(func(a *acceptor) { a.Stop(a.loop, false) }) }

// each runs do on every loop that listens.
func (l *Listener) each(do func(*acceptor)) {
	for _, a := range l.acceptors[:len(l.fds)] {
		a.remote.Post(func(*reactor.Loop) { do(a) })
	}
}

// Done returns a channel that is closed when no loop listens any more: after
// Close, or after the group has shut down. The address is free then.
func (l *Listener) Done() <-chan struct{} { return l.done }

// Limit returns the limit of connections, or nil if there is none.
func (l *Listener) Limit() *ConnLimit { return l.limit }

// Stats returns the counters of all loops together.
func (l *Listener) Stats() ListenerStats {
	var s ListenerStats
	for _, a := range l.acceptors {
		s.Accepted += a.accepted.Load()
		s.Open += a.open.Load()
		s.Failed += a.failed.Load()
		s.Backoffs += a.backoffs.Load()
		a.tally.addTo(&s.Queues, &s.Closed)
	}
	return s
}

// left hears of each acceptor that listens no more.
func (l *Listener) left() {
	if l.listening.Add(-1) == 0 {
		close(l.done)
	}
}
