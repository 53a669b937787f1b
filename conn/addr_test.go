package conn_test

import (
	"encoding/json"
	"net"
	"net/netip"
	"testing"

	"github.com/penstock-go/penstock/conn"
)

// TestAddr holds how an address is written: everywhere alike.
func TestAddr(t *testing.T) {
	for _, tc := range []struct {
		addr          conn.Addr
		network, text string
	}{
		{conn.Addr{Net: "tcp", AddrPort: netip.MustParseAddrPort("10.0.0.1:80")}, "tcp", "10.0.0.1:80"},
		{conn.Addr{Net: "udp", AddrPort: netip.MustParseAddrPort("[fe80::1%eth0]:80")}, "udp", "[fe80::1%eth0]:80"},
		{conn.Addr{Net: "unix", Name: "/run/a@"}, "unix", "/run/a@"},
		{conn.Addr{Net: "unix", Name: "@abstract"}, "unix", "@abstract"},
		{conn.Addr{Net: "unix"}, "unix", "@"},
		{conn.Addr{}, "", "invalid AddrPort"},
	} {
		var a net.Addr = tc.addr
		if a.Network() != tc.network || a.String() != tc.text {
			t.Errorf("%s %s, want %s %s", a.Network(), a, tc.network, tc.text)
		}
		if tc.network == "" {
			continue
		}
		if got := string(tc.addr.AppendTo([]byte("at "))); got != "at "+tc.text {
			t.Errorf("appended %q", got)
		}
		if b, err := json.Marshal(tc.addr); err != nil || string(b) != `"`+tc.text+`"` {
			t.Errorf("%s as JSON is %s, %v", tc.text, b, err)
		}
		if b, err := tc.addr.AppendText(nil); err != nil || string(b) != tc.text {
			t.Errorf("%s as text is %s, %v", tc.text, b, err)
		}
	}
}
