package conn

import "github.com/penstock-go/penstock/reactor"

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
