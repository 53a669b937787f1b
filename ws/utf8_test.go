package ws

import (
	"testing"
	"unicode/utf8"
)

// firstBad returns at which byte no continuation could make p valid, or len(p).
func firstBad(p []byte) int {
	for i := range p {
		if !prefix(p[:i+1]) {
			return i
		}
	}
	return len(p)
}

// prefix reports whether p can be the beginning of valid UTF-8.
func prefix(p []byte) bool {
	for len(p) > 0 && utf8.FullRune(p) {
		r, n := utf8.DecodeRune(p)
		if r == utf8.RuneError && n == 1 {
			return false
		}
		p = p[n:]
	}
	return true
}

func checkText(t *testing.T, p []byte, cut int) {
	t.Helper()
	bad := firstBad(p)
	var one text
	for i, b := range p {
		if ok := one.accept([]byte{b}); ok != (i < bad) {
			t.Fatalf("% x: byte %d of a stream accepted: %v, want the first refused to be %d", p, i, ok, bad)
		} else if !ok {
			break
		}
	}
	var two text
	first := two.accept(p[:cut])
	if first != (bad >= cut) {
		t.Fatalf("% x: the first %d bytes accepted: %v, want the first refused to be %d", p, cut, first, bad)
	}
	if first {
		if ok := two.accept(p[cut:]); ok != (bad == len(p)) {
			t.Fatalf("% x cut at %d: accepted: %v", p, cut, ok)
		} else if ok && two.whole() != utf8.Valid(p) {
			t.Fatalf("% x: whole: %v", p, two.whole())
		}
	}
}

func TestText(t *testing.T) {
	for _, s := range []string{
		"", "a", "hello, world: all of it ASCII", "κόσμε", "κόσμ\xce", "\xe2\x82", "\xe2\x82\xac", "\xf0\x9f\x98\x80", "\xf0\x9f\x98",
		"\xc0\xaf", "\xc1\x80", "\xe0\x80\x80", "\xe0\x9f\xbf", "\xe0\xa0\x80", "\xed\x9f\xbf", "\xed\xa0\x80", "\xee\x80\x80",
		"\xf0\x80\x80\x80", "\xf0\x8f\xbf\xbf", "\xf0\x90\x80\x80", "\xf4\x8f\xbf\xbf", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xff",
		"\x80", "\xbf\xbf", "ascii ascii ascii \xe2\x82\xac and ascii again \xf4", "aaaaaaa\xe2", "aaaaaaaa\xe2\x28\xa1",
		"\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\x80",
	} {
		for cut := range len(s) + 1 {
			checkText(t, []byte(s), cut)
		}
	}
	// All sequences of one, two and three bytes, and the heads of those of four.
	for a := range 256 {
		for b := range 256 {
			checkText(t, []byte{byte(a), byte(b)}, 1)
			if a >= 0xe0 {
				for _, c := range []byte{0, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff} {
					checkText(t, []byte{byte(a), byte(b), c}, 2)
					checkText(t, []byte{byte(a), byte(b), c, 0x80}, 3)
				}
			}
		}
	}
}

func FuzzText(f *testing.F) {
	f.Add([]byte("κόσμε \xf0\x9f\x98\x80 \xed\xa0\x80"), 3)
	f.Add([]byte("plain plain plain plain"), 0)
	f.Fuzz(func(t *testing.T, p []byte, cut int) {
		p = p[:min(len(p), 200)] // The check of the check is slow.
		checkText(t, p, int(uint(cut)%uint(len(p)+1)))
	})
}
