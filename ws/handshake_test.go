package ws_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/ws"
)

// answer has a server answer what a peer says, and returns the status.
func answer(t *testing.T, o options, say string, cut func(r *rig, p []byte)) (r *rig, status string, body []byte) {
	t.Helper()
	r = newRig(t, o)
	r.peer.AutoRead(true)
	cut(r, []byte(say))
	r.Settle("answer", func() bool { return bytes.Contains(r.peer.Received(), []byte("\r\n\r\n")) })
	got := r.got()
	if len(got) < 12 || !bytes.HasPrefix(got, []byte("HTTP/1.1 ")) {
		t.Fatalf("answer %q", got)
	}
	return r, string(got[9:12]), got
}

// cuts are ways in which the bytes of a handshake may come.
var cuts = map[string]func(r *rig, p []byte){
	"whole": func(r *rig, p []byte) { r.peer.Feed(p) },
	"bytes": func(r *rig, p []byte) {
		for i := range p {
			if r.peer.WasReset() {
				return
			}
			r.peer.Feed(p[i : i+1])
			r.Turns(1)
		}
	},
	"halves": func(r *rig, p []byte) {
		r.peer.Feed(p[:len(p)/2])
		r.Turns(2)
		r.peer.Feed(p[len(p)/2:])
	},
}

// TestHandshakes holds what a server takes and what it refuses, and with which
// status. What is refused with 400 could be read in two ways by two servers.
func TestHandshakes(t *testing.T) {
	good := string(handshake())
	change := func(old, new string) string {
		s := strings.Replace(good, old, new, 1)
		if s == good {
			t.Fatalf("%q is not there", old)
		}
		return s
	}
	add := func(header string) string { return change("\r\n\r\n", "\r\n"+header+"\r\n\r\n") }
	for _, tc := range []struct{ name, say, status string }{
		{"good", good, "101"},
		{"lower case", strings.Replace(strings.ToLower(good[strings.Index(good, "\r\n"):]), "dghlihnhbxbszsbub25jzq==", "dGhlIHNhbXBsZSBub25jZQ==", 1), "400"},
		{"names in lower case", change("Upgrade: websocket\r\nConnection: keep-alive, Upgrade", "upgrade: WebSocket\r\nconnection: upgrade"), "101"},
		{"several upgrades", change("Upgrade: websocket", "Upgrade: h2c, websocket"), "101"},
		{"white space around values", change("Upgrade: websocket", "Upgrade:\t websocket \t"), "101"},
		{"no white space", change("Upgrade: websocket", "Upgrade:websocket"), "101"},
		{"empty body", add("Content-Length: 0"), "101"},
		{"high bytes in a value", add("X-Name: caf\xc3\xa9"), "101"},

		{"POST", change("GET", "POST"), "405"},
		{"CONNECT", change("GET /chat?room=1", "CONNECT server.example.com:80"), "405"},
		{"lower case method", change("GET", "get"), "405"},
		{"HTTP/1.0", change("HTTP/1.1", "HTTP/1.0"), "400"},
		{"HTTP/2.0", change("HTTP/1.1", "HTTP/2.0"), "400"},
		{"no version", change(" HTTP/1.1", ""), "400"},
		{"two spaces", change("GET /", "GET  /"), "400"},
		{"space in the target", change("/chat?room=1", "/chat room"), "400"},
		{"tab in the line", change("GET /", "GET\t/"), "400"},
		{"absolute target", change("/chat", "http://server.example.com/chat"), "101"},
		{"absolute target in other case", change("/chat", "WS://Server.example.COM/chat"), "101"},
		{"absolute target without a path", change("/chat?room=1", "http://server.example.com"), "101"},
		{"absolute target with a query alone", change("/chat?", "https://server.example.com?"), "101"},
		{"absolute target of another host", change("/chat", "http://other.example.com/chat"), "400"},
		{"absolute target of another port", change("/chat", "http://server.example.com:81/chat"), "400"},
		{"absolute target with user", change("/chat", "http://a@server.example.com/chat"), "400"},
		{"absolute target of another scheme", change("/chat", "ftp://server.example.com/chat"), "400"},
		{"absolute target with a fragment", change("/chat", "http://server.example.com/chat#x"), "400"},
		{"absolute target and no host", strings.Replace(change("/chat", "http://server.example.com/chat"), "Host: server.example.com\r\n", "", 1), "400"},
		{"target without a host", change("/chat", "http:///chat"), "400"},
		{"address in the query", change("room=1", "room=http://other.example.com/"), "101"},
		{"no slash", change("/chat", "chat"), "400"},
		{"fragment", change("room=1", "room=1#x"), "400"},
		{"high bytes in the target", change("room=1", "room=\xc3\xa9"), "400"},
		{"empty line first", "\r\n" + good, "101"},
		{"two empty lines first", "\r\n\r\n" + good, "400"},
		{"LF first", "\n" + good, "400"},
		{"CR first", "\r" + good, "400"},

		{"LF only", strings.ReplaceAll(good, "\r\n", "\n"), "400"},
		{"one LF only", change("\r\nUpgrade", "\nUpgrade"), "400"},
		{"LF in the last line", change("\r\n\r\n", "\r\n\n"), "400"},
		{"CR alone", change("\r\nUpgrade", "\rUpgrade"), "400"},
		{"folded header", add("X-Long: one\r\n two"), "400"},
		{"folded with a tab", add("X-Long: one\r\n\ttwo"), "400"},
		{"folded first header", change("Host:", " Host:"), "400"},
		{"space before the colon", add("X-Name : value"), "400"},
		{"no colon", add("X-Name"), "400"},
		{"no name", add(": value"), "400"},
		{"bad name", add("X(Name: value"), "400"},
		{"NUL in a value", add("X-Name: a\x00b"), "400"},
		{"DEL in a value", add("X-Name: a\x7fb"), "400"},
		{"two hosts", add("Host: other.example.com"), "400"},
		{"two equal hosts", add("Host: server.example.com"), "400"},
		{"no host", change("Host: server.example.com\r\n", ""), "400"},
		{"empty host", change("Host: server.example.com", "Host: "), "400"},
		{"host with a path", change("Host: server.example.com", "Host: server.example.com/x"), "400"},
		{"host with user", change("Host: server.example.com", "Host: a@server.example.com"), "400"},
		{"body", add("Content-Length: 5"), "400"},
		{"two lengths", add("Content-Length: 0\r\nContent-Length: 5"), "400"},
		{"length in a strange form", add("Content-Length: +0"), "400"},
		{"chunked", add("Transfer-Encoding: chunked"), "400"},
		{"identity", add("Transfer-Encoding: identity"), "400"},

		{"no upgrade", change("Upgrade: websocket\r\n", ""), "426"},
		{"another upgrade", change("Upgrade: websocket", "Upgrade: h2c"), "426"},
		{"no connection", change("Connection: keep-alive, Upgrade\r\n", ""), "426"},
		{"another connection", change("keep-alive, Upgrade", "keep-alive, Upgrades"), "426"},
		{"no version of the protocol", change("Sec-WebSocket-Version: 13\r\n", ""), "400"},
		{"version 8", change("Version: 13", "Version: 8"), "426"},
		{"two versions", add("Sec-WebSocket-Version: 13"), "400"},
		{"no key", change("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", ""), "400"},
		{"two keys", add("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="), "400"},
		{"short key", change("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25j"), "400"},
		{"long key", change("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZSEh"), "400"},
		{"key that is no Base64", change("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZSBub25jZ!=="), "400"},
		{"bad extensions", add("Sec-WebSocket-Extensions: permessage-deflate; =x"), "400"},
		{"unknown extension", add("Sec-WebSocket-Extensions: x-unknown; y=\"1\"; z, , x-other"), "101"},
		{"value that is no token", add("Sec-WebSocket-Extensions: x-unknown; y=\"1, 2\""), "400"},
		{"quotes that do not end", add("Sec-WebSocket-Extensions: x-unknown; y=\"1"), "400"},

		{"same origin", add("Origin: http://server.example.com"), "101"},
		{"same origin in other case", add("Origin: https://Server.Example.COM"), "101"},
		{"foreign origin", add("Origin: http://evil.example.com"), "403"},
		{"origin below ours", add("Origin: http://server.example.com.evil.com"), "403"},
		{"no origin of a page", add("Origin: null"), "403"},
		{"two origins", add("Origin: http://server.example.com\r\nOrigin: http://server.example.com"), "400"},

		{"long target", change("room=1", strings.Repeat("x", 9000)), "431"},
		{"many headers", add(strings.Repeat("X: y\r\n", 99) + "X: y"), "431"},
	} {
		t.Run(name("%s", tc.name), func(t *testing.T) {
			for how, cut := range cuts {
				r, status, head := answer(t, options{cfg: ws.Config{Deflate: &ws.Deflate{}}}, tc.say, cut)
				if status != tc.status {
					t.Fatalf("%s: answer %q, want %s", how, head, tc.status)
				}
				if status == "426" && !bytes.Contains(head, []byte("\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n")) {
					t.Fatalf("%s: answer %q without the version that is spoken", how, head)
				}
				if opened := r.opens == 1; opened != (status == "101") {
					t.Fatalf("%s: opened %d times", how, r.opens)
				}
				if s := r.server.Stats(); int(s.Refused)+r.opens != 1 {
					t.Fatalf("%s: stats %+v", how, s)
				}
				r.gone()
			}
		})
	}
}

// TestHandshakeBytes holds the answer of RFC 6455, 1.2, and that frames in the
// segment of the handshake are heard.
func TestHandshakeBytes(t *testing.T) {
	r := newRig(t, options{})
	r.peer.AutoRead(true)
	r.peer.Feed(append(handshake(), masked(text("in the same segment"))...))
	r.Turns(4)
	const want = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
	got := r.got()
	if !bytes.HasPrefix(got, []byte(want)) {
		t.Fatalf("answer %q", got)
	}
	if frames, _ := decode(t, false, got[len(want):]); !equalFrames(frames, frames2(text("in the same segment"))) {
		t.Errorf("echo %v", frames)
	}
	r.gone()
}

func frames2(f ...frame) []frame { return f }

// TestOnUpgrade holds what OnUpgrade is told and what it can do.
func TestOnUpgrade(t *testing.T) {
	type result struct{ got, user string }
	var res result
	other := &ws.Funcs{Message: func(c *ws.Conn, m *ws.Message) { c.Send(ws.Binary, []byte("other: "+string(m.Bytes()))) }}
	r := (*rig)(nil)
	h := &ws.Funcs{}
	h.Upgrade = func(q *ws.Request) {
		var headers []string
		for k, v := range q.Headers() {
			if strings.HasPrefix(k, "X-") {
				headers = append(headers, k+"="+v)
			}
		}
		res.got = fmt.Sprint(q.Target(), q.Path(), q.Query(), q.Host(), q.Origin(), q.Header("x-one"), headers, q.Protocols(), q.RemoteAddr().IsValid())
		for name, value := range map[string]string{
			"X Bad": "a", "X-Bad": "a\r\nSet-Cookie: b", "X-Bad2": "a\nb", "X-Bad3": "a\x00", "Upgrade": "h2c", "sec-websocket-accept": "x",
			"Sec-WebSocket-Protocol": "y", "Sec-WebSocket-Extensions": "z", "Content-Length": "3", "": "a", "X-Bad4": " a",
		} {
			if q.AddHeader(name, value) == nil {
				t.Errorf("header %q: %q was added", name, value)
			}
		}
		if err := q.AddHeader("Set-Cookie", "session=1; HttpOnly"); err != nil {
			t.Error(err)
		}
		if q.SetProtocol("v9") == nil {
			t.Error("a subprotocol that was not asked for was chosen")
		}
		if err := q.SetProtocol("v2"); err != nil {
			t.Error(err)
		}
		q.SetUser("somebody")
		q.SetHandler(other)
	}
	other.Open = func(c *ws.Conn) { res.user = fmt.Sprint(c.User(), c.Protocol()) }
	r, status, head := answer(t, options{handler: h, cfg: ws.Config{Protocols: []string{"v1"}}}, string(handshake(
		"Sec-WebSocket-Protocol: v1, v2", "Sec-WebSocket-Protocol: v3", "X-One: 1", "X-Two: 2", "Origin: http://server.example.com")), cuts["whole"])
	if want := "/chat?room=1/chatroom=1server.example.comhttp://server.example.com1[X-One=1 X-Two=2] [v1 v2 v3] false"; res.got != want {
		t.Errorf("told %q, want %q", res.got, want)
	}
	if status != "101" || !bytes.Contains(head, []byte("\r\nSec-WebSocket-Protocol: v2\r\n")) || !bytes.Contains(head, []byte("\r\nSet-Cookie: session=1; HttpOnly\r\n")) {
		t.Errorf("answer %q", head)
	}
	if bytes.Contains(head, []byte("Bad")) || bytes.Contains(head, []byte("h2c")) {
		t.Errorf("answer %q with a header that was refused", head)
	}
	if res.user != "somebodyv2" {
		t.Errorf("opened with %q", res.user)
	}
	r.feed(text("x"))
	r.want(bin("other: x"))
	r.gone()
}

// TestRefuse holds that who was refused is not heard. workerman 8.14: its
// onWebSocketConnected runs after a handshake that was refused.
func TestRefuse(t *testing.T) {
	for _, tc := range []struct {
		code int
		want string
	}{{401, "401"}, {503, "503"}, {302, "302"}, {200, "500"}, {101, "500"}, {700, "500"}} {
		r := (*rig)(nil)
		h := &ws.Funcs{
			Upgrade: func(q *ws.Request) { q.Refuse(tc.code, "go away"); _ = q.AddHeader("Location", "/login") },
			Open:    func(*ws.Conn) { t.Error("opened") },
			Message: func(*ws.Conn, *ws.Message) { t.Error("heard") },
			Close:   func(*ws.Conn, *ws.CloseError) { t.Error("closed") },
		}
		r, status, head := answer(t, options{handler: h}, string(handshake())+string(masked(text("hello"))), cuts["whole"])
		if status != tc.want || !bytes.HasSuffix(head, []byte("\r\n\r\ngo away\n")) || !bytes.Contains(head, []byte("\r\nLocation: /login\r\n")) {
			t.Errorf("answer %q", head)
		}
		r.gone()
	}
}

// TestProtocols holds the choice without an OnUpgrade: the first of ours.
func TestProtocols(t *testing.T) {
	for _, tc := range []struct{ ask, want string }{
		{"v1, v2", "v2"}, {"v1", "v1"}, {"v3", ""}, {"", ""}, {"V2", ""}, {"v3,v2", "v2"},
	} {
		headers := []string{"X: y"}
		if tc.ask != "" {
			headers = []string{"Sec-WebSocket-Protocol: " + tc.ask}
		}
		r, status, head := answer(t, options{cfg: ws.Config{Protocols: []string{"v2", "v1"}}}, string(handshake(headers...)), cuts["whole"])
		has := bytes.Contains(head, []byte("\r\nSec-WebSocket-Protocol: "+tc.want+"\r\n"))
		if status != "101" || has != (tc.want != "") || tc.want == "" && bytes.Contains(head, []byte("WebSocket-Protocol")) || r.c.Protocol() != tc.want {
			t.Errorf("asked %q: answer %q", tc.ask, head)
		}
		r.gone()
	}
}

// TestOrigins holds Config.Origins.
func TestOrigins(t *testing.T) {
	for _, tc := range []struct {
		allowed string
		origin  string
		want    string
	}{
		{"*", "http://evil.example.com", "101"}, {"*", "null", "101"}, {"a.com", "https://a.com", "101"}, {"a.com", "https://a.com:8443", "101"},
		{"a.com:8443", "https://a.com", "403"}, {"a.com", "https://b.a.com", "403"}, {"*.a.com", "https://b.a.com", "101"},
		{"*.a.com", "https://a.com", "403"}, {"*.a.com", "https://ba.com", "403"}, {"a.com", "http://server.example.com", "403"},
		{"a.com", "a.com", "403"}, {"a.com", "http://a.com.evil.com", "403"}, {"a.com", "http://x@a.com", "101"},
	} {
		r, status, _ := answer(t, options{cfg: ws.Config{Origins: []string{tc.allowed}}}, string(handshake("Origin: "+tc.origin)), cuts["whole"])
		if status != tc.want {
			t.Errorf("%q asked from %q: %s", tc.allowed, tc.origin, status)
		}
		r.gone()
	}
}

// TestHandshakeTimeout holds that a handshake that comes by drops ends.
func TestHandshakeTimeout(t *testing.T) {
	r := newRig(t, options{cfg: ws.Config{HandshakeTimeout: 300 * time.Millisecond}})
	r.peer.AutoRead(true)
	for _, b := range handshake() {
		if r.peer.EOF() {
			break
		}
		r.peer.Feed([]byte{b})
		r.Pass(20 * time.Millisecond)
	}
	if got := r.got(); !bytes.HasPrefix(got, []byte("HTTP/1.1 408 ")) || r.server.Stats().HandshakeTimeouts != 1 {
		t.Errorf("answer %q, stats %+v", got, r.server.Stats())
	}
	if r.Now > time.Second {
		t.Errorf("after %v", r.Now)
	}
	r.gone()
}

// TestHandshakeSplits holds that the answer does not depend on how the bytes come.
func TestHandshakeSplits(t *testing.T) {
	looptest.Seeds(t, 300, func(t *testing.T, seed uint64) {
		r := newRig(t, options{seed: seed, faults: aiotest.Config{SplitRecv: 0.7, LateRecv: 0.3, FinalRecv: 0.3, NoBuffers: 0.1, ShortSend: 0.3}})
		r.peer.AutoRead(true)
		p := append(handshake(strings.Repeat("X-Filler: yes\r\n", r.Rand.IntN(40))+"X-Last: 1"), masked(text("hello"), bin("world"))...)
		for len(p) > 0 {
			n := 1 + r.Rand.IntN(len(p))
			r.peer.Feed(p[:n])
			p = p[n:]
			r.Turns(r.Rand.IntN(3))
		}
		r.Settle("echo", func() bool { return len(r.msgs) == 2 })
		r.Turns(20)
		_, behind, _ := bytes.Cut(r.got(), []byte("\r\n\r\n"))
		if frames, _ := decode(t, false, behind); !equalFrames(frames, frames2(text("hello"), bin("world"))) {
			t.Fatalf("echo %v", frames)
		}
		r.gone()
	})
}

// TestHandshakeHasRoom holds that a budget that another connection has used up does not
// keep the answer to a handshake, and that nothing was refused for it.
func TestHandshakeHasRoom(t *testing.T) {
	for say, want := range map[string]string{
		string(handshake(offerAll)): "HTTP/1.1 101 ", "GET / HTTP/1.1\r\n\r\n": "HTTP/1.1 400 ", "GET / HTTP/1.1\r\nHost: a\r\n\r\n": "HTTP/1.1 426 ",
	} {
		budget := conn.NewBudget(1000, conn.BudgetReject)
		r := newRig(t, options{window: 400, cfg: ws.Config{Deflate: &ws.Deflate{}}, below: conn.Config{Budget: budget}})
		cfg, err := conn.Config{Budget: budget}.Check()
		if err != nil {
			t.Fatal(err)
		}
		fd, _ := r.Fake.Open()
		other := conn.New(r.Loop, int(fd), &conn.Funcs{}, cfg)
		if _, err := other.Write(make([]byte, 3000)); err != nil {
			t.Fatal(err)
		}
		r.Turns(3)
		r.peer.AutoRead(true)
		r.peer.Feed([]byte(say))
		r.Turns(5)
		if got := r.peer.Received(); !bytes.HasPrefix(got, []byte(want)) || budget.Stats().Rejected != 0 {
			t.Errorf("%q is answered by %q, %+v", say, got, budget.Stats())
		}
	}
}
