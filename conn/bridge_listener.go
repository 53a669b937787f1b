package conn

import (
	"net"
	"sync"

	"github.com/penstock-go/penstock/reactor"
)

// acceptMost is how many connections wait for Accept before the loops are asked
// to accept no more.
const acceptMost = 1024

// NetListener is a listener on all loops of a group as a net.Listener, for
// servers that take one, such as that of net/http.
//
// Thread: any, for every method.
type NetListener struct {
	l *Listener

	mu     sync.Mutex
	more   sync.Cond
	queue  []*NetConn // accepted by a loop, and by nobody else
	paused bool
	closed bool
}

// NetListen listens as Listen does, and returns a net.Listener whose Accept
// brings a *NetConn. About 1024 connections wait for Accept; who comes then waits
// in the kernel, up to cfg.Backlog. No goroutine runs for a connection, and one
// for the listener.
//
// Shut the server above down first, as by http.Server.Shutdown, and then the
// group: to end the group closes the listener and the connections, whatever is
// under way on them.
func NetListen(g *reactor.Group, network, address string, cfg Config) (*NetListener, error) {
	l := &NetListener{}
	l.more.L = &l.mu
	below, err := Listen(g, network, address, &Funcs{Open: l.offer}, cfg)
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	l.l = below
	l.mu.Unlock()
	go func() {
		<-below.Done() // By Close, or with the group.
		l.end()
	}()
	return l, nil
}

// offer has a connection wait for Accept.
func (l *NetListener) offer(c *Conn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := c.NetConn()
	if l.closed || err != nil {
		c.Abort()
		return
	}
	l.queue = append(l.queue, n)
	l.more.Signal()
	if len(l.queue) >= acceptMost && !l.paused && l.l != nil {
		l.paused = true
		l.l.Pause()
	}
}

// Accept implements net.Listener. The connection is a *NetConn. It fails with
// net.ErrClosed, in a *net.OpError, when the listener is closed. On a loop, which it
// would block, it returns ErrWouldBlock if no connection waits.
func (l *NetListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 && !l.closed {
		if reactor.OnLoop() {
			return nil, ErrWouldBlock
		}
		l.more.Wait()
	}
	if l.closed {
		return nil, l.fault("accept")
	}
	n := l.queue[0]
	if l.queue = l.queue[1:]; len(l.queue) == 0 {
		l.queue = nil
	}
	if l.paused && len(l.queue) <= acceptMost/2 {
		l.paused = false
		l.l.Resume()
	}
	return n, nil
}

func (l *NetListener) fault(op string) error {
	at := l.Addr()
	return &net.OpError{Op: op, Net: at.Network(), Addr: at, Err: net.ErrClosed}
}

// Addr implements net.Listener. It is a *net.TCPAddr or a *net.UnixAddr.
func (l *NetListener) Addr() net.Addr { return l.l.Addr().std() }

// Stats returns the counters of all loops together.
func (l *NetListener) Stats() ListenerStats { return l.l.Stats() }

// Close implements net.Listener. Connections that nobody has accepted are reset,
// the others stay open. It does not wait for the loops to give the address up.
func (l *NetListener) Close() error {
	if !l.end() {
		return l.fault("close")
	}
	l.l.Close()
	return nil
}

// end has nobody wait any more, and reports whether this is the first call.
func (l *NetListener) end() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.closed = true
	l.more.Broadcast()
	for _, n := range l.queue {
		n.ref.Abort()
	}
	l.queue = nil
	return true
}
