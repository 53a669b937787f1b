package ws

import (
	"errors"
	"io"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// streamChunk is how much of a reader is a fragment, at the most, and streamMore what
// may come to it by header and compression.
const (
	streamChunk = 32 << 10
	streamMore  = maxHeader + packMore
)

// streamPatience is how long a stream of which nothing is pending waits before it looks
// again whether a budget that others have used up has room.
const streamPatience = 10 * time.Millisecond

// SendFrom sends all of r as one message, in fragments, read as the peer takes them:
// it stays below the high mark, and goes on from the low mark, so that OnFull and OnDrain
// speak of other messages alone. Those are Rejected until done has run, as while a Writer
// is at one; pings and pongs go between. It is never refused: it waits.
//
// Readers in memory (*bytes.Reader, *bytes.Buffer, *strings.Reader) and those that
// conn.Inline marks are read on the loop, all others by a goroutine for each fragment,
// so that they may block. done, which may be nil, runs once on the loop: with nil when
// the message has been queued whole, else with the error. A reader that fails breaks a
// message that the peer has begun to hear: the WebSocket is closed with Internal then.
// Where it has not, nothing was sent, and other messages may be. If the connection ends
// before, done is told before OnClose; a Read may still be running then. Behind a close
// frame, ours or the peer's, no Read begins.
//
// While it is under way it costs 32 KiB, and with compression what a Writer does.
//
// The answer is Queued, Rejected or Closed; done does not run when r was not taken.
//
// Ownership: r is the stream's until done has run.
func (c *Conn) SendFrom(op Op, r io.Reader, done func(error)) conn.Status {
	w, err := c.NewWriter(op)
	switch err {
	case nil:
	case ErrWriting:
		return conn.Rejected
	default:
		return conn.Closed
	}
	s := &stream{c: c, w: w, r: r, done: done, inline: conn.IsInline(r)}
	w.stream = s
	c.conn.Loop().Defer(s.next)
	return conn.Queued
}

// stream is a reader that is being sent.
type stream struct {
	c      *Conn
	w      *Writer
	r      io.Reader
	inline bool
	done   func(error)
	told   bool

	buf []byte // the last fragment, while it waits
	n   int
	err error // what came with it
}

// next reads a fragment, when there is room.
func (s *stream) next() {
	switch {
	case s.told:
		return
	case !s.w.active(): // The WebSocket is closed: nobody is to read on.
		s.finish(conn.ErrClosed)
		return
	case !s.fits(1):
		s.await(s.next)
		return
	case s.buf == nil:
		s.buf = make([]byte, streamChunk)
	}
	p := s.buf[:max(1, s.most()-len(s.w.held))]
	if s.inline {
		s.n, s.err = readSome(s.r, p)
		s.send()
		return
	}
	remote := s.c.conn.Loop().Remote()
	go func() {
		n, err := 0, errGoexit
		defer func() {
			crash := recover()
			remote.Post(func(l *reactor.Loop) { s.back(l, n, err, crash) })
		}()
		n, err = readSome(s.r, p)
	}()
}

// back takes what a goroutine has read.
func (s *stream) back(l *reactor.Loop, n int, err error, crash any) {
	if s.told {
		return
	}
	l.As(s.c.conn)
	if crash != nil {
		panic(crash) // Here it ends the connection, and not the process.
	}
	s.n, s.err = n, err
	s.send()
}

// most is how much may be a fragment: what fits below the high mark.
func (s *stream) most() int {
	return min(streamChunk, max(1, s.c.conn.Marks().High-1-streamMore))
}

// fits reports whether n bytes more can go and leave the queue below the high mark, of
// which the handler's hooks would speak.
func (s *stream) fits(n int) bool {
	c := s.c.conn
	fits := c.Fits()
	if fits == conn.Closed || !s.w.active() {
		return true // There is nothing to wait for: Write says so.
	}
	have, size := c.Pending(), streamMore+len(s.w.held)+n
	return fits == conn.Queued && !c.IsFull() && (have == 0 || have+size < c.Marks().High)
}

// await has fn run when it is time to look again whether there is room.
func (s *stream) await(fn func()) {
	c := s.c.conn
	if n := c.Pending(); n > 0 {
		c.OnRoom(min(c.Marks().Low, n/2), func(*conn.Conn) { fn() })
	} else {
		c.AfterFunc(streamPatience, func(*conn.Conn) { fn() })
	}
}

// What a reader may do that is no error of its own.
var (
	errGoexit = errors.New("ws: Read called runtime.Goexit")
	errRead   = errors.New("ws: Read returned an impossible count")
)

// readSome reads some bytes, or an error.
func readSome(r io.Reader, p []byte) (n int, err error) {
	for range 100 {
		switch n, err = r.Read(p); {
		case n < 0 || n > len(p): // What is behind p was never read.
			return 0, errRead
		case n > 0 || err != nil:
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// send sends what was read, and goes on, when there is room.
func (s *stream) send() {
	var err error
	switch {
	case s.told:
		return
	case s.n == 0 && s.err != io.EOF:
		s.fail()
		return
	case !s.fits(s.n):
		s.await(s.send)
		return
	case s.n > 0:
		_, err = s.w.Write(s.buf[:s.n])
	default:
		err = s.w.Close()
	}
	switch {
	case err == conn.ErrSendBufferFull: // Another loop was faster to what a budget had free.
		s.await(s.send)
	case err != nil || s.n == 0:
		s.finish(err)
	default:
		if s.n = 0; s.err != nil {
			s.send()
		} else {
			s.c.conn.Loop().Defer(s.next) // Others have their turn between.
		}
	}
}

// fail ends the stream for what its reader has done.
func (s *stream) fail() {
	if s.w.begun {
		s.c.Close(Internal, "")
	} else {
		s.c.writer = nil // Nobody has heard of the message.
	}
	s.finish(s.err)
}

// finish tells what became of it, once.
func (s *stream) finish(err error) {
	if s.told {
		return
	}
	s.told, s.buf = true, nil
	s.w.stream = nil
	if s.done != nil {
		s.done(err)
	}
}
