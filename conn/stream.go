package conn

import (
	"io"
	"slices"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/reactor"
)

// Bounds of streams.
const (
	// MaxStreams is how many SendFroms may wait on one connection.
	MaxStreams = 64

	aheadMost   = 64 << 10              // bytes read ahead, beyond which no other stream is begun
	retryMemory = 10 * time.Millisecond // when there was no block
)

// stream is one SendFrom in the queue. What was sent before it is in the
// connection's sendq, where the bytes join it that are read ahead, and what was
// sent behind it waits in its own.
type stream struct {
	from   source
	left   int64 // bytes to come from the source; below 0: until its end
	read   int64 // bytes that have come
	sent   int64 // of them, those the kernel has taken
	held   int   // bytes in a pipe of the kernel's: see splicer
	ended  bool  // the source is done with
	told   bool  // done has run
	waits  bool  // for memory, by a timer
	err    error // what done is told
	done   func(sent int64, err error)
	tell   func() // made once
	behind sendq
}

// source is where the bytes of a stream come from.
//
// Thread: that of the connection.
type source interface {
	// more brings bytes, by c.readAhead or straight into the socket; none of
	// what it has brought before is still queued. It reports false when it has
	// brought nothing and touches c once it can.
	more(c *Conn, s *stream) bool
	// stop says that nothing more will be asked for.
	stop()
}

// SendFrom queues a stream as one message: n bytes of r, or with n < 0 all until
// io.EOF. The bytes take their place in the order of the sends and are read when
// it is their turn, as the peer takes them; what is sent behind them waits,
// within the marks, and Close and CloseWrite wait for both.
//
// It is refused like a message without bytes, for which no connection ends, at the
// Limit and with a Budget that is used up; and when MaxStreams wait already.
// OnFull and OnDrain speak of the other sends alone: what was read ahead is not
// pending (see Ahead), and is at most 64 KiB; a reader that may block has two such
// blocks of its own besides.
//
// How r is read: a regular *os.File, or an *io.SectionReader of one, goes by
// sendfile(2), from its position at the call, by offset, which moves no position:
// one file may serve many connections. A read of the disk then holds up the loop;
// to have it elsewhere, hide the file in another type. Readers in memory
// (*bytes.Reader, *bytes.Buffer, *strings.Reader) and what Inline returns are
// read on the loop. All others are read by a goroutine of their own, which lives
// until Read returns.
//
// done, which may be nil, runs once, on the loop: with how many of the bytes the
// kernel has taken, and nil for all of them. A source that fails, or ends before n
// bytes, breaks a promise to the peer that cannot be taken back: done is told the
// error, or io.ErrUnexpectedEOF, and the connection is reset with reason
// StreamFailed; if r panics, with HandlerPanic. When the connection ends otherwise,
// done is told its *CloseError before OnClose. A Read in another goroutine may
// still be running then: close r in done to end it. done does not run when the
// answer is Rejected or Closed.
//
// Ownership: r is the stream's until done has run.
func (c *Conn) SendFrom(r io.Reader, n int64, done func(sent int64, err error)) Status {
	if s := c.admit(0); s != Queued {
		return s
	}
	o := c.outbox()
	if len(o.streams) == MaxStreams {
		return c.refund(0)
	}
	from, err := c.sourceOf(r)
	s := &stream{from: from, left: n, done: done, err: err}
	s.ended = n == 0
	c.queueStream(s)
	if c.Pending() >= c.marks().High {
		return Full
	}
	return Queued
}

func (c *Conn) queueStream(s *stream) {
	o := c.outbox()
	s.tell = s.finish
	o.streams = append(o.streams, s)
	o.prompt = true
	c.touch()
}

// Ahead returns the bytes that streams have read and the kernel has not taken.
// They are not pending, and never hold the queue up.
func (c *Conn) Ahead() int {
	o := c.out
	if o == nil {
		return 0
	}
	n := o.ahead
	for _, s := range o.streams {
		n += s.held
	}
	return n
}

// end returns the queue that the next message joins.
func (o *outbound) end() *sendq {
	if n := len(o.streams); n > 0 {
		return &o.streams[n-1].behind
	}
	return &o.q
}

// streaming reports whether a stream is not wholly with the kernel.
func (o *outbound) streaming() bool { return len(o.streams) > 0 || o.ahead > 0 }

// finish tells the caller of SendFrom, once.
func (s *stream) finish() {
	if done := s.done; !s.told {
		if s.told = true; done != nil {
			done(s.sent, s.err)
		}
	}
}

// flow brings the streams on whose turn it is: bytes into the queue, or straight
// into the socket. No send is in flight.
func (c *Conn) flow() {
	o := c.out
	for len(o.streams) > 0 && c.state < ending && !c.offline && o.ahead < aheadMost && !c.awaits(pollOut) {
		s := o.streams[0]
		if !s.ended {
			switch {
			case s.err != nil:
				c.breakOff(s, s.err)
				return
			case s.read > s.sent || !s.from.more(c, s):
				return
			}
		}
		if s.ended && c.state < ending {
			c.pass(s)
		}
	}
}

// pass ends the reading of the first stream: what was sent behind it is next.
func (c *Conn) pass(s *stream) {
	o := c.out
	s.from.stop()
	o.streams = slices.Delete(o.streams, 0, 1)
	o.passed = slices.DeleteFunc(o.passed, func(s *stream) bool { return s.told })
	if s.read > s.sent {
		o.passed = append(o.passed, s)
	} else {
		o.q.dones = append(o.q.dones, s.tell)
	}
	o.q.append(&s.behind)
	c.touch() // Runs what is done.
}

// readAhead queues bytes of a stream.
func (c *Conn) readAhead(s *stream, e entry) {
	n := e.len()
	e.of = s
	s.count(n)
	c.countAhead(n)
	c.out.q.push(e)
}

// countAhead counts n bytes more that were read ahead, also in the budget: below 0
// less. A budget that is used up does not stop a stream, which may have nobody who
// would wake it: it makes its blocks small.
func (c *Conn) countAhead(n int) {
	c.out.ahead += n
	if b := c.host.cfg.Budget; b != nil {
		if t := b.total.Add(int64(n)); n > 0 {
			b.note(t)
		} else {
			b.tell()
		}
	}
}

// streamBlock returns an empty block for what is left of a stream.
func (c *Conn) streamBlock(left int64) buf.Buf {
	b := c.host.cfg.Budget
	if left >= 0 && left <= reactor.SmallBlock || b != nil && b.size-b.total.Load() < 2*reactor.BulkBlock {
		return c.loop.Small().Get()
	}
	return c.loop.Bulk().Get()
}

// count notes that n bytes have come from the source.
func (s *stream) count(n int) {
	s.read += int64(n)
	if s.left > 0 {
		s.left -= int64(n)
		s.ended = s.left == 0
	}
}

// atMost returns n, or left where that is less and not below 0: no bound.
func atMost(left, n int64) int64 {
	if left >= 0 {
		return min(left, n)
	}
	return n
}

// atEnd notes that the source has ended, with err or io.EOF.
func (c *Conn) atEnd(s *stream, err error) {
	switch {
	case s.ended: // All that was asked for is there: what the source says of more is not heard.
	case err == io.EOF && s.left < 0:
		s.ended = true
	case err == io.EOF:
		c.breakOff(s, io.ErrUnexpectedEOF)
	default:
		c.breakOff(s, err)
	}
}

// breakOff ends the connection, since the peer cannot get what it was promised.
func (c *Conn) breakOff(s *stream, err error) {
	s.err = err
	c.end(StreamFailed, "read", err, true)
}

// streamed settles n bytes that went from s straight into the socket.
func (c *Conn) streamed(s *stream, n int) {
	s.count(n)
	s.sent += int64(n)
	c.bytesOut += uint64(n)
	if f := c.final; f != nil {
		f.progress = c.loop.Now()
	}
	if c.clock != nil {
		c.clock.took(c, n)
	}
}

// awaitSocket has the streams go on when the socket has room.
func (c *Conn) awaitSocket() {
	if c.await(pollOut); c.clock != nil {
		c.clock.took(c, 0)
	}
}

// owes reports whether the peer is to take something now. A stream whose source
// has nothing is no fault of the peer's.
func (c *Conn) owes() bool {
	if o := c.out; o != nil && len(o.streams) > 0 {
		return !o.q.empty() || c.awaits(pollOut)
	}
	return c.Pending() > 0 || c.Ahead() > 0
}

// awaitMemory has the streams go on a little later.
func (c *Conn) awaitMemory(s *stream) {
	if !s.waits {
		s.waits = true
		c.loop.AfterFunc(retryMemory, c, func() { s.waits = false; c.touch() })
	}
}

// dropOut gives up all that waits, at the end of the connection.
func (c *Conn) dropOut(err error) {
	o := c.out
	if o.lone.sharers > 0 {
		c.vacateLone()
		return
	}
	o.q.drop()
	for _, s := range o.passed {
		o.q.dones = append(o.q.dones, s.fail(err))
	}
	for _, s := range o.streams {
		s.from.stop()
		o.q.dones = append(o.q.dones, s.fail(err))
		s.behind.drop()
		o.q.dones = append(o.q.dones, s.behind.dones...)
	}
	c.countAhead(-o.ahead)
	o.streams, o.passed = nil, nil
	o.bounds.reset()
}

// fail notes why not all of s was sent, unless that is known, and returns how to
// tell that.
func (s *stream) fail(err error) func() {
	if s.err == nil && (s.sent < s.read || !s.ended) {
		s.err = err
	}
	return s.tell
}
