package conn

import (
	"io"

	"github.com/penstock-go/penstock/reactor"
)

// OpenPacketFD puts a connected socket of datagrams of any family on a loop: one
// of a pair can be full, which UDP over loopback never is.
func OpenPacketFD(l *reactor.Loop, fd int, h PacketHandler, cfg PacketConfig) *PacketConn {
	cfg, err := cfg.Check()
	if err != nil {
		panic(err)
	}
	p := &PacketConn{cfg: &cfg, hooks: newPacketHooks(h), sock: packetSocket{fd: fd, connected: true}}
	p.attach(l)
	p.hooks.handler.OnOpen(p)
	return p
}

// Splicing reports whether the kernel moves what some connection like c receives.
func Splicing(c *Conn) bool { return c.host.splicers > 0 }

// IsCached reports whether r is a file that a NetConn would send by sendfile(2).
func IsCached(r io.Reader) bool {
	_, ok := cachedPart(r)
	return ok
}

// Waits reports whether a Read of n waits.
func Waits(n *NetConn) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.waits != nil
}

// Unread returns how many bytes n has that nobody has read.
func Unread(n *NetConn) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.unread
}
