package conn

import "net/netip"

// Addr is one end of a connection, of a listener or of a datagram. It is a
// value and a net.Addr; two that are the same end are equal by ==. The zero
// Addr is that of nothing.
type Addr struct {
	netip.AddrPort // of IP, an IPv4 address always as IPv4

	// Net is the network: tcp, udp or unix.
	Net string
	// Name is the name of a unix socket: a path, or an abstract name with @ in
	// front, as in package net. It is empty for a socket without a name, such
	// as that of a client as a rule.
	Name string
}

// Network implements net.Addr.
func (a Addr) Network() string { return a.Net }

// String implements net.Addr. It returns HOST:PORT, or the name of a unix
// socket: @ alone for one without.
func (a Addr) String() string {
	switch {
	case a.Net != "unix":
		return a.AddrPort.String()
	case a.Name == "":
		return "@"
	}
	return a.Name
}

// AppendTo appends what String returns to b.
func (a Addr) AppendTo(b []byte) []byte {
	if a.Net == "unix" {
		return append(b, a.String()...)
	}
	return a.AddrPort.AppendTo(b)
}

// AppendText implements encoding.TextAppender, as AppendTo.
func (a Addr) AppendText(b []byte) ([]byte, error) { return a.AppendTo(b), nil }

// MarshalText implements encoding.TextMarshaler, as String.
func (a Addr) MarshalText() ([]byte, error) { return a.AppendTo(nil), nil }
