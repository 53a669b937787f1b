package ws

import (
	"encoding/binary"
	"unicode/utf8"
)

// text checks UTF-8 that comes in pieces, and knows of a mistake at its first
// byte: not later, as a check of whole characters would (RFC 6455, 8.1). The
// zero value is at the beginning.
type text struct {
	need   uint8 // continuation bytes to come
	lo, hi uint8 // range of the next one
}

// accept reports whether p may follow what came before.
func (t *text) accept(p []byte) bool {
	for len(p) > 0 && t.need > 0 {
		if !t.next(p[0]) {
			return false
		}
		p = p[1:]
	}
	p = skipASCII(p)
	whole := len(p) - tail(p)
	if !utf8.Valid(p[:whole]) {
		return false
	}
	for _, b := range p[whole:] {
		if !t.next(b) {
			return false
		}
	}
	return true
}

// isUTF8 reports whether p is valid.
func isUTF8(p []byte) bool {
	p = skipASCII(p)
	return len(p) == 0 || utf8.Valid(p)
}

// skipASCII returns p without the ASCII in front of it, or most of that.
func skipASCII(p []byte) []byte {
	for len(p) >= 32 {
		q := p[:32:32]
		a := binary.LittleEndian.Uint64(q) | binary.LittleEndian.Uint64(q[8:])
		b := binary.LittleEndian.Uint64(q[16:]) | binary.LittleEndian.Uint64(q[24:])
		if (a|b)&0x8080808080808080 != 0 {
			return p
		}
		p = p[32:]
	}
	for len(p) >= 8 && binary.LittleEndian.Uint64(p)&0x8080808080808080 == 0 {
		p = p[8:]
	}
	return p
}

// whole reports whether no character is unfinished.
func (t *text) whole() bool { return t.need == 0 }

// tail returns how many bytes at the end of p may belong to a character of which
// the rest is to come.
func tail(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		if b := p[len(p)-n]; utf8.RuneStart(b) {
			if b >= utf8.RuneSelf {
				return n
			}
			return 0
		}
	}
	return 0
}

// next takes one byte (RFC 3629, 4: the table of well-formed sequences).
func (t *text) next(b byte) bool {
	if t.need > 0 {
		if b < t.lo || b > t.hi {
			return false
		}
		t.need--
		t.lo, t.hi = 0x80, 0xbf
		return true
	}
	t.lo, t.hi = 0x80, 0xbf
	switch {
	case b < 0x80:
	case b < 0xc2:
		return false
	case b < 0xe0:
		t.need = 1
	case b < 0xf0:
		t.need = 2
		switch b {
		case 0xe0:
			t.lo = 0xa0
		case 0xed:
			t.hi = 0x9f
		}
	case b < 0xf5:
		t.need = 3
		switch b {
		case 0xf0:
			t.lo = 0x90
		case 0xf4:
			t.hi = 0x8f
		}
	default:
		return false
	}
	return true
}
