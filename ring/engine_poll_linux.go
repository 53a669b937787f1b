//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"github.com/penstock-go/penstock/aio"
	"golang.org/x/sys/unix"
)

// polls are the Polls that the kernel may end for nothing: it adds POLLRDHUP to
// what is asked for, so a Poll for room on a connection whose peer has
// half-closed ends at once, over and over. Such a one goes on as a multishot
// poll, which tells the same event once and then waits for the next.
//
// What asks for POLLIN or POLLRDHUP is answered by an end of file too, and is
// not listed here.
type polls struct {
	out   map[aio.Token]outPoll
	next  uint16      // the last number given to a multishot poll
	again []aio.Token // to go on, when all answers are told
}

type outPoll struct {
	fd        int32
	events    uint32
	batch     uint16 // in its user data: oneShot, or the number of a multishot poll
	cancelled bool   // by the party, so it must not go on
}

// oneShot is the batch of a listed poll that is not a multishot one; 0 is that of
// those that are not listed.
const oneShot = 1

// always are the events that nobody has to ask for, as poll(2) says.
const always = unix.POLLERR | unix.POLLHUP | unix.POLLNVAL

func (e *Engine) submitPoll(op *aio.Op) {
	batch := uint16(0)
	if op.Events&(unix.POLLIN|unix.POLLRDHUP) == 0 {
		batch = oneShot
		if e.polls.out == nil {
			e.polls.out = map[aio.Token]outPoll{}
		}
		e.polls.out[op.Token] = outPoll{fd: op.FD, events: op.Events, batch: batch}
	}
	s := e.entry()
	if s == nil {
		e.refuse(op.Token, aio.Poll, batch)
		return
	}
	s.PrepPollAdd(op.FD, op.Events)
	s.UserData = op.Token.Pack(aio.Poll, batch)
	e.inflight++
}

// completePoll tells one answer to a poll, or reports false: it was for nothing,
// or from a multishot poll that has told its Poll's completion already.
func (e *Engine) completePoll(done *aio.Completion, c *CQE) bool {
	token, _, batch := aio.Unpack(c.UserData)
	if batch != 0 {
		p, ok := e.polls.out[token]
		if !ok || p.batch != batch {
			return false
		}
		if c.Res >= 0 && uint32(c.Res)&(p.events|always) == 0 {
			switch {
			case c.More():
				return false
			case !p.cancelled:
				e.polls.again = append(e.polls.again, token)
				return false
			}
			c.Res = -int32(unix.ECANCELED) // The cancel came behind the answer, and found nothing.
		}
		delete(e.polls.out, token)
		if c.More() {
			e.served = append(e.served, c.UserData)
		}
	}
	done.Set(token, aio.Poll, c.Res, true)
	return true
}

// cancelPoll returns the batch by which the kernel knows the poll of t.
func (e *Engine) cancelPoll(t aio.Token) uint16 {
	p, ok := e.polls.out[t]
	if ok {
		p.cancelled = true
		e.polls.out[t] = p
	}
	return p.batch
}

// pollOn goes on with the polls that have told nothing, and ends those that have served.
func (e *Engine) pollOn() {
	for _, t := range e.polls.again {
		p := e.polls.out[t]
		e.polls.next = max(oneShot+1, (e.polls.next+1)&aio.BatchMask)
		p.batch = e.polls.next
		e.polls.out[t] = p
		s := e.entry()
		if s == nil {
			e.refuse(t, aio.Poll, p.batch)
			continue
		}
		s.PrepPollAddMultishot(p.fd, p.events)
		s.UserData = t.Pack(aio.Poll, p.batch)
		e.inflight++
	}
	e.polls.again = e.polls.again[:0]
	for _, data := range e.served {
		e.cancelData(data)
	}
	e.served = e.served[:0]
}
