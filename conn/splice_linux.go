package conn

import (
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/internal/sys"
	"github.com/penstock-go/penstock/reactor"
)

// When and how much of a Pipe goes within the kernel.
const (
	spliceAfter = 8         // full blocks in a row begin it
	spliceMost  = 256 << 10 // what the kernel's pipe is to hold
	spliceTurn  = 1 << 20   // bytes before others have a turn
	spliceLeast = 16 << 10  // moves of less, so many in a row, end it
	spliceFew   = 8
	spliceIdle  = 100 * time.Millisecond // as does silence, or a sink that takes nothing
	splicers    = 64                     // at once, of a host
)

// splicer moves what one end of a Pipe receives to the other without a copy, by
// splice(2) through a pipe of the kernel's. To the far connection it is a stream:
// what is sent behind it waits for what is in the pipe, and ends it. Its own
// connection is not read meanwhile.
type splicer struct {
	e     *pipeEnd
	r, w  int // the kernel's pipe; stream.held bytes are in it
	few   int // small moves in a row
	leave bool
	idle  *reactor.Timer
}

// bulky counts full blocks, and begins to splice when there were enough of them in
// a row. It is asked behind each block of a receive that has ended with it.
func (e *pipeEnd) bulky(n int) {
	if e.full++; n < reactor.BulkBlock {
		e.full = 0
	}
	c, h := e.c, e.c.host
	if e.full < spliceAfter || !e.installed || e.splicer != nil || e.gate != nil || e.copies || c.armed || c.eof || c.paused != 0 || c.hasParked() || h.splicers == splicers || e.far.c.state != open {
		return
	}
	e.full = 0
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_NONBLOCK|unix.O_CLOEXEC) != nil {
		return
	}
	// Past the user's limit (pipe-user-pages-soft) it stays as small as it is.
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, spliceMost)
	h.splicers++
	c.hold(bySplice)
	p := &splicer{e: e, r: fds[0], w: fds[1]}
	e.splicer = p
	e.far.c.queueStream(&stream{from: p, left: -1})
}

// more implements source, on the far connection.
func (p *splicer) more(far *Conn, s *stream) bool {
	if !far.out.q.empty() {
		return false // What was forwarded by blocks comes first.
	}
	for turn := 0; turn < spliceTurn; {
		if s.held == 0 && !p.fill(far, s) {
			return s.ended
		}
		n, errno := sys.Splice(p.r, int(far.fd), s.held)
		switch {
		case errno == syscall.EAGAIN:
			far.awaitSocket()
			if !p.leave {
				p.e.c.await(pollErr) // Nobody else hears of a reset now.
				p.wind(far)
			}
			return false
		case errno != 0:
			far.fail("splice", -int(errno))
			return true
		}
		s.held -= n
		turn += n
		far.streamed(s, n)
		p.e.bytes.Add(uint64(n))
	}
	far.loop.Defer(far.touch)
	return false
}

// fill brings bytes into the pipe. When it brings none the stream has ended, or p
// touches the far connection once there are some.
func (p *splicer) fill(far *Conn, s *stream) bool {
	c := p.e.c
	if p.over(far) {
		s.ended = true
		return false
	}
	c.unawait(pollErr)
	n, errno := sys.Splice(int(c.fd), p.w, spliceMost)
	switch {
	case errno == syscall.EAGAIN:
		p.await(far)
		return false
	case errno != 0 && reasonOf(errno) == PeerReset:
		s.ended = true
		c.fail("splice", -int(errno))
		return false
	case errno != 0: // Not for this socket, or not on this host.
		p.e.copies = true
		s.ended = true
		return false
	case n == 0: // The end of file, which the receive will find.
		s.ended = true
		return false
	}
	if p.few++; n >= spliceLeast {
		p.few = 0
	}
	s.held = n
	c.bytesIn += uint64(n)
	if c.clock != nil {
		c.clock.in = c.loop.Now()
	}
	return true
}

// over reports whether there is a reason to go on by blocks: little comes, the
// source is not to be read, or somebody else has something for the sink.
func (p *splicer) over(far *Conn) bool {
	c := p.e.c
	return p.leave || p.few >= spliceFew || !p.e.installed || c.hasParked() || c.paused != bySplice || c.state >= closing || c.offline ||
		far.state != open || far.Pending() > 0 || len(far.out.streams) > 1
}

// await waits for more to receive.
func (p *splicer) await(far *Conn) {
	p.wind(far)
	c := p.e.c
	c.aside().polls.in = far.touch
	c.await(pollIn)
}

// wind has p leave after a while in which nothing moves. Bytes that the sink
// has not taken go out before what then comes by blocks, which the marks count: so
// a sink that has stopped is heard to be full.
func (p *splicer) wind(far *Conn) {
	c := p.e.c
	if p.idle != nil {
		p.idle.Reset(spliceIdle)
		return
	}
	p.idle = c.loop.AfterFunc(spliceIdle, c, func() {
		p.leave = true
		c.unawait(pollIn | pollErr)
		c.resume(bySplice)
		c.touch()
		far.touch()
	})
}

// stop implements source.
func (p *splicer) stop() {
	c := p.e.c
	if p.r < 0 {
		return
	}
	closeSocket(p.r)
	closeSocket(p.w)
	p.r, p.w = -1, -1
	c.host.splicers--
	p.e.splicer = nil
	if p.idle != nil {
		p.idle.Stop()
	}
	c.unawait(pollIn | pollErr)
	c.resume(bySplice)
	c.touch()
}
