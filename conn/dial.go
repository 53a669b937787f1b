package conn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/penstock-go/penstock/reactor"
)

// Defaults of [Dialer].
const (
	DefaultDialTimeout = 10 * time.Second
	// DefaultFallbackDelay is the Connection Attempt Delay that RFC 8305 section 5
	// recommends.
	DefaultFallbackDelay = 250 * time.Millisecond
)

// leastFallbackDelay is the least that RFC 8305 section 5 allows.
const leastFallbackDelay = 10 * time.Millisecond

// Resolver finds the addresses of a host. A *net.Resolver is one.
type Resolver interface {
	// LookupNetIP returns the addresses of host for network "ip", "ip4" or "ip6",
	// the one to be tried first in front. It runs on a goroutine of its own, and
	// its context is done when nobody waits for the answer any more.
	LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error)
}

// Dialer opens connections. Its fields are options, and the zero value works; they
// must not change once it was used.
//
// Thread: any; each method says where it runs. A Dialer must not be copied.
type Dialer struct {
	// Timeout bounds each attempt to connect: looking up the name, and trying its
	// addresses. Default 10 s.
	Timeout time.Duration
	// LocalAddr is the address to connect from; its port may be 0. Addresses of
	// the other family are not tried then. Default: the kernel chooses.
	LocalAddr netip.AddrPort
	// Resolver looks names up, never on a loop. Default net.DefaultResolver.
	Resolver Resolver
	// FallbackDelay is how long an address has the network for itself before
	// the next one of the host, of the other family if there is one, is tried
	// beside it (RFC 8305, happy eyeballs). A failure moves on at once. Default
	// 250 ms, at least 10 ms.
	FallbackDelay time.Duration
	// Reconnect has connections that fail or are lost connect again. Default nil:
	// they close.
	Reconnect *Reconnect
	// Control is called with each socket before it is bound or connected, for
	// options that have no field here. The socket is not its to close.
	Control func(fd int) error
	// Config shapes the connections.
	Config Config
	// Packet shapes the sockets of DialPacket.
	Packet PacketConfig

	kernel *dialKernel // that of the system if nil; tests have another

	mu    sync.Mutex
	hosts map[*reactor.Loop]*host // while connections are there
	next  atomic.Uint32           // loop of the next DialGroup

	started, connected, failed, retries atomic.Uint64
	open                                atomic.Int64
	tally                               connTally
}

// DialerStats is what a Dialer has counted.
type DialerStats struct {
	Started   uint64 // connections begun by Dial and its kin
	Connected uint64 // times that one was connected, again ones included
	Failed    uint64 // attempts to connect that failed
	Retries   uint64 // attempts that Reconnect has begun
	Open      int64  // connections that have not closed, those that still connect among them

	// Queues is what the queues of all its connections have met so far.
	Queues QueueStats
	// Closed is the sum of the counters of the connections that have closed.
	Closed Stats
}

// Stats returns the counters of the dialer.
func (d *Dialer) Stats() DialerStats {
	s := DialerStats{
		Started: d.started.Load(), Connected: d.connected.Load(), Failed: d.failed.Load(),
		Retries: d.retries.Load(), Open: d.open.Load(),
	}
	d.tally.addTo(&s.Queues, &s.Closed)
	return s
}

// DialError says why a connection was not made. As the error of OnClose it is the
// cause of a *CloseError with the same reason.
type DialError struct {
	// Reason is Refused, ConnectTimeout, Unreachable, Unresolved or Cancelled, or
	// IOError for what only the system can tell.
	Reason           Reason
	Network, Address string // as they were given
	// Err is the cause: a syscall.Errno, a *net.DNSError, a context's error,
	// os.ErrDeadlineExceeded. Where several addresses were tried it joins that of
	// each, and the Reason is the one that says most.
	Err error
}

// Error implements error.
func (e *DialError) Error() string {
	return fmt.Sprintf("conn: dial %s %s: %s: %v", e.Network, e.Address, e.Reason, e.Err)
}

// Unwrap returns Err.
func (e *DialError) Unwrap() error { return e.Err }

// Timeout reports whether time ran out, as that of net.Error does.
func (e *DialError) Timeout() bool { return e.Reason == ConnectTimeout }

// Temporary is of net.Error, and deprecated there.
func (e *DialError) Temporary() bool { return e.Timeout() }

var _ net.Error = (*DialError)(nil)

// causes are errors in one line.
type causes []error

func (c causes) Error() string {
	var lines []string
	for _, err := range c {
		lines = append(lines, err.Error())
	}
	return strings.Join(lines, "; ")
}

func (c causes) Unwrap() []error { return c }

// Dial begins to connect, and returns the connection at once. Network is "tcp",
// "tcp4", "tcp6" or "unix"; an address of IP is HOST:PORT, that of a unix socket a
// path or an abstract name with @ in front.
//
// Until it is connected, what is sent is queued, within the marks; then OnOpen
// runs, and what was queued goes out in order. Close takes effect before it is
// connected too: bytes that are queued are sent if the attempt that is under way
// succeeds, and nothing else is waited for. When no attempt is left, OnClose tells
// a *CloseError whose cause is a *DialError, and OnOpen has never run.
//
// The error is about the call: a network that is none, an address that is not
// well-formed, options that contradict one another. Nothing was begun then.
//
// Thread: that of l.
func (d *Dialer) Dial(l *reactor.Loop, network, address string, h Handler) (*Conn, error) {
	return d.dial(l, network, address, h, nil)
}

func (d *Dialer) dial(l *reactor.Loop, network, address string, h Handler, opened func(error)) (*Conn, error) {
	to, err := streamTarget(network, address, h)
	if err != nil {
		return nil, err
	}
	host, err := d.host(l)
	if err != nil {
		return nil, err
	}
	c := &Conn{loop: l, host: host, hooks: newHooks(h), fd: -1, id: l.NextID(), offline: true}
	c.token = l.Attach(c)
	host.count(1)
	d.started.Add(1)
	c.dial = &dialing{c: c, dialer: d, to: to, policy: d.Reconnect, opened: opened}
	c.dial.trying = true
	l.Defer(func() { // What fails at once does so when the caller has the connection.
		if dl := c.dial; dl != nil && dl.trying {
			l.As(c)
			dl.begin()
		}
	})
	if l.Stopping() {
		c.Close()
	}
	return c, nil
}

func (d *Dialer) timeout() time.Duration { return cmp.Or(d.Timeout, DefaultDialTimeout) }

func (d *Dialer) delay() time.Duration {
	return max(cmp.Or(d.FallbackDelay, DefaultFallbackDelay), leastFallbackDelay)
}

// host returns the place on loop l of the connections of d. It lasts as long as
// one of them is there.
func (d *Dialer) host(l *reactor.Loop) (*host, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if h := d.hosts[l]; h != nil {
		return h, nil
	}
	cfg, err := d.Config.Check()
	if err != nil {
		return nil, err
	}
	if d.Timeout < 0 || d.FallbackDelay < 0 {
		return nil, errors.New("conn: negative Timeout or FallbackDelay")
	}
	if err := d.Reconnect.check(); err != nil {
		return nil, err
	}
	h := newHost(l, cfg, nil)
	h.tally = &d.tally
	n := 0
	h.count = func(more int) {
		d.open.Add(int64(more))
		if n += more; n == 0 {
			d.mu.Lock()
			defer d.mu.Unlock()
			delete(d.hosts, l)
		}
	}
	if d.hosts == nil {
		d.hosts = map[*reactor.Loop]*host{}
	}
	d.hosts[l] = h
	return h, nil
}

// Start begins to connect on a loop, from any goroutine, and does not wait: the
// handler hears what comes of it. When ctx is done before it is connected, it is
// given up, with reason Cancelled; afterwards ctx means nothing. The error is as
// that of Dial, or reactor.ErrEnded.
//
// Thread: any.
func (d *Dialer) Start(ctx context.Context, at reactor.Remote, network, address string, h Handler) error {
	return d.start(ctx, at, network, address, h, nil)
}

// streamTarget reads what a connection is dialed to, and that somebody hears of it.
func streamTarget(network, address string, h Handler) (target, error) {
	to, err := parseTarget(network, address)
	switch {
	case err != nil:
	case to.isUDP():
		err = fmt.Errorf("%w: DialPacket is for datagrams", net.UnknownNetworkError(network))
	case h == nil:
		err = ErrNoHandler
	}
	return to, err
}

// start is Start with a function that runs on the loop, once: with the connection
// when OnOpen has run, or with the error.
func (d *Dialer) start(ctx context.Context, at reactor.Remote, network, address string, h Handler, told func(*Conn, error)) error {
	if _, err := streamTarget(network, address, h); err != nil {
		return err
	}
	posted := at.Post(func(l *reactor.Loop) {
		var c *Conn
		release := func() bool { return true }
		c, err := d.dial(l, network, address, h, func(err error) {
			if release(); told != nil {
				told(c, err)
			}
		})
		if err != nil {
			if told != nil {
				told(nil, err)
			}
			return
		}
		if dl := c.dial; dl != nil {
			release = context.AfterFunc(ctx, func() {
				at.Post(func(l *reactor.Loop) {
					l.As(c)
					dl.cancel(context.Cause(ctx))
				})
			})
		}
	})
	if !posted {
		return reactor.ErrEnded
	}
	return nil
}

// DialContext connects on a loop, and waits until it is connected and OnOpen has
// run, or until it has failed; the error is a *DialError then, or as that of Dial.
// With Reconnect it waits for the first attempt that succeeds. When ctx is done
// before, the connection is given up, and the Reason is Cancelled; afterwards ctx
// means nothing.
//
// Thread: any but that of a loop: there it returns ErrWouldBlock.
func (d *Dialer) DialContext(ctx context.Context, at reactor.Remote, network, address string, h Handler) (Ref, error) {
	if reactor.OnLoop() {
		return Ref{}, ErrWouldBlock
	}
	type answer struct {
		ref Ref
		err error
	}
	answers := make(chan answer, 1)
	err := d.start(ctx, at, network, address, h, func(c *Conn, err error) {
		a := answer{err: err}
		if err == nil {
			a.ref = c.Ref()
		}
		answers <- a
	})
	if err != nil {
		return Ref{}, err
	}
	select {
	case a := <-answers:
		return a.ref, a.err
	case <-ctx.Done():
	case <-at.Done():
	}
	// The loop answers that too, unless it has ended.
	select {
	case a := <-answers:
		return a.ref, a.err
	case <-at.Done():
		return Ref{}, reactor.ErrEnded
	}
}

// DialGroup is DialContext on one loop of a group after another.
func (d *Dialer) DialGroup(ctx context.Context, g *reactor.Group, network, address string, h Handler) (Ref, error) {
	i := int((d.next.Add(1) - 1) % uint32(g.Len()))
	return d.DialContext(ctx, g.Loop(i), network, address, h)
}
