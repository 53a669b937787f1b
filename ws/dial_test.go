package ws_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
	"github.com/penstock-go/penstock/ws"
)

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Timeout(d))
	t.Cleanup(cancel)
	return ctx
}

// TestDial has a client of ours talk to a server of ours, with and without
// compression, and close in both directions.
func TestDial(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		served := make(chan string, 10)
		_, l, err := ws.Listen(g, "tcp", "127.0.0.1:0", &ws.Funcs{
			Open: func(c *ws.Conn) { c.Send(ws.Text, []byte("welcome")) },
			Message: func(c *ws.Conn, m *ws.Message) {
				if string(m.Bytes()) == "go away" {
					c.Close(4000, "gone away")
					return
				}
				c.SendReceived(m)
			},
			Close: func(_ *ws.Conn, err *ws.CloseError) { served <- fmt.Sprint(err.Code, err.Remote, err.Clean) },
		}, ws.Config{Deflate: everything, Protocols: []string{"v1"}}, conn.Config{})
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range []*ws.Deflate{nil, everything} {
			heard := make(chan string, 100)
			closed := make(chan *ws.CloseError, 10)
			h := &ws.Funcs{
				Message: func(_ *ws.Conn, m *ws.Message) { heard <- string(m.Bytes()) },
				Close:   func(_ *ws.Conn, err *ws.CloseError) { closed <- err },
			}
			k, err := ws.NewClient("ws://"+l.Addr().String()+"/x?y", h, ws.ClientConfig{Config: ws.Config{Deflate: d, Protocols: []string{"v0", "v1"}}})
			if err != nil {
				t.Fatal(err)
			}
			for _, closing := range []string{"client", "server"} {
				ref, err := k.Dial(within(t, 10*time.Second), g)
				if err != nil {
					t.Fatal(err)
				}
				long := sentence(1, 100000)
				ref.Send(ws.Text, []byte("hello"))
				ref.Send(ws.Text, []byte(long))
				for _, want := range []string{"welcome", "hello", long} {
					if got := <-heard; got != want {
						t.Fatalf("heard %d bytes, want %d", len(got), len(want))
					}
				}
				protocol := make(chan string, 1)
				ref.Do(func(c *ws.Conn) { protocol <- fmt.Sprint(c.Protocol(), c.Compressed()) })
				if got := <-protocol; got != fmt.Sprint("v1", d != nil) {
					t.Errorf("agreed on %s", got)
				}
				if closing == "client" {
					ref.Close(4000, "enough")
				} else {
					ref.Send(ws.Text, []byte("go away"))
				}
				err2 := <-closed
				if err2.Code != 4000 || err2.Remote != (closing == "server") || !err2.Clean || err2.Err != nil {
					t.Errorf("%s closes: closed with %+v", closing, err2)
				}
				if got := <-served; got != fmt.Sprint(4000, closing == "client", true) {
					t.Errorf("%s closes: server told %s", closing, got)
				}
			}
			if s := k.Stats(); s.Opened != 2 || s.Open != 0 {
				t.Errorf("stats %+v", s)
			}
		}
	})
}

// TestDialFails holds the errors of a server that is not there, is none, refuses, or
// says nothing.
func TestDialFails(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		var closes atomic.Int32
		h := &ws.Funcs{
			Open:  func(*ws.Conn) { t.Error("opened") },
			Close: func(*ws.Conn, *ws.CloseError) { closes.Add(1) },
		}
		nobody := listenTCP(t)
		address := nobody.Addr().String()
		_ = nobody.Close()
		_, err := ws.Dial(within(t, 10*time.Second), g, "ws://"+address, h, ws.ClientConfig{})
		var de *conn.DialError
		if !errors.As(err, &de) || de.Reason != conn.Refused {
			t.Errorf("nobody: %v", err)
		}

		soon, enough := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer enough()
		_, err = ws.Dial(soon, g, "ws://"+address, &ws.Funcs{}, ws.ClientConfig{Dialer: &conn.Dialer{Reconnect: &conn.Reconnect{}}})
		if !errors.Is(err, context.DeadlineExceeded) || !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody, again and again: %v", err)
		}

		_, l, err := ws.Listen(g, "tcp", "127.0.0.1:0", &ws.Funcs{Upgrade: func(r *ws.Request) { r.Refuse(404, "no such room") }}, ws.Config{}, conn.Config{})
		if err != nil {
			t.Fatal(err)
		}
		_, err = ws.Dial(within(t, 10*time.Second), g, "ws://"+l.Addr().String(), h, ws.ClientConfig{})
		var he *ws.HandshakeError
		if !errors.As(err, &he) || he.Status != 404 || he.Header.Get("Content-Type") == "" {
			t.Errorf("refused: %v", err)
		}

		mute := listenTCP(t)
		defer mute.Close()
		_, err = ws.Dial(within(t, 10*time.Second), g, "ws://"+mute.Addr().String(), h, ws.ClientConfig{Config: ws.Config{HandshakeTimeout: 50 * time.Millisecond}})
		if !errors.Is(err, ws.ErrHandshakeTimeout) {
			t.Errorf("mute: %v", err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
		defer cancel()
		if _, err = ws.Dial(ctx, g, "ws://"+mute.Addr().String(), h, ws.ClientConfig{}); err != context.DeadlineExceeded {
			t.Errorf("given up: %v", err)
		}
		if n := closes.Load(); n != 4 {
			t.Errorf("OnClose ran %d times", n)
		}
		for _, address := range []string{"wss://a", "http://a", "ws://"} {
			if _, err := ws.Dial(ctx, g, address, h, ws.ClientConfig{}); err == nil {
				t.Errorf("%s was dialed", address)
			}
		}
		if _, err := ws.NewClient("ws://a", h, ws.ClientConfig{Dialer: &conn.Dialer{Reconnect: &conn.Reconnect{Keep: true}}}); err == nil {
			t.Error("Reconnect.Keep was taken")
		}
	})
}

func listenTCP(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// TestReconnect has a server end a client's WebSockets in several ways: each is
// followed by another one, until the client closes.
func TestReconnect(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		l := listenTCP(t)
		defer l.Close()
		var mu sync.Mutex
		var log []string
		note := func(format string, args ...any) {
			mu.Lock()
			defer mu.Unlock()
			log = append(log, fmt.Sprintf(format, args...))
		}
		done := make(chan bool)
		h := &ws.Funcs{
			Open: func(c *ws.Conn) { note("open"); c.Send(ws.Text, []byte("hello")) },
			Message: func(c *ws.Conn, m *ws.Message) {
				note("heard %s", m.Bytes())
				c.Close(ws.Normal, "done")
			},
			Close: func(_ *ws.Conn, err *ws.CloseError) {
				note("close %d", err.Code)
				if err.Code == ws.Normal {
					close(done)
				}
			},
			Retry: func(c *ws.Conn, r conn.Retry) {
				var he *ws.HandshakeError
				if errors.As(r.Err, &he) {
					note("retry %d", he.Status)
				} else {
					note("retry")
				}
				if c.Send(ws.Text, []byte("lost")) != conn.Closed {
					t.Error("sent while down")
				}
			},
		}
		// The server, by hand: what each connection gets.
		go func() {
			for i := 0; ; i++ {
				c, err := l.Accept()
				if err != nil {
					return
				}
				p := make([]byte, 4096)
				n := 0
				for !bytes.Contains(p[:n], []byte("\r\n\r\n")) {
					k, err := c.Read(p[n:])
					if err != nil {
						break
					}
					n += k
				}
				answer := answerTo(string(p[:n]))
				switch i {
				case 0: // Dropped without an answer.
				case 1:
					_, _ = c.Write([]byte("HTTP/1.1 503 Not now\r\nContent-Length: 0\r\n\r\n"))
				case 2: // Opened, and dropped.
					_, _ = c.Write(answer)
					_, _ = c.Read(p)
				case 3: // Opened, and closed.
					_, _ = c.Write(append(answer, encode(false, bye(1001))...))
					_, _ = io.Copy(io.Discard, io.LimitReader(c, int64(len(masked(text("hello"), bye(1001))))))
				default:
					_, _ = c.Write(append(answer, encode(false, text("hi"))...))
					_, _ = io.Copy(io.Discard, io.LimitReader(c, int64(len(masked(text("hello"))))))
					_, _ = io.Copy(io.Discard, io.LimitReader(c, int64(len(masked(byeText(1000, "done"))))))
					_, _ = c.Write(encode(false, bye(1000)))
				}
				_ = c.Close()
			}
		}()
		d := &conn.Dialer{Reconnect: &conn.Reconnect{Least: time.Millisecond, Most: 5 * time.Millisecond}}
		if _, err := ws.Dial(within(t, 10*time.Second), g, "ws://"+l.Addr().String(), h, ws.ClientConfig{Dialer: d}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-done:
		case <-within(t, 10*time.Second).Done():
		}
		mu.Lock()
		defer mu.Unlock()
		if got := strings.Join(log, ", "); got != "retry, retry 503, open, close 1006, retry, open, close 1001, retry, open, heard hi, close 1000" {
			t.Errorf("%s", got)
		}
	})
}

// TestReconnectEnds holds that a client which has tried often enough hears of it,
// also when it was open before.
func TestReconnectEnds(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		heard, asked := make(chan string, 100), make(chan ws.Ref, 10)
		h := &ws.Funcs{
			Open:  func(c *ws.Conn) { heard <- "open"; c.Send(ws.Text, []byte("end it")) },
			Retry: func(*ws.Conn, conn.Retry) { heard <- "retry" },
			Close: func(_ *ws.Conn, err *ws.CloseError) { heard <- fmt.Sprint("close ", err.Code) },
		}
		_, l, err := ws.Listen(g, "tcp", "127.0.0.1:0", &ws.Funcs{Message: func(c *ws.Conn, _ *ws.Message) { asked <- c.Ref() }}, ws.Config{}, conn.Config{})
		if err != nil {
			t.Fatal(err)
		}
		d := &conn.Dialer{Reconnect: &conn.Reconnect{Least: time.Millisecond, Most: time.Millisecond, Attempts: 2}}
		r := &redialer{heard: heard}
		if r.ref, err = ws.Dial(within(t, 10*time.Second), g, "ws://"+l.Addr().String(), h, ws.ClientConfig{Dialer: d}); err != nil {
			t.Fatal(err)
		}
		r.next(t, "open")
		server := <-asked
		l.Close()
		<-l.Done() // From here on every attempt is refused.
		server.Abort()
		for _, want := range []string{"close 1006", "retry", "retry", "close 1006"} {
			r.next(t, want)
		}
		r.over(t)
	})
}

// TestNoDialOnLoop holds that Dial is refused on a loop, for which it would wait for
// ever.
func TestNoDialOnLoop(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		told := make(chan error, 1)
		g.Loop(0).Post(func(*reactor.Loop) {
			_, err := ws.Dial(context.Background(), g, "ws://127.0.0.1:9", &ws.Funcs{}, ws.ClientConfig{})
			told <- err
		})
		if err := <-told; !errors.Is(err, conn.ErrWouldBlock) {
			t.Error(err)
		}
	})
}
