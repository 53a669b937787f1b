package ws_test

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
	"github.com/penstock-go/penstock/ws"
)

// TestUpgrade moves connections of net/http onto the loop, with what was sent behind
// the handshake, beside plain requests to the same server.
func TestUpgrade(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		h := &ws.Funcs{
			Upgrade: func(r *ws.Request) {
				switch r.Path() {
				case "/refused":
					r.Refuse(http.StatusTeapot, "no")
				case "/chat":
					if r.User() != "from the middleware" || r.Header("X-Token") != "secret" || r.Host() != "server.example.com" || r.Query() != "room=1" {
						t.Errorf("user %v, token %q, host %q, query %q", r.User(), r.Header("X-Token"), r.Host(), r.Query())
					}
				}
			},
			Message: func(c *ws.Conn, m *ws.Message) {
				if c.User() != "from the middleware" {
					t.Errorf("user %v", c.User())
				}
				c.SendReceived(m)
			},
		}
		u, err := ws.NewUpgrader(g, h, ws.Config{Deflate: everything}, conn.Config{})
		if err != nil {
			t.Fatal(err)
		}
		mux := http.NewServeMux()
		mux.HandleFunc("/plain", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "plain") })
		mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) { _ = u.Upgrade(w, r, "from the middleware") })
		server := httptest.NewServer(mux)
		defer server.Close()
		ask := func(say string) string {
			c, err := net.Dial("tcp", server.Listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(testutil.Timeout(10 * time.Second)))
			_, _ = io.WriteString(c, say)
			got, err := io.ReadAll(c)
			if err != nil {
				t.Error(err)
			}
			return string(got)
		}
		good := string(handshake("X-Token: secret"))
		head, rest, _ := strings.Cut(ask(good+string(masked(text("hello"), bye(1000)))), "\r\n\r\n")
		if got, _ := decode(t, false, []byte(rest)); !strings.HasPrefix(head, "HTTP/1.1 101 ") || !equalFrames(got, frames(text("hello"), bye(1000))) {
			t.Errorf("answer %q, frames %v", head, got)
		}
		for say, want := range map[string]string{
			"GET /plain HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n":                         "HTTP/1.1 200 ",
			"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n":                             "HTTP/1.1 426 ",
			"POST /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 0\r\n\r\n":       "HTTP/1.1 405 ",
			"GET /x HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc":     "HTTP/1.1 400 ",
			"GET /x HTTP/1.0\r\nHost: a\r\n\r\n":                                                  "HTTP/1.0 505 ",
			strings.Replace(good, "/chat", "/refused", 1):                                         "HTTP/1.1 418 ",
			strings.Replace(good, "X-Token: secret", "Origin: http://evil.example.com", 1):        "HTTP/1.1 403 ",
			strings.Replace(good, "Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 12", 1):    "HTTP/1.1 426 ",
			strings.Replace(good, "X-Token: secret", "X-Long: "+strings.Repeat("long ", 5000), 1): "HTTP/1.1 431 ",
		} {
			if got := ask(say); !strings.HasPrefix(got, want) || strings.Contains(got, "\r\nAllow: GET\r\n") != (want == "HTTP/1.1 405 ") {
				t.Errorf("%.40q: answer %.80q, want %s", say, got, want)
			}
		}
		testutil.Eventually(t, 5*time.Second, "closed", func() bool { return u.Stats().Open == 0 })
		if s := u.Stats(); s.Opened != 1 || s.Refused != 8 {
			t.Errorf("stats %+v", s)
		}
	})
}

// TestUpgradeOverTLS holds that what cannot be done is answered.
func TestUpgradeOverTLS(t *testing.T) {
	g, err := reactor.Start(reactor.Config{Loops: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	u, err := ws.NewUpgrader(g, ws.NopHandler{}, ws.Config{}, conn.Config{})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewTLSServer(u)
	defer server.Close()
	r, _ := http.NewRequest("GET", server.URL, nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
	answer, err := server.Client().Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, _ := io.ReadAll(answer.Body)
	if answer.StatusCode != http.StatusNotImplemented || !bytes.Contains(body, []byte("TLS")) {
		t.Errorf("answer %d %q", answer.StatusCode, body)
	}
	w := httptest.NewRecorder()
	r.TLS, r.ContentLength = nil, 0
	if err := u.Upgrade(w, r, nil); err == nil || w.Code != http.StatusNotImplemented {
		t.Errorf("a writer that cannot be hijacked: %v, %d", err, w.Code)
	}
}

// wrapping is a listener whose connections hide their sockets.
type wrapping struct{ net.Listener }

func (l wrapping) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return struct{ net.Conn }{c}, err
}

// TestUpgradeTurnsAway holds that whoever is too many, and whose connection has no
// socket, is answered, and that the limit is one of open WebSockets.
func TestUpgradeTurnsAway(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		u, err := ws.NewUpgrader(g, &ws.Funcs{}, ws.Config{}, conn.Config{MaxConns: 2})
		if err != nil {
			t.Fatal(err)
		}
		serve := func(l net.Listener) string {
			s := &http.Server{Handler: u}
			go func() { _ = s.Serve(l) }()
			t.Cleanup(func() { _ = s.Close() })
			return l.Addr().String()
		}
		ask := func(address string) (c net.Conn, status string) {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = c.Close() })
			_ = c.SetDeadline(time.Now().Add(testutil.Timeout(10 * time.Second)))
			_, _ = c.Write(handshake())
			p := make([]byte, 12)
			_, _ = io.ReadFull(c, p)
			if status = string(p[9:]); status != "101" {
				if rest, err := io.ReadAll(c); err != nil || !bytes.Contains(rest, []byte("\r\nConnection: close\r\n")) {
					t.Errorf("%s%q, %v", p, rest, err)
				}
			}
			return c, status
		}
		address := serve(listenTCP(t))
		var open []net.Conn
		for i, want := range []string{"101", "101", "503", "503"} {
			c, status := ask(address)
			if status != want {
				t.Errorf("client %d is answered %s, want %s", i+1, status, want)
			}
			open = append(open, c)
		}
		_ = open[0].Close()
		testutil.Eventually(t, 10*time.Second, "a place", func() bool { return u.Stats().Open == 1 })
		testutil.Eventually(t, 10*time.Second, "another client", func() bool { _, status := ask(address); return status == "101" })
		_ = open[1].Close()
		testutil.Eventually(t, 10*time.Second, "a place", func() bool { return u.Stats().Open == 1 })
		testutil.Eventually(t, 10*time.Second, "no socket", func() bool { _, status := ask(serve(wrapping{listenTCP(t)})); return status == "501" })
	})
}

// TestUpgradeOverBridge moves a connection from a server of net/http that is on the
// loops itself.
func TestUpgradeOverBridge(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		u, err := ws.NewUpgrader(g, echoer(), ws.Config{}, conn.Config{MaxConns: 1})
		if err != nil {
			t.Fatal(err)
		}
		l, err := conn.NetListen(g, "tcp", "127.0.0.1:0", conn.Config{})
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{Handler: u}
		go func() { _ = server.Serve(l) }()
		defer server.Close()
		for _, want := range []string{"HTTP/1.1 101 ", "HTTP/1.1 503 "} {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(testutil.Timeout(10 * time.Second)))
			_, _ = c.Write(append(handshake(), masked(text("hello"))...))
			got := make([]byte, len(want))
			if _, err := io.ReadFull(c, got); err != nil || string(got) != want {
				t.Errorf("%q, %v, want %q", got, err, want)
			}
		}
		testutil.Eventually(t, 10*time.Second, "open", func() bool { return u.Stats().Open == 1 })
	})
}
