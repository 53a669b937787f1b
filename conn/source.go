package conn

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"
	"sync"

	"github.com/penstock-go/penstock/reactor"
)

// errRead says that a reader broke the contract of io.Reader.
var errRead = errors.New("conn: Read returned an impossible count")

// errGoexit says that a reader ended its goroutine.
var errGoexit = errors.New("conn: Read called runtime.Goexit")

// Inline returns r marked as a reader that never blocks, so that SendFrom reads
// it on the loop. While it does not return, the loop stands still.
func Inline(r io.Reader) io.Reader { return &inline{r} }

type inline struct{ io.Reader }

// IsInline reports whether r is read on the loop: what Inline has returned, and
// readers in memory.
func IsInline(r io.Reader) bool {
	switch r.(type) {
	case *inline, *bytes.Reader, *bytes.Buffer, *strings.Reader:
		return true
	}
	return false
}

// sourceOf returns how to read r. An error is one that reading will meet.
func (c *Conn) sourceOf(r io.Reader) (source, error) {
	if IsInline(r) {
		return &looped{r}, nil
	}
	switch r := r.(type) {
	case *os.File:
		if isRegular(r) {
			at, err := r.Seek(0, io.SeekCurrent)
			return &fromFile{f: r, at: at, end: -1}, err
		}
	case *io.SectionReader:
		at, err := r.Seek(0, io.SeekCurrent)
		outer, from, n := r.Outer()
		switch outer := outer.(type) {
		case *os.File:
			if isRegular(outer) {
				return &fromFile{f: outer, at: from + at, end: from + n}, err
			}
		case *bytes.Reader, *strings.Reader:
			return &looped{r}, err
		}
	}
	return newReading(c, r), nil
}

func isRegular(f *os.File) bool {
	fi, err := f.Stat()
	return err == nil && fi.Mode().IsRegular()
}

// looped is a reader that is read on the loop.
type looped struct{ r io.Reader }

func (l *looped) more(c *Conn, s *stream) bool {
	b := c.streamBlock(s.left)
	if b.IsZero() {
		c.awaitMemory(s)
		return false
	}
	defer b.Release() // Also when Read panics.
	p := b.Room()
	n, err := readOnce(l.r, p[:atMost(s.left, int64(len(p)))])
	if n > 0 {
		b.Extend(n)
		c.readAhead(s, entry{block: b.Take()})
	}
	if err != nil {
		c.atEnd(s, err)
	}
	return true
}

func (l *looped) stop() {}

// readOnce reads some bytes, or an error. Like package io, it gives a reader that
// returns neither a hundred tries.
func readOnce(r io.Reader, p []byte) (n int, err error) {
	for range 100 {
		switch n, err = r.Read(p); {
		case n < 0 || n > len(p):
			return 0, errRead
		case n > 0 || err != nil:
			return n, err
		}
	}
	return 0, io.ErrNoProgress
}

// readBlock is the most that one Read in a goroutine is asked for, and readBlocks
// how many of them a reader is ahead of the loop.
const (
	readBlock  = 64 << 10
	readBlocks = 2
)

// reading is a reader that may block. A goroutine reads it into blocks by turns,
// and the loop copies them into the queue one at a time.
type reading struct {
	r      io.Reader
	remote reactor.Remote
	touch  func(*reactor.Loop) // posted when the loop waits for a chunk
	free   chan []byte         // blocks to read into; nil before the first time

	mu     sync.Mutex
	chunks []chunk
	hungry bool // the loop has found no chunk
	ended  bool // stop was called
}

// chunk is what a Read has brought.
type chunk struct {
	block []byte
	p     []byte // of block: what was read and not yet queued
	err   error
	crash *crash
}

func newReading(c *Conn, r io.Reader) *reading {
	id, token := c.id, c.token
	return &reading{r: r, remote: c.loop.Remote(), touch: func(l *reactor.Loop) {
		if c, ok := l.Lookup(token).(*Conn); ok && c.id == id {
			c.touch()
		}
	}}
}

func (g *reading) more(c *Conn, s *stream) bool {
	if g.free == nil {
		g.free = make(chan []byte, readBlocks)
		for left := s.left; len(g.free) < readBlocks && left != 0; {
			n := atMost(left, readBlock)
			if left > 0 {
				left -= n
			}
			g.free <- make([]byte, n)
		}
		go g.run(s.left)
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.hungry = len(g.chunks) == 0; g.hungry {
		return false
	}
	k := &g.chunks[0]
	if len(k.p) > 0 {
		b := c.streamBlock(int64(len(k.p)))
		if b.IsZero() {
			c.awaitMemory(s)
			return false
		}
		k.p = k.p[b.Append(k.p):]
		if c.readAhead(s, entry{block: b.Take()}); len(k.p) > 0 {
			return true // The rest follows; the block was a small one.
		}
	}
	if k.crash != nil {
		panic(k.crash)
	}
	if k.err != nil {
		c.atEnd(s, k.err)
	}
	g.free <- k.block
	g.chunks = g.chunks[:copy(g.chunks, g.chunks[1:])]
	return true
}

func (g *reading) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.free != nil && !g.ended {
		g.ended = true
		close(g.free)
	}
}

func (g *reading) isEnded() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.ended
}

// run is the goroutine. left is as in stream.
func (g *reading) run(left int64) {
	ended := false
	defer func() {
		if !ended { // Read has panicked, or called runtime.Goexit.
			g.put(chunk{crash: &crash{recover(), debug.Stack()}})
		}
	}()
	for block := range g.free {
		if g.isEnded() {
			break // done has been told, and r is its owner's again.
		}
		n, err := readOnce(g.r, block[:atMost(left, int64(len(block)))])
		if left >= 0 {
			left -= int64(n)
		}
		ended = err != nil || left == 0
		if g.put(chunk{block: block, p: block[:n], err: err}); ended {
			return
		}
	}
	ended = true
}

// put hands over what was read.
func (g *reading) put(k chunk) {
	g.mu.Lock()
	g.chunks = append(g.chunks, k)
	hungry := g.hungry
	g.hungry = false
	g.mu.Unlock()
	if hungry {
		g.remote.Post(g.touch)
	}
}

// crash is the panic of a reader in its goroutine, to be raised on the loop.
type crash struct {
	value any // nil: runtime.Goexit
	stack []byte
}

// Error implements error, for the log of the loop.
func (k *crash) Error() string { return fmt.Sprintf("%v, in a goroutine:\n%s", k.cause(), k.stack) }

// cause is what OnClose is told.
func (k *crash) cause() error {
	if k.value == nil {
		return errGoexit
	}
	return panicError(k.value)
}
