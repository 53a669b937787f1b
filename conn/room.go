package conn

import "slices"

// Room is a wait for room in a send queue; see [Conn.OnRoom].
//
// Thread: that of the connection.
type Room struct {
	c    *Conn
	most int // below 0: the low water mark
	fn   func(*Conn)
}

// OnRoom runs fn once, when at most that many bytes are pending, or when the
// connection takes no more sends: at once after Close and its kin, and before
// OnClose at the latest. A negative number stands for the LowWater in force then.
// It is for writers that share a connection with a handler, whose OnFull and
// OnDrain it leaves alone.
//
// fn never runs inside OnRoom or a Send. It runs on the loop, from the end of this
// turn on, behind an OnDrain for the same bytes, which may have sent again:
// look at the answer to your own Send, and at Pending. fn may call OnRoom again,
// and is then told behind what is deferred, at the end of this turn or of the next.
func (c *Conn) OnRoom(most int, fn func(*Conn)) *Room {
	r := &Room{c: c, most: most, fn: fn}
	if c.state == closed {
		c.loop.Defer(func() { r.tell() })
		return r
	}
	b := c.aside()
	if !b.telling {
		b.rooms = append(b.rooms, r)
		c.touch()
		return r
	}
	if b.fresh = append(b.fresh, r); len(b.fresh) == 1 {
		c.loop.Defer(func() { b.thaw(); c.touch() })
	}
	return r
}

// Stop ends the wait, and reports whether the function was still to run.
func (r *Room) Stop() bool {
	was := r.fn != nil
	r.fn = nil
	if b := r.c.beside; was && b != nil {
		other := func(o *Room) bool { return o == r }
		b.rooms, b.fresh = slices.DeleteFunc(b.rooms, other), slices.DeleteFunc(b.fresh, other)
	}
	return was
}

// awaitsRoom reports whether somebody waits for room in the queue.
func (c *Conn) awaitsRoom() bool { return c.beside != nil && len(c.beside.rooms) > 0 }

// thaw has those wait who were asked for while others were told.
func (b *beside) thaw() { b.rooms, b.fresh = append(b.rooms, b.fresh...), nil }

func (r *Room) tell() {
	if fn := r.fn; fn != nil {
		r.fn = nil
		fn(r.c)
	}
}

// ripen finds the rooms for which pending is little enough, or for which there
// will be none. They are chosen before OnDrain runs, so that a handler which
// fills the queue at each drain leaves others their turn.
func (b *beside) ripen(c *Conn, pending int) {
	kept := b.rooms[:0]
	for _, r := range b.rooms {
		most := r.most
		if most < 0 {
			most = c.marks().Low
		}
		if pending <= most || c.state > open {
			b.due = append(b.due, r)
		} else {
			kept = append(kept, r)
		}
	}
	clear(b.rooms[len(kept):])
	b.rooms = kept
}

// tellRooms runs the functions that are due. One that panics leaves the others
// to the next call.
func (c *Conn) tellRooms() {
	b := c.beside
	if len(b.due) == 0 || b.telling {
		return
	}
	b.telling = true
	defer func() { b.telling = false }()
	for len(b.due) > 0 {
		r := b.due[0]
		if b.due = slices.Delete(b.due, 0, 1); len(b.due) == 0 {
			b.due = nil
		}
		r.tell()
	}
}

// lastRooms tells everybody who still waits, also those behind one that panics.
func (c *Conn) lastRooms() {
	b := c.beside
	if b == nil {
		return
	}
	b.thaw()
	if b.ripen(c, 0); len(b.due) > 0 {
		defer c.lastRooms()
		c.tellRooms()
	}
}
