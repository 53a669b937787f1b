package ws

import (
	"errors"
	"io"

	"github.com/penstock-go/penstock/conn"
)

// streamChunk is how much of a reader is a fragment, at the most.
const streamChunk = 32 << 10

// SendFrom sends all of r as one message, in fragments, read as the peer takes them: up
// to Full, and on from the low mark. Other messages are Rejected until done has run, as
// while a Writer is at one; pings and pongs go between.
//
// Readers in memory (*bytes.Reader, *bytes.Buffer, *strings.Reader) and those that
// conn.Inline marks are read on the loop, all others by a goroutine for each fragment,
// so that they may block. done, which may be nil, runs once on the loop: with nil when
// the message has been queued whole, else with the error. A reader that fails breaks a
// message that the peer has begun to hear: the WebSocket is closed with Internal then. If
// the connection ends before, done is told before OnClose; a Read may still be running
// then.
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

// next reads a fragment.
func (s *stream) next() {
	if s.told {
		return
	}
	if s.buf == nil {
		s.buf = make([]byte, streamChunk)
	}
	if s.inline {
		s.n, s.err = readSome(s.r, s.buf)
		s.send()
		return
	}
	ref := s.c.conn.Ref()
	p := s.buf
	go func() {
		n, err := 0, errGoexit
		defer func() {
			crash := recover()
			ref.Do(func(*conn.Conn) {
				if crash != nil {
					panic(crash) // Here it ends the connection, and not the process.
				}
				s.n, s.err = n, err
				s.send()
			})
		}()
		n, err = readSome(s.r, p)
	}()
}

var errGoexit = errors.New("ws: Read called runtime.Goexit")

// readSome reads some bytes, or an error.
func readSome(r io.Reader, p []byte) (n int, err error) {
	for range 100 {
		if n, err = r.Read(p); n != 0 || err != nil {
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// send sends what was read, and goes on, when there is room.
func (s *stream) send() {
	if s.told {
		return
	}
	var err error
	switch {
	case s.n > 0:
		_, err = s.w.Write(s.buf[:s.n])
	case s.err == io.EOF:
		err = s.w.Close()
	case s.err != nil:
		s.c.Close(Internal, "")
		s.finish(s.err)
		return
	}
	switch {
	case err == conn.ErrSendBufferFull:
		s.c.conn.OnRoom(-1, func(*conn.Conn) { s.send() })
	case err != nil:
		s.finish(err)
	case s.n == 0:
		s.finish(nil)
	default:
		s.n = 0
		switch {
		case s.err != nil:
			s.send()
		case s.c.IsFull():
			s.c.conn.OnRoom(-1, func(*conn.Conn) { s.next() })
		default:
			s.c.conn.Loop().Defer(s.next) // Others have their turn between.
		}
	}
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
