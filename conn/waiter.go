package conn

import "slices"

// waiter is a goroutine that waits for room for a message. Whoever makes room
// puts the message into the mailbox for it, so that nobody comes between.
type waiter struct {
	item
	p    []byte
	done chan Status // gets the answer
}

// enqueue has a message wait behind those that wait already.
func (g *gate) enqueue(i item, p []byte, v [][]byte) *waiter {
	if v != nil {
		p = slices.Concat(v...)
	}
	w := &waiter{item: i, p: p, done: make(chan Status, 1)}
	g.waiters = append(g.waiters, w)
	g.blocked.Add(1)
	g.grant() // Room that came before blocked was raised was announced to nobody.
	return w
}

// grant gives those who wait their turn, as far as there is room. The caller
// holds mu.
func (g *gate) grant() {
	for len(g.waiters) > 0 {
		w := g.waiters[0]
		if !g.chargeWithin(w.n) {
			if g.budget == nil || g.atLimit() {
				return
			}
			g.budget.await(g)
			if !g.chargeWithin(w.n) { // Room that came before was announced to nobody.
				return
			}
		}
		g.waiters = slices.Delete(g.waiters, 0, 1)
		g.blocked.Add(-1)
		g.keep(w.item, w.p, nil)
		w.done <- g.answer()
	}
}

// granted is grant for who has made room.
func (g *gate) granted() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.grant()
}

// await waits for the answer to w. It gives up when stop says so, and then
// nothing was posted.
func (g *gate) await(stop <-chan struct{}, w *waiter) (s Status, gaveUp bool) {
	select {
	case s = <-w.done:
		return s, false
	case <-stop:
		gaveUp = true
	case <-g.remote.Done(): // The loop has failed, and tells nobody.
	}
	g.mu.Lock()
	i := slices.Index(g.waiters, w)
	if i >= 0 {
		g.waiters = slices.Delete(g.waiters, i, i+1)
		g.blocked.Add(-1)
	}
	g.mu.Unlock()
	switch {
	case i < 0: // Its turn has come meanwhile.
		return <-w.done, false
	case gaveUp:
		return Rejected, true
	}
	return Closed, false
}
