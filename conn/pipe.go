package conn

import (
	"errors"
	"io"
	"slices"
	"sync/atomic"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/reactor"
)

// Errors of Pipe.
var (
	// ErrOtherLoop says that two connections are on different loops, where only a
	// Ref may go: see PipeRef.
	ErrOtherLoop = errors.New("conn: pipe between loops needs PipeRef")
	// ErrPiped says that the input of a connection is forwarded already.
	ErrPiped = errors.New("conn: already piped")
)

// PipeConfig shapes a Pipe. The zero value forwards both ways.
type PipeConfig struct {
	// OneWay forwards from a to b alone: what b receives, and what a sends, stay
	// their handlers' affairs, and a hears OnEOF.
	OneWay bool
}

// Piping is a Pipe under way.
type Piping struct{ a, b *pipeEnd }

// Pipe forwards all that a receives to b, and all that b receives to a, byte for
// byte, until both have ended or Unpipe. Blocks are moved, not copied.
//
// Flow control is by the marks: when what waits for one end comes to its
// HighWater the other end is not read, until its LowWater is reached. A sink holds
// at most HighWater - 1 bytes and one block more. Config.PauseOnFull of the two is
// not heeded meanwhile: it would couple the directions.
//
// The handlers keep their connections: OnOpen, OnFull, OnDrain and OnClose run as
// ever and their sends go out among what is forwarded. OnData and OnEOF do not run.
// The end of file of one end becomes a CloseWrite of the other, behind the last
// byte; when both directions have ended so, both connections close. CloseTimeout
// then counts from the last byte that a peer took. When one ends in any other way
// the other follows: after Close it is closed too, after a failure it is reset, and
// its OnClose is told a *CloseError with reason PipeBroken and that failure (a
// Detach is one: Unpipe before it); unless
// the failed end had sent its end of file before: then what it sent is whole, and is
// flushed by a Close. What cannot be forwarded because a handler has called
// CloseWrite breaks the pipe too.
//
// Either may still be connecting: what its peer is to get waits within the marks.
// What was received before and not heard is forwarded. A connection may be piped
// to itself, OneWay or not: an echo.
//
// Thread: the loop of both; else the error is ErrOtherLoop. It is net.ErrClosed
// when one of them has closed, or b takes no more sends.
func Pipe(a, b *Conn, cfg PipeConfig) (*Piping, error) {
	if a.loop != b.loop {
		return nil, ErrOtherLoop
	}
	both := !cfg.OneWay && a != b
	switch {
	case a.state >= closing || b.state > open || both && a.state > open:
		return nil, ErrClosed
	case a.piped() || both && b.piped():
		return nil, ErrPiped
	}
	p := &Piping{a: &pipeEnd{c: a, reads: true}, b: &pipeEnd{c: b, reads: both}}
	p.a.far, p.b.far = p.b, p.a
	if a == b {
		p.b = p.a
		p.a.far = p.a
	} else {
		p.b.install()
	}
	p.a.install()
	p.a.heard()
	p.b.heard()
	return p, nil
}

// PipeRef is Pipe for a b that may be on another loop. Between loops the bytes are
// copied, and the pipe begins at b a moment later than at a: have b's reading paused
// before, and resumed by a Ref.Do behind PipeRef, if not even its first bytes may go
// to its handler. That b has closed, or is piped, is found later too: a is reset, with reason
// PipeBroken and net.ErrClosed.
//
// Thread: the loop of a.
func PipeRef(a *Conn, b Ref, cfg PipeConfig) (*Piping, error) {
	if b.g == nil {
		return nil, ErrClosed
	}
	if b.g.remote == a.loop.Remote() {
		if c, ok := a.loop.Lookup(b.g.token).(*Conn); ok && c.id == b.g.id {
			return Pipe(a, c, cfg)
		}
		return nil, ErrClosed
	}
	switch {
	case a.state >= closing || !cfg.OneWay && a.state > open:
		return nil, ErrClosed
	case a.piped():
		return nil, ErrPiped
	}
	here, there := &pipeEnd{c: a, reads: true}, &pipeEnd{reads: !cfg.OneWay}
	here.far, there.far = there, here
	here.gate, there.gate = b.g, a.Ref().g
	posted := b.g.remote.Post(func(l *reactor.Loop) {
		c, ok := l.Lookup(b.g.token).(*Conn)
		if ok = ok && c.id == b.g.id; ok {
			l.As(c)
			there.c = c
		}
		if !ok || c.state > open || there.reads && c.piped() {
			there.tell(func(e *pipeEnd) { e.farClosed(ErrClosed, false) })
			return
		}
		there.install()
		there.heard()
	})
	if !posted {
		return nil, ErrClosed
	}
	here.install()
	here.heard()
	return &Piping{a: here, b: there}, nil
}

// Unpipe ends the forwarding. What is queued goes out; what was received and not
// forwarded, and all that comes, goes to the handlers. An end of file that was
// carried over stays so.
//
// Thread: the loop of a.
func (p *Piping) Unpipe() {
	p.a.remove()
	p.a.tell(func(e *pipeEnd) { e.remove() })
}

// Bytes returns how many bytes were forwarded from a to b, and from b to a.
//
// Thread: any.
func (p *Piping) Bytes() (ab, ba uint64) {
	if p.a == p.b {
		return p.a.bytes.Load(), p.a.bytes.Load()
	}
	return p.a.bytes.Load(), p.b.bytes.Load()
}

// piped reports whether something takes the input instead of the handler.
func (c *Conn) piped() bool { return c.beside != nil && c.beside.inlet != nil }

// inPipe reports whether a Pipe is on, in either direction.
func (c *Conn) inPipe() bool {
	return c.beside != nil && slices.ContainsFunc(c.beside.mourners, func(m mourner) bool {
		_, ok := m.(*pipeEnd)
		return ok
	})
}

// pipeEnd is a Pipe at one of its connections.
//
// Thread: that of c, but for bytes.
type pipeEnd struct {
	c     *Conn
	far   *pipeEnd
	gate  *gate // of the far connection, when that is on another loop; else nil
	reads bool  // what c receives is forwarded
	bytes atomic.Uint64

	installed bool
	splicer   *splicer // while the kernel moves what comes
	full      int      // full blocks in a row
	copies    bool     // the kernel does not
	inEnded   bool     // the end of file of c was carried over
	outEnded  bool     // that of the far end has come
}

var (
	_ inlet   = (*pipeEnd)(nil)
	_ mourner = (*pipeEnd)(nil)
)

// tell runs fn for the far end, on its loop, behind all that was forwarded.
func (e *pipeEnd) tell(fn func(far *pipeEnd)) {
	far := e.far
	if e.gate == nil {
		fn(far)
		return
	}
	g := e.gate
	g.remote.Post(func(l *reactor.Loop) {
		if c, ok := l.Lookup(g.token).(*Conn); ok && c.id == g.id {
			l.As(c)
			fn(far)
		}
	})
}

func (e *pipeEnd) install() {
	c := e.c
	b := c.aside()
	e.installed = true
	b.mourn(e)
	if !e.reads {
		return
	}
	b.inlet = e
	c.resume(byFull)
	c.touch()
	if leave := c.hooks.leave; leave != nil {
		c.as(leave)
	}
}

// heard carries over an end of file that c has heard before.
func (e *pipeEnd) heard() {
	if e.reads && e.c.eofHeard && !e.inEnded {
		e.carryEOF()
	}
}

func (e *pipeEnd) remove() {
	if !e.installed {
		return
	}
	c := e.c
	e.installed = false
	c.beside.forget(e)
	if e.reads {
		c.beside.inlet = nil
		c.unawait(pollErr)
		if c.resume(byPipe); c.full && c.host.cfg.PauseOnFull {
			c.hold(byFull)
		}
		c.touch()
	}
	if e.splicer != nil {
		e.far.c.touch() // Which ends it.
	}
}

// data implements inlet.
func (e *pipeEnd) data(c *Conn, in *buf.Buf) {
	n := in.Len()
	switch e.forward(in) {
	case Closed:
		c.hold(byPipe)
		c.touch()
		e.tell((*pipeEnd).refuse)
		return
	case Full:
		if e.installed { // And OnFull has not unpiped it.
			e.await()
		}
	}
	e.bytes.Add(uint64(n))
	e.bulky(n)
}

// forward queues a block at the far end, whatever the limits say: that it is not
// read on when that end is full is what bounds it. Nobody but the far handler's
// OnFull runs inside, and if that panics it is the far connection that ends.
func (e *pipeEnd) forward(in *buf.Buf) Status {
	if e.gate != nil {
		return e.gate.force(in.Bytes())
	}
	far := e.far.c
	if far.state > open {
		return Closed
	}
	far.charge(in.Len())
	b := far.outbox().bounds
	was := b.keep(true)
	far.join(in)
	b.keep(was)
	return far.admitted()
}

// force is put for the bytes of a pipe, which no limit refuses.
func (g *gate) force(p []byte) Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.asked > notYet {
		return Closed
	}
	g.charge(int64(len(p)))
	g.keep(item{n: len(p), vital: true}, p, nil)
	return g.answer()
}

// await stops reading until the far end has room.
func (e *pipeEnd) await() {
	if e.c.paused&byPipe != 0 {
		return
	}
	e.c.hold(byPipe)
	e.c.await(pollErr) // Nobody else hears of a reset now.
	e.c.touch()
	e.tell(func(far *pipeEnd) {
		far.c.OnRoom(-1, func(*Conn) { far.tell((*pipeEnd).goOn) })
	})
}

// goOn reads again: the far end has room, or takes no more, which is found at the
// next byte.
func (e *pipeEnd) goOn() {
	if e.installed {
		e.c.unawait(pollErr)
		e.c.resume(byPipe)
		e.c.touch()
	}
}

// room implements inlet: what the far queue takes until it is full.
func (e *pipeEnd) room() int {
	if e.gate != nil {
		return e.gate.headroom()
	}
	return e.far.c.headroom()
}

// eof implements inlet.
func (e *pipeEnd) eof(c *Conn) {
	if e.carryEOF(); !e.far.reads {
		c.hearEOF() // What c sends is its handler's affair.
	}
}

func (e *pipeEnd) carryEOF() {
	e.inEnded = true
	e.tell((*pipeEnd).finish)
	if e.far.reads {
		e.settle()
	}
}

// finish ends what c sends: the far end has nothing more for it.
func (e *pipeEnd) finish() {
	if !e.installed {
		return
	}
	e.outEnded = true
	e.c.CloseWrite()
	e.bePatient()
	e.settle()
}

// settle closes c when both directions have ended.
func (e *pipeEnd) settle() {
	if e.inEnded && e.outEnded {
		e.c.Close()
	}
}

// bePatient has a flush take as long as the peer reads.
func (e *pipeEnd) bePatient() {
	if f := e.c.final; f != nil {
		f.patient = true
	}
}

// refuse answers to bytes that c took no more.
func (e *pipeEnd) refuse() {
	switch {
	case e.c.state == closing: // Its handler has called Close.
		e.tell(func(far *pipeEnd) { far.farClosed(nil, true) })
	case e.c.state == shut:
		e.tell(func(far *pipeEnd) { far.farClosed(ErrClosed, false) })
	} // Else it has failed, and will say so.
}

// closed implements mourner.
func (e *pipeEnd) closed(_ *Conn, err error) {
	e.installed = false
	whole := e.inEnded
	e.tell(func(far *pipeEnd) { far.farClosed(err, whole) })
}

// farClosed ends c, since the far end has ended, with err. whole says that
// nothing is missing of what that end had to forward.
func (e *pipeEnd) farClosed(err error, whole bool) {
	if !e.installed {
		return
	}
	if err == nil || err == io.EOF || whole {
		e.c.Close()
		e.bePatient()
		return
	}
	e.c.end(PipeBroken, "", err, true)
}
