package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
	"github.com/penstock-go/penstock/ws"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// TestChat has two guests talk in one room, and a third in another.
func TestChat(t *testing.T) {
	for _, engine := range []string{"uring", "epoll"} {
		t.Run(engine, func(t *testing.T) {
			kind, _ := reactor.ParseEngine(engine)
			g, err := reactor.Start(reactor.Config{Loops: 2, Engine: kind})
			if engine == "uring" {
				testutil.SkipIfKernelOlder(t, "6.1", "io_uring", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			ctx, cancel := context.WithCancel(context.Background())
			in, out := io.Pipe()
			ended := make(chan error, 1)
			go func() {
				err := serve(ctx, options{"127.0.0.1:0", engine}, out)
				_ = out.Close()
				ended <- err
			}()
			lines := bufio.NewScanner(in)
			if !lines.Scan() {
				t.Fatal(<-ended)
			}
			var address, on string
			if _, err := fmt.Sscanf(lines.Text(), "serving %s on %s", &address, &on); err != nil || on != engine {
				t.Fatalf("%q: %v", lines.Text(), err)
			}
			talk(t, g, address, cancel)
			if err := <-ended; err != nil {
				t.Error(err)
			}
			_, _ = io.Copy(io.Discard, in)
		})
	}
}

func talk(t *testing.T, g *reactor.Group, address string, end func()) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	answer, err := client.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	body, _ := io.ReadAll(answer.Body)
	_ = answer.Body.Close()
	if !strings.Contains(string(body), "new WebSocket(") {
		t.Error("no page")
	}
	ctx, stop := context.WithTimeout(context.Background(), testutil.Timeout(20*time.Second))
	defer stop()
	url := strings.Replace(address, "http://", "ws://", 1) + "/chat?"
	type party struct {
		ref    ws.Ref
		heard  chan string
		closed chan ws.Code
	}
	enter := func(query string, d *ws.Deflate) (p party, err error) {
		p.heard, p.closed = make(chan string, 100), make(chan ws.Code, 1)
		p.ref, err = ws.Dial(ctx, g, url+query, &ws.Funcs{
			Message: func(_ *ws.Conn, m *ws.Message) {
				var l line
				if err := m.JSON(&l); err != nil {
					t.Error(err)
				}
				p.heard <- l.From + "|" + l.Text
			},
			Close: func(_ *ws.Conn, err *ws.CloseError) { p.closed <- err.Code },
		}, ws.ClientConfig{Config: ws.Config{Deflate: d}})
		return p, err
	}
	hear := func(p party, want ...string) {
		t.Helper()
		for _, w := range want {
			select {
			case got := <-p.heard:
				if got != w {
					t.Errorf("heard %q, want %q", got, w)
				}
			case <-ctx.Done():
				t.Fatalf("nothing heard, want %q", w)
			}
		}
	}
	must := func(query string, d *ws.Deflate) party {
		p, err := enter(query, d)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	a := must("name=Ada&room=lobby", nil)
	hear(a, "|You are in lobby.")
	b := must("name=Bob+B.&room=lobby", &ws.Deflate{})
	hear(a, "|Bob B. is here.")
	hear(b, "|You are in lobby.")
	c := must("name="+strings.Repeat("%C3%AB", nameMost)+"&room=cellar", nil)
	hear(c, "|You are in cellar.")
	long := strings.Repeat("hello ", 100)
	a.ref.Send(ws.Text, []byte(`{"text": "`+long+`"}`))
	hear(a, "Ada|"+long)
	hear(b, "Ada|"+long)
	b.ref.Close(ws.Normal, "")
	hear(a, "|Bob B. has left.")
	a.ref.Send(ws.Text, []byte(`nonsense`))
	if code := <-a.closed; code != ws.Policy {
		t.Errorf("nonsense: closed with %d", code)
	}
	var he *ws.HandshakeError
	for _, name := range []string{"", "+", strings.Repeat("x", nameMost+1), "%FF"} {
		if _, err := enter("room=x&name="+name, nil); !errors.As(err, &he) || he.Status != http.StatusBadRequest {
			t.Errorf("name %q: %v", name, err)
		}
	}
	idle, err := net.Dial("tcp", strings.TrimPrefix(address, "http://")) // As browsers have one in reserve.
	if err != nil {
		t.Fatal(err)
	}
	defer idle.Close()
	end()
	if code := <-c.closed; code != ws.GoingAway {
		t.Errorf("at the end: closed with %d", code)
	}
	if len(c.heard) > 0 {
		t.Errorf("heard in another room: %q", <-c.heard)
	}
}
