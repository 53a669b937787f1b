package reactor

import "github.com/penstock-go/penstock/aio"

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
	list        []slot
	first, last uint32 // free slots
}

func (s *slots) init() { s.first, s.last = none, none }

func (s *slots) attach(sink Sink) aio.Token {
	if s.first == none {
		s.list = append(s.list, slot{sink: sink, gen: 1})
		return aio.Token{Slot: uint32(len(s.list) - 1), Gen: 1}
	}
	i := s.first
	e := &s.list[i]
	if s.first = e.next; s.first == none {
		s.last = none
	}
	e.sink = sink
	return aio.Token{Slot: i, Gen: e.gen}
}

func (s *slots) detach(t aio.Token) bool {
	if s.lookup(t) == nil {
		return false
	}
	e := &s.list[t.Slot]
	e.sink, e.next = nil, none
	if e.gen = (e.gen + 1) & (1<<aio.GenBits - 1); e.gen == 0 {
		e.gen = 1
	}
	if s.last == none {
		s.first = t.Slot
	} else {
		s.list[s.last].next = t.Slot
	}
	s.last = t.Slot
	return true
}

func (s *slots) lookup(t aio.Token) Sink {
	if int(t.Slot) >= len(s.list) || s.list[t.Slot].gen != t.Gen {
		return nil
	}
	return s.list[t.Slot].sink
}
