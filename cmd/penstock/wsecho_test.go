package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"testing"
)

// wsFrame returns a frame of a client whose mask is all zero.
func wsFrame(first byte, payload []byte) []byte {
	switch n := len(payload); {
	case n < 126:
		return append([]byte{first, 0x80 | byte(n), 0, 0, 0, 0}, payload...)
	case n < 1<<16:
		head := binary.BigEndian.AppendUint16([]byte{first, 0x80 | 126}, uint16(n))
		return append(append(head, 0, 0, 0, 0), payload...)
	default:
		head := binary.BigEndian.AppendUint64([]byte{first, 0x80 | 127}, uint64(n))
		return append(append(head, 0, 0, 0, 0), payload...)
	}
}

// readFrame reads a frame of a server.
func readFrame(t *testing.T, r io.Reader) (first byte, payload []byte) {
	t.Helper()
	head := make([]byte, 10)
	if _, err := io.ReadFull(r, head[:2]); err != nil {
		t.Fatal(err)
	}
	n := uint64(head[1])
	for _, long := range []struct{ mark, size int }{{126, 2}, {127, 8}} {
		if int(head[1]) == long.mark {
			if _, err := io.ReadFull(r, head[2:2+long.size]); err != nil {
				t.Fatal(err)
			}
			n = binary.BigEndian.Uint64(append(make([]byte, 8-long.size), head[2:2+long.size]...))
		}
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(r, payload); err != nil {
		t.Fatal(err)
	}
	return head[0], payload
}

// TestWSEcho holds that messages come back with their type and in order, that a
// page of any origin may connect, that --max-message is the limit to the byte, and
// what the events say of the end.
func TestWSEcho(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		s := serve(t, "ws-echo", engine, "--max-message", "64KiB")
		c := s.ask("GET /any HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nOrigin: http://b\r\n"+
			"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n%s", wsFrame(0x81, []byte("at once")))
		r := bufio.NewReader(c)
		answer, err := http.ReadResponse(r, nil)
		if err != nil || answer.StatusCode != http.StatusSwitchingProtocols || answer.Header.Get("Sec-WebSocket-Accept") != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
			t.Fatalf("%v, %v", answer, err)
		}
		if first, p := readFrame(t, r); first != 0x81 || string(p) != "at once" {
			t.Fatalf("%#x %q", first, p)
		}
		for _, n := range []int{0, 125, 126, 65535, 64 << 10} {
			want := bytes.Repeat([]byte{byte(n)}, n)
			if _, err := c.Write(wsFrame(0x82, want)); err != nil {
				t.Fatal(err)
			}
			if first, p := readFrame(t, r); first != 0x82 || !bytes.Equal(p, want) {
				t.Fatalf("%d bytes came back as %#x, %d bytes", n, first, len(p))
			}
		}
		fmt.Fprintf(c, "%s", wsFrame(0x82, make([]byte, 64<<10+1)))
		if first, p := readFrame(t, r); first != 0x88 || binary.BigEndian.Uint16(p) != 1009 {
			t.Fatalf("one byte too many is answered by %#x %q", first, p)
		}
		_ = c.Close()
		s.stop(syscall.SIGTERM)
		if ends := s.ends(); len(ends) != 1 || ends[0].Reason != "protocol_error" {
			t.Fatalf("%+v", ends)
		}
	})
}

// TestWSEchoWithoutRoom holds that an answer that is refused is told with its frame's
// length, and that the client is told to come again.
func TestWSEchoWithoutRoom(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		s := serve(t, "ws-echo", engine, "--send-memory", "1", "--loops", "1", "--drain-timeout", "200ms")
		message := wsFrame(0x82, make([]byte, 30_000))
		for range 4 {
			c := s.ask("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
				"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n")
			go func() { // It reads nothing, and is closed at some time.
				for {
					if _, err := c.Write(message); err != nil {
						return
					}
				}
			}()
		}
		s.await(`"event":"reject"`)
		s.stop(syscall.SIGTERM)
		for _, life := range s.records() {
			for _, r := range life {
				if r.Event == "reject" && r.Size != 30_004 {
					t.Errorf("%+v", r)
				}
			}
		}
	})
}
