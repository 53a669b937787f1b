package main

import (
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/penstock-go/penstock/cmd/penstock/internal/eventlog"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/firehose"
)

// kind is what serves a KIND.
type kind struct {
	handler conn.Handler       // of connections
	packets conn.PacketHandler // of datagrams; nil: it does not serve them
}

// kinds are the names of all kinds, and whether each serves datagrams.
var kinds = map[string]bool{"echo": true, "discard": true, "firehose": false, "ws-echo": false}

// newKind returns what serves the kind of c, under t's eyes.
func newKind(c *serveCmd, t *tracker) (k kind, err error) {
	switch c.Kind {
	case "echo":
		t.Handler, k.packets = &echo{rejected: t.rejected}, echoPackets{}
	case "discard":
		t.Handler, k.packets = conn.NopHandler{}, quietPackets{}
	case "firehose":
		t.Handler = &firehose.Handler{Rejected: t.rejected, Patience: c.CloseTimeout}
	case "ws-echo":
		if t.Handler, err = newWSEcho(t.rejected, c.MaxMessage.bytes, c.CloseTimeout); err != nil {
			return k, err
		}
	}
	if d, ok := t.Handler.(conn.DrainHandler); ok {
		t.drain = d.OnDrain
	}
	if e, ok := t.Handler.(conn.EOFHandler); ok {
		t.eof = e.OnEOF
	}
	k.handler = t
	return k, nil
}

// tracker counts connections, and writes their events down, around the handler
// that serves them.
type tracker struct {
	conn.Handler
	drain, eof func(*conn.Conn) // of Handler, or nil
	log        *eventlog.Log    // nil: no events are wanted

	opened, closed, lost atomic.Uint64

	numbering sync.Mutex // so that numbers come up in the log in their order
	lastID    uint64
	ids       [maxLoops]map[*conn.Conn]uint64 // by loop, each touched on its loop only
}

// maxLoops is the most loops that a group can have.
const maxLoops = 1024

// begin writes down a new connection under the next number. The library's own
// numbers are as unique, but two loops may come here in the other order.
func (t *tracker) begin(c *conn.Conn) {
	loop := c.Loop().ID()
	if t.ids[loop] == nil {
		t.ids[loop] = make(map[*conn.Conn]uint64)
	}
	remote, local := c.RemoteAddr(), c.LocalAddr()
	t.numbering.Lock()
	defer t.numbering.Unlock()
	t.lastID++
	t.ids[loop][c] = t.lastID
	t.log.Open(t.lastID, remote, local, loop)
}

// id returns the number of c in the log.
func (t *tracker) id(c *conn.Conn) uint64 { return t.ids[c.Loop().ID()][c] }

// Wrapped implements conn.Wrapper: hooks that a tracker has no part in are the
// handler's own.
func (t *tracker) Wrapped() any { return t.Handler }

// OnOpen implements conn.Handler.
func (t *tracker) OnOpen(c *conn.Conn) {
	t.opened.Add(1)
	if t.log != nil {
		t.begin(c)
	}
	t.Handler.OnOpen(c)
}

// OnFull implements conn.FullHandler. An event speaks of the marks, and not of
// --send-memory.
func (t *tracker) OnFull(c *conn.Conn) {
	if t.log != nil && !c.Starved() {
		t.log.Full(t.id(c), c.Pending())
	}
}

// OnDrain implements conn.DrainHandler.
func (t *tracker) OnDrain(c *conn.Conn) {
	if t.log != nil && !c.Starved() {
		t.log.Drain(t.id(c), c.Pending())
	}
	if t.drain != nil {
		t.drain(c)
	}
}

// rejected hears of a message of size bytes that was refused.
func (t *tracker) rejected(c *conn.Conn, size int) {
	if t.log != nil {
		t.log.Reject(t.id(c), c.Pending(), size)
	}
}

// OnEOF implements conn.EOFHandler.
func (t *tracker) OnEOF(c *conn.Conn) {
	if t.log != nil {
		t.log.EOF(t.id(c))
	}
	if t.eof != nil {
		t.eof(c)
	} else {
		c.Close() // What a handler without the hook has anyway.
	}
}

// OnClose implements conn.Handler.
func (t *tracker) OnClose(c *conn.Conn, err error) {
	t.Handler.OnClose(c, err)
	s := c.Stats()
	t.closed.Add(1)
	t.lost.Add(s.LostBytes)
	if t.log != nil {
		t.log.Closed(t.id(c), eventlog.Closed{
			Reason:  reasonOf(err).String(),
			BytesIn: s.BytesIn, BytesOut: s.BytesOut, LostBytes: s.LostBytes,
			Full: s.Full, Drain: s.Drain, Rejected: s.Rejected, PendingMax: uint64(s.PendingMax),
		})
		delete(t.ids[c.Loop().ID()], c)
	}
}

// reasonOf is the reason behind the error of an OnClose.
func reasonOf(err error) conn.Reason {
	var ce *conn.CloseError
	switch {
	case err == nil:
		return conn.Local
	case errors.As(err, &ce):
		return ce.Reason
	case errors.Is(err, io.EOF):
		return conn.EOF
	}
	return conn.IOError
}
