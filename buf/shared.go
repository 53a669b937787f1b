package buf

import (
	"runtime"
	"sync/atomic"
)

// Shared is one immutable payload for many receivers. It lives in pinned Go
// memory rather than in a Pool, so that any loop may give up the last count.
//
// Thread: any. Ownership: counted; NewShared returns it with a count of one.
type Shared struct {
	data []byte
	refs atomic.Int32
	pin  runtime.Pinner
}

// NewShared copies data into a new Shared with a count of one.
func NewShared(data []byte) *Shared {
	s := &Shared{data: append([]byte(nil), data...)}
	s.refs.Store(1)
	if len(s.data) > 0 {
		s.pin.Pin(&s.data[0])
		// A Shared that was forgotten is garbage, not a reason to crash: the
		// runtime panics when a Pinner is collected with its pins in place.
		runtime.SetFinalizer(s, func(s *Shared) { s.pin.Unpin() })
	}
	return s
}

// Len returns the number of bytes.
func (s *Shared) Len() int { return len(s.data) }

// Bytes returns the payload, which nobody may write to. It is valid while the
// caller holds a count.
func (s *Shared) Bytes() []byte { return s.data }

// Retain adds a count.
func (s *Shared) Retain() *Shared {
	if s.refs.Add(1) <= 1 {
		panic("buf: Retain of a Shared that nobody held")
	}
	return s
}

// Release gives up one count. With the last one the payload is gone.
func (s *Shared) Release() {
	switch n := s.refs.Add(-1); {
	case n < 0:
		panic("buf: a Shared was released twice")
	case n == 0:
		s.pin.Unpin()
		s.data = nil
	}
}
