//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"github.com/penstock-go/penstock/aio"
	"golang.org/x/sys/unix"
)

// rooms are the sends on which the kernel has given up: one that waits for room on a
// connection whose peer has half-closed is tried 128 times at once, for POLLRDHUP. In one
// piece it blocks in a worker thread then; in several, by sendmsg, it fails with EAGAIN,
// and a party that is told so asks again at once, for ever. Instead it is told, with
// nothing taken, when a multishot poll has seen room: that tells POLLRDHUP once only.
type rooms struct {
	held  map[aio.Token]heldSend
	next  uint16      // the last number given to a poll
	fresh []aio.Token // without a poll yet
}

type heldSend struct {
	batch uint16 // of the send
	poll  uint16 // the batch of its poll; 0: there is none yet
}

// holdSend keeps back the answer to a send, and reports whether it is of that kind.
func (e *Engine) holdSend(c *CQE) bool {
	t, _, batch := aio.Unpack(c.UserData)
	if c.Res != -int32(unix.EAGAIN) || c.More() || c.Notif() || e.slots.At(t.Slot).recalled {
		return false
	}
	if e.rooms.held == nil {
		e.rooms.held = map[aio.Token]heldSend{}
	}
	e.rooms.held[t] = heldSend{batch: batch}
	e.rooms.fresh = append(e.rooms.fresh, t)
	c.UserData = uint64(kindIgnore) // Nobody is told of this one.
	return true
}

// awaitRooms submits the polls that are due.
func (e *Engine) awaitRooms() {
	r := &e.rooms
	for len(r.fresh) > 0 {
		t := r.fresh[0]
		r.fresh = r.fresh[1:]
		h, ok := r.held[t]
		if !ok || h.poll != 0 { // It was cancelled meanwhile.
			continue
		}
		s := e.entry()
		if s == nil {
			delete(r.held, t)
			e.refuse(t, aio.Send, h.batch)
			continue
		}
		r.next = max(1, (r.next+1)&aio.BatchMask)
		h.poll = r.next
		r.held[t] = h
		s.PrepPollAddMultishot(e.slots.At(t.Slot).fd, unix.POLLOUT)
		s.UserData = t.Pack(kindRoom, h.poll)
		e.inflight++
	}
}

// completeRoom tells of the send whose poll this answers, or reports false: there is
// no room yet, or nobody waits. It took nothing, so nobody minds that it is told behind
// what was received.
func (e *Engine) completeRoom(done *aio.Completion, c *CQE) bool {
	t, _, poll := aio.Unpack(c.UserData)
	h, ok := e.rooms.held[t]
	if !ok || h.poll != poll {
		return false
	}
	if c.More() {
		if c.Res >= 0 && uint32(c.Res)&(unix.POLLOUT|always) == 0 {
			return false
		}
		e.served = append(e.served, c.UserData)
	}
	delete(e.rooms.held, t)
	done.Set(t, aio.Send, 0, true)
	done.Batch = h.batch
	return true
}

// cancelHeld answers a send that is kept back, and reports whether there was one.
func (e *Engine) cancelHeld(t aio.Token) bool {
	h, ok := e.rooms.held[t]
	if !ok {
		return false
	}
	delete(e.rooms.held, t)
	if h.poll != 0 {
		e.cancelData(t.Pack(kindRoom, h.poll))
	}
	e.answers.add(t, aio.Send, h.batch, -int32(unix.ECANCELED))
	return true
}
