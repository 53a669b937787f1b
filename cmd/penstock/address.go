package main

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// parseListen returns HOST:PORT of an address as --listen takes it.
func parseListen(addr string) (hostPort string, err error) {
	scheme, rest, ok := strings.Cut(addr, "://")
	if !ok {
		return "", wrong("--listen: %q has no scheme: it is tcp://HOST:PORT", addr)
	}
	switch scheme {
	case "tcp":
	case "udp", "unix":
		return "", wrong("--listen: %s:// is not supported yet, in %q; tcp:// is", scheme, addr)
	default:
		return "", wrong("--listen: unknown scheme in %q: it is tcp://HOST:PORT", addr)
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		return "", wrong("--listen: %q is not tcp://HOST:PORT; an IPv6 address goes in brackets, tcp://[::]:8484", addr)
	}
	if n, err := strconv.ParseUint(port, 10, 16); err != nil {
		return "", wrong("--listen: port %q in %q is not a number from 0 to 65535", port, addr)
	} else if port = strconv.FormatUint(n, 10); !isHost(host) {
		return "", wrong("--listen: host %q in %q is neither an IP address nor a name", host, addr)
	}
	return net.JoinHostPort(host, port), nil
}

// isHost reports whether host is an IP address, or may be a name. What looks
// like an address and is none, such as 256.0.0.1, is no name either.
func isHost(host string) bool {
	if _, err := netip.ParseAddr(host); err == nil || host == "" {
		return true
	}
	name := strings.TrimSuffix(host, ".")
	for _, r := range name {
		if (r < '0' || r > '9') && (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && r != '-' && r != '.' && r != '_' {
			return false
		}
	}
	last := name[strings.LastIndexByte(name, '.')+1:]
	return strings.Trim(last, "0123456789") != ""
}
