package conn

import (
	"sync"
	"sync/atomic"
)

// QueueStats is what the send queues of all connections of a Listener, a Dialer or an
// Attacher have met, those of open ones too: it is counted as it happens, where Closed
// has what a connection has counted only once that has closed.
type QueueStats struct {
	FullNow       int64  // connections whose OnFull has run and whose OnDrain has not: peers that do not read
	Full, Drain   uint64 // these and the others as in Stats
	Starved       uint64
	Rejected      uint64
	RejectedBytes uint64
	Dropped       uint64
	DroppedBytes  uint64
}

// add adds o to s.
func (s *QueueStats) add(o QueueStats) {
	s.FullNow += o.FullNow
	s.Full += o.Full
	s.Drain += o.Drain
	s.Starved += o.Starved
	s.Rejected += o.Rejected
	s.RejectedBytes += o.RejectedBytes
	s.Dropped += o.Dropped
	s.DroppedBytes += o.DroppedBytes
}

// connTally is what a Listener, a Dialer or an Attacher counts of its connections: a
// QueueStats while they are open, and their Stats when they have closed. Loops count,
// and anybody reads. Nothing of it is on the way of a message that is taken.
type connTally struct {
	fullNow                 atomic.Int64
	fulls, drains, starved  atomic.Uint64
	rejected, rejectedBytes atomic.Uint64
	dropped, droppedBytes   atomic.Uint64

	mu     sync.Mutex
	closed Stats
}

// addTo adds what was counted to the counters of an owner.
func (t *connTally) addTo(queues *QueueStats, closed *Stats) {
	queues.add(QueueStats{
		FullNow: t.fullNow.Load(), Full: t.fulls.Load(), Drain: t.drains.Load(), Starved: t.starved.Load(),
		Rejected: t.rejected.Load(), RejectedBytes: t.rejectedBytes.Load(),
		Dropped: t.dropped.Load(), DroppedBytes: t.droppedBytes.Load(),
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	closed.add(t.closed)
}

// countFull counts an OnFull.
func (c *Conn) countFull() {
	b, t := c.aside(), c.host.tally
	if c.starved {
		b.starvings++
	} else {
		b.fulls++
	}
	if t == nil {
		return
	}
	t.fullNow.Add(1)
	if c.starved {
		t.starved.Add(1)
	} else {
		t.fulls.Add(1)
	}
}

// countDrain counts an OnDrain, which a full queue may have come before.
func (c *Conn) countDrain(full bool) {
	t := c.host.tally
	if !c.starved {
		c.aside().drains++
	}
	if t == nil {
		return
	}
	if full {
		t.fullNow.Add(-1)
	}
	if !c.starved {
		t.drains.Add(1)
	}
}

// countClosed counts a connection that has closed, maybe with a full queue.
func (c *Conn) countClosed() {
	t := c.host.tally
	if t == nil {
		return
	}
	if c.full {
		t.fullNow.Add(-1)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed.add(c.Stats())
}

// countRejected counts messages that were refused.
func (c *Conn) countRejected(a amount) {
	c.aside().rejected.sum(a)
	if t := c.host.tally; t != nil {
		t.rejected.Add(a.messages)
		t.rejectedBytes.Add(a.bytes)
	}
}

// countDropped counts messages that had to go for newer ones.
func (c *Conn) countDropped(a amount) {
	c.aside().dropped.sum(a)
	if t := c.host.tally; t != nil {
		t.dropped.Add(a.messages)
		t.droppedBytes.Add(a.bytes)
	}
}
