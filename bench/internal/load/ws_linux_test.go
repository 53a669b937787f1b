package load

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	packer "github.com/klauspost/compress/flate"

	"github.com/penstock-go/penstock/internal/testutil"
)

// accept answers a handshake as a server does that says extensions of itself.
func accept(c net.Conn, extensions string) (*bufio.Reader, error) {
	r := bufio.NewReader(c)
	req, err := http.ReadRequest(r)
	if err != nil {
		return nil, err
	}
	head := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + wsAccept + "\r\n"
	if extensions != "" && req.Header.Get("Sec-WebSocket-Extensions") != "" {
		head += "Sec-WebSocket-Extensions: " + extensions + "\r\n"
	}
	_, err = io.WriteString(c, head+"\r\n")
	return r, err
}

// readMasked reads a frame as a client sends it.
func readMasked(r *bufio.Reader) (first byte, p []byte, err error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(r, head); err != nil {
		return 0, nil, err
	}
	n := int(head[1] &^ bitMask)
	if n == 126 {
		long := make([]byte, 2)
		if _, err := io.ReadFull(r, long); err != nil {
			return 0, nil, err
		}
		n = int(long[0])<<8 | int(long[1])
	}
	p = make([]byte, 4+n)
	if _, err := io.ReadFull(r, p); err != nil || head[1]&bitMask == 0 {
		return 0, nil, fmt.Errorf("no masked frame: %x, %w", head, err)
	}
	for i := range p[4:] {
		p[4+i] ^= p[i%4]
	}
	return head[0], p[4:], nil
}

// wsEcho echoes messages, plain ones or with takeover both ways in windows of 4 KiB.
// say makes of a message, of its number and of how it is compressed what is sent.
func wsEcho(say func(n int, first byte, p []byte) []byte) func(net.Conn) {
	return func(c net.Conn) {
		r, err := accept(c, "permessage-deflate; client_max_window_bits=12")
		if err != nil {
			return
		}
		var past, out bytes.Buffer
		w, _ := packer.NewWriter(&out, 5)
		s := script{size: 1 << 10}
		s.reader = newInflater()
		for n := 0; ; n++ {
			first, p, err := readMasked(r)
			if err != nil {
				return
			}
			if first&bitRSV1 != 0 {
				if err := s.inflate(p, past.Bytes()); err != nil {
					return // The client refers to what it may not: its echo does not come.
				}
				past.Write(s.got)
				past.Next(max(0, past.Len()-4<<10))
				if _, err := w.Write(s.got); err != nil || w.Flush() != nil {
					return
				}
				p = bytes.TrimSuffix(bytes.Clone(out.Bytes()), flushTail)
				out.Reset()
			}
			if _, err := c.Write(say(n, first, p)); err != nil {
				return
			}
		}
	}
}

func rightly(_ int, first byte, p []byte) []byte { return appendFrame(nil, first, 0, p) }

// inFragments sends a message in three.
func inFragments(_ int, first byte, p []byte) []byte {
	all := appendFrame(nil, first&^bitFin, 0, p[:len(p)/2])
	all = appendFrame(all, 0, 0, p[len(p)/2:])
	return appendFrame(all, bitFin, 0, nil)
}

// TestWebSockets runs every kind against a server that is right.
func TestWebSockets(t *testing.T) {
	for _, tc := range []struct {
		name string
		say  func(int, byte, []byte) []byte
		spec Spec
	}{
		{"plain", rightly, Spec{Shape: Closed, Conns: 9, Size: 64, Depth: 1, WS: Plain}},
		{"deep", rightly, Spec{Shape: Closed, Conns: 3, Size: 125, Depth: 16, WS: Plain}},
		{"long", rightly, Spec{Shape: Closed, Conns: 3, Size: 16 << 10, Depth: 2, WS: Plain}},
		{"open", rightly, Spec{Shape: Open, Conns: 4, Size: 64, Rate: 500, WS: Plain}},
		{"deflate", rightly, Spec{Shape: Closed, Conns: 5, Size: 1 << 10, Depth: 2, WS: Deflate, CPUs: []int{0, 0}}},
		{"in fragments", inFragments, Spec{Shape: Closed, Conns: 2, Size: 1 << 10, Depth: 2, WS: Deflate}},
		{"idle", rightly, Spec{Shape: Idle, Conns: 20, Size: 64, WS: Plain}},
		{"idle, takeover", rightly, Spec{Shape: Idle, Conns: 20, Size: 1 << 10, WS: Deflate, Echoes: 5}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			tc.spec.Target = serve(t, wsEcho(tc.say))
			r, err := Run(t.Context(), quick(tc.spec), func() {})
			if err != nil || r.Checked == 0 || r.Checked < r.Messages*int64(tc.spec.Size) {
				t.Fatalf("%+v, %v", r, err)
			}
			if tc.spec.Echoes > 0 && r.Messages != 100 {
				t.Errorf("%d messages, want 5 on each of 20", r.Messages)
			}
		})
	}
}

// TestWrongWebSockets sees that no server gets away with anything but an echo.
func TestWrongWebSockets(t *testing.T) {
	const at = 70 // where the wrong thing happens, past the first turn of a script
	once := func(change func(first byte, p []byte) []byte) func(net.Conn) {
		return wsEcho(func(n int, first byte, p []byte) []byte {
			if n == at {
				return change(first, p)
			}
			return rightly(n, first, p)
		})
	}
	flip := once(func(first byte, p []byte) []byte { p[len(p)/2] ^= 4; return appendFrame(nil, first, 0, p) })
	for _, tc := range []struct {
		name string
		ws   WS
		fn   func(net.Conn)
		want string
	}{
		{"changes a byte", Plain, flip, "not what was sent"},
		{"changes a compressed byte", Deflate, flip, "message 70: "},
		{"masks", Plain, once(func(first byte, p []byte) []byte { return appendFrame(nil, first, 1, p) }), "not what was sent"},
		{"masks what is compressed", Deflate, once(func(first byte, p []byte) []byte { return appendFrame(nil, first, 1, p) }), "masked"},
		{"says it is text", Plain, once(func(_ byte, p []byte) []byte { return appendFrame(nil, bitFin|opText, 0, p) }), "not what was sent"},
		{"does not say that it is compressed", Deflate, once(func(_ byte, p []byte) []byte { return appendFrame(nil, bitFin|opText, 0, p) }), "begins with 0x81"},
		{"sends a message twice", Deflate, once(func(first byte, p []byte) []byte { return append(rightly(0, first, p), rightly(0, first, p)...) }), ""},
		{"says nothing", Deflate, once(func(byte, []byte) []byte { return nil }), ""},
		{"closes", Deflate, once(func(byte, []byte) []byte { return []byte{bitFin | 8, 0} }), "opcode 8"},
		{"continues nothing", Deflate, once(func(_ byte, p []byte) []byte { return appendFrame(nil, bitFin, 0, p) }), "out of turn"},
		{"does not compress", Deflate, func(c net.Conn) { _, _ = accept(c, "") }, "no compression"},
		{"compresses unasked", Plain, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 101 X\r\nSec-WebSocket-Accept: "+wsAccept+"\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		}, "not asked for"},
		{"refuses", Plain, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 403 Forbidden\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		}, "refused"},
		{"echoes the key", Plain, func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 101 X\r\nSec-WebSocket-Accept: "+wsKey+"\r\n\r\n")
			_, _ = io.Copy(io.Discard, c)
		}, "wrong answer to the key"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			spec := quick(Spec{Target: serve(t, tc.fn), Shape: Closed, Conns: 1, Size: 1 << 10, Depth: 2, WS: tc.ws, Drain: time.Second})
			spec.Window = testutil.Timeout(10 * time.Second) // It ends at the mistake.
			r, err := Run(t.Context(), spec, func() {})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%+v, %v, want an error with %q", r, err, tc.want)
			}
		})
	}
}

// TestScript holds what a client sends against a plain decompressor with the window
// that was agreed on, over three turns.
func TestScript(t *testing.T) {
	for _, a := range []answer{{true, true, 15}, {true, true, 12}, {false, false, 15}} {
		s, err := newScript(1<<10, 1, a)
		if err != nil {
			t.Fatal(err)
		}
		var past []byte
		at, total := int64(0), 0
		for n := range int64(3 * docs) {
			i := placeOf(n)
			frame := s.stream.At(at, s.frames[i])
			at += int64(len(frame))
			total += len(frame)
			first, p, err := readMasked(bufio.NewReader(bytes.NewReader(frame)))
			if err != nil || first != bitFin|bitRSV1|opText {
				t.Fatalf("%+v: message %d: %#x, %v", a, n, first, err)
			}
			if !a.clientTakeover {
				past = nil
			}
			if err := s.inflate(p, past[max(0, len(past)-1<<a.clientBits):]); err != nil || !bytes.Equal(s.got, s.doc(i)) {
				t.Fatalf("%+v: message %d: %q, %v", a, n, s.got, err)
			}
			past = append(past, s.got...)
		}
		if ratio := float64(total) / (3 * docs << 10); ratio > 0.6 {
			t.Errorf("%+v: compressed to %.2f", a, ratio)
		}
	}
}

// TestFrames cuts what a server sends at every place.
func TestFrames(t *testing.T) {
	wire := appendFrame(nil, bitFin|opText, 0, []byte("one"))
	wire = append(wire, inFragments(0, bitFin|opBinary, bytes.Repeat([]byte("two"), 100))...)
	wire = appendFrame(wire, bitFin|opText, 0, nil)
	want := fmt.Sprint("81 one, 82 ", strings.Repeat("two", 100), ", 81 , ")
	for cut := range len(wire) {
		var f frames
		got := ""
		for _, part := range [][]byte{wire[:cut], wire[cut:]} {
			err := f.feed(part, func(first byte, p []byte) error { got += fmt.Sprintf("%x %s, ", first, p); return nil })
			if err != nil {
				t.Fatal(cut, err)
			}
		}
		if got != want {
			t.Fatalf("cut at %d: %q", cut, got)
		}
	}
}
