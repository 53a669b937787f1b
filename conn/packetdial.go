package conn

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/penstock-go/penstock/reactor"
)

// packetDialing is what a socket of datagrams needs until its peer's name is
// resolved.
type packetDialing struct {
	to     target
	lookup func() // gives the name up
	late   *reactor.Timer
	opened func(error)
}

// DialPacket makes a socket of datagrams that hears one peer, and what the network
// says of that peer: that nobody listens there is an OnError with ECONNREFUSED.
// Network is "udp", "udp4" or "udp6". Config and Packet.Control, LocalAddr,
// Resolver and Timeout of d count; of several addresses of a name the first is
// taken, since no datagram tells whether it arrives.
//
// It returns at once. Until the name is resolved sends are queued within the
// marks; then OnOpen runs. If that fails, OnClose tells a *CloseError whose cause
// is a *DialError, and OnOpen has never run. The error is as that of Dial.
//
// Thread: that of l.
func (d *Dialer) DialPacket(l *reactor.Loop, network, address string, h PacketHandler) (*PacketConn, error) {
	return d.dialPacket(l, network, address, h, nil)
}

// DialPacket is that of a Dialer with nothing but cfg.
func DialPacket(l *reactor.Loop, network, address string, h PacketHandler, cfg PacketConfig) (*PacketConn, error) {
	return (&Dialer{Packet: cfg}).DialPacket(l, network, address, h)
}

func (d *Dialer) dialPacket(l *reactor.Loop, network, address string, h PacketHandler, opened func(error)) (*PacketConn, error) {
	to, err := parseTarget(network, address)
	if err != nil {
		return nil, err
	}
	if !to.isUDP() {
		return nil, net.UnknownNetworkError(network)
	}
	cfg, err := d.Packet.Check()
	if err == nil && h == nil {
		err = ErrNoHandler
	}
	if err != nil {
		return nil, err
	}
	p := &PacketConn{cfg: &cfg, hooks: newPacketHooks(h), sock: packetSocket{fd: -1}, dial: &packetDialing{to: to, opened: opened}}
	defer l.As(p.attach(l))
	if list := to.known(); list != nil {
		l.Defer(func() { p.resolved(d, list, nil) })
	} else {
		p.dial.lookup = d.find(l, p, to, func(list []netip.AddrPort, err error) { p.resolved(d, list, err) })
		p.dial.late = l.AfterFunc(d.timeout(), p, func() {
			p.unresolved(ConnectTimeout, fmt.Errorf("after %v: %w", d.timeout(), os.ErrDeadlineExceeded))
		})
	}
	if l.Stopping() {
		p.Close()
	}
	return p, nil
}

// resolved connects to the first address that suits, and runs OnOpen.
func (p *PacketConn) resolved(d *Dialer, list []netip.AddrPort, err error) {
	if p.dial == nil || p.state >= ending {
		return
	}
	reason := Unresolved
	from := netip.AddrPortFrom(d.LocalAddr.Addr().Unmap(), d.LocalAddr.Port())
	if err == nil {
		err = &net.AddrError{Err: "no suitable address", Addr: p.dial.to.host}
		for _, a := range list {
			if from.IsValid() && from.Addr().Is4() != a.Addr().Is4() {
				continue
			}
			if p.sock, err = connectUDP(a, from, *p.cfg); err == nil {
				p.remote = a
				break
			}
			reason = dialReason(err)
		}
	}
	if err != nil {
		p.unresolved(reason, err)
		return
	}
	p.local = Addr{AddrPort: socketAddrs(p.sock.fd).local.AddrPort, Net: "udp"}
	dial := p.dial
	dial.stop()
	p.dial = nil
	if p.gate != nil {
		p.gate.setPeer(p.remote)
	}
	p.loop.As(p)
	p.touch()
	if dial.opened != nil {
		defer dial.opened(nil)
	}
	if p.state == open {
		p.hooks.handler.OnOpen(p)
	}
}

func (p *PacketConn) unresolved(reason Reason, err error) {
	p.end(reason, "dial", p.dial.failure(reason, err))
}

func (d *packetDialing) failure(reason Reason, err error) *DialError {
	return &DialError{Reason: reason, Network: d.to.network, Address: d.to.address, Err: err}
}

func (d *packetDialing) stop() {
	if d.lookup != nil {
		d.lookup()
	}
	if d.late != nil {
		d.late.Stop()
	}
}

// over tells who waits that the socket has closed before it was open.
func (d *packetDialing) over(err error) {
	if d.stop(); d.opened == nil {
		return
	}
	var de *DialError
	if !errors.As(err, &de) {
		if err == nil {
			err = ErrClosed
		}
		de = d.failure(Cancelled, err)
	}
	d.opened(de)
}

// DialPacketContext is DialPacket on a loop, and waits until OnOpen has run or it
// has failed; the error is a *DialError then. When ctx is done before, the socket is
// given up.
//
// Thread: any but that of a loop: there it returns ErrWouldBlock.
func (d *Dialer) DialPacketContext(ctx context.Context, at reactor.Remote, network, address string, h PacketHandler) (PacketRef, error) {
	if reactor.OnLoop() {
		return PacketRef{}, ErrWouldBlock
	}
	type answer struct {
		ref PacketRef
		err error
	}
	answers := make(chan answer, 1)
	posted := at.Post(func(l *reactor.Loop) {
		var p *PacketConn
		release := func() bool { return true }
		p, err := d.dialPacket(l, network, address, h, func(err error) {
			a := answer{err: err}
			if release(); err == nil {
				a.ref = p.Ref()
			}
			answers <- a
		})
		if err != nil {
			answers <- answer{err: err}
			return
		}
		release = context.AfterFunc(ctx, func() {
			at.Post(func(*reactor.Loop) {
				if p.dial != nil {
					p.unresolved(Cancelled, context.Cause(ctx))
				}
			})
		})
	})
	if !posted {
		return PacketRef{}, reactor.ErrEnded
	}
	select {
	case a := <-answers:
		return a.ref, a.err
	case <-at.Done():
		return PacketRef{}, reactor.ErrEnded
	}
}
