package ws

import "github.com/penstock-go/penstock/conn"

// owed is the pong to the latest ping, as long as there is no room for it.
type owed struct {
	payload []byte
	due     bool
}

// pong answers a ping. Past the limit of the queue that is done as long as there is
// room for a close frame behind it. Else the answer is owed: to the latest ping alone,
// as RFC 6455, 5.5.3, lets us.
func (c *Conn) pong(payload []byte) {
	if c.phase != open {
		return
	}
	l := c.lane
	o := l.owed[c]
	if c.sayPong(payload) {
		if o != nil {
			o.due = false // It was for one before.
		}
		return
	}
	if o == nil {
		if l.owed == nil {
			l.owed = map[*Conn]*owed{}
		}
		o = &owed{}
		l.owed[c] = o
		c.awaitRoom(o)
	}
	o.payload, o.due = append(o.payload[:0], payload...), true
}

// sayPong sends a pong if there is room for it.
func (c *Conn) sayPong(payload []byte) bool {
	if !c.conn.Spare(headerLen(len(payload), c.lane.ep.client)+len(payload), closeRoom) {
		return false
	}
	c.say(byte(opPong)|bitFin, payload)
	return true
}

// awaitRoom has the pong that is owed sent when the kernel has taken something. Something
// waits, or the reserve would have room.
func (c *Conn) awaitRoom(o *owed) {
	l := c.lane
	look := func(*conn.Conn) {
		delete(l.owed, c)
		if c.phase == open && o.due && !c.sayPong(o.payload) {
			l.owed[c] = o
			c.awaitRoom(o)
		}
	}
	c.conn.OnRoom(c.conn.Pending()-1, look)
}
