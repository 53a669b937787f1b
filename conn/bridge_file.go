package conn

import (
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
	"sync"
	"syscall"

	"github.com/penstock-go/penstock/reactor"
)

// filePart is how much of a file is one entry of the queue.
const filePart = 1 << 20

// file is what an *os.File is here. io.Copy passes one on in another type.
type file interface {
	fs.File
	io.Seeker
	syscall.Conn
}

// cached is the part of r that is a regular file of which the kernel has the
// bytes in memory, so that to send them by sendfile(2) does not hold up the loop.
type cached struct {
	f     file
	name  string
	limit *io.LimitedReader // around f, or nil
	at    int64
	left  int64
}

// cachedPart returns that part, if r is a file, as far as it may go.
func cachedPart(r io.Reader) (p cached, ok bool) {
	if p.limit, ok = r.(*io.LimitedReader); ok {
		r = p.limit.R
	}
	if p.f, ok = r.(file); !ok {
		return p, false
	}
	info, err := p.f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return p, false
	}
	if p.at, err = p.f.Seek(0, io.SeekCurrent); err != nil {
		return p, false
	}
	p.name, p.left = info.Name(), info.Size()-p.at
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
		if !ok || reactor.OnLoop() { // There it is read, as far as the queue takes it.
			return total, nil
		}
		if err = n.mayWrite(); err != nil {
			return total, err
		}
		own, err := duplicateFile(p.f, p.name) // The caller may close his before the peer has it.
		if err != nil {
			return total, nil
		}
		took, err := n.postFile(own, p.at, p.left)
		total += took
		if moved := p.sent(took); err == nil {
			err = moved
		}
		switch {
		case errors.Is(err, ErrSendBufferFull): // A message has its turn.
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
	s := &fileSend{f: f, at: at, size: size, done: make(chan error, 1)}
	if !n.ref.Do(s.begin) {
		_ = f.Close()
		return 0, n.whyShut()
	}
	for err == nil {
		select {
		case err = <-s.done:
			return s.sent, err
		case <-n.wr.bell:
			err = n.mayWrite()
		case <-n.ref.g.remote.Done():
			err = net.ErrClosed
		}
	}
	return s.giveUp(err)
}

// fileSend is a part of a file on its way.
type fileSend struct {
	f        *os.File
	at, size int64
	waited   bool  // for the queue to be below its Limit
	sent     int64 // known when done is told
	done     chan error

	mu           sync.Mutex // held while the loop begins; guards:
	begun, given bool       // up
}

// begin queues the part, if there is room. Else it waits for that once, as a Write
// would; what comes between then, or a Budget, has the part go as messages, which
// wait in line.
func (s *fileSend) begin(c *Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.given {
		return
	}
	status := c.Fits()
	switch {
	case status == Rejected && c.atLimit() && !s.waited:
		s.waited = true
		c.OnRoom(c.marks().Limit-1, s.begin)
		return
	case status == Queued && c.out != nil && len(c.out.streams) == MaxStreams:
		status = Rejected
	case status == Queued:
		c.patient = true // Another loop may just have taken what the Budget had free.
		status = c.SendFrom(io.NewSectionReader(s.f, s.at, s.size), s.size, s.end)
		c.patient = false
	}
	if s.begun = status < Rejected; !s.begun {
		s.end(0, status.Err())
	}
}

// giveUp ends the wait because of err. What has begun goes on.
func (s *fileSend) giveUp(err error) (took int64, _ error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	select {
	case err = <-s.done: // Meanwhile.
		return s.sent, err
	default:
	}
	if s.begun {
		return s.size, err
	}
	s.given = true
	_ = s.f.Close()
	return 0, err
}

func (s *fileSend) end(sent int64, err error) {
	_ = s.f.Close()
	s.sent = sent
	s.done <- err
}
