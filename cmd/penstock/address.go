package main

import (
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// endpoint is an address of --listen.
type endpoint struct {
	flag    string // as it was given
	network string // tcp, udp or unix
	address string // as package conn takes it
}

// forms are what an address looks like.
const forms = "tcp://HOST:PORT, udp://HOST:PORT, unix:///path or unix://@abstract"

// parseListen reads an address as --listen takes it.
func parseListen(flag string) (endpoint, error) {
	scheme, rest, ok := strings.Cut(flag, "://")
	if !ok {
		return endpoint{}, wrong("--listen: %q has no scheme: it is %s", flag, forms)
	}
	e := endpoint{flag, scheme, rest}
	var err error
	switch scheme {
	case "tcp", "udp":
		e.address, err = parseHostPort(flag, scheme, rest)
	case "unix":
		err = checkName(flag, rest)
	default:
		err = wrong("--listen: unknown scheme in %q: it is %s", flag, forms)
	}
	return e, err
}

func parseHostPort(flag, scheme, rest string) (hostPort string, err error) {
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		return "", wrong("--listen: %q is not %s://HOST:PORT; an IPv6 address goes in brackets, %[2]s://[::]:8484", flag, scheme)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return "", wrong("--listen: port %q in %q is not a number from 0 to 65535", port, flag)
	}
	if !isHost(host) {
		return "", wrong("--listen: host %q in %q is neither an IP address nor a name", host, flag)
	}
	return net.JoinHostPort(host, strconv.FormatUint(n, 10)), nil
}

// unixNameMost is the longest name of a unix socket that the kernel takes.
const unixNameMost = 107

// checkName looks at the name of a unix socket.
func checkName(flag, name string) error {
	switch {
	case name == "" || name == "@" || name[0] != '/' && name[0] != '@':
		return wrong("--listen: %q is not unix:///path or unix://@abstract", flag)
	case len(name) > unixNameMost:
		return wrong("--listen: the name in %q has %d bytes, and %d are the most", flag, len(name), unixNameMost)
	case strings.ContainsFunc(name, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return wrong("--listen: the name in %q has a control character", flag) // The line on stdout could not tell it.
	}
	return nil
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
