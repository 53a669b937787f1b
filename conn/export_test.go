package conn

import (
	"reflect"

	"github.com/penstock-go/penstock/reactor"
)

// TopicsOf returns topics of loops that a test turns by hand.
func TopicsOf(loops ...*reactor.Loop) *Topics {
	var remotes []reactor.Remote
	for _, l := range loops {
		remotes = append(remotes, l.Remote())
	}
	return newTopics(remotes)
}

// Room returns for how many members of a topic there is memory.
func (t *Topics) Room(topic string) (n int) {
	for _, s := range t.shards {
		n += cap(s.names[topic].members)
	}
	return n
}

// Waiting returns how many goroutines wait for room.
func Waiting(r Ref) int { return int(r.g.blocked.Load()) }

// Mail returns how many things are in the mailbox.
func Mail(r Ref) int {
	r.g.mu.Lock()
	defer r.g.mu.Unlock()
	return len(r.g.box.items)
}

// Force posts p as a Pipe does: DropOldest leaves it.
func Force(r Ref, p []byte) Status { return r.g.force(p) }

// DialOn has d dial on a simulated kernel.
func DialOn(d *Dialer, connect func(to, from Addr) (fd int, err error), outcome func(fd int) error, jitter func(n int64) int64) {
	d.kernel = &dialKernel{
		connect: func(to, from Addr, _ *Config, _ func(int) error) (int, error) { return connect(to, from) },
		outcome: outcome, jitter: jitter,
	}
}

// SetJitter replaces the randomness of a Dialer on a simulated kernel.
func SetJitter(d *Dialer, jitter func(n int64) int64) { d.kernel.jitter = jitter }

// SameHost reports whether two connections share their place on a loop.
func SameHost(a, b *Conn) bool { return a.host == b.host }

// Spend counts n bytes to a budget, as another loop would; below 0 it counts them off.
func Spend(b *Budget, n int) { b.total.Add(int64(n)) }

// Shares returns how many loops a budget remembers.
func Shares(b *Budget) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.shares)
}

// NewBeside is New on the place on the loop that c has.
func NewBeside(c *Conn, fd int, h Handler) *Conn {
	host := c.host
	was := host.hooks
	host.hooks = newHooks(h)
	defer func() { host.hooks = was }()
	return host.open(fd, nil, nil)
}

// Common returns how many connections have what c sends in common, itself included: 0
// when it has a queue, or nothing.
func Common(c *Conn) int {
	if c.out == nil {
		return 0
	}
	return c.out.lone.sharers
}

// RecordBytes is what a Conn is long.
var RecordBytes = int(reflect.TypeFor[Conn]().Size())

// Another opens a connection as an acceptor does, on the place on the loop that c has.
func Another(c *Conn, fd int) *Conn { return c.host.open(fd, nil, nil) }

// CountQueue has what the queue of c meets counted from now on, as a listener has that
// of all its connections, and returns the count.
func CountQueue(c *Conn) func() QueueStats {
	t := &connTally{}
	c.host.tally = t
	return func() (s QueueStats) {
		t.addTo(&s, &Stats{})
		return s
	}
}
