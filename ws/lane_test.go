package ws

import (
	"context"
	"log/slog"
	"runtime"
	"testing"
	"time"
	"weak"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// TestEndedGroupsAreCollected: a server that outlives many groups holds nothing of those.
func TestEndedGroupsAreCollected(t *testing.T) {
	s, err := NewServer(&Funcs{}, Config{})
	if err != nil {
		t.Fatal(err)
	}
	var loops []weak.Pointer[reactor.Loop]
	for range 3 {
		loops = append(loops, serveOnce(t, s))
	}
	testutil.Eventually(t, 10*time.Second, "all loops are collected", func() bool {
		runtime.GC()
		for _, l := range loops {
			if l.Value() != nil {
				return false
			}
		}
		return true
	})
	serveOnce(t, s)
	if n := len(s.ep.lanes); n != 1 {
		t.Errorf("the server has %d lanes", n)
	}
}

// serveOnce has s serve a WebSocket on a group of its own, and returns the loop.
func serveOnce(t *testing.T, s *Server) (loop weak.Pointer[reactor.Loop]) {
	g, err := reactor.Start(reactor.Config{Loops: 1, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	l, err := conn.Listen(g, "tcp", "127.0.0.1:0", s, conn.Config{})
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan weak.Pointer[reactor.Loop], 1)
	h := &Funcs{Open: func(c *Conn) { opened <- weak.Make(c.conn.Loop()) }}
	if _, err := Dial(context.Background(), g, "ws://"+l.Addr().String(), h, ClientConfig{}); err != nil {
		t.Fatal(err)
	}
	return <-opened
}
