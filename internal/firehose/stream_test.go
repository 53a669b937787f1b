package firehose

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"testing"
)

// reference is the stream written down once more, from the protocol.
func reference(seed string, n int) []byte {
	var b bytes.Buffer
	for k := 0; b.Len() < n; k++ {
		sum := sha256.Sum256([]byte(fmt.Sprintf("%s:%d", seed, k)))
		b.Write(sum[:])
	}
	return b.Bytes()[:n]
}

// TestStream reads the same bytes in pieces of random lengths.
func TestStream(t *testing.T) {
	// By hand: printf abc:0 | sha256sum
	const first = "5f36efce"
	if got := hex.EncodeToString(reference("abc", 4)); got != first {
		t.Fatalf("the reference itself begins with %s", got)
	}
	s := NewStream("wrong")
	for _, seed := range []string{"abc", "", "abc.12"} {
		s.Reset([]byte(seed))
		want := reference(seed, 100_000)
		rnd := rand.New(rand.NewPCG(1, 2))
		var got []byte
		for len(got) < len(want) {
			p := make([]byte, min(rnd.IntN(200), len(want)-len(got)))
			if n, err := s.Read(p); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
			got = append(got, p...)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("seed %q: the stream differs", seed)
		}
	}
	var zero Stream
	if _, err := io.CopyN(io.Discard, &zero, 1000); err != nil {
		t.Error(err)
	}
}

func TestStreamAllocatesNothing(t *testing.T) {
	s := NewStream("abcdef")
	p := make([]byte, 5000)
	if n := testing.AllocsPerRun(100, func() {
		_, _ = s.Read(p)
		s.Reset(s.text[:6])
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkStream(b *testing.B) {
	s := NewStream("abc")
	p := make([]byte, message)
	b.SetBytes(message)
	for b.Loop() {
		_, _ = s.Read(p)
	}
}
