package ws

import (
	"bufio"
	"bytes"
	stdflate "compress/flate"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
)

// FuzzHead holds that a head reads the same however it is cut, that net/http finds
// no other headers in it, and that what is refused stays so.
func FuzzHead(f *testing.F) {
	for _, s := range []string{
		goodHead, "GET / HTTP/1.1\r\n\r\n", strings.ReplaceAll(goodHead, "\r", ""), "GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"GET / HTTP/1.1\r\nA : b\r\n\r\n", "GET / HTTP/1.1\r\nA:\tb \r\n\r\nrest", "\r\n\r\n", "GET / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n",
		strings.Replace(goodHead, "/x", "http://A?x", 1), strings.Replace(goodHead, "/x", "/?x=ws://b/", 1),
	} {
		f.Add([]byte(s), 7)
	}
	f.Fuzz(checkHead)
}

func checkHead(t *testing.T, p []byte, cut int) {
	end, _, bad := headEnd(p, 0)
	from := int(uint(cut) % uint(len(p)+1))
	e, seen, b := headEnd(p[:from], 0)
	if e == 0 && b == nil {
		e, _, b = headEnd(p, seen)
	}
	if e != end || b != bad {
		t.Fatalf("%q: ends at %d, %v; cut at %d: %d, %v", p, end, bad, from, e, b)
	}
	if bad != nil || end == 0 {
		return
	}
	var h head
	if bad = h.parse(p[:end], 100); bad != nil {
		return
	}
	var d demand
	if bad = d.judge(&h); bad != nil {
		return
	}
	// What we take for a handshake, another server must read in the same way.
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(p[:end])))
	if err != nil {
		t.Fatalf("%q: accepted, and net/http says %v", p[:end], err)
	}
	if !strings.EqualFold(r.Host, string(d.host)) || r.Header.Get("Sec-WebSocket-Key") != string(d.key) || r.ContentLength > 0 || len(r.TransferEncoding) > 0 {
		t.Fatalf("%q: accepted, and net/http reads %+v", p[:end], r)
	}
	n := 0
	for _, values := range r.Header {
		n += len(values)
	}
	if n != len(h.fields)-1 { // The Host is elsewhere.
		t.Fatalf("%q: %d headers, net/http reads %d", p[:end], len(h.fields), n+1)
	}
}

// TestHeadEdits changes a good head at a few places by chance, which a fuzzer of
// bytes seldom does in a way that is still a head.
func TestHeadEdits(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	bits := []string{
		"\r", "\n", "\r\n", " ", "\t", ":", ",", "\x00", "\x7f", "\x80", "Host: b\r\n", "Content-Length: 0\r\n", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n",
		"X-A: b\r\n", " folded\r\n", "HTTP/1.1", "/", "#", "?", "%00", "http://b/", "\"", "Upgrade", "websocket, ", "\r\n\r\n", "X", "=", "@", "[::1]", "\\",
	}
	accepted := 0
	for range 30000 {
		p := []byte(goodHead)
		for range 1 + rng.IntN(3) {
			at := rng.IntN(len(p) + 1)
			if i := bytes.IndexByte(p[at:], '\n'); i >= 0 && rng.IntN(2) == 0 {
				at += i + 1 // Between lines.
			}
			switch rng.IntN(3) {
			case 0:
				p = append(p[:at:at], p[min(len(p), at+1+rng.IntN(3)):]...)
			default:
				p = append(append(p[:at:at], bits[rng.IntN(len(bits))]...), p[at:]...)
			}
		}
		checkHead(t, p, rng.IntN(len(p)+1))
		var h head
		var d demand
		if end, _, bad := headEnd(p, 0); bad == nil && end > 0 && h.parse(p[:end], 100) == nil && d.judge(&h) == nil {
			accepted++
		}
	}
	if accepted < 500 {
		t.Errorf("%d heads were accepted: the edits are too wild", accepted)
	}
}

const goodHead = "GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// FuzzExtensions holds that what is agreed on can be read back by the other side,
// and means the same to it.
func FuzzExtensions(f *testing.F) {
	f.Add("permessage-deflate; client_max_window_bits", true, true, 15, 15)
	f.Add(`permessage-deflate; server_max_window_bits="10"; server_no_context_takeover, x`, false, true, 9, 12)
	f.Add("permessage-deflate; client_max_window_bits=8; client_no_context_takeover;, a;b=c", true, false, 8, 8)
	f.Add("a=b;c", true, true, 15, 15)
	f.Fuzz(func(t *testing.T, list string, send, recv bool, sendBits, recvBits int) {
		d, err := (Deflate{
			SendTakeover: send, RecvTakeover: recv,
			SendBits: minBits + int(uint(sendBits)%8), RecvBits: minBits + int(uint(recvBits)%8),
		}).check()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = d.readAnswer([]byte(list))
		a, o, err := d.acceptOffer([]byte(list))
		if err != nil || !a.on {
			return
		}
		// A client that allows everything takes the answer, and comes to the same.
		client := Deflate{SendTakeover: true, RecvTakeover: true, SendBits: maxBits, RecvBits: maxBits}
		answer := a.appendAnswer(nil, o)
		b, err := client.readAnswer(answer)
		if err != nil {
			t.Fatalf("offer %q: answer %q: %v", list, answer, err)
		}
		if a.sendTakeover != b.recvTakeover || a.recvTakeover != b.sendTakeover || a.sendBits > b.recvBits || b.sendBits > a.recvBits {
			t.Fatalf("offer %q: answer %q: here %+v, there %+v", list, answer, a, b)
		}
		if a.recvTakeover && int(a.recvBits) > d.RecvBits || a.sendTakeover && int(a.sendBits) > d.SendBits {
			t.Fatalf("offer %q: %+v beyond %+v", list, a, d)
		}
	})
}

// FuzzInflate holds that inflating ends, stays within its bound, and agrees with
// another implementation.
func FuzzInflate(f *testing.F) {
	for _, s := range []string{
		"\xf2\x48\xcd\xc9\xc9\x07\x00", "\x00", "", "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "\x03\x00\x03\x00",
		"\xf2\x00\x11\x00\x00", "\xff\xff",
	} {
		f.Add([]byte(s), []byte("Hello, window"))
	}
	in := newInflater()
	f.Fuzz(func(t *testing.T, p, before []byte) {
		const most = 1 << 16
		if len(before) > 1<<15 {
			return
		}
		err := in.message(p, before, most)
		out := in.out
		if err == nil && len(out) > most {
			t.Fatalf("%d bytes, at most %d", len(out), most)
		}
		if err != nil {
			return
		}
		r := stdflate.NewReaderDict(bytes.NewReader(append(bytes.Clone(p), endTail...)), before)
		want, werr := io.ReadAll(r)
		if werr != nil || !bytes.HasPrefix(out, want) { // The other one ends at the first last block.
			t.Fatalf("% x: %q, and another says %q, %v", p, out, want, werr)
		}
	})
}

// FuzzDeflate holds that what is compressed inflates to what it was, whatever went
// before, and that the windows of both sides stay the same.
func FuzzDeflate(f *testing.F) {
	f.Add([]byte("one message and another"), 15, 3)
	f.Add(bytes.Repeat([]byte("abc "), 5000), 9, 7)
	in := newInflater()
	var deflaters [10]*deflater
	f.Fuzz(func(t *testing.T, p []byte, bits, pieces int) {
		b := uint8(minBits + uint(bits)%8)
		p = p[:min(len(p), 8<<10)]
		level := 1 + int(uint(pieces)%9)
		if deflaters[level] == nil {
			deflaters[level] = &deflater{level: level}
		}
		d := deflaters[level]
		var sent, received window
		l := &lane{}
		for n := 1 + len(p)/(1+int(uint(pieces)%20)); len(p) > 0; p = p[min(n, len(p)):] {
			m := p[:min(n, len(p))]
			packed := d.append(nil, m, sent.block.Bytes(), b)
			err := in.message(packed, received.block.Bytes(), len(m))
			out := in.out
			if err != nil || !bytes.Equal(out, m) {
				t.Fatalf("%q came as %q, %v", m, out, err)
			}
			sent.add(l, m, b)
			received.add(l, out, b)
			if x, y := sent.block.Bytes(), received.block.Bytes(); !bytes.Equal(x, y) || len(x) > 1<<b {
				t.Fatalf("windows of %d and %d bytes", len(x), len(y))
			}
		}
		l.stock.put(&sent, b)
		l.stock.put(&received, b)
	})
}
