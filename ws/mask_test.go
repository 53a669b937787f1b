package ws

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
)

// maskPlain is mask by the letter of RFC 6455, 5.3.
func maskPlain(p []byte, key [4]byte) {
	for i := range p {
		p[i] ^= key[i%4]
	}
}

func TestMask(t *testing.T) {
	key := [4]byte{0x37, 0xfa, 0x21, 0x3d}
	k := binary.LittleEndian.Uint32(key[:])
	for n := range 300 {
		for cut := 0; cut <= n; cut += 1 + n/7 {
			want := bytes.Repeat([]byte("The quick brown fox"), 20)[:n]
			got := bytes.Clone(want)
			maskPlain(want, key)
			mask(got[cut:], mask(got[:cut], k))
			if !bytes.Equal(got, want) {
				t.Fatalf("%d bytes in pieces of %d and %d", n, cut, n-cut)
			}
		}
	}
}

func BenchmarkMask(b *testing.B) {
	for _, n := range []int{16, 64, 1 << 10, 16 << 10} {
		p := make([]byte, n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(n))
			for b.Loop() {
				mask(p, 0x12345678)
			}
		})
	}
}
