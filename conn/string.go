package conn

import "strconv"

// String returns the ID, and the address of the peer if there is one, as
//
//	id=7 remote=192.0.2.1:4711
//
// The log of a panic names the connection so whose handler it was.
func (c *Conn) String() string { return nameOf(c.id, c.RemoteAddr()) }

// String is as that of a [Conn].
func (p *PacketConn) String() string { return nameOf(p.id, p.RemoteAddr()) }

func nameOf(id uint64, remote Addr) string {
	s := "id=" + strconv.FormatUint(id, 10)
	if remote.Net != "" {
		s += " remote=" + remote.String()
	}
	return s
}
