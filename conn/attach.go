package conn

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"syscall"

	"github.com/penstock-go/penstock/reactor"
)

// Attach puts a connected socket that somebody else has made on a loop: s is a
// *net.TCPConn, a *net.UnixConn, an *os.File, or anything else that has
// SyscallConn and Close and stands for a stream socket. h serves it as it would
// a connection of a listener with cfg. heard is what was already received
// from it, such as what a *bufio.Reader holds: OnData hears it first.
//
// A *NetConn leaves its loop for that, which Attach waits for; so it must not be
// called on one. After an error of that it is closed.
//
// Attach returns at once otherwise, and OnOpen runs on the loop. An error is that of cfg;
// one that wraps errors.ErrUnsupported for an s without a descriptor of its own,
// such as a *tls.Conn, or that is no connected stream socket; that of dup(2); or
// reactor.ErrEnded.
//
// Ownership: the descriptor is duplicated, and s is closed. After an error s is
// still the caller's. heard is lent until Attach returns. No other goroutine may
// be reading from s.
// Thread: any.
func Attach(on reactor.Remote, s io.Closer, h Handler, cfg Config, heard []byte) error {
	if _, err := cfg.check(h); err != nil {
		return fmt.Errorf("conn: attach: %w", err)
	}
	return attach(s, heard, func(fd int, heard []byte) error { return AttachFD(on, fd, h, cfg, heard) })
}

// attach gives put a descriptor of the socket of s.
func attach(s io.Closer, heard []byte, put func(fd int, heard []byte) error) error {
	if n, ok := s.(*NetConn); ok {
		return n.attach(heard, put)
	}
	raw, ok := s.(syscall.Conn)
	if !ok {
		return fmt.Errorf("conn: attach: %T has no descriptor: %w", s, errors.ErrUnsupported)
	}
	fd, err := duplicate(raw)
	if err != nil {
		return fmt.Errorf("conn: attach: %w", err)
	}
	if err = put(fd, heard); err != nil {
		closeSocket(fd)
		return err
	}
	_ = s.Close()
	return nil
}

// duplicate returns a descriptor of its own for the socket of c.
func duplicate(c syscall.Conn) (fd int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return -1, err
	}
	var failed error
	err = raw.Control(func(of uintptr) { fd, failed = duplicateFD(int(of)) })
	if err = errors.Join(err, failed); err != nil {
		return -1, err
	}
	return fd, nil
}

// AttachFD is Attach for a descriptor, which it takes over and puts into
// non-blocking mode. Options of cfg are set on it as on those of a listener.
//
// Ownership: fd is the connection's, which closes it. After an error it is
// still the caller's.
// Thread: any.
func AttachFD(on reactor.Remote, fd int, h Handler, cfg Config, heard []byte) error {
	cfg, err := cfg.check(h)
	if err == nil {
		err = prepare(fd, cfg)
	}
	if err != nil {
		return fmt.Errorf("conn: attach: %w", err)
	}
	heard = slices.Clone(heard)
	taken := on.Post(func(l *reactor.Loop) {
		host := newHost(l, cfg, newHooks(h))
		host.unix = isUnix(fd)
		host.open(fd, heard, nil)
	})
	if !taken {
		return reactor.ErrEnded
	}
	return nil
}

// parkBytes keeps bytes that somebody else has received, to be heard first.
func (c *Conn) parkBytes(p []byte) {
	c.bytesIn += uint64(len(p))
	for len(p) > 0 {
		pool := c.loop.Bulk()
		if len(p) <= reactor.SmallBlock {
			pool = c.loop.Small()
		}
		b := pool.Get()
		if b.IsZero() {
			c.end(IOError, "recv", syscall.ENOBUFS, true)
			return
		}
		p = p[b.Append(p):]
		beside := c.aside()
		beside.parked = append(beside.parked, b)
	}
}
