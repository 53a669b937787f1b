// Package eventlog writes what happens to connections as lines of JSON.
//
// It never slows down who reports: events wait in a bounded queue for one
// goroutine that writes. What does not fit is dropped and counted, and so is
// what the file does not take; the next line that can be written tells how
// many. A write that blocks for ever, or a disk that is full, therefore costs
// events and nothing else.
package eventlog

import (
	"bytes"
	"io"
	"sync"
	"time"

	"github.com/penstock-go/penstock/conn"
)

// Queued is how many events may wait for the writer by default: at some 250
// bytes each, 16 MiB, in use only while the writer cannot follow.
const Queued = 1 << 16

// chunk is about how many bytes go to the file in one write.
const chunk = 64 << 10

// Log is where events go.
//
// Thread: any, for every method. Its own goroutine runs from Start to Close.
type Log struct {
	w      io.Writer
	limit  int
	failed func(error)

	mu      sync.Mutex
	wake    sync.Cond
	queue   []event
	dropped uint64 // behind the last event in queue
	asleep  bool   // the writer waits for wake
	closed  bool
	done    chan struct{} // closed when the writer has ended

	// The writer's own.
	stamp stamp
	out   []byte
	torn  []byte // the rest of a line that the file took in part
	lost  uint64 // events since the last line that told of them
}

// New returns a log to w of which at most limit events wait. failed, unless
// nil, is called once, with the first error of w, from the writer's goroutine.
// Nothing is written before Start.
func New(w io.Writer, limit int, failed func(error)) *Log {
	l := &Log{w: w, limit: limit, failed: failed, done: make(chan struct{})}
	l.wake.L = &l.mu
	return l
}

// EndLine has a line that was begun in the file before end ahead of what is written
// first. It is called before Start.
func (l *Log) EndLine() { l.torn = []byte{'\n'} }

// Start starts the writer.
func (l *Log) Start() { go l.run() }

// Close has what waits written, for at most patience, and reports whether that
// was all. After it nothing more is taken.
func (l *Log) Close(patience time.Duration) bool {
	l.mu.Lock()
	l.closed = true
	l.wake.Signal()
	l.mu.Unlock()
	select {
	case <-l.done:
		return true
	case <-time.After(patience):
		return false
	}
}

// Open reports a new connection. loop counts from 0.
func (l *Log) Open(conn uint64, remote, local conn.Addr, loop int) {
	l.put(&event{kind: opened, conn: conn, remote: remote, local: local, loop: int32(loop)})
}

// Full reports a queue that has filled, with its pending bytes.
func (l *Log) Full(conn uint64, pending int) {
	l.put(&event{kind: full, conn: conn, n: [7]uint64{uint64(pending)}})
}

// Drain reports a full queue that has come down, with its pending bytes.
func (l *Log) Drain(conn uint64, pending int) {
	l.put(&event{kind: drain, conn: conn, n: [7]uint64{uint64(pending)}})
}

// Reject reports one message of size bytes that was refused.
func (l *Log) Reject(conn uint64, pending, size int) {
	l.put(&event{kind: reject, conn: conn, n: [7]uint64{uint64(pending), uint64(size)}})
}

// EOF reports that the peer will send no more.
func (l *Log) EOF(conn uint64) { l.put(&event{kind: eof, conn: conn}) }

// Closed reports the end of a connection.
func (l *Log) Closed(conn uint64, c Closed) {
	l.put(&event{kind: closed, conn: conn, reason: c.Reason, n: [7]uint64{
		c.BytesIn, c.BytesOut, c.LostBytes, c.Full, c.Drain, c.Rejected, c.PendingMax}})
}

// put queues a copy of e, or counts it. The time is taken under the lock, so
// that the lines of several loops are in the order of their times.
func (l *Log) put(e *event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	// Once an event was dropped, those behind it are too until the writer has
	// come: the line that tells of them stands where they are missing.
	if l.closed || len(l.queue) >= l.limit || l.dropped > 0 {
		l.dropped++
		return
	}
	e.at = time.Now().UnixNano()
	l.queue = append(l.queue, *e)
	if l.asleep {
		l.asleep = false
		l.wake.Signal()
	}
}

// run is the writer. It trades its empty queue for the full one.
func (l *Log) run() {
	defer close(l.done)
	var batch []event
	for {
		l.mu.Lock()
		for len(l.queue) == 0 && l.dropped == 0 && !l.closed {
			l.asleep = true
			l.wake.Wait()
		}
		batch, l.queue = l.queue, batch[:0]
		dropped := l.dropped
		l.dropped = 0
		closed := l.closed
		l.mu.Unlock()

		l.write(batch)
		if l.lost += dropped; l.lost > 0 {
			l.flush(0)
		}
		if closed {
			return
		}
	}
}

// write encodes a batch and writes it in chunks.
func (l *Log) write(batch []event) {
	lines := 0
	for i := range batch {
		l.out = batch[i].appendTo(l.out, &l.stamp)
		if lines++; len(l.out) >= chunk {
			l.flush(lines)
			lines = 0
		}
	}
	if lines > 0 {
		l.flush(lines)
	}
}

// flush writes out, which holds so many events, behind the rest of a torn line
// and the line that tells of what was lost. What the file refuses is lost.
func (l *Log) flush(events int) {
	defer func() { l.out = l.out[:0] }()
	if len(l.torn) > 0 {
		n, err := l.w.Write(l.torn)
		if l.torn = l.torn[n:]; err != nil {
			l.refused(err, events)
			return
		}
	}
	if l.lost > 0 {
		told := l.lost
		line := appendDropped(nil, &l.stamp, time.Now().UnixNano(), told)
		n, err := l.w.Write(line)
		if n > 0 { // It will stand there, at the latest with the next write.
			l.lost, l.torn = 0, line[n:]
		}
		if err != nil {
			l.refused(err, events)
			return
		}
	}
	if len(l.out) == 0 {
		return
	}
	n, err := l.w.Write(l.out)
	if err == nil {
		return
	}
	whole := bytes.Count(l.out[:n], []byte{'\n'})
	if rest := l.out[n:]; n > 0 && l.out[n-1] != '\n' {
		whole++
		l.torn = bytes.Clone(rest[:bytes.IndexByte(rest, '\n')+1])
	}
	l.refused(err, events-whole)
}

// refused counts events that the file did not take.
func (l *Log) refused(err error, events int) {
	l.lost += uint64(events)
	if l.failed != nil {
		l.failed(err)
		l.failed = nil
	}
}
