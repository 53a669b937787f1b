package ws_test

import (
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
	"github.com/penstock-go/penstock/ws"
)

// TestInterimAnswers holds that a client passes over interim answers, but not over any
// number of them (RFC 9110, 15.2).
func TestInterimAnswers(t *testing.T) {
	const hints = "HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
	for _, tc := range []struct {
		before string
		opens  int
	}{
		{hints, 1}, {"HTTP/1.1 100 Continue\r\n\r\n" + hints, 1}, {strings.Repeat(hints, 8), 1}, {strings.Repeat(hints, 9), 0},
		{"HTTP/1.0 100 Continue\r\n\r\n", 0}, {"HTTP/1.1 103 Early Hints\nLink: x\r\n\r\n", 0},
		{"HTTP/1.1 103 Early Hints\r\nX: " + strings.Repeat("x", 9000) + "\r\n\r\n", 0},
	} {
		for how, cut := range cuts {
			r := newClientRig(t, options{})
			request := r.request()
			cut(r, append(append([]byte(tc.before), answerTo(request)...), encode(false, text("greeting"))...))
			r.Turns(5)
			if r.opens != tc.opens || len(r.msgs) != tc.opens {
				t.Errorf("%s behind %.60q: opened %d times, heard %q", how, tc.before, r.opens, r.msgs)
			}
			if s := r.client.Stats(); int(s.Refused) != 1-tc.opens {
				t.Errorf("%s behind %.60q: stats %+v", how, tc.before, s)
			}
			r.opens = max(r.opens, 1) // For gone.
			r.gone()
		}
	}
}

// TestRefusalText holds what a client is told of an answer other than 101: it is the same
// however it came, and there is a bound to it and to the time for it.
func TestRefusalText(t *testing.T) {
	long := strings.Repeat("long text ", 200)
	chunks := func(parts ...string) (s string) {
		for _, p := range parts {
			s += fmt.Sprintf("%x\r\n%s\r\n", len(p), p)
		}
		return s
	}
	for _, tc := range []struct {
		name, head, body, want string
		end                    bool // the answer says where its text ends
	}{
		{"length", "HTTP/1.1 404 Not Found\r\nContent-Length: 12\r\n\r\n", "no such room, and more", "no such room", true},
		{"no text", "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n", "", "", true},
		{"no content", "HTTP/1.1 204 No Content\r\n\r\n", "", "", true},
		{"long", "HTTP/1.1 500 Oh\r\nContent-Length: 2000\r\n\r\n", long, long[:1024], true},
		{"chunks", "HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n", chunks("who ", "are you?", ""), "who are you?", true},
		{"half a chunk", "HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n", chunks("who ") + "8\r\nare", "who are", false},
		{"long chunk", "HTTP/1.1 401 Unauthorized\r\nTransfer-Encoding: chunked\r\n\r\n", chunks(long), long[:1024-len("7d0\r\n")], true},
		{"to the end", "HTTP/1.0 404 Not Found\r\n\r\n", "no such room", "no such room", false},
		{"short", "HTTP/1.1 404 Not Found\r\nContent-Length: 20\r\n\r\n", "no such", "no such", false},
		{"length that is none", "HTTP/1.1 404 Not Found\r\nContent-Length: -1\r\n\r\n", "no such", "no such", false},
	} {
		for how, cut := range cuts {
			for _, ending := range []string{"time", "FIN", "reset"} {
				what := fmt.Sprint(tc.name, ", ", how, ", ", ending)
				r := newClientRig(t, options{})
				r.request()
				cut(r, []byte(tc.head+tc.body))
				r.Turns(3)
				if over := r.client.Stats().Refused == 1; !over {
					t.Fatalf("%s: not counted", what)
				}
				switch ending {
				case "FIN":
					r.peer.CloseWrite()
				case "reset":
					r.peer.Reset()
				}
				from := r.Now
				r.Settle("close", func() bool { return r.closes > 0 || tc.end && r.peer.EOF() || r.peer.WasReset() })
				if waited := r.Now - from; waited > 4*time.Second || ending == "time" && !tc.end && waited < time.Second/2 {
					t.Errorf("%s: ended after %v", what, waited)
				}
				if !r.peer.WasReset() {
					r.peer.CloseWrite()
				}
				r.Settle("close", func() bool { return r.closes > 0 })
				var he *ws.HandshakeError
				if !errors.As(r.closed, &he) || string(he.Body) != tc.want || fmt.Sprint("HTTP/1.1 ", he.Status, " ", he.Reason) != strings.Replace(tc.head[:strings.Index(tc.head, "\r\n")], "1.0", "1.1", 1) || he.Header == nil {
					t.Errorf("%s: %v with %q, want %q", what, r.closed, he.Body, tc.want)
				}
				r.opens = 1 // For gone.
				r.gone()
			}
		}
	}
}

// TestRefusalIsRedialed holds that a client connects again after a refusal from 500 on,
// and after no other, also when the server ends the connection in the middle of its text.
func TestRefusalIsRedialed(t *testing.T) {
	for _, status := range []int{404, 503} {
		for _, reset := range []bool{false, true} {
			looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
				refuse := func(i int, c net.Conn) bool {
					if i > 0 {
						_, _ = fmt.Fprintf(c, "HTTP/1.1 %d X\r\nContent-Length: 100\r\n\r\nnot now", status)
					}
					if i > 0 && reset {
						time.Sleep(50 * time.Millisecond) // A reset takes what was not received yet.
						_ = c.(*net.TCPConn).SetLinger(0)
					}
					return i > 0
				}
				r := dialAgain(t, g, refuse, func(net.Conn) {})
				for _, want := range []string{"open", "close 1006", "retry"} {
					r.next(t, want)
				}
				<-r.why
				<-r.why
				if status == 503 {
					r.next(t, "retry")
				} else {
					r.next(t, "close 1006")
				}
				var he *ws.HandshakeError
				if err := <-r.why; !errors.As(err, &he) || he.Status != status || string(he.Body) != "not now" {
					t.Errorf("told %v, want status %d", err, status)
				}
				r.ref.Close(ws.Normal, "")
				testutil.Eventually(t, 10*time.Second, "the end", func() bool { return !r.ref.Do(func(*ws.Conn) {}) })
			})
		}
	}
}
