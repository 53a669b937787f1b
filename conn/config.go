package conn

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"time"
)

// Defaults of [Config].
const (
	DefaultHighWater    = 1 << 20
	DefaultCloseTimeout = 10 * time.Second
	DefaultLinger       = time.Second
	DefaultBacklog      = 4096
	DefaultReadAhead    = 128 << 10
)

// Reserve is how many bytes a connection may have pending past its limit, for
// what a protocol must say: see WriteReserved and CloseWith.
const Reserve = 320

// Policy is what happens to a connection when a message for it is refused.
type Policy uint8

// The policies.
const (
	// Reject refuses the message and leaves the connection as it is.
	Reject Policy = iota
	// CloseSlow refuses the message and aborts the connection, with reason
	// SlowPeer.
	CloseSlow
	// DropOldest takes the message, and drops older ones for it: whole queued
	// messages of which nothing was sent, from the oldest on, until there is room.
	// For feeds in which the newest counts. It refuses only when dropping would
	// not make room. Messages dropped are counted; what a protocol compresses with
	// a window over many messages cannot bear it.
	DropOldest
	// Block makes a goroutine that comes through a Ref wait for room, as
	// Ref.WriteBlock does. On a loop it is Reject.
	Block
)

// String returns the name of the policy.
func (p Policy) String() string {
	return nameIn(int(p), "reject", "close slow", "drop oldest", "block")
}

// Config shapes the connections of a listener. The zero value works.
type Config struct {
	// HighWater is how many pending bytes make the queue full. Default 1 MiB.
	HighWater int
	// LowWater is to how many pending bytes a full queue must come down to be
	// drained. Default 0, below HighWater.
	LowWater int
	// Limit is how many pending bytes refuse the next message. Default
	// HighWater, and not below it. A message to an empty queue is always
	// taken whole, so a connection queues at most Limit - 1 bytes and the
	// longest message, and the Reserve.
	Limit int
	// SlowPeer is what a refusal does to the connection. Default Reject.
	SlowPeer Policy
	// Budget bounds the pending bytes of all connections that share it: set the
	// same one for all listeners and dialers of the process, and it bounds its
	// send memory. Default nil: the sum of the Limits is the only bound.
	Budget *Budget
	// PauseOnFull stops reading from the peer while the queue is full, so that
	// who answers what it reads queues little more than the marks say. It stops
	// the next OnData, not the present one: a block with many requests calls for
	// a handler that looks at the answers to its sends.
	PauseOnFull bool
	// RecvLimit is how many bytes of received blocks may be kept, by Take or by
	// sending them on, before reading is paused until less is. Blocks count whole:
	// 4 KiB, or 64 KiB where the peer sends in bulk. What was received before the
	// pause took effect waits besides: at most 192 KiB. Who waits for a message
	// longer than the limit in blocks of its own waits for ever. Default 0: no
	// limit, but that of reactor.Config.PoolBytes.
	RecvLimit int
	// DrainAlways runs OnDrain each time a queue that the kernel did not take
	// at once has emptied, also without an OnFull before it.
	DrainAlways bool
	// ZeroCopyMin sends pieces of at least so many bytes without a copy where
	// the engine can, until the kernel reports that it copied all the same,
	// as it does on loopback. Default 0: never. Below about 16 KiB it costs
	// more than it saves. Kernel 6.2 and io_uring.
	ZeroCopyMin int
	// CloseTimeout bounds the time from Close until the connection is gone.
	// When the peer has ended its side before, or a SendFrom or a Pipe is to be
	// flushed, it counts from the last byte that the peer took. Past it the connection is reset, with reason
	// WriteTimeout if bytes were still pending. Default 10 s.
	CloseTimeout time.Duration
	// IdleTimeout, ReadTimeout, WriteTimeout and HandshakeTimeout are the
	// deadlines that a connection opens with: see Deadlines. Default 0: none.
	IdleTimeout, ReadTimeout, WriteTimeout, HandshakeTimeout time.Duration
	// Linger bounds the wait for the peer's end of file after the peer has
	// acknowledged everything. While it has not, it is waited for: up to
	// CloseTimeout, and then as long as it takes 64 KiB in each further one,
	// since to close earlier could cost it the end of what was sent. Default 1 s.
	Linger time.Duration
	// ReadAhead is how many bytes a NetConn holds that were received and not
	// read, before reading from the peer is paused. It is passed by what had come
	// when the pause was heard of: a block at the most where the peer sends much.
	// Default 128 KiB, two such blocks, so that one can come while one is read.
	ReadAhead int
	// Backlog is how many connections may wait to be accepted, for each loop.
	// Default 4096; the kernel's bound is sysctl net.core.somaxconn.
	Backlog int
	// SendBuffer and RecvBuffer are the socket's own buffers in the kernel, in
	// bytes (SO_SNDBUF, SO_RCVBUF: the kernel doubles them). Default 0: it
	// tunes them by itself.
	SendBuffer, RecvBuffer int
	// V6Only keeps a listener on an address of IPv6 from serving IPv4 too, as
	// network "tcp6" does (IPV6_V6ONLY).
	V6Only bool
	// Mode is the permissions of the file of a unix socket that listens: who may
	// write to it may connect. Default 0: 0777 less the umask of the process.
	Mode fs.FileMode
	// MaxConns is how many connections of a listener are open at once, over all
	// loops; who comes then waits in the accept queue. Of an [Attacher] too, which
	// refuses who comes then. Default 0: no limit.
	MaxConns int
	// ConnLimit is MaxConns for all the listeners and Attachers that have the same one.
	// Default nil: none.
	ConnLimit *ConnLimit
	// KeepAlive has the kernel find out about a peer that is gone. TCP only.
	KeepAlive KeepAlive
	// Nagle leaves Nagle's algorithm on. By default TCP_NODELAY is set, since
	// the writes of a turn go out together anyway.
	Nagle bool
}

// Marks are the three numbers of a send queue, in bytes.
type Marks struct{ High, Low, Limit int }

func (m Marks) check() error {
	switch {
	case m.High <= 0:
		return fmt.Errorf("conn: high water of %d bytes is not positive", m.High)
	case m.Low < 0 || m.Low >= m.High:
		return fmt.Errorf("conn: low water of %d bytes is not from 0 to below the high water of %d", m.Low, m.High)
	case m.Limit < m.High:
		return fmt.Errorf("conn: limit of %d bytes is below the high water of %d", m.Limit, m.High)
	}
	return nil
}

func (c *Config) deadlines() Deadlines {
	return Deadlines{Idle: c.IdleTimeout, Read: c.ReadTimeout, Write: c.WriteTimeout, Handshake: c.HandshakeTimeout}
}

// check is Check, and that somebody hears of the connections.
func (c Config) check(h Handler) (Config, error) {
	c, err := c.Check()
	if err == nil && h == nil {
		err = ErrNoHandler
	}
	return c, err
}

// Check returns c with its defaults filled in, or an error that names the
// field that contradicts another. It never changes what was set.
func (c Config) Check() (Config, error) {
	c.HighWater = cmp.Or(c.HighWater, DefaultHighWater)
	c.Limit = cmp.Or(c.Limit, c.HighWater)
	c.CloseTimeout = cmp.Or(c.CloseTimeout, DefaultCloseTimeout)
	c.Linger = cmp.Or(c.Linger, DefaultLinger)
	c.ReadAhead = cmp.Or(c.ReadAhead, DefaultReadAhead)
	c.Backlog = cmp.Or(c.Backlog, DefaultBacklog)
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"RecvLimit", int64(c.RecvLimit)}, {"ZeroCopyMin", int64(c.ZeroCopyMin)}, {"CloseTimeout", int64(c.CloseTimeout)}, {"Linger", int64(c.Linger)},
		{"ReadAhead", int64(c.ReadAhead)}, {"Backlog", int64(c.Backlog)}, {"MaxConns", int64(c.MaxConns)}, {"SendBuffer", int64(c.SendBuffer)}, {"RecvBuffer", int64(c.RecvBuffer)},
	} {
		if f.value < 0 {
			return c, fmt.Errorf("conn: negative %s", f.name)
		}
	}
	switch {
	case c.MaxConns > 0 && c.ConnLimit != nil:
		return c, errors.New("conn: both MaxConns and ConnLimit")
	case c.Mode&^fs.ModePerm != 0:
		return c, fmt.Errorf("conn: Mode %v has more than permissions", c.Mode)
	}
	if err := c.KeepAlive.check(); err != nil {
		return c, err
	}
	if err := c.deadlines().check(); err != nil {
		return c, err
	}
	if c.SlowPeer > Block {
		return c, fmt.Errorf("conn: unknown slow-peer policy %d", c.SlowPeer)
	}
	if err := c.Budget.check(); err != nil {
		return c, err
	}
	return c, Marks{c.HighWater, c.LowWater, c.Limit}.check()
}
