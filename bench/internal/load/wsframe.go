package load

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// WS is what is spoken over a connection, if it is a WebSocket.
type WS string

// The kinds of WebSockets.
const (
	Raw          WS = ""              // bytes, no WebSocket
	Plain        WS = "plain"         // binary messages
	Deflate      WS = "deflate"       // JSON, compressed, with context takeover where the server has it
	DeflateAlone WS = "deflate-alone" // the same without
)

// offer is the extension that a kind asks for.
func (w WS) offer() string {
	switch w {
	case Deflate:
		return "permessage-deflate; client_max_window_bits"
	case DeflateAlone:
		return "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
	}
	return ""
}

func (w WS) packed() bool { return w == Deflate || w == DeflateAlone }

// First bytes of frames (RFC 6455, 5.2).
const (
	opText   = 1
	opBinary = 2
	bitRSV1  = 0x40
	bitFin   = 0x80
	bitMask  = 0x80 // in the second
)

// headLen is how long the head of an unmasked frame is.
func headLen(size int) int {
	switch {
	case size < 126:
		return 2
	case size < 1<<16:
		return 4
	}
	return 10
}

// appendFrame appends a frame as a client sends it, or with key 0 as a server
// does. first is its first byte.
func appendFrame(dst []byte, first byte, key uint32, p []byte) []byte {
	second := byte(0)
	if key != 0 {
		second = bitMask
	}
	switch n := len(p); headLen(n) {
	case 2:
		dst = append(dst, first, second|byte(n))
	case 4:
		dst = binary.BigEndian.AppendUint16(append(dst, first, second|126), uint16(n))
	default:
		dst = binary.BigEndian.AppendUint64(append(dst, first, second|127), uint64(n))
	}
	if key == 0 {
		return append(dst, p...)
	}
	mask := binary.BigEndian.AppendUint32(nil, key)
	dst = append(dst, mask...)
	for i, b := range p {
		dst = append(dst, b^mask[i%4])
	}
	return dst
}

// keyOf is the masking key of a frame: another for each, and never 0. A load test
// need not keep it from anybody.
func keyOf(i int) uint32 { return uint32(i+1)*0x9e3779b1 | 1 }

// frames takes what a server sends apart.
type frames struct {
	unread  []byte // of a frame that is not whole
	message []byte // fragments that have come
	first   byte   // of the first fragment; 0 while no message has begun
}

// maxAnswer bounds a frame, since no answer is longer.
const maxAnswer = 1 << 20

// feed takes bytes and calls whole for each message. first is its first byte, and
// the payload is lent.
func (f *frames) feed(got []byte, whole func(first byte, payload []byte) error) error {
	if len(f.unread) > 0 {
		f.unread = append(f.unread, got...)
		got = f.unread
	}
	for {
		n, head, err := frameSize(got)
		if err != nil {
			return err
		}
		if n == 0 || len(got) < n {
			f.unread = append(f.unread[:0], got...)
			return nil
		}
		if err := f.frame(got[0], got[head:n], whole); err != nil {
			return err
		}
		got = got[n:]
	}
}

// frameSize returns how long a frame is, and its head, or 0 when that is not whole.
func frameSize(p []byte) (n, head int, err error) {
	if len(p) < 2 {
		return 0, 0, nil
	}
	if p[1]&bitMask != 0 {
		return 0, 0, errors.New("a frame of the server is masked")
	}
	head, n = 2, int(p[1])
	switch n {
	case 126:
		if head = 4; len(p) < head {
			return 0, 0, nil
		}
		n = int(binary.BigEndian.Uint16(p[2:]))
	case 127:
		if head = 10; len(p) < head {
			return 0, 0, nil
		}
		if long := binary.BigEndian.Uint64(p[2:]); long > maxAnswer {
			return 0, 0, fmt.Errorf("a frame of %d bytes", long)
		}
		n = int(binary.BigEndian.Uint64(p[2:]))
	}
	return head + n, head, nil
}

// frame takes one frame.
func (f *frames) frame(first byte, p []byte, whole func(byte, []byte) error) error {
	op := first & 0x0f
	switch {
	case op > opBinary:
		return fmt.Errorf("a frame of opcode %d: %q", op, p)
	case (op == 0) != (f.first != 0):
		return errors.New("a fragment out of turn")
	case op != 0 && first&bitFin != 0:
		return whole(first, p)
	case op != 0:
		f.first, f.message = first|bitFin, f.message[:0]
	}
	f.message = append(f.message, p...)
	if first&bitFin == 0 {
		return nil
	}
	first, f.first = f.first, 0
	return whole(first, f.message)
}
