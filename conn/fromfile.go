package conn

import (
	"errors"
	"io"
	"os"
	"syscall"

	"github.com/penstock-go/penstock/reactor"
)

// fromFile is a part of a regular file, read by offset.
type fromFile struct {
	f       *os.File
	at, end int64 // end below 0: that of the file
	copies  bool  // sendfile(2) is not for this file or socket
	send    fileSender
}

// Where sendfile(2) begins to pay.
const (
	// A file up to fileSmall is read into a block, so that it travels together with
	// what was sent before it; of a larger one fileFirst bytes do.
	fileSmall = 16 << 10
	fileFirst = reactor.SmallBlock

	// fileTurn is how much of a file goes out before others have a turn.
	fileTurn = 1 << 20
)

func (g *fromFile) more(c *Conn, s *stream) bool {
	left := s.left
	if g.end >= 0 {
		left = atMost(s.left, g.end-g.at)
		if left <= 0 { // Below: a section that stands behind its end.
			c.atEnd(s, io.EOF)
			return true
		}
	}
	alone := c.out.q.empty()
	if !g.copies && alone && (left < 0 || left > fileSmall || s.read > 0) {
		return g.direct(c, s, left)
	}
	if !g.copies && !alone && (left < 0 || left > fileSmall) {
		left = fileFirst
	}
	return g.copy(c, s, left)
}

// copy reads a block of the file into the queue.
func (g *fromFile) copy(c *Conn, s *stream, left int64) bool {
	b := c.streamBlock(left)
	if b.IsZero() {
		c.awaitMemory(s)
		return false
	}
	defer b.Release()
	p := b.Room()
	n, err := g.f.ReadAt(p[:atMost(left, int64(len(p)))], g.at)
	if n > 0 {
		b.Extend(n)
		g.at += int64(n)
		c.readAhead(s, entry{block: b.Take()})
	}
	if err != nil {
		c.atEnd(s, err)
	}
	return true
}

// direct has the kernel send the file itself.
func (g *fromFile) direct(c *Conn, s *stream, left int64) bool {
	want := atMost(left, fileTurn)
	n, err := g.send.sendfile(int(c.fd), g.f, g.at, int(want))
	if n > 0 {
		g.at += int64(n)
		c.streamed(s, n)
	}
	switch {
	case err == syscall.EAGAIN, err == nil && n > 0 && int64(n) < want: // Full, or nearly; or the end.
		c.awaitSocket()
		return false
	case err == nil && n == 0:
		c.atEnd(s, io.EOF)
	case err == nil && !s.ended:
		c.loop.Defer(c.touch)
		return false
	case reasonOf(err) == PeerReset:
		var errno syscall.Errno
		errors.As(err, &errno)
		c.fail("sendfile", -int(errno))
	case err != nil:
		g.copies = true
		return g.copy(c, s, left)
	}
	return true
}

func (g *fromFile) stop() {}
