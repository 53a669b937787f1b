package conn

import (
	"sync"

	"github.com/penstock-go/penstock/reactor"
)

// What one loop takes of [Topics]: sends a turn, and what may wait for it,
// what it has begun with included.
const (
	walkShare = 1024
	boxPosts  = 1 << 16
	boxBytes  = 16 << 20
)

// leastMost is from how many topics or members on the memory for them is given
// back when three quarters have gone.
const leastMost = 64

// shard is the topics that have members on one loop.
type shard struct {
	remote reactor.Remote
	fn     func(*reactor.Loop) // deliver, made once

	mu     sync.Mutex
	names  map[string]*topic // changed by the loop alone, which reads it without mu
	most   int               // topics since the map was made
	box    []post            // has come
	waits  int               // messages in box and in work
	bytes  int               // of them
	posted bool              // fn is in the loop's mailbox, or deliver goes on by itself
	total  Reach
	count  int // memberships

	// Of the loop: the messages under way, and how far the walk of the first has
	// come. Who leaves meanwhile leaves a hole, so that nobody changes places.
	work    []post
	at      int // work before it is done
	walking *topic
	next    int   // member
	end     int   // those from here on have joined since
	reach   Reach // so far
}

// post is a message on its way to the members on one loop.
type post struct {
	Publication
	topic *topic
	tally *tally
}

// topic is one topic on one loop.
type topic struct {
	shard   *shard
	name    string
	members []member
	holes   int // members without a connection
}

// member and seat are the two ends of a membership, each with the place of the
// other.
type (
	member struct {
		c    *Conn
		seat int
	}
	seat struct {
		topic *topic
		at    int
	}
)

// joined is what a connection has joined.
type joined struct{ seats []seat }

func newShard(r reactor.Remote) *shard {
	s := &shard{remote: r, names: map[string]*topic{}}
	s.fn = s.deliver
	return s
}

func (s *shard) join(name string, c *Conn) {
	t := s.names[name]
	if _, ok := c.seat(t); ok {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if t == nil {
		t = &topic{shard: s, name: name}
		s.names[name] = t
		s.most = max(s.most, len(s.names))
	}
	if c.joined == nil {
		c.joined = &joined{}
	}
	j := c.joined
	t.members = append(t.members, member{c, len(j.seats)})
	j.seats = append(j.seats, seat{t, len(t.members) - 1})
	s.count++
}

// seat returns which membership of c is the one in t. It looks through the
// shorter of the two lists.
func (c *Conn) seat(t *topic) (i int, ok bool) {
	if t == nil || c.joined == nil {
		return 0, false
	}
	if seats := c.joined.seats; len(seats) < len(t.members) {
		for i := range seats {
			if seats[i].topic == t {
				return i, true
			}
		}
		return 0, false
	}
	for i := range t.members {
		if t.members[i].c == c {
			return t.members[i].seat, true
		}
	}
	return 0, false
}

// stand ends membership i of c.
func (c *Conn) stand(i int) {
	j := c.joined
	at, last := j.seats[i], len(j.seats)-1
	if i != last {
		j.seats[i] = j.seats[last]
		j.seats[i].topic.members[j.seats[i].at].seat = i
	}
	j.seats[last] = seat{}
	if j.seats = j.seats[:last]; last == 0 {
		c.joined = nil
	}
	at.topic.shard.remove(at.topic, at.at)
}

// leaveAll ends all memberships of a connection that has closed.
func (c *Conn) leaveAll() {
	for c.joined != nil {
		c.stand(len(c.joined.seats) - 1)
	}
}

func (s *shard) remove(t *topic, at int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.count--
	t.members[at] = member{}
	if t.holes++; t.holes == len(t.members) {
		delete(s.names, t.name)
		if s.most > leastMost && len(s.names) < s.most/4 { // A map keeps the memory of its best days.
			small := make(map[string]*topic, len(s.names))
			for name, t := range s.names {
				small[name] = t
			}
			s.names, s.most = small, len(s.names)
		}
	}
	if s.walking != t {
		t.fill(at)
	}
}

// fill has the last member take the place at, which is empty.
func (t *topic) fill(at int) {
	last := len(t.members) - 1
	if m := t.members[last]; m.c != nil && at != last {
		t.members[at] = m
		m.c.joined.seats[m.seat].at = at
	}
	t.members[last] = member{}
	t.members = t.members[:last]
	t.holes--
	if cap(t.members) > leastMost && len(t.members) < cap(t.members)/4 {
		t.members = append(make([]member, 0, 2*len(t.members)), t.members...)
	}
}

func (s *shard) len(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if t := s.names[name]; t != nil {
		return len(t.members) - t.holes
	}
	return 0
}

func (s *shard) stats(sum *TopicStats) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum.Members += s.count
	sum.Reach.add(s.total)
}

// put leaves a message for the members of a topic, if there are any.
func (s *shard) put(name string, p post) Status {
	s.mu.Lock()
	p.topic = s.names[name]
	n := p.size()
	switch {
	case p.topic == nil:
		s.mu.Unlock()
		return Queued
	case s.waits == boxPosts, s.waits > 0 && s.bytes+n > boxBytes:
		r := Reach{Refused: uint64(len(p.topic.members) - p.topic.holes)}
		s.total.add(r)
		s.mu.Unlock()
		p.tally.sum(r)
		return Rejected
	}
	if p.Shared != nil {
		p.Shared.Retain()
	}
	p.tally.more()
	s.box = append(s.box, p)
	s.waits++
	s.bytes += n
	wake := !s.posted
	s.posted = true
	s.mu.Unlock()
	if wake && !s.remote.Post(s.fn) {
		s.drop()
	}
	return Queued
}

// drop gives up what nobody will deliver: the loop has ended.
func (s *shard) drop() {
	s.mu.Lock()
	box := s.box
	s.box, s.waits, s.bytes, s.posted = nil, 0, 0, false
	s.mu.Unlock()
	for i := range box {
		if box[i].Shared != nil {
			box[i].Shared.Release()
		}
		box[i].tally.less(Reach{})
	}
}
