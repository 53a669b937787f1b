//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"slices"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"golang.org/x/sys/unix"
)

// wideRecvs are receives into several blocks at once. One is a poll until the socket
// has something, and then a recvmsg(2) that is decided while it is submitted, so that
// blocks are bought only when there is something to put into them. One at a time
// receives, so that what came is sent on while it is in the cache.
type wideRecvs struct {
	pool  *buf.Pool
	held  int // blocks that were bought, and neither told nor given back
	list  []wideRecv
	free  []uint16 // of list
	ready []uint16 // to receive, oldest first
	vain  []uint16 // which found nothing, and go on when all answers are told
}

type wideRecv struct {
	token     aio.Token
	fd        int32
	state     wideState
	cancelled bool  // by the party: it must not poll again
	found     bool  // a poll has said that there is something
	told      uint8 // blocks before this one were told
	blocks    [aio.WideBlocks]buf.Buf
}

type wideState uint8

const (
	wideFree wideState = iota
	widePolls
	wideReady
	wideReceives
)

// get returns the place of a new one, or false when the batch field of the user data
// has no number left.
func (w *wideRecvs) get(t aio.Token, fd int32) (i uint16, ok bool) {
	switch n := len(w.free); {
	case n > 0:
		i = w.free[n-1]
		w.free = w.free[:n-1]
	case len(w.list) > aio.BatchMask:
		return 0, false
	default:
		i = uint16(len(w.list))
		w.list = append(w.list, wideRecv{})
	}
	w.list[i] = wideRecv{token: t, fd: fd, state: widePolls}
	return i, true
}

// put gives i back, and its blocks.
func (w *wideRecvs) put(i uint16) {
	w.giveBack(i)
	w.list[i].state = wideFree
	w.free = append(w.free, i)
}

// giveBack releases the blocks of i.
func (w *wideRecvs) giveBack(i uint16) {
	for b := range w.list[i].blocks {
		if r := &w.list[i].blocks[b]; !r.IsZero() {
			r.Release()
			w.held--
		}
	}
}

// left returns how many completions the answer c is still good for.
func (w *wideRecvs) left(c *CQE) int {
	return max(1, w.blocks(c.Res)-int(w.list[wideOf(c)].told))
}

// blocks returns how many blocks n bytes have filled.
func (w *wideRecvs) blocks(n int32) int {
	size := w.pool.BlockSize()
	return max(0, (int(n)+size-1)/size)
}

func wideOf(c *CQE) uint16 {
	_, _, i := aio.Unpack(c.UserData)
	return i
}

// submitWide submits op as a wide receive, and reports whether that can be.
func (e *Engine) submitWide(op *aio.Op) bool {
	i, ok := e.wide.get(op.Token, op.FD)
	if !ok {
		return false
	}
	slot := e.slots.At(op.Token.Slot)
	if slot.empty && !e.pollWide(i) {
		e.wide.put(i)
		return false
	}
	if !slot.empty {
		e.wide.await(i)
	}
	slot.group = several
	return true
}

// await has i receive when its turn comes.
func (w *wideRecvs) await(i uint16) {
	w.list[i].state = wideReady
	w.ready = append(w.ready, i)
}

// pollWide waits until there is something to receive.
func (e *Engine) pollWide(i uint16) bool {
	s := e.entry()
	if s == nil {
		return false
	}
	r := &e.wide.list[i]
	r.state = widePolls
	s.PrepPollAdd(r.fd, unix.POLLIN|unix.POLLRDHUP)
	s.UserData = r.token.Pack(kindRecvWide, i)
	e.inflight++
	return true
}

// recvReady has the next one receive, unless one does.
func (e *Engine) recvReady() {
	for w := &e.wide; len(w.ready) > 0 && w.held == 0; {
		i := w.ready[0]
		w.ready = slices.Delete(w.ready, 0, 1)
		if !e.recvWide(i) {
			e.recvNarrow(i)
		}
	}
}

// recvNarrow has i go on as a receive of one block.
func (e *Engine) recvNarrow(i uint16) {
	r := &e.wide.list[i]
	e.wide.put(i)
	e.awaitRecv(r.token, r.fd, e.large(), aio.Bulk)
}

// recvWide receives what there is.
func (e *Engine) recvWide(i uint16) bool {
	r := &e.wide.list[i]
	var rooms [aio.WideBlocks][]byte
	n := 0
	for ; n < len(rooms); n++ {
		if r.blocks[n] = e.wide.pool.Get(); r.blocks[n].IsZero() {
			break
		}
		e.wide.held++
		rooms[n] = r.blocks[n].Room()
	}
	if n == 0 {
		return false
	}
	s := e.sendEntry() // which has room for a message header beside it
	if s == nil {
		return false
	}
	msg, _ := e.arena.message(rooms[:n])
	r.state = wideReceives
	s.PrepRecvmsg(r.fd, msg, unix.MSG_DONTWAIT)
	s.UserData = r.token.Pack(kindRecvWide, i)
	e.inflight++
	return true
}

// cancelWide cancels the wide receive of t, if it has one. What is not a poll is
// decided when it is submitted, and there is nothing to cancel.
func (e *Engine) cancelWide(t aio.Token) {
	i := slices.IndexFunc(e.wide.list, func(r wideRecv) bool { return r.state != wideFree && r.token == t })
	if i < 0 {
		return
	}
	r := &e.wide.list[i]
	r.cancelled = true
	switch r.state {
	case widePolls:
		e.cancelData(t.Pack(kindRecvWide, uint16(i)))
	case wideReady:
		w := &e.wide
		w.ready = slices.DeleteFunc(w.ready, func(o uint16) bool { return o == uint16(i) })
		w.put(uint16(i))
		e.answers.add(t, aio.Recv, bulk, -int32(unix.ECANCELED))
	}
}

// completeWide tells the answer to a wide receive, as far as done has room, and
// whether that was all.
func (e *Engine) completeWide(done []aio.Completion, c *CQE) (n int, all bool) {
	i := wideOf(c)
	r := &e.wide.list[i]
	slot := e.slots.At(r.token.Slot)
	switch none := c.Res == -int32(unix.EAGAIN) || c.Res == -int32(unix.EINTR); {
	case r.cancelled && (none || r.state == widePolls):
		c.Res = -int32(unix.ECANCELED)
	case none || r.state == widePolls && c.Res >= 0:
		// What a poll has found may be no bytes, but an error that does not end the
		// connection. To poll again would not wait.
		slot.empty = none && !r.found
		if r.found = !none; r.found {
			e.wide.await(i)
		} else {
			e.wide.giveBack(i)
			e.wide.vain = append(e.wide.vain, i)
		}
		return 0, true
	}
	used := e.wide.blocks(c.Res)
	if used == 0 {
		done[0].Set(r.token, aio.Recv, c.Res, true)
		e.wide.put(i)
		return 1, true
	}
	for ; n < len(done) && int(r.told) < used; n++ {
		b := r.blocks[r.told].Take()
		e.wide.held--
		b.Extend(min(b.Cap(), int(c.Res)-int(r.told)*b.Cap()))
		r.told++
		done[n].Set(r.token, aio.Recv, int32(b.Len()), int(r.told) == used)
		done[n].In = b
	}
	if int(r.told) < used {
		return n, false
	}
	slot.fed, slot.empty = true, !c.SockNonempty()
	e.wide.put(i)
	return n, true
}

// wideOn goes on with those that have found nothing: they poll, unless a poll has said
// that there is something. A receive of one block tells what that is.
func (e *Engine) wideOn() {
	for _, i := range e.wide.vain {
		if !e.slots.At(e.wide.list[i].token.Slot).empty || !e.pollWide(i) {
			e.recvNarrow(i)
		}
	}
	e.wide.vain = e.wide.vain[:0]
}
