package aiotest

import (
	"hash/maphash"
	"math/rand/v2"
	"sync/atomic"
	"syscall"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/internal/invariants"
)

// firstFD is far above what a process may open, so that a descriptor of the
// fake that strays into a real system call is refused with EBADF.
const firstFD = 1 << 24

// Fake is an engine whose kernel is a seed. It serves any number of sockets,
// has no goroutine and no clock: Wait never blocks, and returns what it has,
// perhaps nothing. The same seed, Config and calls give the same answers.
//
// Thread: one goroutine, which is also that of its [Peer]s; Wake may be called
// by any.
type Fake struct {
	cfg    Config
	rng    *rand.Rand
	pool   *buf.Pool
	seed   maphash.Seed
	socks  []*socket // by FD - firstFD; a number is used once
	ops    []*op     // in flight, in order of Submit
	order  []*op     // the same in the order of one Wait
	open   int
	woken  atomic.Bool
	rung   bool // an earlier Wait was given an end, which the next one stands for
	closed bool
	stats  aio.Stats
}

var _ aio.Engine = (*Fake)(nil)

// op is an operation in flight.
type op struct {
	aio.Op
	sock      *socket
	lent      [][]byte // Send: the elements of Out at Submit
	sum       uint64   // Send: of the bytes at Submit
	size      int      // Send: of Out, in bytes
	hold      int      // Waits that pass before anything is told
	result    int32    // Send: what the first completion tells
	performed bool     // Send: result is known
	blocks    int      // Recv: it has brought
	bytes     int      // Recv with Multishot: it has brought
	told      bool     // Send: the first completion was delivered
	polled    bool     // Send with PollFirst: whether to be late was decided
	cancelled bool
	ended     bool // the final completion was delivered
}

// NewFake returns an engine that receives into blocks of pool, and into those
// of Config.Bulk where much is expected.
//
// Ownership: the pools stay the caller's.
func NewFake(seed uint64, pool *buf.Pool, cfg Config) *Fake {
	return &Fake{
		cfg:  cfg.withDefaults(),
		rng:  rand.New(rand.NewPCG(seed, 0x9e3779b97f4a7c15)),
		pool: pool,
		seed: maphash.MakeSeed(),
	}
}

// Open makes a connected socket and returns our descriptor and the other side.
func (f *Fake) Open() (fd int32, p *Peer) {
	p = f.newPeer()
	f.attach(p)
	return p.sock.fd, p
}

// Listen makes a listening socket and returns our descriptor and the far side,
// which connects to it.
func (f *Fake) Listen() (fd int32, l *Listener) {
	s := f.newSocket()
	s.listener = &Listener{fake: f, sock: s}
	return s.fd, s.listener
}

// OpenFDs returns how many descriptors nobody has closed: the leaks, at the end of a test.
func (f *Fake) OpenFDs() int { return f.open }

// InFlight returns how many operations have not ended. An armed Recv or Accept counts.
func (f *Fake) InFlight() int { return len(f.ops) }

// Idle reports that no further Wait will tell anything until a peer or the
// party acts. Armed receives without bytes and sends without room may remain.
func (f *Fake) Idle() bool {
	if f.woken.Load() {
		return false
	}
	for _, o := range f.ops {
		if o.cancelled || f.ready(o) {
			return false
		}
	}
	return true
}

// ready reports whether o, which nobody cancelled, has something to tell,
// perhaps some Waits from now.
func (f *Fake) ready(o *op) bool {
	s := o.sock
	switch o.Kind {
	case aio.Poll:
		return s.events(o.Events) != 0
	case aio.Send:
		return o.performed || o.Flags&aio.PollFirst == 0 || s.writable()
	case aio.Recv:
		return s.readable() && !(s.starved && len(s.in) > 0 && f.poolEmpty(o))
	default:
		return len(s.listener.queue) > 0
	}
}

// poolOf returns the pool that o receives into.
func (f *Fake) poolOf(o *op) *buf.Pool {
	if o.Flags&aio.Bulk != 0 && f.cfg.Bulk != nil {
		return f.cfg.Bulk
	}
	return f.pool
}

func (f *Fake) poolEmpty(o *op) bool {
	b := f.poolOf(o).Get()
	empty := b.IsZero()
	b.Release()
	return empty
}

// Submit implements aio.Engine. It panics when op breaks the law.
func (f *Fake) Submit(op *aio.Op) {
	f.alive()
	f.stats.Submitted++
	switch op.Kind {
	case aio.Accept, aio.Recv, aio.Send, aio.Poll:
		f.start(op)
	case aio.Cancel:
		f.cancel(op)
	case aio.Close:
		f.closeFD(op)
	case aio.Shutdown:
		_ = f.Shutdown(op.FD, syscall.SHUT_WR)
	case aio.Reset:
		f.resetFD(op.FD)
	case aio.Forget:
		f.quiet(op)
	default:
		broken("Submit of kind %d", op.Kind)
	}
}

// start puts an operation in flight.
func (f *Fake) start(a *aio.Op) {
	s := f.socket(a.FD, a.Kind.String())
	if a.Kind != aio.Poll && (s.listener != nil) != (a.Kind == aio.Accept) {
		broken("%v on the wrong kind of socket %d", a.Kind, a.FD)
	}
	if a.Kind != aio.Poll && (s.connecting || s.refused != 0) {
		broken("%v on socket %d, which is not connected", a.Kind, a.FD)
	}
	o := &op{Op: *a, sock: s}
	o.Batch &= 0xfff
	for _, other := range f.ops {
		f.checkPair(o, other)
	}
	if a.Kind == aio.Send {
		o.size = f.checkOut(a)
		o.lent = append([][]byte(nil), a.Out...)
		o.sum = f.checksum(o.lent)
	}
	f.ops = append(f.ops, o)
}

// checkPair panics when o may not be in flight together with other.
func (f *Fake) checkPair(o, other *op) {
	if o.sock == other.sock && o.Token != other.Token {
		broken("%v on descriptor %d for a second party", o.Kind, o.FD)
	}
	if o.Token != other.Token || o.Kind != other.Kind {
		return
	}
	switch {
	case o.Kind != aio.Send:
		broken("%v while another one of %+v is in flight", o.Kind, o.Token)
	case !other.told:
		broken("send while another one of %+v is without its first completion", o.Token)
	case o.Flags&aio.ZeroCopy != 0 && o.Batch == other.Batch:
		broken("send with batch %d, which another send of %+v still has", o.Batch, o.Token)
	}
}

func (f *Fake) checkOut(a *aio.Op) (size int) {
	if len(a.Out) == 0 || len(a.Out) > f.cfg.MaxOut {
		broken("send of %d elements, from 1 to %d are allowed", len(a.Out), f.cfg.MaxOut)
	}
	for i, p := range a.Out {
		if len(p) == 0 {
			broken("element %d of %d of a send is empty", i, len(a.Out))
		}
		size += len(p)
	}
	return size
}

func (f *Fake) checksum(out [][]byte) uint64 {
	var h maphash.Hash
	h.SetSeed(f.seed)
	for _, p := range out {
		h.Write(p)
	}
	return h.Sum64()
}

// cancel marks the operation that c names, if it is there.
func (f *Fake) cancel(c *aio.Op) {
	for _, o := range f.ops {
		if o.Token == c.Token && o.Kind == c.Target && !o.told {
			o.cancelled = true
			if f.chance(f.cfg.LateCancel) {
				o.hold = max(o.hold, 1+f.rng.IntN(3))
			}
		}
	}
}

func (f *Fake) closeFD(c *aio.Op) { f.shut(f.quiet(c)) }

// quiet returns the socket of c, on which nothing may be in flight.
func (f *Fake) quiet(c *aio.Op) *socket {
	s := f.socket(c.FD, c.Kind.String())
	for _, o := range f.ops {
		if o.sock == s {
			broken("%v of descriptor %d while its %v is in flight", c.Kind, c.FD, o.Kind)
		}
	}
	return s
}

// resetFD resets a connection from our side, now.
func (f *Fake) resetFD(fd int32) {
	s := f.socket(fd, "reset")
	if !s.reset {
		s.abort, s.reset = true, true
		s.peer.die()
	}
}

// Try implements aio.Engine: what fits is taken, or a random part of it.
func (f *Fake) Try(a *aio.Op) int {
	f.alive()
	s := f.socket(a.FD, "try")
	if a.Kind != aio.Send || s.listener != nil {
		broken("try of %v on descriptor %d", a.Kind, a.FD)
	}
	for _, o := range f.ops {
		if o.Token == a.Token && o.Kind == aio.Send && !o.told {
			broken("try while a send of %+v is without its first completion", a.Token)
		}
	}
	return int(f.push(s, a.Out, f.checkOut(a), true))
}

// Wake implements aio.Engine.
func (f *Fake) Wake() { f.woken.Store(true) }

// Caps implements aio.Engine.
func (f *Fake) Caps() aio.Caps {
	return aio.Caps{Engine: "fake", ZeroCopy: f.cfg.ZeroCopy, Immediate: f.cfg.Immediate, MaxOut: f.cfg.MaxOut}
}

// Stats implements aio.Engine.
func (f *Fake) Stats() aio.Stats { return f.stats }

// Close implements aio.Engine. Descriptors stay open, as the law says.
func (f *Fake) Close() error {
	f.alive()
	f.closed = true
	for _, o := range f.ops {
		if o.Kind == aio.Send {
			f.checkLent(o)
		}
	}
	f.ops = nil
	return nil
}

func (f *Fake) alive() {
	if f.closed {
		broken("use of the engine after Close")
	}
}

func (f *Fake) chance(p float64) bool { return p > 0 && f.rng.Float64() < p }

func broken(format string, args ...any) {
	invariants.Broken("aiotest: "+format, args...)
}
