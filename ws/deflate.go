package ws

import (
	"cmp"
	"fmt"
)

// Deflate has messages compressed (RFC 7692). The zero value works: no context
// takeover, so that a connection costs no memory between its messages.
//
// Costs. Each loop has a compressor and a decompressor for all of its connections,
// about 1 MiB and 50 KiB once they were used. A connection with takeover keeps a window
// of the messages before, 2^bits bytes in each direction that has it, outside of the Go
// heap and from the first message on, and each
// message is preceded by the work of showing that to the compressor or decompressor: for
// 1 KiB of JSON and a window of 4 KiB about half of the time, and it comes out a third
// shorter.
type Deflate struct {
	// Level is from 1, the fastest, to 9. Default 1. A message that is longer than its
	// window has a level of its own.
	Level int
	// Threshold is from how many bytes on a message is compressed. Default 256.
	// A message that would not become shorter is sent as it is.
	Threshold int
	// SendTakeover keeps the context from message to message that is sent, and
	// RecvTakeover allows the peer the same. Either side may rule it out. What was sent
	// compressed with SendTakeover is never dropped by conn.DropOldest.
	SendTakeover, RecvTakeover bool
	// SendBits and RecvBits bound the windows of a takeover: 2^bits bytes. From 8 to
	// 15, default 12. A server refuses a client the takeover that cannot be bound to
	// RecvBits. Without takeover nothing is kept and nothing bounded, but for what the
	// peer asks.
	SendBits, RecvBits int
	// MaxRatio is how many times its length a message may inflate to, past the
	// first 10 MiB, before it is refused with TooBig, while it is being inflated:
	// for a Config.MaxMessage above that, which a short message could reach else.
	// Default 256; below 0: no bound but Config.MaxMessage.
	MaxRatio int
}

// Defaults of [Deflate].
const (
	DefaultLevel     = 1
	DefaultThreshold = 256
	DefaultBits      = 12
	DefaultMaxRatio  = 256
)

// check returns d with its defaults filled in.
func (d Deflate) check() (Deflate, error) {
	d.Level = cmp.Or(d.Level, DefaultLevel)
	d.Threshold = cmp.Or(d.Threshold, DefaultThreshold)
	d.SendBits = cmp.Or(d.SendBits, DefaultBits)
	d.RecvBits = cmp.Or(d.RecvBits, DefaultBits)
	d.MaxRatio = cmp.Or(d.MaxRatio, DefaultMaxRatio)
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
