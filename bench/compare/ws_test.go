package main

import (
	"bytes"
	"context"
	"fmt"
	"testing"

	"github.com/coder/websocket"
)

// dialWS opens a WebSocket with the client of one of the peers, which offers takeover
// and takes what there is.
func dialWS(t *testing.T, s *server, mode websocket.CompressionMode) *websocket.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	t.Cleanup(cancel)
	c, _, err := websocket.Dial(ctx, "ws://"+s.addr+"/", &websocket.DialOptions{CompressionMode: mode})
	if err != nil {
		t.Fatal(err)
	}
	c.SetReadLimit(4 << 20)
	t.Cleanup(func() { _ = c.CloseNow() })
	return c
}

func everyWSPeer(t *testing.T, test func(t *testing.T, p peer)) {
	for _, p := range wsPeers() {
		t.Run(p.name, func(t *testing.T) { test(t, p) })
	}
}

func hearWS(t *testing.T, c *websocket.Conn, kind websocket.MessageType, want []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	got, data, err := c.Read(ctx)
	if err != nil || got != kind || !bytes.Equal(data, want) {
		t.Fatalf("%v of %d bytes came, want %v of %d, the first %d alike; %v", got, len(data), kind, len(want), common(data, want), err)
	}
}

func sayWS(t *testing.T, c *websocket.Conn, kind websocket.MessageType, p []byte) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	if err := c.Write(ctx, kind, p); err != nil {
		t.Fatal(err)
	}
}

// coderReads says whether the client gets along with the compression of a peer: gws with
// takeover answers with a window that was not offered, and Bun ends a message by a last
// block, behind which the client loses its way. The load test reads both.
func coderReads(p peer, protocol string) bool {
	return p.name != "bun" && (p.name != "gws" || protocol != wsDeflateProtocol)
}

// text is JSON that can be compressed.
func text(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, `{"id":%d,"name":"number %d"},`, i*i, i)
	}
	return b.Bytes()[:n]
}

// Messages of all sizes come back, plain and compressed with and without takeover.
func TestWSEcho(t *testing.T) {
	everyWSPeer(t, func(t *testing.T, p peer) {
		for _, protocol := range []string{wsProtocol, wsDeflateProtocol} {
			s := start(t, p, "--protocol", protocol)
			modes := []websocket.CompressionMode{websocket.CompressionDisabled, websocket.CompressionNoContextTakeover}
			if !coderReads(p, protocol) {
				modes = modes[:1]
			}
			for _, mode := range modes {
				c := dialWS(t, s, mode)
				for i, size := range []int{1, 64, 125, 126, 1 << 10, 16 << 10, 70_000, 1 << 10} {
					sayWS(t, c, websocket.MessageText, text(size))
					hearWS(t, c, websocket.MessageText, text(size))
					sayWS(t, c, websocket.MessageBinary, noise(size, uint64(i)))
					hearWS(t, c, websocket.MessageBinary, noise(size, uint64(i)))
				}
			}
		}
	})
}

// A broadcast reaches subscribers with and without compression, and not one that left.
func TestWSFanout(t *testing.T) {
	everyWSPeer(t, func(t *testing.T, p peer) {
		s := start(t, p, "--protocol", wsFanoutProtocol)
		var subs []*websocket.Conn
		for i := range 6 {
			mode := websocket.CompressionDisabled
			if i%2 == 1 && coderReads(p, wsFanoutProtocol) {
				mode = websocket.CompressionNoContextTakeover
			}
			c := dialWS(t, s, mode)
			sayWS(t, c, websocket.MessageText, []byte("S"))
			hearWS(t, c, websocket.MessageText, []byte("S"))
			subs = append(subs, c)
		}
		_ = subs[0].CloseNow()
		from := dialWS(t, s, websocket.CompressionDisabled)
		for range 5 {
			for _, size := range []int{1, 1 << 10, 16 << 10} {
				sayWS(t, from, websocket.MessageText, append([]byte("P"), text(size)...))
				sayWS(t, from, websocket.MessageBinary, append([]byte("P"), noise(size, 1)...))
				for _, c := range subs[1:] {
					hearWS(t, c, websocket.MessageText, text(size))
					hearWS(t, c, websocket.MessageBinary, noise(size, 1))
				}
			}
		}
	})
}
