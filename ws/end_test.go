package ws_test

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
	"github.com/penstock-go/penstock/ws"
)

// TestFullInsidePeersClose holds that nothing goes behind the answer to the peer's
// close frame, also when that answer itself fills the queue.
func TestFullInsidePeersClose(t *testing.T) {
	for _, what := range []string{"send", "close"} {
		t.Run(what, func(t *testing.T) {
			r := dialed(t, options{window: 200, below: conn.Config{HighWater: 1000, Limit: 2000}})
			full := 0
			r.funcs = r.echo()
			r.funcs.Full = func(c *ws.Conn) {
				if full++; what == "close" {
					c.Close(ws.Policy, "slow")
				} else if s := c.Send(ws.Text, []byte("behind")); s != conn.Closed {
					t.Errorf("a message behind the close frame: %v", s)
				}
			}
			r.c.SetHandler(r.funcs)
			r.peer.AutoRead(false)
			for r.c.Pending() < 998 {
				r.c.Send(ws.Binary, make([]byte, min(120, max(0, 996-r.c.Pending()))))
				r.Turn()
			}
			if r.c.IsFull() {
				t.Fatal("full before the close")
			}
			r.feed(bye(4001))
			r.peer.AutoRead(true)
			r.Turns(60)
			got, _ := decode(t, false, r.got())
			if last := got[len(got)-1]; full != 1 || !equalFrames([]frame{last}, []frame{bye(4001)}) {
				t.Errorf("OnFull ran %d times, and the last frame is %v", full, last)
			}
			for _, f := range got[:len(got)-1] {
				if f.op == 8 {
					t.Errorf("%v before the last frame", f)
				}
			}
			r.gone()
			r.wantClose(4001, true, true)
		})
	}
}

// TestReasonIsText holds that a close frame is never one that the peer must refuse.
func TestReasonIsText(t *testing.T) {
	for _, tc := range []struct{ say, hear string }{
		{"bad \xff\xfe!", "bad \uFFFD!"},
		{strings.Repeat("\xff ", 100), strings.Repeat("\uFFFD ", 30) + "\uFFFD"},
		{strings.Repeat("\xbf", 200), "\uFFFD"},
		{strings.Repeat("a", 122) + "\xc2\xb5", strings.Repeat("a", 122)},
	} {
		r := dialed(t, options{})
		r.c.Close(4000, tc.say)
		r.Turns(2)
		r.want(byeText(4000, tc.hear))
		r.feed(bye(4000))
		r.gone()
		if r.closed.Reason != tc.hear {
			t.Errorf("OnClose is told %q", r.closed.Reason)
		}
	}
}

// TestLostIsNotReused holds that no event of a client that reconnects names a
// WebSocket whose OnClose has run, and that what a Ref sends meanwhile is told.
func TestLostIsNotReused(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		var mu sync.Mutex
		var log []string
		gone := map[*ws.Conn]bool{}
		note := func(c *ws.Conn, s string) {
			mu.Lock()
			defer mu.Unlock()
			if log = append(log, s); gone[c] {
				log = append(log, "of one that has closed")
			}
		}
		full, over := make(chan bool, 1), make(chan bool)
		h := &ws.Funcs{
			Open: func(c *ws.Conn) {
				c.SetUser("mine")
				for c.Send(ws.Binary, make([]byte, 64<<10)) == conn.Queued {
				}
				full <- true
			},
			Drain: func(c *ws.Conn) { note(c, "drain") },
			Error: func(c *ws.Conn, err error) { note(c, "error") },
			Retry: func(c *ws.Conn, r conn.Retry) {
				if note(c, fmt.Sprint("retry ", r.Attempt)); r.Attempt == 1 {
					if s := c.Ref().Send(ws.Text, []byte("x")); s != conn.Queued || c.User() != "mine" {
						t.Errorf("sent with %v, of %v", s, c.User())
					}
				}
			},
			Close: func(c *ws.Conn, err *ws.CloseError) {
				note(c, "close")
				mu.Lock()
				defer mu.Unlock()
				if gone[c] = true; len(gone) == 2 {
					close(over)
				}
			},
		}
		l := listenTCP(t)
		go func() {
			c, err := l.Accept()
			if err != nil {
				return
			}
			p := make([]byte, 4096)
			n, _ := c.Read(p)
			_, _ = c.Write(answerTo(string(p[:n])))
			<-full
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = l.Close()
			_ = c.Close()
		}()
		d := &conn.Dialer{Config: conn.Config{SendBuffer: 4096}, Reconnect: &conn.Reconnect{Least: 20 * time.Millisecond, Most: 20 * time.Millisecond, Attempts: 2}}
		k, err := ws.NewClient("ws://"+l.Addr().String(), h, ws.ClientConfig{Dialer: d})
		if err != nil {
			t.Fatal(err)
		}
		if err := k.Start(within(t, 10*time.Second), g.Loop(0)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-over:
		case <-time.After(testutil.Timeout(10 * time.Second)):
		}
		mu.Lock()
		defer mu.Unlock()
		if got := strings.Join(log, ", "); got != "close, retry 1, error, retry 2, close" {
			t.Error(got)
		}
	})
}
