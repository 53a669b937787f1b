package ws

import (
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// Topics are names that WebSockets of one group join, to be sent what is published
// under them: conn.Topics with prepared messages, so that members with and without
// compression may be in one topic. What is said there about order, about slow
// members and about what a membership costs holds here.
//
// Thread: Publish, Broadcast, Len and Stats: any goroutine. What takes a *Conn: that
// of the connection.
type Topics struct{ topics *conn.Topics }

// NewTopics returns the topics of a group, without any yet.
func NewTopics(g *reactor.Group) *Topics { return &Topics{conn.NewTopics(g)} }

// Join makes c a member of a topic, until it leaves or closes. It fails with
// conn.ErrClosed once a close frame was sent, and with conn.ErrOtherGroup.
func (t *Topics) Join(topic string, c *Conn) error {
	if c.phase != open {
		return conn.ErrClosed
	}
	return t.topics.Join(topic, c.conn)
}

// Leave ends a membership, and reports whether there was one.
func (t *Topics) Leave(topic string, c *Conn) bool { return t.topics.Leave(topic, c.conn) }

// Of returns the topics of which c is a member, in no order.
func (t *Topics) Of(c *Conn) []string { return t.topics.Of(c.conn) }

// Len returns the number of members of a topic.
func (t *Topics) Len(topic string) int { return t.topics.Len(topic) }

// Stats returns the counters.
func (t *Topics) Stats() conn.TopicStats { return t.topics.Stats() }

// Publish sends a message to every member of a topic; see conn.Topics.Publish for
// the answers. A member that is in the middle of a Writer or a SendFrom refuses it; its
// OnError is told.
func (t *Topics) Publish(topic string, m *Prepared) conn.Status {
	return t.Broadcast(topic, m, Audience{})
}

// Audience is who is left out of a Broadcast, and who is told what became of it.
type Audience struct {
	// Except is the ID of a connection that is left out, such as the one from
	// which the message came. 0 is nobody.
	Except uint64
	// Done runs once, when all loops have seen to their members; see
	// conn.Publication.
	Done func(conn.Reach)
}

// Broadcast is Publish to an audience.
func (t *Topics) Broadcast(topic string, m *Prepared, to Audience) conn.Status {
	return t.topics.Broadcast(topic, conn.Publication{
		Send:   func(c *conn.Conn) conn.Status { return of(c).SendPrepared(m) },
		Size:   m.Len(),
		Except: to.Except,
		Done:   to.Done,
	})
}
