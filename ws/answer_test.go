package ws_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/ws"
)

// TestClientHandshake holds what a client asks for, and which answers it takes.
// workerman 8.12: its client took any status.
func TestClientHandshake(t *testing.T) {
	for _, tc := range []struct {
		name   string
		answer func(good string) string
		status int // of the error; below 0: there is none
	}{
		{"good", func(s string) string { return s }, -1},
		{"200", func(s string) string { return strings.Replace(s, "101 Switching Protocols", "200 OK", 1) }, 200},
		{"500", func(s string) string { return strings.Replace(s, "101 Switching Protocols", "500 Oh", 1) }, 500},
		{"no reason", func(s string) string { return strings.Replace(s, "101 Switching Protocols", "101 ", 1) }, -1},
		{"no space behind the status", func(s string) string { return strings.Replace(s, "101 Switching Protocols", "101", 1) }, -1},
		{"no number", func(s string) string { return strings.Replace(s, " 101 ", " 0:1 ", 1) }, 0},
		{"status below 100", func(s string) string { return strings.Replace(s, " 101 ", " 099 ", 1) }, 0},
		{"status of four", func(s string) string { return strings.Replace(s, " 101 ", " 1010 ", 1) }, 0},
		{"status above 599", func(s string) string { return strings.Replace(s, " 101 ", " 999 ", 1) }, 999},
		{"empty line first", func(s string) string { return "\r\n" + s }, 0},
		{"HTTP/1.0", func(s string) string { return strings.Replace(s, "HTTP/1.1", "HTTP/1.0", 1) }, 0},
		{"no HTTP", func(string) string { return "SSH-2.0-OpenSSH\r\n\r\n" }, 0},
		{"LF only", func(s string) string { return strings.ReplaceAll(s, "\r\n", "\n") }, 0},
		{"another accept", func(s string) string { return strings.Replace(s, "Accept: ", "Accept: x", 1) }, 101},
		{"no accept", func(s string) string { return strings.Replace(s, "Accept", "Except", 1) }, 101},
		{"two accepts", func(s string) string {
			return strings.Replace(s, "\r\n\r\n", "\r\nSec-WebSocket-Accept: x\r\n\r\n", 1)
		}, 101},
		{"no upgrade", func(s string) string { return strings.Replace(s, "Upgrade: websocket\r\n", "", 1) }, 101},
		{"another upgrade", func(s string) string { return strings.Replace(s, "Upgrade: websocket", "Upgrade: h2c", 1) }, 101},
		{"no connection", func(s string) string { return strings.Replace(s, "Connection: Upgrade\r\n", "", 1) }, 101},
		{"a subprotocol", func(s string) string {
			return strings.Replace(s, "\r\n\r\n", "\r\nSec-WebSocket-Protocol: v1\r\n\r\n", 1)
		}, -1},
		{"another subprotocol", func(s string) string {
			return strings.Replace(s, "\r\n\r\n", "\r\nSec-WebSocket-Protocol: v3\r\n\r\n", 1)
		}, 101},
		{"an extension", func(s string) string {
			return strings.Replace(s, "\r\n\r\n", "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n", 1)
		}, 101},
	} {
		t.Run(name("%s", tc.name), func(t *testing.T) {
			for how, cut := range cuts {
				r := newClientRig(t, options{cfg: ws.Config{Protocols: []string{"v1", "v2"}}})
				request := r.request()
				if !strings.HasPrefix(request, "GET /chat HTTP/1.1\r\nHost: server.example.com\r\n") || !strings.Contains(request, "\r\nSec-WebSocket-Protocol: v1, v2\r\n") {
					t.Fatalf("request %q", request)
				}
				// workerman 8.12: a greeting in the segment of the answer stalled.
				cut(r, append([]byte(tc.answer(string(answerTo(request)))), encode(false, text("greeting"))...))
				r.Turns(5)
				if tc.status < 0 {
					if r.opens != 1 || len(r.msgs) != 1 || r.msgs[0] != "text:greeting" {
						t.Fatalf("%s: opened %d times, heard %q", how, r.opens, r.msgs)
					}
					r.gone()
					continue
				}
				r.peer.CloseWrite()
				r.Settle("close", func() bool { return r.closes > 0 })
				he, ok := r.closed.Err.(*ws.HandshakeError)
				if r.opens != 0 || !ok || he.Status != tc.status || (he.Header != nil) != (tc.status != 0) {
					t.Fatalf("%s: opened %d times, closed with %v, want status %d", how, r.opens, r.closed, tc.status)
				}
				r.opens = 1 // For gone: there was no OnOpen.
				r.gone()
			}
		})
	}
}

// TestClientAddresses holds which addresses and headers a client takes.
func TestClientAddresses(t *testing.T) {
	for _, address := range []string{"", "http://a/", "ws://", "ws:///x", "ws://a b/", "ws://user@a/", "ws://a/#x", "ws:a", "ws://a/\r\nX: y", "ws://a:b/"} {
		if _, err := ws.NewClient(address, ws.NopHandler{}, ws.ClientConfig{}); err == nil {
			t.Errorf("%q was taken", address)
		}
	}
	for _, address := range []string{"ws://a", "ws://a:80/x?y=z", "ws://[::1]:8080", "ws://a/%20"} {
		if _, err := ws.NewClient(address, ws.NopHandler{}, ws.ClientConfig{}); err != nil {
			t.Errorf("%q: %v", address, err)
		}
	}
	for name, value := range map[string]string{"Host": "x", "Upgrade": "x", "X": "a\r\nb", "a b": "x"} {
		if _, err := ws.NewClient("ws://a", ws.NopHandler{}, ws.ClientConfig{Header: http.Header{name: {value}}}); err == nil {
			t.Errorf("header %q: %q was taken", name, value)
		}
	}
	if _, err := ws.NewClient("ws://a", ws.NopHandler{}, ws.ClientConfig{Config: ws.Config{Protocols: []string{"v1", "v2", "v1"}}}); err == nil {
		t.Error("a subprotocol was taken twice")
	}
}

// TestClientHost holds as what an address is asked for.
func TestClientHost(t *testing.T) {
	for address, want := range map[string]string{
		"ws://a": "a", "ws://a:80": "a:80", "ws://a:": "a", "ws://[::1]:8080/": "[::1]:8080", "ws://[fe80::1%25eth0]:8080/": "[fe80::1]:8080", "ws://[fe80::1%25eth0]": "[fe80::1]",
	} {
		r := &rig{World: looptest.New(t, looptest.Options{Seed: 1})}
		k, err := ws.NewClient(address, ws.NopHandler{}, ws.ClientConfig{})
		if err != nil {
			t.Fatal(err)
		}
		below, _ := conn.Config{}.Check()
		fd, peer := r.Fake.Open()
		r.peer = peer
		r.Loop.Defer(func() { conn.New(r.Loop, int(fd), k, below) })
		if got := r.request(); !strings.Contains(got, "\r\nHost: "+want+"\r\n") {
			t.Errorf("%s: %q, want host %s", address, got, want)
		}
		r.gone()
	}
}
