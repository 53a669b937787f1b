package ws_test

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
	"github.com/penstock-go/penstock/ws"
)

// hearing counts what a server has heard.
type hearing struct {
	*ws.Server
	bytes *atomic.Int64
}

func (h hearing) OnData(c *conn.Conn, in *buf.Buf) {
	n := in.Len()
	h.Server.OnData(c, in)
	h.bytes.Add(int64(n))
}

// asking is the same for a client.
type asking struct {
	*ws.Client
	bytes *atomic.Int64
}

func (a asking) OnData(c *conn.Conn, in *buf.Buf) {
	n := in.Len()
	a.Client.OnData(c, in)
	a.bytes.Add(int64(n))
}

// TestHalfHeads holds what many peers cost that stop in the middle of a head which is
// longer than a small block: no block, and on the heap at most twice what they have sent.
func TestHalfHeads(t *testing.T) {
	const peers, first, sent = 100, 3000, 5000
	for side, line := range map[string]string{"server": "GET / HTTP/1.1\r\nX: ", "client": "HTTP/1.1 101 X\r\nX: "} {
		t.Run(side, func(t *testing.T) {
			looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
				var heard atomic.Int64
				half := []byte(line + strings.Repeat("x", sent-len(line)))
				all := halfway(t, g, side == "client", peers, &heard)
				say := func(all []net.Conn, p []byte, sum int64) {
					for _, c := range all {
						if _, err := c.Write(p); err != nil {
							t.Fatal(err)
						}
					}
					testutil.Eventually(t, 10*time.Second, "half heads", func() bool { return heard.Load() == sum })
				}
				say(all[:1], half[:1], 1) // The loop receives, and its engine has the blocks for that.
				used, before := blocks(g), testutil.Heap()
				say(all[:1], half[1:first], first)
				say(all[1:], half[:first], peers*first)
				say(all, half[first:], peers*sent)
				if n := blocks(g) - used; n > 0 {
					t.Errorf("%d bytes of blocks for %d half heads", n, peers)
				}
				if n := (testutil.Heap() - before) / peers; n > 2*sent+1000 {
					t.Errorf("%d bytes of heap for each half head of %d", n, sent)
				}
				for _, c := range all {
					_ = c.Close()
				}
			})
		})
	}
}

// halfway returns connections to a server of ours, or from a client, whose handshake is
// to come.
func halfway(t *testing.T, g *reactor.Group, client bool, n int, heard *atomic.Int64) (all []net.Conn) {
	t.Helper()
	if !client {
		s, err := ws.NewServer(ws.NopHandler{}, ws.Config{})
		if err != nil {
			t.Fatal(err)
		}
		l, err := conn.Listen(g, "tcp", "127.0.0.1:0", hearing{s, heard}, conn.Config{})
		if err != nil {
			t.Fatal(err)
		}
		for range n {
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, c)
		}
		return all
	}
	l := listenTCP(t)
	defer l.Close()
	k, err := ws.NewClient("ws://"+l.Addr().String(), ws.NopHandler{}, ws.ClientConfig{})
	if err != nil {
		t.Fatal(err)
	}
	d := &conn.Dialer{}
	for range n {
		if err := d.Start(context.Background(), g.Loop(0), "tcp", l.Addr().String(), asking{k, heard}); err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, c)
	}
	return all
}

// blocks returns the bytes of blocks that the loops of a group have in use between two
// turns: in one that receives, those of the engine's that were used are not replaced yet.
func blocks(g *reactor.Group) (n int) {
	g.Stats()
	for _, s := range g.Stats() {
		n += s.InUse
	}
	return n
}
