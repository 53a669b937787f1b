package ws_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
	"github.com/penstock-go/penstock/ws"
)

// names is a Resolver without a server.
type names map[string][]netip.Addr

func (n names) LookupNetIP(_ context.Context, _, host string) ([]netip.Addr, error) {
	if list := n[host]; list != nil {
		return list, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// TestDialErrorTexts holds that the error of a failed dial is one line that says what is
// wrong, once, and that errors.Is and As find the cause.
func TestDialErrorTexts(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		nobody := testutil.Refusing(t, "127.0.0.1")
		_, port, _ := net.SplitHostPort(nobody)
		one, two := netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.2")
		dialer := &conn.Dialer{Resolver: names{"one.test": {one}, "two.test": {one, two}}}
		missing := t.TempDir() + "/none"

		says := func(answer string) string {
			return answerWith(t, func(c net.Conn, _ string) { _, _ = io.WriteString(c, answer) })
		}
		for _, tc := range []struct {
			address, want string
			is            error
			cfg           ws.ClientConfig
		}{
			{nobody, "conn: dial tcp " + nobody + ": refused: connect: connection refused", syscall.ECONNREFUSED, ws.ClientConfig{}},
			{"one.test:" + port, "conn: dial tcp one.test:" + port + ": refused: 127.0.0.1:" + port + ": connect: connection refused", syscall.ECONNREFUSED, ws.ClientConfig{}},
			{"two.test:" + port, "conn: dial tcp two.test:" + port + ": refused: 127.0.0.1:" + port + ": connect: connection refused; 127.0.0.2:" + port + ": connect: connection refused", syscall.ECONNREFUSED, ws.ClientConfig{}},
			{"none.test", "conn: dial tcp none.test:80: unresolved: lookup none.test: no such host", nil, ws.ClientConfig{}},
			{"a", "conn: dial unix " + missing + ": refused: connect: no such file or directory", os.ErrNotExist, ws.ClientConfig{Network: "unix", Address: missing}},
			{says("HTTP/1.1 404 Not Found\r\nContent-Length: 13\r\n\r\nno such room\n"), `ws: handshake: the server answers 404 Not Found: "no such room"`, nil, ws.ClientConfig{}},
			{says("HTTP/1.1 400 " + strings.Repeat("x", 5000) + "\r\nContent-Length: 0\r\n\r\n"), "ws: handshake: the server answers 400 " + strings.Repeat("x", 200), nil, ws.ClientConfig{}},
			{says("HTTP/1.1 302\r\nContent-Length: 0\r\n\r\n"), `ws: handshake: the server answers 302`, nil, ws.ClientConfig{}},
			{says("HTTP/1.1 500 Oh\r\nContent-Length: 2000\r\n\r\n" + strings.Repeat("<p>\n", 500)), `ws: handshake: the server answers 500 Oh: "` + strings.Repeat(`<p>\n`, 50) + `"`, nil, ws.ClientConfig{}},
			{says("HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: x\r\n\r\n"), `ws: handshake: Sec-WebSocket-Accept "x" is not that of the request`, nil, ws.ClientConfig{}},
			{says("SSH-2.0-OpenSSH\r\n\r\n"), "ws: handshake: a first line that is not of HTTP/1.1", nil, ws.ClientConfig{}},
			{says(""), "ws: handshake: closed by the peer: EOF", io.EOF, ws.ClientConfig{}},
			{answerWith(t, func(c net.Conn, _ string) { _, _ = c.Read(make([]byte, 1)) }), "ws: handshake: no answer in time", ws.ErrHandshakeTimeout, ws.ClientConfig{Config: ws.Config{HandshakeTimeout: 20 * time.Millisecond}}},
		} {
			tc.cfg.Dialer = dialer
			_, err := ws.Dial(within(t, 10*time.Second), g, "ws://"+tc.address, ws.NopHandler{}, tc.cfg)
			if err == nil || err.Error() != tc.want || tc.is != nil && !errors.Is(err, tc.is) {
				t.Errorf("%s: %v\nwant %s", tc.address, err, tc.want)
			}
			var ce *ws.CloseError
			var he *ws.HandshakeError
			var de *conn.DialError
			if !errors.As(err, &ce) || ce.Code != ws.Abnormal || strings.HasPrefix(tc.want, "conn: dial") != errors.As(err, &de) || strings.Contains(tc.want, "answer") && !errors.As(err, &he) {
				t.Errorf("%s: %#v", tc.address, err)
			}
		}
	})
}

// answerWith returns the address of a server that reads a request, does something, and
// closes.
func answerWith(t *testing.T, act func(c net.Conn, request string)) string {
	l := listenTCP(t)
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p := make([]byte, 4096)
			n, _ := c.Read(p)
			act(c, string(p[:n]))
			_ = c.Close()
		}
	}()
	return l.Addr().String()
}
