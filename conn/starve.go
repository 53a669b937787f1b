package conn

import "container/heap"

// With a budget a queue is also full, and drained, by what is free of it: its
// marks are the smaller of its own and of that. Who stops at Full is not refused
// then, and who was refused is told when there is room.

// Starved reports whether the queue is full, or was until the OnDrain that runs
// now, because a Budget has no room for it, below the marks of the connection.
func (c *Conn) Starved() bool { return c.starved }

// isShort reports whether the budget, and not the connection's own marks, will
// refuse the next message, also when what this loop has collected is with the kernel.
func (c *Conn) isShort() bool {
	s := c.host.share
	if s == nil || c.host.cfg.Budget.welcomes(int64(c.Pending())) {
		return false
	}
	c.offer()
	return !s.offer(func() bool { return c.host.cfg.Budget.welcomes(int64(c.Pending())) }) && !c.bypasses(1)
}

// starve is fill for want of budget. The drain comes when half of what is pending
// has gone, or all of it, LowWater at most is left, and the budget takes a message again, or one of n bytes
// goes straight into the socket.
func (c *Conn) starve(n int) {
	if !c.full && c.state <= closing {
		c.aside().bypass = bypassWait{wanted: n, timed: c.beside.bypass.timed}
		c.aside().starvedAt = c.Pending()
		c.touch() // It may be that nothing of its own will ever tell.
		c.fill(true)
	}
}

// isFed reports whether a queue that is full for want of budget has drained. If
// only the budget is missing, the loop is told when it has room.
func (c *Conn) isFed(pending int) bool {
	switch b := c.host.cfg.Budget; {
	case !c.starved:
		return true
	case pending > c.beside.starvedAt/2:
		return false
	case c.state > open || b.yields(int64(pending)):
		return true
	case pending == 0 && c.bypasses(c.beside.bypass.wanted):
		return true
	default:
		if pending == 0 && b.policy == BudgetReject {
			c.awaitBypass()
		}
		c.gate.hungry.Store(true)
		b.await(c.gate)
		return b.yields(int64(pending)) // Room that came before was announced to nobody.
	}
}

// await has g told when the budget has room for what it has pending now.
func (b *Budget) await(g *gate) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if g.place < 0 {
		b.turn++
		g.turn = b.turn
		g.needs = int64(g.held())
		heap.Push(&b.waiting, g)
		b.awaited.Store(int32(len(b.waiting)))
	}
}

// tell tells those who wait for the budget and for whom it has room: who has the
// least pending first, as the budget gives it. The caller holds no lock. Each is
// told once: who finds that there is none after all waits again.
func (b *Budget) tell() {
	for n := b.awaited.Load(); n > 0; n-- {
		g := b.next()
		if g == nil {
			return
		}
		g.feed()
	}
}

// next takes the first who waits and whom the budget would not refuse.
func (b *Budget) next() *gate {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.waiting) == 0 || !b.fits(b.waiting[0].needs, 0) && b.victim() == nil {
		return nil
	}
	g := heap.Pop(&b.waiting).(*gate)
	b.awaited.Store(int32(len(b.waiting)))
	return g
}

// feed gives waiting goroutines their turn, and has the loop look at a queue that
// is full for want of budget.
func (g *gate) feed() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.grant()
	if g.hungry.Swap(false) {
		g.post()
	}
}

// line is those who wait for a budget, as a heap.
type line []*gate

// Len implements heap.Interface.
func (l line) Len() int { return len(l) }

// Less implements heap.Interface.
func (l line) Less(i, j int) bool {
	if l[i].needs != l[j].needs {
		return l[i].needs < l[j].needs
	}
	return int32(l[i].turn-l[j].turn) < 0
}

// Swap implements heap.Interface.
func (l line) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].place, l[j].place = i, j
}

// Push implements heap.Interface.
func (l *line) Push(x any) {
	g := x.(*gate)
	g.place = len(*l)
	*l = append(*l, g)
}

// Pop implements heap.Interface.
func (l *line) Pop() any {
	n := len(*l) - 1
	g := (*l)[n]
	(*l)[n] = nil
	*l = (*l)[:n]
	g.place = -1
	return g
}
