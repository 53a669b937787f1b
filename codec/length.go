package codec

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Frame32 is frames of Workerman's protocol frame: four bytes with the length of
// the whole frame in network order, themselves included, and the message. A length
// of 0 to 3 is refused with ErrLength.
type Frame32 struct{}

const frameHead = 4

// Split implements Codec.
func (Frame32) Split(data []byte, _ int) (int, error) {
	if len(data) < frameHead {
		return 0, nil
	}
	n := binary.BigEndian.Uint32(data)
	if n < frameHead {
		return 0, fmt.Errorf("%w: frame of %d bytes with a head of %d", ErrLength, n, frameHead)
	}
	return clamp(uint64(n)), nil
}

// Decode implements Codec.
func (Frame32) Decode(packet []byte) ([]byte, error) { return packet[frameHead:], nil }

// Append implements Codec. It fails with ErrLength when m does not fit a frame.
func (Frame32) Append(dst, m []byte) ([]byte, error) {
	if uint64(len(m)) > math.MaxUint32-frameHead {
		return nil, fmt.Errorf("%w: message of %d bytes in a frame", ErrLength, len(m))
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(m)+frameHead))
	return append(dst, m...), nil
}

// Size implements Sizer.
func (Frame32) Size(m []byte) int { return len(m) + frameHead }

// LengthField is packets that have their length in a field of their head.
//
// A message is the whole packet, head included, unless Strip is set: Append writes
// the length into it.
type LengthField struct {
	Offset int // where the field begins, in bytes from the front of the packet
	Width  int // of the field, 1 to 8 bytes
	// Adjust is added to what the field says to have the number of bytes behind
	// it: 0 where it counts just these, -(Offset+Width) where it counts the whole
	// packet.
	Adjust       int
	LittleEndian bool // Default: network order.
	// Strip leaves the head out of the message, and makes it anew when one is
	// sent. Offset must be 0 then.
	Strip bool
}

// Split implements Codec. It fails with ErrLength when the field says less than
// the head is long.
func (f LengthField) Split(data []byte, _ int) (int, error) {
	head := f.Offset + f.Width
	if len(data) < head {
		return 0, nil
	}
	var v uint64
	for i, field := 0, data[f.Offset:head]; i < f.Width; i++ {
		if f.LittleEndian {
			v |= uint64(field[i]) << (8 * i)
		} else {
			v = v<<8 | uint64(field[i])
		}
	}
	n := clamp(v)
	if n > math.MaxInt-head-max(f.Adjust, 0) {
		return math.MaxInt, nil // Above any limit.
	}
	if n += f.Adjust; n < 0 {
		return 0, fmt.Errorf("%w: field of %d", ErrLength, v)
	}
	return head + n, nil
}

// Decode implements Codec.
func (f LengthField) Decode(packet []byte) ([]byte, error) {
	if f.Strip {
		return packet[f.Width:], nil
	}
	return packet, nil
}

// Append implements Codec. It fails with ErrLength when m has no room for the
// head, or the field none for the length.
func (f LengthField) Append(dst, m []byte) ([]byte, error) {
	head, from := f.Offset+f.Width, len(dst)
	if f.Strip {
		var none [8]byte
		dst = append(dst, none[:f.Width]...)
	} else if len(m) < head {
		return nil, fmt.Errorf("%w: packet of %d bytes with a head of %d", ErrLength, len(m), head)
	}
	dst = append(dst, m...)
	n := len(dst) - from - head - f.Adjust
	if n < 0 || f.Width < 8 && uint64(n)>>(8*f.Width) > 0 {
		return nil, fmt.Errorf("%w: %d in a field of %d bytes", ErrLength, n, f.Width)
	}
	field := dst[from+f.Offset : from+head]
	for i := range field {
		at := i
		if !f.LittleEndian {
			at = f.Width - 1 - i
		}
		field[at] = byte(uint64(n) >> (8 * i))
	}
	return dst, nil
}

// Size implements Sizer.
func (f LengthField) Size(m []byte) int { return len(m) + f.Width }

// Check reports whether f can be used.
func (f LengthField) Check() error {
	switch {
	case f.Width < 1 || f.Width > 8:
		return fmt.Errorf("codec: a length field of %d bytes", f.Width)
	case f.Offset < 0 || f.Offset > 1<<20:
		return fmt.Errorf("codec: a length field at offset %d", f.Offset)
	case f.Adjust < -1<<30 || f.Adjust > 1<<30:
		return fmt.Errorf("codec: adjust by %d bytes", f.Adjust)
	case f.Strip && f.Offset != 0:
		return fmt.Errorf("codec: to strip a head with %d bytes before its length would lose them", f.Offset)
	}
	return nil
}

// clamp makes an int of v, the largest one where it is none.
func clamp(v uint64) int { return int(min(v, math.MaxInt)) }
