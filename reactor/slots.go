package reactor

import (
	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/internal/table"
)

// none ends the list of free slots.
const none = ^uint32(0)

// slot is one place in the table. A free slot links to the next free one.
type slot struct {
	sink Sink
	gen  uint32
	next uint32
}

// slots maps tokens to parties. Slots are reused in the order in which they
// were given up, so that a generation comes again as late as possible.
type slots struct {
	list        table.Table[slot]
	used        uint32 // slots that have ever had a party
	first, last uint32 // free slots
}

func (s *slots) init() { s.first, s.last = none, none }

func (s *slots) attach(sink Sink) aio.Token {
	if s.first == none {
		i := s.used
		s.used++
		*s.list.At(i) = slot{sink: sink, gen: 1}
		return aio.Token{Slot: i, Gen: 1}
	}
	i := s.first
	e := s.list.At(i)
	if s.first = e.next; s.first == none {
		s.last = none
	}
	e.sink = sink
	return aio.Token{Slot: i, Gen: e.gen}
}

func (s *slots) detach(t aio.Token) bool {
	e := s.list.Find(t.Slot)
	if e == nil || e.gen != t.Gen || e.sink == nil {
		return false
	}
	e.sink, e.next = nil, none
	if e.gen = (e.gen + 1) & (1<<aio.GenBits - 1); e.gen == 0 {
		e.gen = 1
	}
	if s.last == none {
		s.first = t.Slot
	} else {
		s.list.At(s.last).next = t.Slot
	}
	s.last = t.Slot
	return true
}

func (s *slots) lookup(t aio.Token) Sink {
	if e := s.list.Find(t.Slot); e != nil && e.gen == t.Gen {
		return e.sink
	}
	return nil
}
