package codec

import (
	"errors"
	"fmt"
	"io"
)

// Codec cuts a stream of bytes into packets, and turns a packet into a message of
// type M and back. It may be used by all connections of all loops at once, so it
// keeps no state; one that has to is made anew for each connection, in OnOpen, with
// a Protocol of its own that SetHandler puts in place.
//
// The result must not depend on how the stream comes in pieces: once Split has
// answered for some bytes, the same bytes with others behind them have the same
// answer.
type Codec[M any] interface {
	// Split returns the length of the first packet of data, its framing included:
	// 0 while data does not tell it, and more than len(data) when it is known
	// and not all there; then Split is not asked again for this packet. data is
	// not empty. For its first seen bytes Split has answered 0 before, and need
	// not look at them again.
	//
	// With an error the connection closes, as with a negative length.
	Split(data []byte, seen int) (n int, err error)

	// Decode makes a message of one whole packet. What it returns may refer to
	// packet, which is lent until OnMessage has returned. With [ErrSkip] there is no
	// message; with any other error the connection closes.
	Decode(packet []byte) (M, error)

	// Append appends m with its framing to dst, as append does. With an error the
	// connection closes, and nothing of m is sent.
	Append(dst []byte, m M) ([]byte, error)
}

// Sizer is a Codec that knows beforehand how long a packet will be. [Send] then
// encodes into memory of that size, and a refusal is counted with that length;
// else it guesses at 1 KiB.
type Sizer[M any] interface {
	// Size returns about how many bytes Append adds for m, better too many than
	// too few.
	Size(m M) int
}

// ErrSkip is what Decode returns for a packet that is no message: a heartbeat, say,
// that the codec has answered by itself.
var ErrSkip = errors.New("codec: skip this packet")

// ErrTooLong says that a message is longer than the limit; see [*MessageTooLong].
var ErrTooLong = errors.New("codec: message too long")

// ErrLength says that a packet gives itself a length that it cannot have.
var ErrLength = errors.New("codec: bad length")

// ErrDelimiter says that a message has in it the bytes that end a message, so
// that it would arrive as several.
var ErrDelimiter = errors.New("codec: the message contains its delimiter")

// MessageTooLong says that a peer has sent, or announced, a message beyond
// Config.Limit.
type MessageTooLong struct {
	Length int // in bytes with its framing; 0 while no end of it had come
	Limit  int
}

// Error implements error.
func (e *MessageTooLong) Error() string {
	if e.Length == 0 {
		return fmt.Sprintf("codec: no end of a message in %d bytes, which is the limit", e.Limit)
	}
	return fmt.Sprintf("codec: message of %d bytes, above the limit of %d", e.Length, e.Limit)
}

// Unwrap returns ErrTooLong.
func (e *MessageTooLong) Unwrap() error { return ErrTooLong }

// Incomplete says that the peer has ended its side in the middle of a message.
type Incomplete struct {
	Bytes int // of the message that have come
}

// Error implements error.
func (e *Incomplete) Error() string {
	return fmt.Sprintf("codec: end of file after %d bytes of a message", e.Bytes)
}

// Unwrap returns io.ErrUnexpectedEOF.
func (e *Incomplete) Unwrap() error { return io.ErrUnexpectedEOF }
