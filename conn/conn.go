package conn

import (
	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/reactor"
)

// state is how far a connection has come. It only ever rises.
type state uint8

const (
	open    state = iota // takes sends, hears the peer
	shut                 // CloseWrite: takes no sends, hears the peer
	closing              // Close: flushes, then FIN, then lingers; input is discarded
	ending               // waits for its operations to come home
	closed               // OnClose has run or is running
)

// Conn is one connection.
//
// Thread: a *Conn is seen only on its loop. Keep a Ref elsewhere.
//
// It costs one record of this struct while nothing waits to be sent: 176 bytes. What
// only some connections need hangs off it by a pointer.
type Conn struct {
	// What each message touches comes first, so that it is in two lines of the cache.
	loop   *reactor.Loop
	host   *host
	hooks  *hooks
	out    *outbound // while bytes are queued, in flight or lent
	gate   *gate     // once a Ref was asked for, or a Budget was asked for room
	clock  *clock    // while it has deadlines or timers
	beside *beside   // once it has something of what few have
	final  *final    // from the first step of the close family on
	dial   *dialing  // until it is connected, with Reconnect always

	pending           int // while gate is nil; else the gate counts
	bytesIn, bytesOut uint64
	token             aio.Token
	fd                int32
	pendingMax        uint32

	paused     pauses
	state      state
	offline    bool      // no socket is connected
	unix       bool      // it is a unix socket
	touched    bool      // will be flushed at the end of the turn
	sending    bool      // exactly while a send has no first completion
	full       bool      // OnFull has run and OnDrain has not
	starved    bool      // and that was for want of budget
	remark     bool      // the marks have changed: look whether they ask for a hook
	armed      bool      // Recv is with the engine
	recvFlags  aio.Flags // of it
	bulk       bool      // the next Recv is to be one for much
	calm       uint8     // receives in a row that would not have needed it
	steady     uint8     // receives of much since one was cancelled, up to steadyEnough
	filled     uint8     // how surely the peer fills large blocks
	cancelling bool      // and a Cancel of it
	eof        bool      // the peer has sent its end of file
	eofHeard   bool      // and OnEOF, or what stands for it, has run
	patient    bool      // what is refused now is no message lost: see TrySend
	readsOn    bool      // ReadOn was called
	vital      bool      // what is sent now is not to be dropped: see Keep
	stopped    bool      // OnShutdown has run
	copies     bool      // the kernel copies what is sent without a copy: no more of that

	user   any
	id     uint64
	addrs  *addrs  // once an address was asked for
	joined *joined // once it has joined a topic
}

// Stats is what a connection has counted.
type Stats struct {
	BytesIn       uint64 // received and handed to the handler, or discarded at close
	BytesOut      uint64 // taken by the kernel
	Full, Drain   uint64 // hooks run, but for those that Starved counts
	Starved       uint64 // times that OnFull has run below HighWater, for want of a Budget
	Rejected      uint64 // messages refused
	RejectedBytes uint64
	Dropped       uint64 // messages admitted, and dropped for newer ones; see DropOldest
	DroppedBytes  uint64
	AfterClose    uint64 // sends after the close
	LateBytes     uint64 // their bytes
	LostBytes     uint64 // admitted, not dropped and not taken by the kernel; known in OnClose
	PendingMax    int    // most bytes that were pending at once, from 4 GiB on that
}

// add adds o to s.
func (s *Stats) add(o Stats) {
	s.BytesIn += o.BytesIn
	s.BytesOut += o.BytesOut
	s.Full += o.Full
	s.Drain += o.Drain
	s.Starved += o.Starved
	s.Rejected += o.Rejected
	s.RejectedBytes += o.RejectedBytes
	s.Dropped += o.Dropped
	s.DroppedBytes += o.DroppedBytes
	s.AfterClose += o.AfterClose
	s.LateBytes += o.LateBytes
	s.LostBytes += o.LostBytes
	s.PendingMax = max(s.PendingMax, o.PendingMax)
}

// addrs are the two ends of a connection.
type addrs struct{ local, remote Addr }

// New puts the connected stream socket fd on loop l and runs OnOpen. cfg must
// have passed Check. On a loop that has been asked to end it is then asked too.
//
// Ownership: fd is the connection's, which closes it.
// Thread: that of l.
func New(l *reactor.Loop, fd int, h Handler, cfg Config) *Conn {
	host := newHost(l, cfg, newHooks(h))
	host.unix = isUnix(fd)
	return host.open(fd, nil, nil)
}

// ID returns the number of the connection: unique in the process, never used
// again, counting up.
func (c *Conn) ID() uint64 { return c.id }

// Loop returns the connection's loop.
func (c *Conn) Loop() *reactor.Loop { return c.loop }

// Connected reports whether the connection has a connected socket: not before it
// was dialed successfully, not between a loss and the next OnOpen of one with
// Reconnect, and not once it ends.
func (c *Conn) Connected() bool { return !c.offline && c.state < ending }

// User returns what SetUser has kept, or nil.
func (c *Conn) User() any { return c.user }

// SetUser keeps a value of the caller's with the connection.
func (c *Conn) SetUser(v any) { c.user = v }

// Handler returns the handler that hears the events now.
func (c *Conn) Handler() Handler { return c.hooks.handler }

// SetHandler has h hear all events from now on: a change of protocol. Its
// OnOpen does not run. Bytes that were received and not handed over go to it,
// those that a [LeaveHandler] has held among them.
func (c *Conn) SetHandler(h Handler) {
	leave := c.hooks.leave
	c.hooks = newHooks(h)
	if leave != nil {
		c.as(leave)
	}
}

// LocalAddr returns the address of this end, the zero Addr if it has none.
// The kernel is asked the first time LocalAddr or RemoteAddr is called.
func (c *Conn) LocalAddr() Addr { return c.addresses().local }

// RemoteAddr returns the address of the peer. Ask in OnOpen if it is wanted
// later: after a reset the kernel no longer knows it.
func (c *Conn) RemoteAddr() Addr { return c.addresses().remote }

func (c *Conn) addresses() *addrs {
	if c.offline {
		return &addrs{}
	}
	if c.addrs == nil {
		c.addrs = &addrs{}
		if c.state < closed {
			*c.addrs = socketAddrs(int(c.fd))
		}
	}
	return c.addrs
}

// Stats returns the counters of the connection.
func (c *Conn) Stats() Stats {
	s := Stats{
		BytesIn: c.bytesIn, BytesOut: c.bytesOut, PendingMax: int(c.pendingMax),
	}
	if b := c.beside; b != nil {
		s.Full, s.Drain, s.Starved = b.fulls, b.drains, b.starvings
		s.Rejected, s.RejectedBytes = b.rejected.messages, b.rejected.bytes
		s.Dropped, s.DroppedBytes = b.dropped.messages, b.dropped.bytes
		s.AfterClose, s.LateBytes = b.late.messages, b.late.bytes
	}
	if c.gate != nil {
		messages, bytes := c.gate.late()
		s.AfterClose += messages
		s.LateBytes += bytes
	}
	if c.final != nil {
		s.LostBytes = uint64(c.final.lost)
	}
	if c.dial != nil {
		s.LostBytes += uint64(c.dial.back.lost)
	}
	return s
}

// touch has the connection flushed at the end of the turn.
func (c *Conn) touch() {
	if !c.touched {
		c.touched = true
		c.loop.Touch(c)
	}
}

// Flush implements reactor.Sink: it brings the connection from what it is
// to what it is to be. It is not for users.
func (c *Conn) Flush(*reactor.Loop) {
	c.touched = false
	if c.clock != nil {
		c.clock.look(c)
	}
	if c.quiet() && c.listens() && c.flushLone() {
		return
	}
	if c.state == closed {
		return
	}
	c.runDones()
	c.edges()
	c.handParked()
	c.pump()
	c.armOrCancel()
	c.proceed()
}

// quiet reports whether c is open and neither a hook nor a part of the library may ask
// for anything: then it receives, and sends what there is, and no more.
func (c *Conn) quiet() bool {
	return c.state == open && !c.full && !c.offline && !c.remark && c.beside == nil
}

// Complete implements reactor.Sink. It is not for users.
func (c *Conn) Complete(_ *reactor.Loop, done *aio.Completion) {
	switch done.Kind {
	case aio.Recv:
		c.received(done)
	case aio.Send:
		c.sent(done)
	case aio.Poll:
		c.polled(done)
	}
}

// Stop implements reactor.Sink. It is not for users.
func (c *Conn) Stop(_ *reactor.Loop, hard bool) {
	switch {
	case hard:
		// What the kernel has taken it still delivers, unless we reset it.
		c.end(Shutdown, "", nil, !c.flushed())
	case c.hooks.stop != nil && c.state < closing:
		if !c.stopped {
			c.stopped = true
			c.as(c.hooks.stop)
		}
	case c.afterWork():
	default:
		c.Close()
	}
}

// Panicked implements reactor.Sink. It is not for users.
func (c *Conn) Panicked(_ *reactor.Loop, value any) {
	c.end(HandlerPanic, "", panicError(value), true)
}
