package ws

import "fmt"

// Deflate has messages compressed (RFC 7692). The zero value works: no context
// takeover, so that a connection costs no memory between its messages.
//
// Costs. Each loop has one compressor and one decompressor for all of its
// connections, about 1 MiB and 50 KiB once they were used. A connection with
// takeover keeps a window of the messages before, up to 2^bits bytes in each
// direction that has it, and each message is preceded by the work of showing it
// to the compressor or decompressor: dear for small messages, which also gain
// most.
type Deflate struct {
	// Level is from 1, the fastest, to 9. Default 1. A window below 15 bits has
	// a level of its own.
	Level int
	// Threshold is from how many bytes on a message is compressed. Default 256.
	// A message that would not become shorter is sent as it is.
	Threshold int
	// SendTakeover keeps the context from message to message that is sent, and
	// RecvTakeover allows the peer the same. Either side may rule it out.
	SendTakeover, RecvTakeover bool
	// SendBits and RecvBits bound the windows: 2^bits bytes. From 8 to 15,
	// default 15. As a server, a client that cannot be bound to RecvBits is
	// refused the takeover.
	SendBits, RecvBits int
	// MaxRatio is how many times its length a message may inflate to, past the
	// first MiB, before it is refused with TooBig, while it is being inflated.
	// Default 256; below 0: no bound but Config.MaxMessage.
	MaxRatio int
}

// Defaults of [Deflate].
const (
	DefaultLevel     = 1
	DefaultThreshold = 256
	DefaultMaxRatio  = 256
)

// check returns d with its defaults filled in.
func (d Deflate) check() (Deflate, error) {
	if d.Level == 0 {
		d.Level = DefaultLevel
	}
	if d.Threshold == 0 {
		d.Threshold = DefaultThreshold
	}
	if d.SendBits == 0 {
		d.SendBits = maxBits
	}
	if d.RecvBits == 0 {
		d.RecvBits = maxBits
	}
	if d.MaxRatio == 0 {
		d.MaxRatio = DefaultMaxRatio
	}
	switch {
	case d.Level < 1 || d.Level > 9:
		return d, fmt.Errorf("ws: Deflate.Level %d is not from 1 to 9", d.Level)
	case d.Threshold < 0:
		return d, fmt.Errorf("ws: Deflate.Threshold of %d bytes is negative", d.Threshold)
	case d.SendBits < minBits || d.SendBits > maxBits:
		return d, fmt.Errorf("ws: Deflate.SendBits %d is not from 8 to 15", d.SendBits)
	case d.RecvBits < minBits || d.RecvBits > maxBits:
		return d, fmt.Errorf("ws: Deflate.RecvBits %d is not from 8 to 15", d.RecvBits)
	}
	return d, nil
}

// windows is what a connection with compression has agreed to and keeps.
type windows struct {
	agreed
	sent, received window
}

// context returns what precedes the next message that is sent.
func (w *windows) context() []byte {
	if w.sendTakeover {
		return w.sent.data
	}
	return nil
}

// window is the end of what went one way: what the other side's decompressor can
// still refer to. It grows up to its size as it is filled.
type window struct {
	data []byte
}

// add appends p, of which the window keeps the last 2^bits bytes.
func (w *window) add(p []byte, bits uint8) {
	size := 1 << bits
	if len(p) >= size {
		p = p[len(p)-size:]
		w.data = w.data[:0]
	}
	if over := len(w.data) + len(p) - size; over > 0 {
		w.data = w.data[:copy(w.data, w.data[over:])]
	}
	if need := len(w.data) + len(p); need > cap(w.data) {
		data := make([]byte, len(w.data), min(size, max(need+need/4, 256)))
		copy(data, w.data)
		w.data = data
	}
	w.data = append(w.data, p...)
}
