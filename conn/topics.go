package conn

import (
	"errors"
	"sync/atomic"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/reactor"
)

// ErrOtherGroup says that a connection is not on a loop of the group whose
// [Topics] it was to join.
var ErrOtherGroup = errors.New("conn: the connection is on a loop of another group")

// Topics are names that connections of one group join, to be sent what is
// published under them.
//
// What is published is queued for each member as by SendShared, whole or not at
// all, by the limit of that member: a slow one holds up nobody, and Config.SlowPeer
// says what becomes of it. The bytes exist once for all. Each loop that has
// members hears of a message by its mailbox, and sends to at most 1024 of them a
// turn.
//
// All messages that one goroutine, or one loop, publishes under a topic reach its
// members in that order. A member gets what is published after Join has returned;
// what was on its way already it may get too. After Leave has returned it gets
// nothing more. A connection that has closed has left, behind its OnClose.
//
// A topic is there while it has members. A membership costs 32 bytes, and up to
// as much again for room to grow; a topic about 150 bytes on each loop on which
// it has members, and a connection that has joined any 24 bytes more.
//
// Thread: Publish and its kin, Len and Stats: any goroutine, a handler among them.
// What takes a *Conn: that of the connection.
type Topics struct {
	shards    []*shard // by loop
	published atomic.Uint64
}

// NewTopics returns the topics of a group, without any yet.
func NewTopics(g *reactor.Group) *Topics {
	remotes := make([]reactor.Remote, g.Len())
	for i := range remotes {
		remotes[i] = g.Loop(i)
	}
	return newTopics(remotes)
}

func newTopics(remotes []reactor.Remote) *Topics {
	t := &Topics{}
	for _, r := range remotes {
		t.shards = append(t.shards, newShard(r))
	}
	return t
}

// shard returns the part of t on the loop of c, or nil.
func (t *Topics) shard(c *Conn) *shard {
	if i := c.loop.ID(); i < len(t.shards) && t.shards[i].remote == c.loop.Remote() {
		return t.shards[i]
	}
	return nil
}

// Join makes c a member of a topic, until it leaves or closes; a second Join does
// nothing. It fails with ErrClosed when c takes no more sends, and with
// ErrOtherGroup.
func (t *Topics) Join(topic string, c *Conn) error {
	s := t.shard(c)
	switch {
	case s == nil:
		return ErrOtherGroup
	case c.state != open:
		return ErrClosed
	}
	s.join(topic, c)
	return nil
}

// Leave ends a membership, and reports whether there was one.
func (t *Topics) Leave(topic string, c *Conn) bool {
	s := t.shard(c)
	if s == nil {
		return false
	}
	in := s.names[topic]
	i, ok := c.seat(in)
	if ok {
		c.stand(i)
	}
	return ok
}

// Of returns the topics of which c is a member, in no order. In OnClose they are
// still there.
func (t *Topics) Of(c *Conn) []string {
	var names []string
	if s := t.shard(c); s != nil && c.joined != nil {
		for _, at := range c.joined.seats {
			if at.topic.shard == s {
				names = append(names, at.topic.name)
			}
		}
	}
	return names
}

// Len returns the number of members of a topic.
func (t *Topics) Len(topic string) (n int) {
	for _, s := range t.shards {
		n += s.len(topic)
	}
	return n
}

// TopicStats is what Topics have counted.
type TopicStats struct {
	Members   int    // memberships now, of all topics
	Published uint64 // calls of Publish and its kin
	Reach            // of all that was published
}

// Stats returns the counters of all loops together.
func (t *Topics) Stats() TopicStats {
	s := TopicStats{Published: t.published.Load()}
	for _, sh := range t.shards {
		sh.stats(&s)
	}
	return s
}

// Reach is what became of a message at the members of its topic. Each of them is in
// one of the counts but the last.
type Reach struct {
	Taken   uint64 // queued for the member: the answers Queued and Full
	Refused uint64 // the answer Rejected, or the loop is behind: see Publish
	Closed  uint64 // the member takes no more
	Skipped uint64 // left out by Except, or by Each

	Dropped uint64 // older messages, of any origin, that DropOldest dropped for it
}

func (r *Reach) add(o Reach) {
	r.Taken += o.Taken
	r.Refused += o.Refused
	r.Closed += o.Closed
	r.Skipped += o.Skipped
	r.Dropped += o.Dropped
}

// Publication is a message with all that can be asked of it. One of Shared, Each
// and Send says what the members get.
type Publication struct {
	// Shared is the bytes for every member. The caller keeps its count.
	Shared *buf.Shared
	// Each chooses the bytes for a member, or nil for none: of one message in two
	// framings, say. It runs on all loops at once. What it returns is lent, and
	// must have a count until Done has run.
	Each func(c *Conn) *buf.Shared
	// Send sends to a member by itself, as a protocol does that has to queue, and
	// returns the answer. It runs on all loops at once.
	Send func(c *Conn) Status
	// Size is how many bytes a message by Each or Send holds while it waits for a loop:
	// they count for what may wait there. Those of Shared are known.
	Size int
	// Except is the ID of a connection that is left out, such as the one from
	// which the message came. 0 is nobody.
	Except uint64
	// Done runs once, on a loop of the group, when all loops have seen to their
	// members, also when there are none. A group that is ended by force may owe
	// it; when it has ended, Done runs inside Broadcast.
	Done func(Reach)
}

// Publish has every member of a topic sent the bytes of s, of which the caller
// keeps its count. Without members nothing is done, and no loop hears of it.
//
// The answer is Queued, or Rejected when a loop is so far behind that 16 MiB or
// 65536 messages wait for it: its members are counted as refused then, and those
// on other loops are sent the message all the same. What a member refuses is told to
// its OnError.
func (t *Topics) Publish(topic string, s *buf.Shared) Status {
	return t.Broadcast(topic, Publication{Shared: s})
}

// PublishBytes is Publish of a copy of p, which is not made without members.
func (t *Topics) PublishBytes(topic string, p []byte) Status {
	if t.Len(topic) == 0 {
		t.published.Add(1)
		return Queued
	}
	s := buf.NewShared(p)
	defer s.Release()
	return t.Publish(topic, s)
}

// PublishEach is Publish of bytes that each chooses for a member; see
// [Publication]. While they wait they count nothing: give Broadcast a Size.
func (t *Topics) PublishEach(topic string, each func(c *Conn) *buf.Shared) Status {
	return t.Broadcast(topic, Publication{Each: each})
}

// size returns the bytes that a message holds while it waits.
func (p *Publication) size() int {
	if p.Shared != nil {
		return p.Shared.Len()
	}
	return max(0, p.Size)
}

// Broadcast is Publish with all that can be asked of it.
func (t *Topics) Broadcast(topic string, p Publication) Status {
	t.published.Add(1)
	post := post{Publication: p}
	if p.Done != nil {
		post.tally = newTally(p.Done)
	}
	answer := Queued
	for _, s := range t.shards {
		if s.put(topic, post) == Rejected {
			answer = Rejected
		}
	}
	if post.tally != nil && post.tally.leave() && !t.post(post.tally.tell) {
		post.tally.tell(nil)
	}
	return answer
}

// post has fn run on a loop of the group.
func (t *Topics) post(fn func(*reactor.Loop)) bool {
	return len(t.shards) > 0 && t.shards[0].remote.Post(fn)
}
