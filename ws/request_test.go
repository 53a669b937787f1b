package ws_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/ws"
)

// another opens one more connection to the server of a rig.
func (r *rig) another() *aiotest.Peer {
	r.T.Helper()
	below, err := conn.Config{}.Check()
	if err != nil {
		r.T.Fatal(err)
	}
	fd, peer := r.Fake.Open()
	peer.AutoRead(true)
	r.Loop.Defer(func() { conn.New(r.Loop, int(fd), r.server, below) })
	r.Turn()
	return peer
}

// TestRequestAfterPanic holds that nothing of a request whose handler has panicked
// is in the answer to the next one: not its headers, a cookie among them, not its
// refusal, and not what else was decided.
func TestRequestAfterPanic(t *testing.T) {
	for _, where := range []string{"OnUpgrade", "OnOpen"} {
		t.Run(where, func(t *testing.T) {
			h := &ws.Funcs{
				Upgrade: func(r *ws.Request) {
					if r.Query() != "first" {
						return
					}
					_ = r.AddHeader("Set-Cookie", "session=of-the-first")
					r.DisableDeflate()
					r.SetUser("the first")
					if where == "OnUpgrade" {
						r.Refuse(418, "the first")
						panic("in OnUpgrade")
					}
				},
				Open: func(c *ws.Conn) {
					if c.User() != nil {
						panic("in OnOpen")
					}
				},
			}
			r := newRig(t, options{handler: h, cfg: ws.Config{Deflate: &ws.Deflate{}}})
			r.peer.AutoRead(true)
			r.peer.Feed(bytes.Replace(handshake(offerAll), []byte("room=1"), []byte("first"), 1))
			r.Turns(5)
			peer := r.another()
			peer.Feed(handshake(offerAll))
			r.Turns(5)
			got := string(peer.Received())
			if !strings.HasPrefix(got, "HTTP/1.1 101 ") || strings.Contains(got, "Cookie") || !strings.Contains(got, "permessage-deflate") {
				t.Errorf("the second is told %q", got)
			}
			peer.CloseWrite()
			r.gone()
		})
	}
}

// TestRefuseForms holds that a refusal has each header once, and a body where it may
// have one.
func TestRefuseForms(t *testing.T) {
	for _, tc := range []struct {
		status      int
		name, value string
		want        string
	}{
		{403, "X-Why", "a", "Forbidden\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\nContent-Length: 3\r\nX-Why: a\r\n\r\n{}\n"},
		{403, "content-type", "application/json", "Forbidden\r\nConnection: close\r\nX-Content-Type-Options: nosniff\r\nContent-Length: 3\r\ncontent-type: application/json\r\n\r\n{}\n"},
		{403, "X-Content-Type-Options", "nosniff", "Forbidden\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: 3\r\nX-Content-Type-Options: nosniff\r\n\r\n{}\n"},
		{304, "ETag", "x", "Not Modified\r\nConnection: close\r\nETag: x\r\n\r\n"},
	} {
		h := &ws.Funcs{Upgrade: func(r *ws.Request) {
			r.Refuse(tc.status, "{}")
			if err := r.AddHeader(tc.name, tc.value); err != nil {
				t.Error(err)
			}
		}}
		r, _, head := answer(t, options{handler: h}, string(handshake()), cuts["whole"])
		if got := string(head[len("HTTP/1.1 403 "):]); got != tc.want {
			t.Errorf("%d with %s: %q, want %q", tc.status, tc.name, got, tc.want)
		}
		r.gone()
	}
}

// TestOnUpgradeRunsLast holds that OnUpgrade does not run for what is refused, whose
// answer so has nothing of its headers.
func TestOnUpgradeRunsLast(t *testing.T) {
	for _, header := range []string{"Sec-WebSocket-Extensions: permessage-deflate; =x", "Origin: http://evil.example.com", "Sec-WebSocket-Version: 13"} {
		h := &ws.Funcs{Upgrade: func(r *ws.Request) {
			t.Errorf("%s: OnUpgrade has run", header)
			_ = r.AddHeader("Set-Cookie", "session=1")
		}}
		r, status, head := answer(t, options{handler: h}, string(handshake(header)), cuts["whole"])
		if status[0] != '4' || bytes.Contains(head, []byte("Cookie")) {
			t.Errorf("%s: %q", header, head)
		}
		r.gone()
	}
}

// TestAbsoluteTarget holds what a request with a whole address says of itself.
func TestAbsoluteTarget(t *testing.T) {
	for target, want := range map[string]string{
		"http://server.example.com/chat?room=1": "/chat?room=1 /chat room=1", "ws://server.example.com": "/ / ", "http://server.example.com?x": "/?x / x",
	} {
		got := ""
		h := &ws.Funcs{Upgrade: func(r *ws.Request) { got = r.Target() + " " + r.Path() + " " + r.Query() }}
		r, _, _ := answer(t, options{handler: h}, strings.Replace(string(handshake()), "/chat?room=1", target, 1), cuts["whole"])
		if got != want {
			t.Errorf("%s: %q, want %q", target, got, want)
		}
		r.gone()
	}
}
