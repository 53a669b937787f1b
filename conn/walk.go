package conn

import (
	"sync"

	"github.com/penstock-go/penstock/reactor"
)

// deliver sends what has come to the members on the loop. What is more than the
// share of a turn, or is left when a hook of a member panics, goes on in the next.
func (s *shard) deliver(l *reactor.Loop) {
	done := false
	defer func() {
		if !done {
			l.Defer(func() { s.deliver(l) })
		}
	}()
	for left := walkShare; left > 0; {
		if s.walking == nil && !s.begin() {
			done = true
			return
		}
		left -= max(1, s.walk(l, left))
		if s.next == s.end {
			l.As(nil)
			s.finish()
		}
	}
}

// begin starts on the next message, and reports whether there is one.
func (s *shard) begin() bool {
	if s.at == len(s.work) {
		s.at = 0
		s.mu.Lock()
		defer s.mu.Unlock()
		spare := s.work[:0]
		if cap(spare) > keepItems {
			spare = nil
		}
		if s.work, s.box = s.box, spare; len(s.work) == 0 {
			s.posted = false
			return false
		}
	}
	s.walking = s.work[s.at].topic
	s.next, s.end = 0, len(s.walking.members)
	return true
}

// walk sends to the next members, at most so many, and returns to how many. Every
// step is noted before it is taken, since a hook of a member may panic.
func (s *shard) walk(l *reactor.Loop, most int) (n int) {
	p, r := &s.work[s.at], &s.reach
	for s.next < s.end && n < most {
		c := s.walking.members[s.next].c
		s.next++
		if c == nil {
			continue
		}
		n++
		if c.id == p.Except {
			r.Skipped++
			continue
		}
		l.As(c)
		r.Closed++
		before := c.droppedMessages()
		status, size, sent := p.send(c)
		r.Closed--
		r.Dropped += c.droppedMessages() - before
		switch {
		case !sent:
			r.Skipped++
		case status <= Full:
			r.Taken++
		case status == Rejected:
			r.Refused++
			c.tellRefused(size)
		default:
			r.Closed++
		}
	}
	return n
}

// send sends to one member, unless it is to be skipped. size is how long the message is.
func (p *post) send(c *Conn) (s Status, size int, sent bool) {
	shared := p.Shared
	switch {
	case c.state != open:
		return Closed, 0, true // Not asked: it is not the member who sends after its close.
	case p.Send != nil:
		return p.Send(c), p.size(), true
	case p.Each != nil:
		if shared = p.Each(c); shared == nil {
			return Queued, 0, false
		}
	}
	return c.SendShared(shared), shared.Len(), true
}

// tellRefused tells of a message of n bytes whose publisher has gone on.
func (c *Conn) tellRefused(n int) {
	if c.hooks.err != nil {
		c.hooks.err(c, &SendError{Messages: 1, Bytes: n, Err: ErrSendBufferFull})
	}
}

// droppedMessages returns how many messages had to go for newer ones.
func (c *Conn) droppedMessages() uint64 {
	if c.beside == nil {
		return 0
	}
	return c.beside.dropped.messages
}

// finish ends the walk of a message.
func (s *shard) finish() {
	t, p, r := s.walking, s.work[s.at], s.reach
	s.work[s.at] = post{}
	s.at++
	s.walking, s.reach = nil, Reach{}
	s.mu.Lock()
	s.waits--
	s.bytes -= p.size()
	for i := 0; t.holes > 0 && i < len(t.members); {
		if t.members[i].c == nil {
			t.fill(i)
		} else {
			i++
		}
	}
	s.total.add(r)
	s.mu.Unlock()
	if p.Shared != nil {
		p.Shared.Release()
	}
	p.tally.less(r)
}

// tally adds up what became of a message on all loops, for its Done. A nil tally
// is that of a message without one.
type tally struct {
	mu    sync.Mutex
	left  int // loops that have not told, and the publisher
	reach Reach
	done  func(Reach)
}

func newTally(done func(Reach)) *tally { return &tally{left: 1, done: done} }

// more counts a loop that will tell.
func (t *tally) more() {
	if t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.left++
	}
}

// sum adds r.
func (t *tally) sum(r Reach) {
	if t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.reach.add(r)
	}
}

// less adds r, of a loop that has seen to its members. The last one tells Done.
func (t *tally) less(r Reach) {
	if t == nil {
		return
	}
	if t.sum(r); t.leave() {
		t.tell(nil)
	}
}

// leave counts one less, and reports whether it was the last.
func (t *tally) leave() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.left--
	return t.left == 0
}

// tell tells Done. Nobody adds to the reach any more.
func (t *tally) tell(*reactor.Loop) { t.done(t.reach) }
