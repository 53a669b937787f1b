package conn

import (
	"errors"
	"fmt"
	"strings"
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

// unixNameMax is the length of the longest name of a unix socket, in bytes: the
// kernel's address has 108, one of them the zero at the end of a path or at the
// beginning of an abstract name.
const unixNameMax = 107

// checkUnixName says what is wrong with a name.
func checkUnixName(name string) error {
	switch {
	case name == "", name == "@":
		return errors.New("the name of a unix socket is empty")
	case strings.IndexByte(name, 0) >= 0:
		return fmt.Errorf("the name %q of a unix socket has a zero byte in it", name)
	case len(name) > unixNameMax:
		return fmt.Errorf("the name of a unix socket has %d bytes, and %d are the most", len(name), unixNameMax)
	}
	return nil
}
