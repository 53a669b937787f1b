package codec_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/codec"
)

// TestPackets holds bytes against messages, both ways.
func TestPackets(t *testing.T) {
	for name, tc := range map[string]struct {
		codec         codec.Codec[[]byte]
		message, wire string
	}{
		"line":               {codec.Line{}, "hello", "hello\n"},
		"empty line":         {codec.Line{}, "", "\n"},
		"line that ends CR":  {codec.Line{}, "hello\r", "hello\r\r\n"},
		"line with CR":       {codec.Line{}, "a\rb", "a\rb\n"},
		"CRLF":               {codec.Line{CRLF: true}, "hello", "hello\r\n"},
		"empty CRLF":         {codec.Line{CRLF: true}, "", "\r\n"},
		"zero byte":          {codec.Delimiter("\x00"), "hello", "hello\x00"},
		"long delimiter":     {codec.Delimiter("--end--"), "a--en-d-", "a--en-d---end--"},
		"frame":              {codec.Frame32{}, "hello", "\x00\x00\x00\x09hello"},
		"empty frame":        {codec.Frame32{}, "", "\x00\x00\x00\x04"},
		"byte length":        {codec.LengthField{Width: 1, Strip: true}, "hello", "\x05hello"},
		"little endian":      {codec.LengthField{Width: 3, Strip: true, LittleEndian: true}, strings.Repeat("x", 258), "\x02\x01\x00" + strings.Repeat("x", 258)},
		"length of all":      {codec.LengthField{Width: 2, Adjust: -2, Strip: true}, "hello", "\x00\x07hello"},
		"length with a tail": {codec.LengthField{Width: 2, Adjust: 1, Strip: true}, "hello", "\x00\x04hello"},
		"eight bytes":        {codec.LengthField{Width: 8, Strip: true}, "hello", "\x00\x00\x00\x00\x00\x00\x00\x05hello"},
		"kind and length":    {codec.LengthField{Offset: 1, Width: 2}, "K\x00\x05hello", "K\x00\x05hello"},
	} {
		wire, err := tc.codec.Append([]byte("before "), []byte(tc.message))
		if string(wire) != "before "+tc.wire || err != nil {
			t.Errorf("%s: sent as %q, %v", name, wire, err)
		}
		n, err := tc.codec.Split([]byte(tc.wire+"and more"), 0)
		if n != len(tc.wire) || err != nil {
			t.Errorf("%s: %d bytes of %d, %v", name, n, len(tc.wire), err)
			continue
		}
		if m, err := tc.codec.Decode([]byte(tc.wire)); string(m) != tc.message || err != nil {
			t.Errorf("%s: received as %q, %v", name, m, err)
		}
		if sizer := tc.codec.(codec.Sizer[[]byte]); sizer.Size([]byte(tc.message)) < len(tc.wire) {
			t.Errorf("%s: sized at %d", name, sizer.Size([]byte(tc.message)))
		}
	}
	for wire, want := range map[string]string{"hello\r\n": "hello", "\r\n": "", "\r\r\n": "\r"} {
		if m, err := (codec.Line{}).Decode([]byte(wire)); string(m) != want || err != nil {
			t.Errorf("line %q: %q, %v", wire, m, err)
		}
	}
	kind := codec.LengthField{Offset: 1, Width: 2}
	if p, err := kind.Append(nil, []byte("K??hello")); string(p) != "K\x00\x05hello" || err != nil {
		t.Errorf("the length was written as %q, %v", p, err)
	}
}

// TestCannotSend holds that what would arrive as something else is an error.
func TestCannotSend(t *testing.T) {
	for name, tc := range map[string]struct {
		codec   codec.Codec[[]byte]
		message string
		want    error
	}{
		"two lines":            {codec.Line{}, "a\nb", codec.ErrDelimiter},
		"delimiter inside":     {codec.Delimiter("--"), "a--b", codec.ErrDelimiter},
		"delimiter begun":      {codec.Delimiter("--"), "a-", codec.ErrDelimiter},
		"byte length exceeded": {codec.LengthField{Width: 1, Strip: true}, strings.Repeat("x", 256), codec.ErrLength},
		"adjusted below zero":  {codec.LengthField{Width: 1, Adjust: 8, Strip: true}, "hello", codec.ErrLength},
		"no room for the head": {codec.LengthField{Offset: 1, Width: 2}, "K?", codec.ErrLength},
	} {
		if p, err := tc.codec.Append(nil, []byte(tc.message)); !errors.Is(err, tc.want) {
			t.Errorf("%s: %q, %v", name, p, err)
		}
	}
}

// TestBadLengths holds that a packet cannot be shorter than its own head: in the
// origin a frame of 1 to 3 bytes was an empty message, and one of 0 was waited for
// without end and without limit.
func TestBadLengths(t *testing.T) {
	for i := range uint32(4) {
		if n, err := (codec.Frame32{}).Split(binary.BigEndian.AppendUint32(nil, i), 0); !errors.Is(err, codec.ErrLength) {
			t.Errorf("frame of %d bytes: %d, %v", i, n, err)
		}
	}
	whole := codec.LengthField{Width: 2, Adjust: -2, Strip: true}
	for _, wire := range []string{"\x00\x00", "\x00\x01"} {
		if n, err := whole.Split([]byte(wire), 0); !errors.Is(err, codec.ErrLength) {
			t.Errorf("%q: %d, %v", wire, n, err)
		}
	}
	for _, f := range []codec.LengthField{{Width: 8}, {Width: 8, Adjust: 1 << 30}, {Width: 8, Adjust: -8}, {Offset: 1 << 20, Width: 8}} {
		head := append(make([]byte, f.Offset), bytes.Repeat([]byte{0xff}, 8)...)
		if n, err := f.Split(head, 0); err != nil || n < math.MaxInt-1<<31 {
			t.Errorf("%+v: %d, %v: a length beyond any limit is not one", f, n, err)
		}
	}
}

func TestCheck(t *testing.T) {
	h := &codec.Funcs[[]byte]{}
	for _, cd := range []codec.Codec[[]byte]{
		codec.Delimiter(""), codec.LengthField{}, codec.LengthField{Width: 9}, codec.LengthField{Offset: -1, Width: 1},
		codec.LengthField{Offset: 1, Width: 1, Strip: true}, codec.LengthField{Width: 1, Adjust: math.MinInt},
	} {
		if _, err := codec.New(cd, h, codec.Config{}); err == nil {
			t.Errorf("%+v was taken", cd)
		}
	}
	for _, cfg := range []codec.Config{{Limit: -1}, {Burst: -1}} {
		if _, err := codec.New(codec.Line{}, h, cfg); err == nil {
			t.Errorf("%+v was taken", cfg)
		}
	}
}
