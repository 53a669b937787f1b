package conn

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/reactor"
)

// NetConn is a connection of a loop as a net.Conn, for code that reads and
// writes from goroutines. It costs no goroutine of its own.
//
// Read returns what the loop has received. When Config.ReadAhead bytes wait to be
// read, the loop stops reading from the peer, whose window then closes. Write
// copies into the connection's send queue as long as that is below its Limit,
// and else waits, which is the policy Block. So Write returns before the kernel
// has the bytes, as it does before the peer has them with package net; Close
// flushes.
//
// Errors are those of package net: io.EOF, and else a *net.OpError around
// net.ErrClosed, os.ErrDeadlineExceeded, an *os.SyscallError, or the
// *CloseError of an end that package net does not know.
//
// Thread: any goroutine, several at once. On a loop, what would have to wait
// returns ErrWouldBlock: it would wait for itself. So does a Read while another
// goroutine is in one, and a Write.
type NetConn struct {
	ref           Ref
	local, remote net.Addr
	ahead         int
	fd            int32

	reading, writing sync.Mutex // one Read and one Write at a time; further ones wait: see inTurn

	hands sync.Mutex // held while a goroutine reads from a block or uses the socket; guards:
	block held       // of which a Read takes
	rest  []byte     // what is to be read when the blocks are gone
	gone  bool       // they are, and so is the socket

	mu      sync.Mutex // short, and never held while the loop is posted to
	rd, wr  side
	waits   []byte // of a Read that waits
	filled  int    // how much of it the loop has filled
	blocks  []held // in order, behind block
	spent   []buf.Buf
	unread  int           // bytes in block, blocks and rest
	paused  bool          // the loop reads no more, because of unread
	dammed  bool          // or because of Config.RecvLimit, and blocks of these may be why
	asked   bool          // a visit is in the mailbox
	done    bool          // Close or Detach was called
	leaving bool          // it was Detach
	exit    chan detached // of it, until the loop has begun with it
	over    bool          // the peer has ended its side
	end     error
}

// side is one direction of a NetConn.
type side struct {
	mu    *sync.Mutex   // that of the NetConn
	bell  chan struct{} // rung for who waits, who then looks; holds one ring
	at    time.Time     // the deadline
	timer *time.Timer
	late  bool // it has passed
	shut  bool // CloseRead, CloseWrite
}

// ring has who waits look again. The caller holds mu.
func (s *side) ring() {
	select {
	case s.bell <- struct{}{}:
	default: // It has been rung, and nobody has looked yet.
	}
}

// held is a block, and what is left of its bytes. A goroutine touches the bytes
// alone: the block is the loop's to give back.
type held struct {
	block buf.Buf
	bytes []byte
}

// NetConn gives the connection to goroutines: from now on, what it receives goes
// to Read, that which a [LeaveHandler] holds first, and neither OnData nor OnEOF runs.
// The other hooks do. The connection
// stays open when the peer has ended its side, until it is closed. Sends of the
// handler and of a Ref mix with Writes by whole messages, a Write counting as
// one up to 64 KiB. A second call returns the same NetConn.
//
// It must be closed, as any net.Conn. A connection with Reconnect ends at its
// first loss then, since what follows would be another stream. An error is
// net.ErrClosed, ErrPiped, or, before a dialed connection is there, ENOTCONN.
//
// Thread: that of c. OnOpen is a good place.
func (c *Conn) NetConn() (*NetConn, error) {
	b := c.aside()
	n, ok := b.inlet.(*NetConn)
	switch {
	case ok:
		return n, nil
	case b.inlet != nil:
		return nil, ErrPiped
	case c.state >= closing:
		return nil, ErrClosed
	case c.offline:
		return nil, os.NewSyscallError("connect", syscall.ENOTCONN)
	}
	n = &NetConn{ref: c.Ref(), local: c.LocalAddr().std(), remote: c.RemoteAddr().std(), ahead: c.host.cfg.ReadAhead, fd: c.fd}
	n.rd.mu, n.rd.bell = &n.mu, make(chan struct{}, 1)
	n.wr.mu, n.wr.bell = &n.mu, make(chan struct{}, 1)
	b.inlet = n
	b.mourn(n)
	c.touch() // What is parked is for n.
	if leave := c.hooks.leave; leave != nil {
		c.as(leave)
	}
	n.mu.Lock()
	n.over = c.eofHeard // Not if there are bytes again in front of it.
	n.mu.Unlock()
	return n, nil
}

// inTurn locks mu, which another goroutine holds for as long as it waits for the
// loop: so a loop does not wait for it.
func inTurn(mu *sync.Mutex) error {
	if mu.TryLock() {
		return nil
	}
	if reactor.OnLoop() {
		return ErrWouldBlock
	}
	mu.Lock()
	return nil
}

// std returns the address as package net has it, which some programs look into.
func (a Addr) std() net.Addr {
	switch a.Net {
	case "tcp":
		return net.TCPAddrFromAddrPort(a.AddrPort)
	case "unix":
		return &net.UnixAddr{Net: "unix", Name: a.Name}
	}
	return a
}

// LocalAddr returns the address of this end: a *net.TCPAddr or a *net.UnixAddr.
func (n *NetConn) LocalAddr() net.Addr { return n.local }

// RemoteAddr returns the address of the peer, of the same type.
func (n *NetConn) RemoteAddr() net.Addr { return n.remote }

// Ref returns the handle of the connection.
func (n *NetConn) Ref() Ref { return n.ref }

// Close ends the connection as [Conn.Close] does: at once for this side, whose
// Reads and Writes return net.ErrClosed, and for the peer behind what Write has
// taken. It does not wait for that.
func (n *NetConn) Close() error {
	if !n.closing() {
		return n.fault("close", net.ErrClosed)
	}
	n.ref.Close()
	return nil
}

// closing ends all waits, and reports whether this is the first call.
func (n *NetConn) closing() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.done {
		return false
	}
	n.done = true
	n.rd.stop()
	n.wr.stop()
	return true
}

// CloseWrite sends the end of the stream behind what was written. Write returns
// EPIPE from then on.
func (n *NetConn) CloseWrite() error {
	return n.shut(&n.wr, n.ref.CloseWrite)
}

// CloseRead discards what was received and is received from now on. Read returns
// io.EOF from then on.
func (n *NetConn) CloseRead() error {
	return n.shut(&n.rd, n.call)
}

func (n *NetConn) shut(s *side, tell func()) error {
	n.mu.Lock()
	done := n.done
	s.shut = s.shut || !done
	s.ring()
	n.mu.Unlock()
	if done {
		return n.fault("close", net.ErrClosed)
	}
	tell()
	return nil
}

// SetDeadline sets the deadlines of Read and of Write.
func (n *NetConn) SetDeadline(t time.Time) error { return n.deadline(t, &n.rd, &n.wr) }

// SetReadDeadline makes Reads fail from t on, those that wait among them, with
// os.ErrDeadlineExceeded. The zero time lifts the deadline.
func (n *NetConn) SetReadDeadline(t time.Time) error { return n.deadline(t, &n.rd) }

// SetWriteDeadline does so for Writes. One that has to give up returns how many of
// the bytes were taken.
func (n *NetConn) SetWriteDeadline(t time.Time) error { return n.deadline(t, &n.wr) }

func (n *NetConn) deadline(t time.Time, sides ...*side) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.done {
		return n.fault("set", net.ErrClosed)
	}
	for _, s := range sides {
		s.set(t)
	}
	return nil
}

// set sets the deadline. The caller holds the lock of s.
func (s *side) set(t time.Time) {
	if s.timer != nil {
		s.timer.Stop() // It may be about to run; then it finds another deadline.
	}
	s.at, s.late = time.Time{}, false
	if t.IsZero() {
		return
	}
	now := time.Now()
	d := t.Sub(now)
	if d <= 0 {
		s.late = true
		s.ring()
		return
	}
	s.at = now.Add(d)
	if s.timer == nil {
		s.timer = time.AfterFunc(d, s.expire)
	} else {
		s.timer.Reset(d)
	}
}

func (s *side) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.at.IsZero() && !time.Now().Before(s.at) {
		s.late = true
		s.ring()
	}
}

// stop ends the waits of s and its timer.
func (s *side) stop() {
	s.at = time.Time{}
	if s.timer != nil {
		s.timer.Stop()
	}
	s.ring()
}

// fault makes of err what package net would return.
func (n *NetConn) fault(op string, err error) error {
	if err == nil || err == io.EOF {
		return err
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		if op == "read" && errno == syscall.EPIPE {
			errno = syscall.ECONNRESET // A send has met the reset first.
		}
		err = os.NewSyscallError(op, errno)
	}
	if op == "set" {
		return &net.OpError{Op: op, Net: n.local.Network(), Addr: n.local, Err: err}
	}
	return &net.OpError{Op: op, Net: n.local.Network(), Source: n.local, Addr: n.remote, Err: err}
}
