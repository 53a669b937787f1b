package conn

import (
	"sync"

	"github.com/penstock-go/penstock/reactor"
)

// PacketListener receives datagrams on every loop of a group.
//
// Each loop has a socket of its own on the same address, and the kernel chooses
// one by a hash of the two addresses and ports (SO_REUSEPORT): all datagrams of
// a peer come to the same loop, as long as none of the sockets is closed. With
// few peers the loops are not loaded evenly; with one loop there is one plain
// socket.
//
// Thread: any, for every method.
type PacketListener struct {
	at    Addr
	socks []*PacketConn
	homes []reactor.Remote

	mu    sync.Mutex
	stats []PacketStats // by loop, as of its last turn
}

// ListenPacket serves network "udp", "udp4" or "udp6" on address, as
// net.ListenPacket writes it, with h on every loop. Port 0 takes a free port, see
// Addr. "udp" without a host or with [::] serves IPv4 too.
//
// An address on which another process receives is refused, also when that
// process has set SO_REUSEPORT. The errors of the system wrap a syscall.Errno.
func ListenPacket(g *reactor.Group, network, address string, h PacketHandler, cfg PacketConfig) (*PacketListener, error) {
	cfg, err := cfg.Check()
	if err == nil && h == nil {
		err = ErrNoHandler
	}
	if err != nil {
		return nil, err
	}
	socks, at, err := listenUDP(network, address, g.Len(), cfg)
	if err != nil {
		return nil, err
	}
	l := &PacketListener{at: at, stats: make([]PacketStats, len(socks))}
	k := newPacketHooks(h)
	for i, s := range socks {
		p := &PacketConn{cfg: &cfg, hooks: k, server: l, sock: s, local: at}
		l.socks, l.homes = append(l.socks, p), append(l.homes, g.Loop(i))
	}
	for i, p := range l.socks {
		ok := l.homes[i].Post(func(loop *reactor.Loop) {
			if p.attach(loop); loop.Stopping() {
				p.Close()
			}
			p.hooks.handler.OnOpen(p)
		})
		if !ok {
			closeSocket(p.sock.fd)
			err = reactor.ErrEnded
		}
	}
	if err != nil {
		l.Close() // Those of loops that are still ending.
		return nil, err
	}
	return l, nil
}

// Addr returns the address, with the real port.
func (l *PacketListener) Addr() Addr { return l.at }

// Close closes the sockets of all loops, each as PacketConn.Close does.
func (l *PacketListener) Close() {
	for i, home := range l.homes {
		home.Post(func(*reactor.Loop) { l.socks[i].Close() })
	}
}

// Stats returns the counters of all loops together, each as of its last turn.
func (l *PacketListener) Stats() PacketStats {
	l.mu.Lock()
	defer l.mu.Unlock()
	var all PacketStats
	for _, s := range l.stats {
		all.add(s)
	}
	return all
}

// publish makes the counters of one loop known to others.
func (l *PacketListener) publish(p *PacketConn) {
	s := p.Stats()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats[p.loop.ID()] = s
}
