package subject

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// inputMost is the most that one OnData has: the limit leaves room for an
// answer to all of it, past the mark at which reading pauses.
const inputMost = reactor.BulkBlock

// pieceBytes is how much each write of the protocol pieces has.
const pieceBytes = 64

// counters are what a service would count for itself.
type counters struct {
	full, drained, refused, failed atomic.Uint64
}

// hooks are those that every handler here has.
type hooks struct{ *counters }

// OnOpen implements conn.Handler.
func (hooks) OnOpen(*conn.Conn) {}

// OnFull implements conn.FullHandler.
func (h hooks) OnFull(*conn.Conn) { h.full.Add(1) }

// OnDrain implements conn.DrainHandler.
func (h hooks) OnDrain(*conn.Conn) { h.drained.Add(1) }

// OnError implements conn.ErrorHandler.
func (h hooks) OnError(*conn.Conn, error) { h.refused.Add(1) }

// OnClose implements conn.Handler.
func (h hooks) OnClose(_ *conn.Conn, err error) {
	if err != nil {
		h.failed.Add(1)
	}
}

// handler returns the handler of a protocol.
func (s *server) handler(protocol string) (conn.Handler, error) {
	h := hooks{&s.counters}
	switch protocol {
	case "echo":
		return echo{h}, nil
	case "pieces":
		return pieces{h}, nil
	case "alloc":
		a := &alloc{hooks: h}
		for range s.group.Len() {
			a.kept = append(a.kept, &heap{})
		}
		return a, nil
	case "fanout":
		f := &fanout{hooks: h, group: s.group}
		for range s.group.Len() {
			f.loops = append(f.loops, &audience{})
		}
		return f, nil
	}
	if h, err := s.webSocket(protocol); h != nil || err != nil {
		return h, err
	}
	return nil, fmt.Errorf("unknown protocol %q: it is one of %s", protocol, strings.Join(Protocols(), ", "))
}

// echo sends back what comes, without a copy.
type echo struct{ hooks }

// OnData implements conn.Handler.
func (e echo) OnData(c *conn.Conn, in *buf.Buf) {
	if c.Send(in) >= conn.Rejected {
		e.refused.Add(1)
		c.Abort()
	}
}

// pieces sends back what comes by many small writes.
type pieces struct{ hooks }

// OnData implements conn.Handler.
func (p pieces) OnData(c *conn.Conn, in *buf.Buf) {
	for piece := range slices.Chunk(in.Bytes(), pieceBytes) {
		if _, err := c.Write(piece); err != nil {
			p.refused.Add(1)
			c.Abort()
			return
		}
	}
}

const (
	listNodes = 8
	listsKept = 8192
)

// node is 128 bytes with something for the collector to follow.
type node struct {
	next *node
	_    [15]uint64
}

// heap is what one loop keeps alive.
type heap struct {
	lists [listsKept]*node
	at    int
}

// alloc echoes, and makes garbage.
type alloc struct {
	hooks
	kept []*heap // of each loop
}

// OnData implements conn.Handler.
func (a *alloc) OnData(c *conn.Conn, in *buf.Buf) {
	var list *node
	for range listNodes {
		list = &node{next: list}
	}
	h := a.kept[c.Loop().ID()]
	h.lists[h.at%listsKept] = list
	h.at++
	echo{a.hooks}.OnData(c, in)
}

// fanout sends what publishers say to all subscribers.
type fanout struct {
	hooks
	group *reactor.Group
	loops []*audience
}

// audience is the subscribers on one loop. It is touched there only.
type audience struct{ conns []*conn.Conn }

// speaker is a connection that publishes; unread is what came of the next.
type speaker struct{ unread []byte }

// listener is a connection that has subscribed; at is its place in the audience.
type listener struct{ at int }

// frameHead is the length of P and the payload's length.
const frameHead = 5

// OnData implements conn.Handler.
func (f *fanout) OnData(c *conn.Conn, in *buf.Buf) {
	data := in.Bytes()
	if c.User() == nil {
		switch data[0] {
		case 'S':
			a := f.loops[c.Loop().ID()]
			c.SetUser(&listener{at: len(a.conns)})
			a.conns = append(a.conns, c)
			return
		case 'P':
			c.SetUser(&speaker{})
		default:
			c.Abort()
			return
		}
	}
	s, ok := c.User().(*speaker)
	if !ok {
		return // A subscriber says nothing more.
	}
	s.unread = append(s.unread, data...)
	for len(s.unread) >= frameHead {
		n := int(binary.BigEndian.Uint32(s.unread[1:frameHead]))
		if len(s.unread) < frameHead+n {
			return
		}
		f.publish(c.Loop(), s.unread[frameHead:frameHead+n])
		s.unread = append(s.unread[:0], s.unread[frameHead+n:]...)
	}
}

// publish has one copy of the payload go to everybody.
func (f *fanout) publish(here *reactor.Loop, payload []byte) {
	shared := buf.NewShared(payload)
	f.tell(here, shared)
	for i := range f.loops {
		if i != here.ID() {
			shared.Retain()
			f.group.Loop(i).Post(func(l *reactor.Loop) {
				f.tell(l, shared)
				shared.Release()
			})
		}
	}
	shared.Release()
}

// tell sends to the subscribers of one loop.
func (f *fanout) tell(l *reactor.Loop, shared *buf.Shared) {
	for _, c := range f.loops[l.ID()].conns {
		if c.SendShared(shared) >= conn.Rejected {
			f.refused.Add(1)
		}
	}
}

// OnClose implements conn.Handler.
func (f *fanout) OnClose(c *conn.Conn, err error) {
	f.hooks.OnClose(c, err)
	if s, ok := c.User().(*listener); ok {
		a := f.loops[c.Loop().ID()]
		last := a.conns[len(a.conns)-1]
		last.User().(*listener).at = s.at
		a.conns[s.at] = last
		a.conns = a.conns[:len(a.conns)-1]
	}
}
