package reactor

import (
	"sync"

	"golang.org/x/sys/unix"
)

// loopThreads are the threads that loops run on, by their number. A loop is
// locked to its thread, so the thread tells the goroutine. The values are the *Loop,
// nil while it is being made.
var loopThreads sync.Map

// OnLoop reports whether the caller runs on the loop of some group, so that it
// must not block. A loop that is turned by hand is not known here.
//
// Thread: any. It costs a short system call.
func OnLoop() bool {
	_, is := loopThreads.Load(unix.Gettid())
	return is
}

// enterThread notes that the calling thread is a loop's, until leave is called.
func enterThread() (leave func()) {
	id := unix.Gettid()
	loopThreads.Store(id, (*Loop)(nil))
	return func() { loopThreads.Delete(id) }
}

// isHere notes that l runs on the calling thread, which is a loop's.
func (l *Loop) isHere() { loopThreads.Store(unix.Gettid(), l) }

// loopHere returns the loop that the caller runs on, or nil.
func loopHere() *Loop {
	l, _ := loopThreads.Load(unix.Gettid())
	here, _ := l.(*Loop)
	return here
}
