//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"math"
	"time"

	"github.com/penstock-go/penstock/aio"
)

// answers are completions on their way from the kernel to the party: first those
// that had to leave the completion queue early, then what is in the queue.
type answers struct {
	spilled []CQE // also ours, in the kernel's form
	head    int   // spilled[:head] are told
	scanned int   // of the completion queue's unread, so many were looked at
	sends   int   // answers to aio.Send that are not told
}

func (a *answers) push(c CQE) { a.spilled = append(a.spilled, c) }

// add has an operation answered by us, in the place of the kernel.
func (a *answers) add(t aio.Token, k aio.Kind, batch uint16, res int32) {
	if k == aio.Send {
		a.sends++
	}
	a.push(CQE{UserData: t.Pack(k, batch), Res: res})
}

func (a *answers) left() int { return len(a.spilled) - a.head }

// known returns how many answers are not told. What the kernel has put behind
// them since the last scan, as it may at any moment without DEFER_TASKRUN, waits
// for the next one.
func (a *answers) known() int { return a.left() + a.scanned }

// answer returns the i-th that is not told.
func (e *Engine) answer(i int) *CQE {
	if n := e.answers.left(); i >= n {
		return e.ring.cq.at(uint32(i - n))
	}
	return &e.answers.spilled[e.answers.head+i]
}

// consume drops the n oldest.
func (e *Engine) consume(n int) {
	if n == 0 {
		return
	}
	a := &e.answers
	e.stats.Completed += uint64(n)
	spilled := min(n, a.left())
	a.head += spilled
	if a.left() == 0 {
		a.spilled, a.head = a.spilled[:0], 0
	}
	if n -= spilled; n > 0 {
		e.ring.cq.advance(uint32(n))
		a.scanned -= n
	}
}

// Wait implements aio.Engine.
func (e *Engine) Wait(done []aio.Completion, d time.Duration) (n int, err error) {
	if e.rung && d < 0 {
		e.rung = false
		return 0, nil
	}
	var end time.Duration
	if d > 0 {
		now := e.alarm.now()
		end = now + min(d, math.MaxInt64-now)
	}
	e.woken, e.rung = false, e.rung && d == 0
	for {
		if e.recv[small].starving || e.recv[bulk].starving {
			e.refill()
			e.armStarved()
		}
		if len(e.missed)+len(e.rooms.fresh) > 0 {
			e.recallMissed()
			e.awaitRooms()
		}
		if len(e.wide.ready) > 0 {
			e.recvReady()
		}
		mayBlock := d < 0 || d > 0 && e.ringBy(end)
		block := mayBlock && !e.prompt && !e.answered() && !e.holdsBlocks() && !e.recv[small].unfed() && !e.recv[bulk].unfed()
		if block || !e.answered() || e.ring.Pending() > 0 || e.overflow {
			e.enter(block, -1)
		} else {
			e.scan()
		}
		n = e.tell(done)
		switch {
		case n > 0 || len(done) == 0:
			return n, nil
		case e.err != nil:
			err, e.err = e.err, nil
			return 0, err
		case e.woken || d == 0:
			return 0, nil
		case e.rung && d < 0:
			e.rung = false
			return 0, nil
		case d > 0:
			// What came was nobody's, or time ran out.
			e.rung = false
			if e.alarm.now() >= end {
				return 0, nil
			}
		}
	}
}

// answered reports whether there is something to tell, so that nobody may wait.
func (e *Engine) answered() bool {
	return e.sends.waiting() || e.answers.left() > 0 || e.ring.cq.ready() > 0
}

// holdsBlocks reports whether receives wait for blocks while sends that may be
// silent hold some: to sleep on those could be for ever.
func (e *Engine) holdsBlocks() bool {
	return len(e.sends.list) > e.sends.concluded && len(e.recv[small].starved)+len(e.recv[bulk].starved) > 0
}

// enter submits, waits up to d for one answer if block is set, and decides what can be.
func (e *Engine) enter(block bool, d time.Duration) {
	e.refill()
	waitFor := uint32(0)
	if block {
		waitFor = 1
	}
	n, err := e.ring.Enter(waitFor, d)
	e.stats.Submitted += uint64(n)
	if err != nil && e.err == nil {
		e.err = err
	}
	e.settle()
	if e.ring.Pending() == 0 {
		// The kernel has copied the headers, and nothing prompt is left here.
		e.arena.reset()
		e.prompt = false
	}
}

// settle looks at what has come, and concludes the optimistic sends. Their
// answers may be among those the kernel had to keep for want of room: then they
// are fetched before silence is taken for success.
func (e *Engine) settle() {
	consumed := e.ring.sq.consumed()
	for ; e.ring.Overflowed(); consumed = e.ring.sq.consumed() {
		if !e.overflow {
			e.overflow = true
			e.stats.Overflows++
		}
		if !e.sends.undecided(consumed) {
			break
		}
		e.spill()
		n, err := e.ring.Enter(0, 0)
		e.stats.Submitted += uint64(n)
		if err != nil { // Silence says nothing now.
			e.err = err
			return
		}
	}
	e.overflow = e.overflow && e.ring.Overflowed()
	e.scan()
	e.sends.conclude(consumed)
}

// scan looks at each completion once, when it has just come.
func (e *Engine) scan() {
	for ready := int(e.ring.cq.ready()); e.answers.scanned < ready; e.answers.scanned++ {
		c := e.ring.cq.at(uint32(e.answers.scanned))
		switch kind := kindOf(c); kind {
		case kindSendOpt:
			e.sends.answer(c)
		case aio.Send:
			e.countSend(c)
			if !e.holdSend(c) {
				e.answers.sends++
			}
		case kindRecall:
			e.missRecall(c)
		case aio.Recv, kindRecvWide, aio.Accept, aio.Poll, kindRoom, kindWake, kindAlarm:
			if !c.More() {
				e.inflight--
			}
		}
	}
}

func (e *Engine) countSend(c *CQE) {
	if !c.Notif() {
		e.sendAnswered(c)
	}
	switch {
	case c.More():
		e.lent++
	case c.Notif():
		e.lent--
		e.inflight--
	default:
		e.inflight--
	}
}

// spill empties the completion queue into our own memory.
func (e *Engine) spill() {
	e.scan()
	for i := range e.answers.scanned {
		switch c := e.ring.cq.at(uint32(i)); kindOf(c) {
		case kindSendOpt, kindRecall, kindIgnore:
		default:
			e.answers.push(*c)
		}
	}
	e.ring.cq.advance(uint32(e.answers.scanned))
	e.answers.scanned = 0
}

func kindOf(c *CQE) aio.Kind {
	_, k, _ := aio.Unpack(c.UserData)
	return k
}

// tell fills done: decided sends, answers to other sends, the rest.
func (e *Engine) tell(done []aio.Completion) (n int) {
	n = e.tellSends(done)
	done = done[n:]
	total := e.answers.known()
	m, two := 0, e.answers.sends > 0
	if two {
		m, total = e.tellAnsweredSends(done, total)
	}
	used := 0
answers:
	for ; used < total && (two || m < len(done)); used++ {
		c := e.answer(used)
		switch kind := kindOf(c); kind {
		case aio.Recv, aio.Accept:
			e.complete(&done[m], c)
			m++
		case kindRecvWide:
			k, all := e.completeWide(done[m:], c)
			if m += k; !all {
				break answers // done is full: the rest next time.
			}
		case aio.Poll:
			if e.completePoll(&done[m], c) {
				m++
			}
		case kindRoom:
			if e.completeRoom(&done[m], c) {
				m++
			}
		case kindWake:
			e.completeWake(c)
		case kindAlarm:
			e.rang(c)
		}
	}
	e.consume(used)
	if len(e.polls.again)+len(e.served) > 0 {
		e.pollOn()
	}
	if len(e.wide.vain) > 0 {
		e.wideOn()
	}
	if !e.wake.armed {
		e.armWake()
	}
	return n + m
}

// tellAnsweredSends tells the answers to sends among the oldest that fit done,
// and returns how many it told and how many it looked at.
func (e *Engine) tellAnsweredSends(done []aio.Completion, total int) (n, looked int) {
	for fits := len(done); looked < total && fits > 0; looked++ {
		c := e.answer(looked)
		switch kindOf(c) {
		case aio.Send:
			e.complete(&done[n], c)
			e.answers.sends--
			n++
			fits--
		case kindRecvWide:
			fits -= e.wide.left(c)
		case aio.Recv, aio.Accept, aio.Poll, kindRoom:
			fits--
		}
	}
	return n, looked
}

// complete translates one answer.
func (e *Engine) complete(done *aio.Completion, c *CQE) {
	token, kind, batch := aio.Unpack(c.UserData)
	done.Set(token, kind, c.Res, !c.More())
	done.Batch = batch
	switch {
	case kind == aio.Recv:
		e.completeRecv(done, c)
	case kind == aio.Send && c.Notif():
		done.First, done.Res, done.Copied = false, 0, c.Copied()
	case kind == aio.Send:
		done.Res = tookOf(c.Res)
	}
}
