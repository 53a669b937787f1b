package ws_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
)

// frame is a frame as the tests write and read them, by code of their own.
type frame struct {
	op     byte
	part   bool // FIN is not set
	rsv    byte // 0x70
	data   string
	length int // announced instead of that of data, if not 0
}

func (f frame) String() string {
	data := f.data
	if len(data) > 60 {
		data = data[:40] + fmt.Sprintf("... %d", len(data))
	}
	return fmt.Sprintf("{%d %v %x %q}", f.op, !f.part, f.rsv, data)
}

func text(s string) frame { return frame{op: 1, data: s} }
func bin(s string) frame  { return frame{op: 2, data: s} }
func ping(s string) frame { return frame{op: 9, data: s} }
func pong(s string) frame { return frame{op: 10, data: s} }
func more(f frame) frame  { f.part = true; return f }
func cont(s string) frame { return frame{data: s} }
func rsv1(f frame) frame  { f.rsv |= 0x40; return f }
func bye(code int) frame  { return byeText(code, "") }
func equal(a, b frame) bool {
	return a.op == b.op && a.part == b.part && a.rsv == b.rsv && a.data == b.data
}
func masked(f ...frame) []byte { return encode(true, f...) }

// parts splits a message into frames of n bytes.
func parts(f frame, n int) []frame {
	var all []frame
	for len(f.data) > n {
		first := f
		first.data = f.data[:n]
		all = append(all, more(first))
		f = cont(f.data[n:])
	}
	return append(all, f)
}

func byeText(code int, reason string) frame {
	return frame{op: 8, data: string(binary.BigEndian.AppendUint16(nil, uint16(code))) + reason}
}

func equalFrames(a, b []frame) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		// The reason of a close is for people.
		if a[i].op == 8 && b[i].op == 8 && len(a[i].data) >= 2 && len(b[i].data) == 2 && a[i].data[:2] == b[i].data {
			continue
		}
		if !equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

// encode writes frames.
func encode(mask bool, frames ...frame) []byte {
	var p []byte
	for i, f := range frames {
		first := f.op | f.rsv
		if !f.part {
			first |= 0x80
		}
		n := len(f.data)
		if f.length != 0 {
			n = f.length
		}
		var bit byte
		if mask {
			bit = 0x80
		}
		switch {
		case n < 126:
			p = append(p, first, bit|byte(n))
		case n < 1<<16:
			p = binary.BigEndian.AppendUint16(append(p, first, bit|126), uint16(n))
		default:
			p = binary.BigEndian.AppendUint64(append(p, first, bit|127), uint64(n))
		}
		if !mask {
			p = append(p, f.data...)
			continue
		}
		key := [4]byte{0x37, byte(i), 0xfa, byte(n)}
		p = append(p, key[:]...)
		for j := range len(f.data) {
			p = append(p, f.data[j]^key[j%4])
		}
	}
	return p
}

// decode reads frames, and returns what is behind the last whole one.
func decode(t testing.TB, mask bool, p []byte) (frames []frame, rest []byte) {
	t.Helper()
	for len(p) >= 2 {
		f := frame{op: p[0] & 15, part: p[0]&0x80 == 0, rsv: p[0] & 0x70}
		if p[1]&0x80 != 0 != mask {
			t.Fatalf("frame % x...: masked is not %v", p[:2], mask)
		}
		n, at := int(p[1]&0x7f), 2
		switch n {
		case 126:
			if len(p) < 4 {
				return frames, p
			}
			n, at = int(binary.BigEndian.Uint16(p[2:])), 4
		case 127:
			if len(p) < 10 {
				return frames, p
			}
			n, at = int(binary.BigEndian.Uint64(p[2:])), 10
		}
		if mask {
			at += 4
		}
		if len(p) < at+n {
			return frames, p
		}
		data := bytes.Clone(p[at : at+n])
		if mask {
			for i := range data {
				data[i] ^= p[at-4+i%4]
			}
		}
		f.data = string(data)
		frames = append(frames, f)
		p = p[at+n:]
	}
	return frames, p
}
