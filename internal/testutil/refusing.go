package testutil

import (
	"net"
	"testing"
)

// Refusing returns a TCP address of host that refuses every connect until the test has
// ended: its port is the local one of a connection. One that somebody has listened on and
// left may be the next that a listener is given, in this process or in another.
func Refusing(t testing.TB, host string) string {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(host)}} // Bound, so that no connect takes it as its own port.
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	far, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = far.Close() })
	return c.LocalAddr().String()
}
