package ws_test

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// sequences are what groups 6.5 to 6.23 say.
func sequences() (valid, invalid []string) {
	valid = []string{
		"\x00", "\u0080", "\u0800", "\U00010000", "\x7f", "\u07ff", "\uffff", "\U0010ffff", "\ud7ff", "\ue000", "\ufdd0",
		"a\u0300b", "hello$world", "hello¢world", "hello€world", "hello\U00024b62world",
	}
	for c := '\ufff9'; c <= '\ufffd'; c++ {
		valid = append(valid, string(c))
	}
	for plane := rune(0); plane <= 0x10; plane++ { // What is no character may be sent.
		valid = append(valid, string(plane<<16|0xfffe), string(plane<<16|0xffff))
	}
	invalid = []string{
		"\xf8\x88\x80\x80\x80", "\xfc\x84\x80\x80\x80\x80", "\xf7\xbf\xbf\xbf", "\xfb\xbf\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf\xbf",
		"\xf4\x90\x80\x80", "\xbf", "\x80\xbf\x80\xbf\x80\xbf", "\xfe", "\xff", "\xfe\xfe\xff\xff", "valid\xce",
		"\xc0\xaf", "\xe0\x80\xaf", "\xf0\x80\x80\xaf", "\xf8\x80\x80\x80\xaf", "\xfc\x80\x80\x80\x80\xaf",
		"\xc1\xbf", "\xe0\x9f\xbf", "\xf0\x8f\xbf\xbf", "\xf8\x87\xbf\xbf\xbf", "\xfc\x83\xbf\xbf\xbf\xbf",
		"\xc0\x80", "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xf8\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\x80",
	}
	for i := 1; i <= len("κόσμε"); i++ {
		if s := "κόσμε"[:i]; utf8.ValidString(s) {
			valid = append(valid, s)
		} else {
			invalid = append(invalid, s)
		}
	}
	var all strings.Builder
	for b := byte(0x80); b < 0xc0; b++ {
		all.WriteByte(b)
		invalid = append(invalid, all.String()) // Nothing that they continue.
	}
	for _, last := range []struct{ from, to byte }{{0xc0, 0xdf}, {0xe0, 0xef}, {0xf0, 0xf7}, {0xf8, 0xfb}, {0xfc, 0xfd}} {
		all.Reset()
		for b := last.from; b <= last.to; b++ {
			all.Write([]byte{b, ' '})
		}
		invalid = append(invalid, all.String())
	}
	all.Reset()
	for _, s := range []string{
		"\xc0", "\xe0\x80", "\xf0\x80\x80", "\xf8\x80\x80\x80", "\xfc\x80\x80\x80\x80",
		"\xdf", "\xef\xbf", "\xf7\xbf\xbf", "\xfb\xbf\xbf\xbf", "\xfd\xbf\xbf\xbf\xbf",
	} {
		all.WriteString(s) // The last byte of each is missing.
		invalid = append(invalid, s)
	}
	invalid = append(invalid, all.String())
	for _, high := range []string{"\xed\xa0\x80", "\xed\xad\xbf", "\xed\xae\x80", "\xed\xaf\xbf"} {
		for _, low := range []string{"", "\xed\xb0\x80", "\xed\xbe\x80", "\xed\xbf\xbf"} {
			invalid = append(invalid, high+low, low+high) // Surrogates, alone and in pairs.
		}
	}
	return valid, invalid
}

// TestFailFast holds that text is refused with the byte that makes it invalid, be that
// within a frame and a message, and not before.
func TestFailFast(t *testing.T) {
	for _, server := range []bool{true, false} {
		for _, tc := range []struct {
			say string
			bad int
		}{
			{"κόσμε\xf4\x90\x80\x80edited", 11}, {"κόσμε\xed\xa0\x80edited", 11}, {"\xc0\xaf edited", 0}, {"plain \x80 edited", 6},
			{"a\xf0\x8f\xbf\xbf edited", 2}, {"κό\xff edited", 4},
		} {
			for _, size := range []int{1, 3, 11, len(tc.say)} {
				r, head := dialed, 6
				if !server {
					r, head = func(t *testing.T, o options, _ ...string) *rig { return dialing(t, o) }, 2
				}
				failFast(t, r(t, options{}), encode(server, parts(text(tc.say), size)...), tc.bad/size*(head+size)+head+tc.bad%size)
			}
		}
	}
}

// failFast feeds p, of which the byte at bad is the first that is wrong.
func failFast(t *testing.T, r *rig, p []byte, bad int) {
	t.Helper()
	r.Turns(3)
	r.got()
	r.peer.Feed(p[:bad])
	r.Turns(3)
	if n := len(r.got()); n > 0 || r.opens != 1 {
		t.Errorf("% x: %d bytes were heard before the last, %d opened", p[:bad+1], n, r.opens)
	}
	r.peer.Feed(p[bad : bad+1])
	r.Turns(3)
	got, _ := decode(t, r.client != nil, r.got())
	if !equalFrames(got, frames(bye(1007))) {
		t.Errorf("% x: heard %v", p[:bad+1], got)
	}
	r.gone()
}
