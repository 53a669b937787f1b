package ws_test

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
	"github.com/penstock-go/penstock/ws"
)

// TestTopics publishes to members with and without compression on several loops:
// each gets every message, in order, and nothing behind its close.
func TestTopics(t *testing.T) {
	g, err := reactor.Start(reactor.Config{Loops: 2, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	topics := ws.NewTopics(g)
	h := &ws.Funcs{
		Open: func(c *ws.Conn) {
			if err := topics.Join("news", c); err != nil {
				t.Error(err)
			}
		},
		Message: func(c *ws.Conn, _ *ws.Message) {
			if got := topics.Of(c); len(got) != 1 || got[0] != "news" {
				t.Errorf("member of %q", got)
			}
			c.Close(ws.Normal, "")
			if topics.Join("more", c) != conn.ErrClosed {
				t.Error("joined behind a close")
			}
		},
	}
	_, l, err := ws.Listen(g, "tcp", "127.0.0.1:0", h, ws.Config{Deflate: everything}, conn.Config{})
	if err != nil {
		t.Fatal(err)
	}
	const peers, messages = 12, 50
	var wg sync.WaitGroup
	var closing atomic.Int32
	for i := range peers {
		c := dialTCP(t, l)
		headers := "X: y"
		if i%3 > 0 {
			headers = offerAll
		}
		if i%3 == 2 {
			headers += "; server_no_context_takeover"
		}
		wg.Go(func() {
			defer c.Close()
			_, _ = c.Write(handshake(headers))
			var all []byte
			p := make([]byte, 64<<10)
			out := &stretcher{takeover: i%3 == 1, bits: 15}
			at, head := 0, true
			for at < messages {
				n, err := c.Read(p)
				if err != nil {
					t.Errorf("peer %d: %v", i, err)
					return
				}
				all = append(all, p[:n]...)
				if head {
					var ok bool
					if all, ok = behindHead(all); !ok {
						continue
					}
					head = false
				}
				var got []frame
				got, all = decode(t, false, all)
				for _, f := range out.messages(t, got) {
					if want := sentence(at, 300); f.data != want {
						t.Errorf("peer %d: message %d is %v", i, at, f)
						return
					}
					at++
				}
			}
			if i%3 > 0 && out.deflated != messages {
				t.Errorf("peer %d: %d came compressed", i, out.deflated)
			}
			_, _ = c.Write(masked(text("enough"), bye(1000)))
			rest, _ := io.ReadAll(c)
			if got, _ := decode(t, false, append(all, rest...)); !equalFrames(got, frames(bye(1000))) {
				t.Errorf("peer %d: behind the close: %v", i, got)
			}
			closing.Add(1)
		})
	}
	testutil.Eventually(t, 10*time.Second, "members", func() bool { return topics.Len("news") == peers })
	reach := make(chan string, messages)
	for i := range messages {
		topics.Broadcast("news", ws.Prepare(ws.Text, []byte(sentence(i, 300))), ws.Audience{Done: func(r conn.Reach) { reach <- fmt.Sprint(r.Taken) }})
	}
	for range messages {
		if got := <-reach; got != fmt.Sprint(peers) {
			t.Errorf("reached %s", got)
		}
	}
	wg.Wait()
	topics.Publish("news", ws.Prepare(ws.Text, []byte("nobody")))
	if s := topics.Stats(); s.Published != messages+1 || closing.Load() != peers {
		t.Errorf("stats %+v, %d closed", s, closing.Load())
	}
}

// TestTopicsRefuse holds that a member which is in the middle of another message is told
// what it has missed, and that no more than 16 MiB wait for a loop that stands.
func TestTopicsRefuse(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		topics := ws.NewTopics(g)
		refs, told, read := make(chan ws.Ref, 1), make(chan error, 32), make(chan bool)
		h := &ws.Funcs{
			Open: func(c *ws.Conn) {
				_ = topics.Join("x", c)
				c.SendFrom(ws.Text, &slow{read}, nil)
				refs <- c.Ref()
			},
			Error: func(_ *ws.Conn, err error) { told <- err },
		}
		_, l, err := ws.Listen(g, "tcp", "127.0.0.1:0", h, ws.Config{}, conn.Config{HighWater: 64 << 20})
		if err != nil {
			t.Fatal(err)
		}
		c := dialTCP(t, l)
		defer c.Close()
		_, _ = c.Write(handshake())
		ref := <-refs
		topics.Publish("x", ws.Prepare(ws.Text, []byte("missed")))
		var se *conn.SendError
		if err := <-told; !errors.As(err, &se) || se.Bytes != 6 || !errors.Is(err, conn.ErrSendBufferFull) {
			t.Errorf("told %v", err)
		}
		read <- true
		stop, stopped := make(chan bool), make(chan bool)
		ref.Do(func(*ws.Conn) { close(stopped); <-stop })
		<-stopped
		m, taken := ws.Prepare(ws.Binary, make([]byte, 1<<20)), 0
		for range 20 {
			if topics.Publish("x", m) == conn.Queued {
				taken++
			}
		}
		close(stop)
		if taken != 16 {
			t.Errorf("%d MiB taken while the loop stood", taken)
		}
		l.Close()
		ref.Abort()
		testutil.Eventually(t, 10*time.Second, "gone", func() bool { return topics.Len("x") == 0 })
	})
}

func behindHead(p []byte) ([]byte, bool) {
	for i := 4; i <= len(p); i++ {
		if string(p[i-4:i]) == "\r\n\r\n" {
			return p[i:], true
		}
	}
	return p, false
}
