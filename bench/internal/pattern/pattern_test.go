package pattern

import (
	"slices"
	"strings"
	"testing"
)

// TestCheck sees that what was sent is known again, in whatever pieces.
func TestCheck(t *testing.T) {
	s := New().Stream(3)
	var all []byte
	for len(all) < 3*Period {
		all = append(all, s.At(int64(len(all)), 1000)...)
	}
	for _, piece := range []int{1, 7, 64, 4096, Period, len(all)} {
		for at := 0; at < len(all); at += piece {
			if i := s.Check(int64(at), all[at:min(at+piece, len(all))]); i >= 0 {
				t.Fatalf("pieces of %d: byte %d is wrong", piece, at+i)
			}
		}
	}
	long := make([]byte, 0, 3*MaxChunk)
	for len(long) < cap(long) {
		long = append(long, s.At(int64(len(long)), MaxChunk)...)
	}
	if i := s.Check(0, long); i >= 0 {
		t.Errorf("more than a chunk: byte %d is wrong", i)
	}
	long[MaxChunk+5] ^= 1
	if i := s.Check(0, long); i != MaxChunk+5 {
		t.Errorf("a bad byte in the second chunk is found at %d", i)
	}
}

// TestCheckFinds breaks a stream in each way that a server could.
func TestCheckFinds(t *testing.T) {
	p := New()
	s := p.Stream(1)
	good := func() []byte { return slices.Clone(s.At(640, 640)) }
	for _, tc := range []struct {
		name string
		got  []byte
		want int // where it shows, at the latest
	}{
		{"a bit", func() []byte { b := good(); b[639] ^= 0x80; return b }(), 639},
		{"a byte lost", good()[1:], 1},
		{"a message lost", good()[64:], 3},
		{"a message twice", append(good()[:64:64], good()...), 64 + 3},
		{"two messages swapped", func() []byte { b := good(); copy(b, good()[64:128]); copy(b[64:], good()[:64]); return b }(), 3},
		{"a neighbour's", slices.Clone(p.Stream(2).At(640, 640)), 3},
		{"zeros", make([]byte, 640), 0},
	} {
		if i := s.Check(640, tc.got); i < 0 || i > tc.want {
			t.Errorf("%s: found at %d, want 0 to %d", tc.name, i, tc.want)
		}
	}
}

// TestStreamsDiffer sees that no two of many connections send the same.
func TestStreamsDiffer(t *testing.T) {
	p := New()
	seen := map[string]int{}
	for i := range 50_000 {
		head := string(p.Stream(i).At(0, 16))
		if j, ok := seen[head]; ok {
			t.Fatalf("streams %d and %d begin alike", i, j)
		}
		seen[head] = i
	}
	for _, b := range p.memory {
		if b < 2 {
			t.Fatal("0 and 1 are in the pattern")
		}
	}
}

// TestRepeat holds streams that begin in their own way against bytes made plainly.
func TestRepeat(t *testing.T) {
	for _, tc := range []struct{ lead, cycle string }{{"", "abc"}, {"once", "again and "}} {
		want := tc.lead + strings.Repeat(tc.cycle, 20)
		s := Repeat([]byte(tc.lead), []byte(tc.cycle))
		for from := range len(want) - 8 {
			if got := string(s.At(int64(from), 8)); got != want[from:from+8] {
				t.Fatalf("at %d: %q, want %q", from, got, want[from:from+8])
			}
			if got := string(s.From(3).At(int64(from), 5)); from+8 < len(want) && got != want[from+3:from+8] {
				t.Fatalf("from 3, at %d: %q", from, got)
			}
		}
	}
}
