package conn

import (
	"errors"
	"fmt"
	"net"
	"syscall"
)

// ErrSendBufferFull says that a message was refused because the send queue is
// at its limit. Nothing of it was queued.
var ErrSendBufferFull = errors.New("conn: send buffer full")

// ErrClosed says that the connection takes no more: net.ErrClosed.
var ErrClosed = net.ErrClosed

// ErrNoHandler says that there is nobody to hear of a connection: the Handler is nil.
var ErrNoHandler = errors.New("conn: no Handler")

// Status is the answer to a send. It does not depend on the engine.
type Status uint8

// The answers. Only Queued and Full have taken the message.
const (
	// Queued: the message was taken. Go on.
	Queued Status = iota
	// Full: the message was taken and pending is at or above HighWater now.
	// Wait for OnDrain before the next.
	Full
	// Rejected: pending is at or above Limit. Nothing was taken.
	Rejected
	// Closed: the connection takes no more. Nothing was taken.
	Closed
	// TooLong: no datagram can carry that many bytes to that address. Nothing
	// was taken. Streams do not answer it.
	TooLong
)

// String returns the name of the answer.
func (s Status) String() string {
	return nameIn(int(s), "queued", "full", "rejected", "closed", "too long")
}

// nameIn returns the i-th name, if there is one.
func nameIn(i int, names ...string) string {
	if i < len(names) {
		return names[i]
	}
	return "unknown"
}

// Err returns nil for what was taken, else ErrSendBufferFull, ErrClosed or the
// errno EMSGSIZE.
func (s Status) Err() error {
	switch s {
	case Rejected:
		return ErrSendBufferFull
	case Closed:
		return ErrClosed
	case TooLong:
		return syscall.EMSGSIZE
	}
	return nil
}

// SendError tells of messages that were refused without a caller to answer.
type SendError struct {
	Messages, Bytes int
	Err             error // ErrSendBufferFull
}

// Error implements error.
func (e *SendError) Error() string {
	return fmt.Sprintf("%v: %d messages of %d bytes refused", e.Err, e.Messages, e.Bytes)
}

// Unwrap returns Err.
func (e *SendError) Unwrap() error { return e.Err }

// Reason is why a connection ended.
type Reason uint8

// The reasons.
const (
	Local            Reason = iota // Close was called here
	EOF                            // the peer had ended its side
	Aborted                        // Abort was called here
	PeerReset                      // the peer reset the connection
	WriteTimeout                   // the flush outlasted CloseTimeout, or Deadlines.Write ran out
	SlowPeer                       // a message was refused, policy CloseSlow
	HandlerPanic                   // a handler panicked
	Shutdown                       // the group shut down before the flush was done
	ProtocolError                  // the protocol above closed with an error
	IOError                        // the kernel reported another error
	MemoryLimit                    // a Budget was used up, policy BudgetClose, and this connection held the most
	Detached                       // Detach has taken it out of the library
	StreamFailed                   // the source of a SendFrom failed, or ended early
	IdleTimeout                    // Deadlines.Idle ran out
	ReadTimeout                    // Deadlines.Read ran out
	HandshakeTimeout               // Deadlines.Handshake ran out
	PipeBroken                     // the other end of a Pipe failed

	// Those of a connection that was dialed; the cause is a *DialError.

	Refused        // nobody listens there
	ConnectTimeout // no answer in time
	Unreachable    // no way to that address
	Unresolved     // the name has no address
	Cancelled      // given up here before it was connected
)

// reasonNames are the reasons as the event log of the command writes them.
var reasonNames = [...]string{
	Local:            "local",
	EOF:              "eof",
	Aborted:          "aborted",
	PeerReset:        "peer_reset",
	WriteTimeout:     "write_timeout",
	SlowPeer:         "slow_peer",
	HandlerPanic:     "handler_panic",
	Shutdown:         "shutdown",
	ProtocolError:    "protocol_error",
	IOError:          "io_error",
	MemoryLimit:      "memory_limit",
	Detached:         "detached",
	StreamFailed:     "stream_failed",
	IdleTimeout:      "idle_timeout",
	ReadTimeout:      "read_timeout",
	HandshakeTimeout: "handshake_timeout",
	PipeBroken:       "pipe_broken",
	Refused:          "refused",
	ConnectTimeout:   "connect_timeout",
	Unreachable:      "unreachable",
	Unresolved:       "unresolved",
	Cancelled:        "cancelled",
}

// String returns the reason as the event log of the command writes it.
func (r Reason) String() string { return nameIn(int(r), reasonNames[:]...) }

// CloseError is why a connection ended otherwise than by Close or by the
// peer's end of file.
type CloseError struct {
	Reason    Reason
	Op        string // the system call that failed, or ""
	Err       error  // the cause, or nil; an errno is a syscall.Errno
	LostBytes int    // admitted and not taken by the kernel
}

// Error implements error.
func (e *CloseError) Error() string {
	s := "conn: closed: " + e.Reason.String()
	if de, ok := e.Err.(*DialError); ok {
		s = de.Error() // Which says all of that.
	} else {
		if e.Op != "" {
			s += ": " + e.Op
		}
		if e.Err != nil {
			s += ": " + e.Err.Error()
		}
	}
	if e.LostBytes > 0 {
		s += fmt.Sprintf(" (%d bytes lost)", e.LostBytes)
	}
	return s
}

// Unwrap returns Err.
func (e *CloseError) Unwrap() error { return e.Err }

// reasonOf maps the errno of a receive or a send to its meaning.
func reasonOf(err error) Reason {
	switch {
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, syscall.ECONNABORTED):
		return PeerReset // EPIPE: we sent behind a reset that recv has not reported yet
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return PeerReset // the kernel gave the peer up
	}
	return IOError
}
