package conn

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
)

// ConnLimit bounds how many connections all the listeners that share it have
// open at once, over all their loops. Whoever comes then waits in the
// listener's accept queue, in the kernel, until a connection has closed. An
// [Attacher] may share it too.
//
// Thread: any.
type ConnLimit struct {
	most    int64
	free    atomic.Int64
	waiting atomic.Int64 // len(queue)

	mu    sync.Mutex
	queue []*acceptor // those with somebody to accept and no place, oldest first
}

// NewConnLimit returns a limit of n connections, n > 0.
func NewConnLimit(n int) (*ConnLimit, error) {
	if n <= 0 {
		return nil, fmt.Errorf("conn: a limit of %d connections is not positive", n)
	}
	l := &ConnLimit{most: int64(n)}
	l.free.Store(l.most)
	return l, nil
}

// Most returns the limit.
func (l *ConnLimit) Most() int { return int(l.most) }

// Used returns how many places are taken now.
func (l *ConnLimit) Used() int { return int(l.most - l.free.Load()) }

// take takes a place for a. If there is none, a waits, and is granted one later.
func (l *ConnLimit) take(a *acceptor) bool {
	if l.takeFree() {
		return true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = append(l.queue, a)
	l.waiting.Store(int64(len(l.queue)))
	l.pass() // Who gave a place back a moment ago may not have seen us wait.
	return false
}

// takeFree takes a place if nobody waits for one.
func (l *ConnLimit) takeFree() bool { return l.waiting.Load() == 0 && l.takeAny() }

func (l *ConnLimit) takeAny() bool {
	for {
		n := l.free.Load()
		if n <= 0 {
			return false
		}
		if l.free.CompareAndSwap(n, n-1) {
			return true
		}
	}
}

// give gives a place back. It goes to who has waited longest.
func (l *ConnLimit) give() {
	l.free.Add(1)
	if l.waiting.Load() > 0 {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.pass()
	}
}

// pass grants places that are free to those who wait, with mu held. A place on
// its way to a loop is taken, so that no other loop can have it meanwhile; a
// loop that then finds nobody to accept gives it back, and so it goes on.
func (l *ConnLimit) pass() {
	for len(l.queue) > 0 && l.takeAny() {
		a := l.queue[0]
		l.queue = slices.Delete(l.queue, 0, 1)
		l.waiting.Store(int64(len(l.queue)))
		if !a.remote.Post(a.granted) {
			l.free.Add(1) // Its loop has ended.
		}
	}
}

// leave has a wait no longer. A place that is on its way to it comes all the same.
func (l *ConnLimit) leave(a *acceptor) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.queue = slices.DeleteFunc(l.queue, func(b *acceptor) bool { return a == b })
	l.waiting.Store(int64(len(l.queue)))
}
