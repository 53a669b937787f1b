package conn

import (
	"errors"
	"fmt"
)

// PeerCred is who is at the other end of a unix socket, as the kernel saw them
// when they connected: a process, and its effective user and group.
type PeerCred struct{ PID, UID, GID int }

var errNoCred = fmt.Errorf("conn: credentials of a peer that is not on a unix socket: %w", errors.ErrUnsupported)

// PeerCred returns the credentials of the peer (SO_PEERCRED), which only a unix
// socket has; the error is errors.ErrUnsupported for others, and ErrClosed once
// the connection has closed.
func (c *Conn) PeerCred() (PeerCred, error) {
	if c.state == closed {
		return PeerCred{}, ErrClosed
	}
	return peerCred(int(c.fd))
}
