package ws

import (
	"encoding/binary"
)

// maxHeader is the longest header of a frame, maxControl the longest payload of
// a control frame.
const (
	maxHeader  = 14
	maxControl = 125
)

// Bits of the first two bytes of a frame (RFC 6455, 5.2).
const (
	bitFin  = 0x80
	bitRSV1 = 0x40
	bitsRSV = 0x70
	bitMask = 0x80
)

// header is that of a frame.
type header struct {
	op     Op
	fin    bool
	rsv    byte // bitsRSV of the first byte
	masked bool
	key    uint32 // the masking key, its first byte lowest
	length uint64 // of the payload
}

// parseHeader reads the header at the front of p and returns its length: 0 while
// p is too short, below 0 when the length of the payload is not written in the
// shortest form, or has its highest bit set. Nothing else is judged.
func parseHeader(p []byte, h *header) int {
	if len(p) < 2 {
		return 0
	}
	b0, b1 := p[0], p[1]
	h.op, h.fin, h.rsv, h.masked = Op(b0&0x0f), b0&bitFin != 0, b0&bitsRSV, b1&bitMask != 0
	n := 2
	switch length := uint64(b1 & 0x7f); length {
	default:
		h.length = length
	case 126:
		if len(p) < 4 {
			return 0
		}
		h.length, n = uint64(binary.BigEndian.Uint16(p[2:])), 4
		if h.length < 126 {
			return -1
		}
	case 127:
		if len(p) < 10 {
			return 0
		}
		h.length, n = binary.BigEndian.Uint64(p[2:]), 10
		if h.length < 1<<16 || h.length >= 1<<63 {
			return -1
		}
	}
	if !h.masked {
		return n
	}
	if len(p) < n+4 {
		return 0
	}
	h.key = binary.LittleEndian.Uint32(p[n:])
	return n + 4
}

// headerLen returns the length of the header of a frame with so much payload.
func headerLen(payload int, masked bool) int {
	n := 2
	switch {
	case payload >= 1<<16:
		n = 10
	case payload >= 126:
		n = 4
	}
	if masked {
		n += 4
	}
	return n
}

// putHeader writes the header of a frame into p, which has room for it, and
// returns its length. first is the first byte: bits and opcode.
func putHeader(p []byte, first byte, payload int, masked bool, key uint32) int {
	p[0] = first
	n := 2
	switch {
	case payload >= 1<<16:
		p[1] = 127
		binary.BigEndian.PutUint64(p[2:], uint64(payload))
		n = 10
	case payload >= 126:
		p[1] = 126
		binary.BigEndian.PutUint16(p[2:], uint16(payload))
		n = 4
	default:
		p[1] = byte(payload)
	}
	if masked {
		p[1] |= bitMask
		binary.LittleEndian.PutUint32(p[n:], key)
		n += 4
	}
	return n
}
