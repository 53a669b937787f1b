// Package pattern holds the bytes that a load test sends, and knows them again
// when they come back.
//
// Every connection sends a stream of its own. All streams are cut from one
// piece of pseudo-random memory, each from another place, so that the byte at
// an offset of a stream is found, sent and checked without a copy: a lost,
// doubled, changed or strayed byte differs from what is expected there.
package pattern

import (
	"bytes"
	"math/rand/v2"
)

// Period is after how many bytes a stream begins again. It is a prime, so that
// no message length divides it: a stream that is off by whole messages shows.
const Period = 65521

// MaxChunk is how many bytes At returns at most.
const MaxChunk = 256 << 10

// spread is how far the starts of two neighbours are apart: far from all usual
// message lengths, so that one connection's bytes are no good on another.
const spread = 4099

// Pattern is the memory that all streams are cut from.
//
// Thread: any; nobody writes to it.
type Pattern struct{ memory []byte }

// New returns the pattern, which is the same in every process.
func New() *Pattern {
	p := &Pattern{make([]byte, Period+MaxChunk)}
	rng := rand.New(rand.NewPCG(2, 71))
	for i := range Period {
		// From 2 on: 0 and 1 are free for what goes before a stream.
		p.memory[i] = byte(2 + rng.Uint32()%254)
	}
	for i := Period; i < len(p.memory); i++ {
		p.memory[i] = p.memory[i-Period]
	}
	return p
}

// Stream is the bytes of one connection: some that come once, and then others
// again and again.
type Stream struct {
	memory []byte // MaxChunk longer than both
	lead   int64  // bytes that come once
	period int64
	start  int64
}

// Stream returns the stream of connection i.
func (p *Pattern) Stream(i int) Stream {
	return Stream{memory: p.memory, period: Period, start: int64(i) * spread % Period}
}

// Repeat returns a stream of lead, and then of cycle without an end.
//
// Ownership: both are copied.
func Repeat(lead, cycle []byte) Stream {
	n := len(lead) + len(cycle)
	s := Stream{memory: make([]byte, n+MaxChunk), lead: int64(len(lead)), period: int64(len(cycle))}
	copy(s.memory[copy(s.memory, lead):], cycle)
	for i := n; i < len(s.memory); i++ {
		s.memory[i] = s.memory[i-len(cycle)]
	}
	return s
}

// From returns the stream without its first n bytes.
func (s Stream) From(n int64) Stream {
	s.start += n
	return s
}

// At returns n bytes of the stream from offset on.
//
// Ownership: nobody may write to them.
func (s Stream) At(offset int64, n int) []byte {
	from := s.start + offset
	if from >= s.lead+s.period {
		from = s.lead + (from-s.lead)%s.period
	}
	return s.memory[from : from+int64(n)]
}

// Check compares what came at offset with the stream. It returns the index of
// the first byte that differs, or -1.
func (s Stream) Check(offset int64, got []byte) int {
	for base := 0; len(got) > 0; {
		n := min(len(got), MaxChunk)
		want := s.At(offset, n)
		if !bytes.Equal(got[:n], want) {
			for i := range n {
				if got[i] != want[i] {
					return base + i
				}
			}
		}
		got, offset, base = got[n:], offset+int64(n), base+n
	}
	return -1
}
