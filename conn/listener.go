package conn

import (
	"errors"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/reactor"
)

// Back-off of an accept that failed for want of descriptors or memory.
const (
	backoffLeast = 5 * time.Millisecond
	backoffMost  = time.Second
)

// Listener accepts connections on every loop of a group.
//
// Each loop has a listening socket of its own on the same address, and the
// kernel chooses one by a hash of the peer's address and port (SO_REUSEPORT),
// so that nothing is handed from loop to loop. With few connections the loops
// are not loaded evenly; with one loop there is one plain socket.
//
// Thread: any, for every method.
type Listener struct {
	at        Addr
	acceptors []*acceptor
}

// ListenerStats is what a listener has counted.
type ListenerStats struct {
	Accepted uint64 // connections taken
	Open     int64  // of them, those that have not closed
	Failed   uint64 // accepts that ended in an error
	Backoffs uint64 // of them, those for want of descriptors or memory

	// Closed is the sum of the counters of the connections that have closed;
	// its PendingMax is the most of any.
	Closed Stats
}

// Listen serves network "tcp", "tcp4" or "tcp6" on address, as net.Listen
// writes it, with h for every connection. Port 0 takes a free port, see Addr.
// "tcp" without a host or with [::] serves IPv4 too.
//
// A port on which another process listens is refused, also when that process
// has set SO_REUSEPORT. The errors of the system wrap a syscall.Errno.
func Listen(g *reactor.Group, network, address string, h Handler, cfg Config) (*Listener, error) {
	cfg, err := cfg.Check()
	if err != nil {
		return nil, err
	}
	fds, at, err := listenTCP(network, address, g.Len(), cfg)
	if err != nil {
		return nil, err
	}
	l := &Listener{at: at}
	k := newHooks(h)
	for i, fd := range fds {
		a := &acceptor{fd: fd, remote: g.Loop(i)}
		l.acceptors = append(l.acceptors, a)
		if !a.remote.Post(func(loop *reactor.Loop) { a.start(loop, cfg, k) }) {
			closeSocket(fd)
			err = reactor.ErrEnded
		}
	}
	return l, err
}

// Addr returns the address, with the real port.
func (l *Listener) Addr() Addr { return l.at }

// Close stops accepting. Connections that the kernel has set up and that wait
// to be accepted are served; those that are open stay so.
func (l *Listener) Close() {
	for _, a := range l.acceptors {
		a.remote.Post(func(loop *reactor.Loop) { a.Stop(loop, false) })
	}
}

// Stats returns the counters of all loops together.
func (l *Listener) Stats() ListenerStats {
	var s ListenerStats
	for _, a := range l.acceptors {
		s.Accepted += a.accepted.Load()
		s.Open += a.open.Load()
		s.Failed += a.failed.Load()
		s.Backoffs += a.backoffs.Load()
		a.mu.Lock()
		s.Closed.add(a.closed)
		a.mu.Unlock()
	}
	return s
}

// acceptor is a listener on one loop.
type acceptor struct {
	fd     int
	remote reactor.Remote
	loop   *reactor.Loop
	host   *host
	token  aio.Token
	op     aio.Op

	armed    bool
	stopping bool
	hard     bool // the loop ends at once, and so does who is still accepted
	gone     bool
	backoff  time.Duration // 0 while accepting goes well
	retry    *reactor.Timer

	accepted, failed, backoffs atomic.Uint64
	open                       atomic.Int64

	mu     sync.Mutex
	closed Stats
}

func (a *acceptor) start(l *reactor.Loop, cfg Config, k *hooks) {
	a.loop = l
	a.host = newHost(l, cfg, k)
	a.host.count, a.host.departed = a.counted, a.departed
	a.token = l.Attach(a)
	if l.Stopping() {
		a.Stop(l, false)
		return
	}
	a.arm()
}

// counted hears of each connection more and less. One less is a descriptor
// more for an accept that waits for one.
func (a *acceptor) counted(n int) {
	a.open.Add(int64(n))
	if n < 0 && a.retry != nil && a.retry.Armed() {
		a.retry.Reset(time.Millisecond)
	}
}

// departed adds up the counters of a connection that has closed.
func (a *acceptor) departed(s Stats) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.closed.add(s)
}

func (a *acceptor) arm() {
	if a.armed || a.stopping {
		return
	}
	a.armed = true
	a.submit(aio.Op{Kind: aio.Accept})
}

func (a *acceptor) submit(op aio.Op) {
	op.Token, op.FD = a.token, int32(a.fd)
	a.op = op
	a.loop.Submit(&a.op)
}

// Complete implements reactor.Sink. The listener's own steps come before the
// handler's OnOpen, which may panic.
func (a *acceptor) Complete(_ *reactor.Loop, done *aio.Completion) {
	if done.Final {
		a.armed = false
	}
	if a.stopping && !a.armed {
		defer a.leave()
	}
	switch {
	case done.Res >= 0:
		a.backoff = 0
		a.arm()
		a.accept(int(done.Res))
	case !a.stopping:
		a.refused(done.Err())
	}
}

// accept serves one connection. OnOpen may panic: the loop has the connection
// for its owner then, not the listener.
func (a *acceptor) accept(fd int) {
	a.accepted.Add(1)
	if c := a.host.open(fd); a.loop.Stopping() {
		c.Stop(a.loop, a.hard)
	}
}

// refused looks at why an accept failed. The connection that could not be
// taken still waits, so to try again at once would spin.
func (a *acceptor) refused(err error) {
	a.failed.Add(1)
	switch {
	case errors.Is(err, syscall.ECONNABORTED), errors.Is(err, syscall.EINTR), errors.Is(err, syscall.EAGAIN),
		errors.Is(err, syscall.EPROTO), errors.Is(err, syscall.ECANCELED):
		a.arm()
		return
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE),
		errors.Is(err, syscall.ENOMEM), errors.Is(err, syscall.ENOBUFS):
		a.backoffs.Add(1)
	}
	a.backoff = min(max(2*a.backoff, backoffLeast), backoffMost)
	if a.retry == nil {
		a.retry = a.loop.AfterFunc(a.backoff, a, a.arm)
	} else {
		a.retry.Reset(a.backoff)
	}
}

// Stop implements reactor.Sink.
func (a *acceptor) Stop(_ *reactor.Loop, hard bool) {
	a.hard = a.hard || hard
	if a.stopping {
		return
	}
	a.stopping = true
	if a.retry != nil {
		a.retry.Stop()
	}
	if a.armed {
		a.submit(aio.Op{Kind: aio.Cancel, Target: aio.Accept})
	} else {
		a.leave()
	}
}

// Panicked implements reactor.Sink. No handler runs for a listener.
func (a *acceptor) Panicked(*reactor.Loop, any) {}

// leave serves those who wait, since to close the socket would reset them, and
// closes it.
func (a *acceptor) leave() {
	if a.gone {
		return
	}
	a.gone = true
	a.loop.Touch(a)
}

// Flush implements reactor.Flusher: it serves one of those who wait. Each has
// a call of its own, so that a handler that panics costs the others nothing.
func (a *acceptor) Flush(l *reactor.Loop) {
	fd, err := acceptOne(a.fd)
	if err != nil {
		a.submit(aio.Op{Kind: aio.Close})
		l.Detach(a.token)
		return
	}
	l.Touch(a)
	a.accept(fd)
}
