package conn

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/penstock-go/penstock/reactor"
)

// target is an address to connect to, taken apart.
type target struct {
	network, address string // as they were given
	host             string // of IP; empty for this host
	ip               netip.Addr
	service          string // the port, if it is a name
	port             uint16
	unix             string // the name of a unix socket
}

func (t *target) isUDP() bool { return strings.HasPrefix(t.network, "udp") }

// parseTarget takes an address apart. It asks nobody.
func parseTarget(network, address string) (t target, err error) {
	t = target{network: network, address: address}
	switch network {
	case "unix":
		if err := checkUnixName(address); err != nil {
			return t, &net.AddrError{Err: err.Error(), Addr: strconv.Quote(address)}
		}
		t.unix = address
		return t, nil
	case "tcp", "tcp4", "tcp6", "udp", "udp4", "udp6":
	default:
		return t, net.UnknownNetworkError(network)
	}
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return t, err
	}
	t.host = host
	if n, err := strconv.ParseUint(port, 10, 16); err == nil {
		t.port = uint16(n)
	} else if t.service = port; port == "" || port[0] >= '0' && port[0] <= '9' || port[0] == '-' {
		return t, &net.AddrError{Err: "invalid port", Addr: address}
	}
	if ip, err := netip.ParseAddr(host); err == nil {
		if t.ip = ip.Unmap(); !t.takes(t.ip) {
			return t, &net.AddrError{Err: "no suitable address", Addr: host}
		}
	}
	return t, nil
}

// takes reports whether the network has addresses of ip's family.
func (t *target) takes(ip netip.Addr) bool {
	switch t.network[len(t.network)-1] {
	case '4':
		return ip.Is4()
	case '6':
		return ip.Is6()
	}
	return true
}

// known returns the addresses of t if nobody has to be asked for them.
func (t *target) known() []netip.AddrPort {
	var list []netip.AddrPort
	switch {
	case t.service != "":
	case t.ip.IsValid():
		list = []netip.AddrPort{netip.AddrPortFrom(t.ip, t.port)}
	case t.host == "":
		for _, ip := range []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()} {
			if t.takes(ip) {
				list = append(list, netip.AddrPortFrom(ip, t.port))
			}
		}
	}
	return list
}

// resolve asks for the addresses of t. It blocks.
func (t target) resolve(ctx context.Context, r Resolver) (list []netip.AddrPort, err error) {
	if t.service != "" {
		port, err := net.DefaultResolver.LookupPort(ctx, t.network, t.service)
		if err != nil {
			return nil, err
		}
		if t.port, t.service = uint16(port), ""; t.ip.IsValid() || t.host == "" {
			return t.known(), nil
		}
	}
	if r == nil {
		r = net.DefaultResolver
	}
	network := "ip"
	if family := t.network[len(t.network)-1]; family == '4' || family == '6' {
		network += string(family)
	}
	ips, err := r.LookupNetIP(ctx, network, t.host)
	if err != nil {
		return nil, err
	}
	for _, ip := range ips {
		if ip = ip.Unmap(); t.takes(ip) {
			list = append(list, netip.AddrPortFrom(ip, t.port))
		}
	}
	return list, nil
}

// find resolves t on a goroutine of its own, and runs done on loop l for owner,
// unless the returned function was called before, on the loop.
func (d *Dialer) find(l *reactor.Loop, owner reactor.Sink, t target, done func([]netip.AddrPort, error)) (giveUp func()) {
	ctx, cancel := context.WithCancel(context.Background())
	home := l.Remote()
	var over atomic.Bool
	go func() {
		var list []netip.AddrPort
		err := error(&net.DNSError{Err: "the resolver has panicked", Name: t.host})
		defer func() {
			if v := recover(); v != nil {
				err = &net.DNSError{Err: fmt.Sprintf("the resolver has panicked: %v", v), Name: t.host}
			}
			cancel()
			home.Post(func(l *reactor.Loop) {
				if !over.Swap(true) {
					l.As(owner)
					done(list, err)
				}
			})
		}()
		list, err = t.resolve(ctx, d.Resolver)
	}()
	return func() {
		over.Store(true)
		cancel()
	}
}

// interleave orders addresses as RFC 8305 section 4 wants it: families by turns,
// that of the first one first, and the order kept within each.
func interleave(list []netip.AddrPort) []netip.AddrPort {
	if len(list) < 3 {
		return list
	}
	var first, second []netip.AddrPort
	for _, a := range list {
		if a.Addr().Is4() == list[0].Addr().Is4() {
			first = append(first, a)
		} else {
			second = append(second, a)
		}
	}
	out := make([]netip.AddrPort, 0, len(list))
	for i := range max(len(first), len(second)) {
		if i < len(first) {
			out = append(out, first[i])
		}
		if i < len(second) {
			out = append(out, second[i])
		}
	}
	return out
}
