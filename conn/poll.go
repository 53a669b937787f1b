package conn

import (
	"syscall"

	"github.com/penstock-go/penstock/aio"
)

// polls are what parts of the library wait for of a socket, beside the receive
// and the send of its connection: room in it, bytes that the kernel itself is to
// move, its failure. There may be one Poll of a connection in flight, so they share
// it.
type polls struct {
	want       uint32 // of pollIn, pollOut and pollErr
	armed      uint32 // those of the Poll in flight; 0 = none is
	cancelling bool
	in         func() // what runs when pollIn comes
}

// await waits for events, once each. pollOut touches the connection; pollErr ends
// it, if it has failed.
func (c *Conn) await(events uint32) {
	if c.state >= ending {
		return // Nobody would call it home.
	}
	c.aside().polls.want |= events
	c.armPoll()
}

// awaits reports whether one of events is waited for.
func (c *Conn) awaits(events uint32) bool {
	return c.beside != nil && c.beside.polls.want&events != 0
}

// unawait ends the wait for events.
func (c *Conn) unawait(events uint32) {
	if c.awaits(events) {
		c.beside.polls.want &^= events
		c.armPoll()
	}
}

// polling reports whether a Poll is in flight.
func (c *Conn) polling() bool { return c.beside != nil && c.beside.polls.armed != 0 }

// armPoll brings the Poll in flight to what is waited for.
func (c *Conn) armPoll() {
	switch p := &c.beside.polls; {
	case p.armed == 0 && p.want != 0:
		p.armed = p.want
		c.submit(aio.Op{Kind: aio.Poll, Events: p.want})
	case p.armed != 0 && !p.cancelling && (p.want == 0 || p.want&^p.armed != 0):
		p.cancelling = true
		c.submit(aio.Op{Kind: aio.Cancel, Target: aio.Poll})
	}
}

// polled settles the completion of a Poll.
func (c *Conn) polled(done *aio.Completion) {
	p := &c.beside.polls
	armed, got := p.armed, uint32(done.Res)
	p.armed, p.cancelling = 0, false
	if c.state >= ending || c.offline {
		p.want = 0
		c.proceed()
		return
	}
	switch {
	case done.Res < 0 && done.Res != -int32(syscall.ECANCELED):
		got = armed // Whoever tries meets the failure.
	case done.Res < 0:
		got = 0
	case got&(pollErr|pollHup) != 0:
		got = armed
	}
	fired := p.want & got
	p.want &^= fired
	if c.armPoll(); fired&pollErr != 0 && done.Res >= 0 && done.Res&pollErr != 0 { // Both sides may only have ended: pollHup.
		c.lookFailed()
	}
	if fired&pollOut != 0 || c.state > open { // A Detach may have waited for it.
		c.touch()
	}
	if fired&pollIn != 0 {
		p.in()
	}
}

// lookFailed ends a connection that is not read if it has failed.
func (c *Conn) lookFailed() {
	if errno := socketError(int(c.fd)); errno != 0 {
		c.fail("recv", -int(errno))
	}
}
