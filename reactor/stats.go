package reactor

import "github.com/penstock-go/penstock/aio"

// LoopStats is what one loop has counted since it started.
type LoopStats struct {
	Loop    int
	Turns   uint64
	Posts   uint64 // functions that came through Remote.Post
	Panics  uint64 // handlers' panics that were recovered
	Parties int    // listeners and connections attached now
	Timers  int    // timers armed now
	Undone  uint64 // done functions of Work, and of conn.Conn.Go, whose party had gone
	Watches int    // descriptors of the user's own that are watched now
	Mapped  int    // bytes of address space the pools hold
	InUse   int    // bytes of blocks in use, whole blocks counted
	Engine  aio.Stats
}

// Stats asks every loop for its counters and returns them in the order of the
// loops. A loop that has ended is left out. On a loop of the group, which must not
// wait for others, it returns the counters of that one alone.
func (g *Group) Stats() []LoopStats {
	if l := g.here(); l != nil {
		return []LoopStats{l.stats()}
	}
	all := make([]LoopStats, 0, len(g.loops))
	for _, l := range g.loops {
		answer := make(chan LoopStats, 1)
		if !l.Remote().Post(func(l *Loop) { answer <- l.stats() }) {
			continue
		}
		select {
		case s := <-answer:
			all = append(all, s)
		case <-l.gone:
		}
	}
	return all
}

func (l *Loop) stats() LoopStats {
	return LoopStats{
		Loop: l.id, Turns: l.turns, Posts: l.posts, Panics: l.panics,
		Parties: l.parties, Timers: l.wheel.armed, Watches: l.watches, Undone: l.undone,
		Mapped: l.small.Mapped() + l.bulk.Mapped(),
		InUse:  l.small.InUse()*l.small.BlockSize() + l.bulk.InUse()*l.bulk.BlockSize(),
		Engine: l.engine.Stats(),
	}
}
