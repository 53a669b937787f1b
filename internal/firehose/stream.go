package firehose

import (
	"crypto/sha256"
	"strconv"
)

// Stream is the bytes that a seed stands for: SHA-256 of the texts "<seed>:0",
// "<seed>:1" and so on, 32 bytes each, one behind the other. It has no end.
//
// Read allocates nothing. The zero Stream is that of the empty seed.
type Stream struct {
	text  []byte            // "<seed>:", and behind it the number while it is hashed
	next  uint64            // the number of the next block
	block [sha256.Size]byte // the present block
	left  int               // its bytes that were not read, at its end
}

// NewStream returns the stream of seed from its start.
func NewStream(seed string) *Stream {
	s := new(Stream)
	s.Reset([]byte(seed))
	return s
}

// Reset makes s the stream of seed from its start.
func (s *Stream) Reset(seed []byte) {
	s.text = append(append(s.text[:0], seed...), ':')
	s.next, s.left = 0, 0
}

// Read fills p. It never fails: it is an io.Reader for io.CopyN and the like.
func (s *Stream) Read(p []byte) (int, error) {
	n := copy(p, s.block[len(s.block)-s.left:])
	s.left -= n
	for len(p)-n >= sha256.Size {
		s.hash((*[sha256.Size]byte)(p[n:]))
		n += sha256.Size
	}
	if n < len(p) {
		s.hash(&s.block)
		m := copy(p[n:], s.block[:])
		s.left = len(s.block) - m
	}
	return len(p), nil
}

func (s *Stream) hash(into *[sha256.Size]byte) {
	if len(s.text) == 0 {
		s.text = append(s.text, ':')
	}
	n := len(s.text)
	s.text = strconv.AppendUint(s.text, s.next, 10)
	*into = sha256.Sum256(s.text)
	s.text = s.text[:n]
	s.next++
}
