package ws

import (
	"time"

	"github.com/penstock-go/penstock/reactor"
)

// clock has the connections of a lane look at the time: one timer for all, and
// for each a place in a list of those that are due at about the same time. What
// comes in only notes the time, and moves nothing.
type clock struct {
	lane    *lane
	unit    time.Duration
	now     uint32         // the last tick whose list was looked at
	next    uint32         // the tick for which the timer is armed
	waiting int            // connections in lists
	lists   [ticks][]*Conn // by due, modulo
	timer   *reactor.Timer
}

// ticks is how many lists there are, a power of two.
const ticks = 256

// Bounds of the unit. The shortest time that is waited for has 64 of it, if they
// are not below the least.
const (
	unitLeast = 4 * time.Millisecond
	unitMost  = 128 * time.Millisecond
)

func (k *clock) init(l *lane) {
	k.lane = l
	cfg := &l.ep.cfg
	least := min(cfg.HandshakeTimeout, cfg.CloseTimeout)
	if cfg.PingAfter > 0 {
		least = min(least, cfg.PingAfter, cfg.PongWithin)
	}
	k.unit = min(max(least/64, unitLeast), unitMost)
}

// ticksOf returns how many ticks are d at least.
func (k *clock) ticksOf(d time.Duration) uint32 {
	return uint32(min((d-1)/k.unit+2, 1<<30))
}

// time returns the present tick.
func (k *clock) time() uint32 { return uint32(k.lane.loop.Now() / k.unit) }

// wait has c.tick called d from now, and at no other time.
func (k *clock) wait(c *Conn, d time.Duration) { k.waitUntil(c, k.time()+k.ticksOf(d)) }

func (k *clock) waitUntil(c *Conn, at uint32) {
	k.forget(c)
	if k.waiting == 0 {
		k.now = k.time()
	}
	if int32(at-k.now) <= 0 {
		at = k.now + 1
	}
	list := &k.lists[at%ticks]
	c.due, c.place = at, int32(len(*list))
	*list = append(*list, c)
	if k.waiting++; k.timer == nil || !k.timer.Armed() || int32(at-k.next) < 0 {
		k.arm(at)
	}
}

// arm has turn called at a tick, or before, if that is far.
func (k *clock) arm(at uint32) {
	at = min(at-k.now, ticks) + k.now
	k.next = at
	now := k.lane.loop.Now() // Of more ticks than a uint32 has, some day.
	d := max(0, time.Duration(int32(at-uint32(now/k.unit)))*k.unit-now%k.unit)
	if k.timer == nil {
		k.timer = k.lane.loop.AfterFunc(d, nil, k.turn)
	} else {
		k.timer.Reset(d)
	}
}

// forget ends the wait of c, if there is one.
func (k *clock) forget(c *Conn) {
	if c.place < 0 {
		return
	}
	list := &k.lists[c.due%ticks]
	last := len(*list) - 1
	moved := (*list)[last]
	(*list)[c.place], moved.place = moved, c.place
	(*list)[last] = nil
	if *list = (*list)[:last]; last == 0 && cap(*list) > 1024 {
		*list = nil // What a crowd has left behind.
	}
	c.place = -1
	k.waiting--
}

// turn looks at the lists whose time has come.
func (k *clock) turn() {
	done := false
	defer func() {
		if !done { // A handler has panicked that runs for one who was told.
			k.now-- // The others are told next.
		}
		k.wind()
	}()
	for now := k.time(); int32(now-k.now) > 0; {
		k.now++
		list := k.lists[k.now%ticks]
		for i := len(list) - 1; i >= 0; i-- { // From the end: whoever is told leaves its place to the last.
			if c := list[i]; c != nil && int32(k.now-c.due) >= 0 {
				k.forget(c)
				k.lane.loop.As(c.conn)
				c.tick()
			}
		}
	}
	done = true
}

// wind arms the timer for the next list that is not empty.
func (k *clock) wind() {
	if k.waiting == 0 {
		k.timer.Stop()
		return
	}
	at := k.now + 1
	for len(k.lists[at%ticks]) == 0 {
		at++
	}
	k.arm(at)
}
