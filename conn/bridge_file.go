package conn

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
)

// filePart is how much of a file is one entry of the queue.
const filePart = 1 << 20

// cached is the part of r that is a regular file of which the kernel has the
// bytes in memory, so that to send them by sendfile(2) does not hold up the loop.
type cached struct {
	f     *os.File
	limit *io.LimitedReader // around f, or nil
	at    int64
	left  int64
}

// cachedPart returns that part, if r is a file, as far as it may go.
func cachedPart(r io.Reader) (p cached, ok bool) {
	switch r := r.(type) {
	case *os.File:
		p.f = r
	case *io.LimitedReader:
		if p.f, ok = r.R.(*os.File); !ok {
			return p, false
		}
		p.limit = r
	default:
		return p, false
	}
	info, err := p.f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return p, false
	}
	if p.at, err = p.f.Seek(0, io.SeekCurrent); err != nil {
		return p, false
	}
	p.left = info.Size() - p.at
	if p.limit != nil {
		p.left = min(p.left, p.limit.N)
	}
	p.left = min(p.left, filePart)
	return p, p.left > fileSmall && resident(p.f, p.at, p.left)
}

// sent moves the file on, behind what was taken.
func (p *cached) sent(n int64) error {
	if p.limit != nil {
		p.limit.N -= n
	}
	_, err := p.f.Seek(p.at+n, io.SeekStart)
	return err
}

// sendFile queues parts of r by sendfile(2) for as long as they are in memory, and
// returns how many bytes were taken. Less than r has, without an error, says that
// the rest is to be read. What was taken is sent, also when the wait for it ended.
func (n *NetConn) sendFile(r io.Reader) (total int64, err error) {
	for {
		p, ok := cachedPart(r)
		if !ok {
			return total, nil
		}
		if err = n.mayWrite(); err != nil {
			return total, err
		}
		own, err := duplicateFile(p.f) // The caller may close his before the peer has it.
		if err != nil {
			return total, nil
		}
		took, err := n.postFile(own, p.at, p.left)
		total += took
		if moved := p.sent(took); err == nil {
			err = moved
		}
		switch {
		case errors.Is(err, ErrSendBufferFull): // MaxStreams wait; a message has its turn.
			return total, nil
		case err != nil || took == 0:
			return total, err
		}
	}
}

// postFile sends a part of f, which it closes, and waits until the kernel has it.
func (n *NetConn) postFile(f *os.File, at, size int64) (took int64, err error) {
	n.writing.Lock()
	defer n.writing.Unlock()
	s := &fileSend{f: f, size: size, done: make(chan error, 1)}
	if !n.ref.Do(func(c *Conn) { s.begin(c, at) }) {
		s.begun.Store(true)
		_ = f.Close()
		return 0, n.whyShut()
	}
	for {
		select {
		case err = <-s.done:
			return s.sent, err
		case <-n.wr.bell:
			err = n.mayWrite()
		case <-n.ref.g.remote.Done():
			err = net.ErrClosed
		}
		switch {
		case err == nil:
		case s.begun.CompareAndSwap(false, true): // It never will.
			_ = f.Close()
			return 0, err
		default:
			return size, err
		}
	}
}

// fileSend is a part of a file on its way.
type fileSend struct {
	f     *os.File
	size  int64
	begun atomic.Bool // or given up
	sent  int64       // known when done is told
	done  chan error
}

func (s *fileSend) begin(c *Conn, at int64) {
	if !s.begun.CompareAndSwap(false, true) {
		return
	}
	status := c.SendFrom(io.NewSectionReader(s.f, at, s.size), s.size, s.end)
	if status >= Rejected {
		s.end(0, status.Err())
	}
}

func (s *fileSend) end(sent int64, err error) {
	_ = s.f.Close()
	s.sent = sent
	s.done <- err
}
