package conn

import (
	"slices"

	"github.com/penstock-go/penstock/buf"
)

// beside is what few connections have: what parts of the library have to do with one
// without touching the handler or its hooks, marks of its own, input that waits, and
// what is counted rarely. It is nil until there is something.
//
// An inlet and its kin stand in a fixed order to the handler. Input goes to the inlet, if there
// is one, instead of OnData and OnEOF. Rooms are told behind the OnDrain that the
// same bytes gave cause for. Mourners are told before OnClose.
type beside struct {
	inlet    inlet
	polls    polls
	rooms    []*Room // that wait
	due      []*Room // for which it is time
	fresh    []*Room // asked for by one that was told; they wait once a Defer has run
	telling  bool
	mourners []mourner
	intake   *intake

	parked []buf.Buf // received while reading was paused
	marks  *Marks    // of SetMarks; nil: those of the host

	bypass    bypassWait
	starvedAt int    // bytes that were pending when the queue was full for want of budget
	starvings uint64 // how often it was
	jobs      *jobs  // work that runs elsewhere
	fulls     uint64 // OnFull, but for those of starvings
	drains    uint64
	rejected  amount // messages refused
	dropped   amount // messages that had to go for newer ones
	late      amount // sends after the close
}

// inlet takes what a connection receives, in place of its handler.
type inlet interface {
	data(c *Conn, in *buf.Buf) // as OnData
	eof(c *Conn)               // as OnEOF
	room() int                 // bytes that it takes until it pauses reading, about
}

// ender is an inlet that hears of a Close and its kin at once. What is parked
// then is lost to it.
type ender interface{ ending(c *Conn) }

// mourner hears of the end of a connection: all its operations are home, and
// OnClose, which is told err, is next.
type mourner interface{ closed(c *Conn, err error) }

func (c *Conn) aside() *beside {
	if c.beside == nil {
		c.beside = &beside{}
	}
	return c.beside
}

func (b *beside) mourn(m mourner) { b.mourners = append(b.mourners, m) }

func (b *beside) forget(m mourner) {
	b.mourners = slices.DeleteFunc(b.mourners, func(o mourner) bool { return o == m })
}

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

// mournersTold tells the parts of the library, each once.
func (c *Conn) mournersTold(err error) {
	b := c.beside
	if b == nil || len(b.mourners) == 0 {
		return
	}
	m := b.mourners[0]
	b.mourners = b.mourners[1:]
	defer c.mournersTold(err)
	m.closed(c, err)
}

// hear hands received bytes to whoever takes them.
func (c *Conn) hear(in *buf.Buf) {
	if c.host.cfg.RecvLimit > 0 {
		k := c.owns(in)
		defer k.heard(in)
	}
	if c.piped() {
		c.beside.inlet.data(c, in)
		return
	}
	c.hooks.handler.OnData(c, in)
}
