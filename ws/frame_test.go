package ws

import (
	"bytes"
	"math"
	"testing"
)

// TestHeader holds that what is written is read, and that a header is not read
// before it is whole.
func TestHeader(t *testing.T) {
	for _, payload := range []int{0, 1, 125, 126, 127, 1 << 15, 1<<16 - 1, 1 << 16, math.MaxInt} {
		for _, masked := range []bool{false, true} {
			for _, first := range []byte{0x81, 0x02, 0xc1, 0x89, 0x70} {
				var p [maxHeader]byte
				n := putHeader(p[:], first, payload, masked, 0x04030201)
				if n != headerLen(payload, masked) {
					t.Fatalf("header of %d bytes, foreseen %d", n, headerLen(payload, masked))
				}
				for i := range n {
					var h header
					if got := parseHeader(p[:i], &h); got != 0 {
						t.Fatalf("% x: %d bytes read as a header of %d", p[:n], i, got)
					}
				}
				var h header
				if got := parseHeader(p[:], &h); got != n {
					t.Fatalf("% x: read %d bytes of %d", p, got, n)
				}
				want := header{op: Op(first & 15), fin: first&bitFin != 0, rsv: first & bitsRSV, masked: masked, length: uint64(payload)}
				if masked {
					want.key = 0x04030201
				}
				if h != want {
					t.Fatalf("% x: read %+v, want %+v", p[:n], h, want)
				}
			}
		}
	}
}

// TestHeaderForms holds that a length has one form only.
func TestHeaderForms(t *testing.T) {
	for _, p := range [][]byte{
		{0x81, 126, 0, 0}, {0x81, 126, 0, 125},
		{0x81, 127, 0, 0, 0, 0, 0, 0, 0, 1}, {0x81, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff},
		{0x81, 127, 0x80, 0, 0, 0, 0, 0, 0, 0}, {0x81, 0x80 | 126, 0, 125, 1, 2, 3, 4},
	} {
		var h header
		if n := parseHeader(p, &h); n >= 0 {
			t.Errorf("% x: read as a header of %d bytes", p, n)
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add([]byte{0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f})
	f.Add([]byte{0x82, 127, 0, 0, 0, 0, 0, 1, 0, 0})
	f.Fuzz(func(t *testing.T, p []byte) {
		var h header
		n := parseHeader(p, &h)
		if n <= 0 {
			if n == 0 && len(p) >= maxHeader {
				t.Fatalf("% x: asks for more", p)
			}
			return
		}
		first := byte(h.op) | h.rsv
		if h.fin {
			first |= bitFin
		}
		var q [maxHeader]byte
		if m := putHeader(q[:], first, int(h.length), h.masked, h.key); m != n || !bytes.Equal(q[:m], p[:n]) {
			t.Fatalf("% x read as %+v, written as % x", p[:n], h, q[:m])
		}
	})
}
