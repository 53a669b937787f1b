package reactor

import (
	"sync"
	"sync/atomic"
)

// Remote is the part of a Loop that any goroutine may hold and use.
type Remote struct{ l *Loop }

// Remote returns the handle to keep on other goroutines.
func (l *Loop) Remote() Remote { return Remote{l} }

// ID returns the number of the loop in its group.
func (r Remote) ID() int { return r.l.id }

// Done returns a channel that is closed when the loop has ended, and nothing runs
// on it any more.
func (r Remote) Done() <-chan struct{} { return r.l.gone }

// Post has fn run on the loop, in the order of the posts, and reports whether
// the loop will still take it: false once the loop has ended. Posts of one
// turn wake a sleeping loop once. The queue has no bound: where posts come faster
// than the loop runs them, the poster is to have one, as the bytes of a conn.Ref do.
//
// Thread: any. What was taken is run.
func (r Remote) Post(fn func(*Loop)) bool {
	b := &r.l.box
	if !b.put(fn) {
		return false
	}
	if b.asleep.Load() && b.asleep.CompareAndSwap(true, false) {
		r.l.waker.Wake()
	}
	return true
}

// mailbox takes functions from any goroutine.
//
// The sleeping loop and the poster meet in two flags: the loop sets asleep and
// then looks at waiting, the poster sets waiting and then looks at asleep, so
// one of them sees the other.
type mailbox struct {
	mu      sync.Mutex
	in      []func(*Loop)
	closed  bool
	waiting atomic.Bool // in is not empty
	asleep  atomic.Bool // the loop waits, or is about to
}

func (b *mailbox) put(fn func(*Loop)) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return false
	}
	b.in = append(b.in, fn)
	b.waiting.Store(true)
	return true
}

// empty returns what has come, and keeps spare, which is done with, for what comes.
func (b *mailbox) empty(spare []func(*Loop)) []func(*Loop) {
	b.mu.Lock()
	defer b.mu.Unlock()
	in := b.in
	b.in = spare[:0]
	b.waiting.Store(false)
	return in
}

// close takes no more posts, and reports whether it could: not while there are
// some that nobody has run.
func (b *mailbox) close(force bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.in) > 0 && !force {
		return false
	}
	b.closed, b.in = true, nil
	return true
}
