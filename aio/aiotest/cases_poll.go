package aiotest

import (
	"syscall"

	"github.com/penstock-go/penstock/aio"
)

// pollFor polls and returns the result, which must come.
func (p *party) pollFor(events uint32) int32 {
	p.r.t.Helper()
	p.poll(events)
	p.r.until("a poll", func() bool { return !p.polling })
	return p.polled[len(p.polled)-1]
}

// wants reports an error unless a result has all of these events.
func (p *party) wants(what string, res int32, events uint32) {
	p.r.t.Helper()
	if res < 0 || uint32(res)&events != events {
		p.r.t.Errorf("%s: poll told %#x, want %#x", what, res, events)
	}
}

// stays reports an error when the poll of p ends although nothing has happened.
func (p *party) stays(what string) {
	p.r.t.Helper()
	p.r.turns(20)
	if !p.polling {
		p.r.t.Errorf("%s: poll told %#x", what, p.polled[len(p.polled)-1])
	}
}

// casePoll: one completion a Poll, when the event is there, also when it was
// there before.
func casePoll(r *rig) {
	p := r.connect()
	p.wants("an empty socket", p.pollFor(pollOut), pollOut)
	p.wants("an empty socket", p.pollFor(pollIn|pollOut), pollOut)
	for range 3 {
		p.in = nil
		p.poll(pollIn)
		p.stays("nothing to read")
		p.feed = []byte("x")
		r.until("a poll", func() bool { return !p.polling })
		p.wants("a byte", p.polled[len(p.polled)-1], pollIn)
		p.wants("the same byte", p.pollFor(pollIn|pollRDHup), pollIn)
		p.recv()
		r.until("the byte", func() bool { return len(p.in) == 1 })
		p.cancel(aio.Recv)
		r.until("end of a cancelled recv", func() bool { return !p.armed })
	}
	n := len(p.polled)
	r.turns(20)
	if len(p.polled) != n {
		r.t.Error("a poll was told twice")
	}
	p.fillUp()
	p.poll(pollOut)
	p.stays("no room")
	p.drain()
	p.deaf = false
	r.until("room", func() bool { return !p.polling && !p.sending })
	p.out = nil
	p.wants("room", p.polled[len(p.polled)-1], pollOut)
}

// stuff fills the socket and leaves no send behind.
func (p *party) stuff() {
	p.r.t.Helper()
	p.fillUp()
	p.cancel(aio.Send)
	p.r.until("end of a cancelled send", p.quiet)
	p.out, p.full, p.sendErr = nil, false, nil
}

// casePollHalfClosed: the peer's end of file is an event for who asks to read,
// and none for who waits for room.
func casePollHalfClosed(r *rig) {
	p := r.connect()
	p.stuff()
	p.poll(pollOut)
	r.turns(3)
	p.far.closeWrite()
	p.stays("no room, and an end of file")
	p.cancel(aio.Poll)
	r.until("end of a cancelled poll", p.quiet)
	p.wants("an end of file", p.pollFor(pollIn), pollIn)
	p.wants("an end of file", p.pollFor(pollRDHup), pollRDHup)
	for i := range 2 {
		p.poll(pollOut)
		if i == 0 {
			p.stays("no room, behind an end of file")
			p.cancel(aio.Poll)
			r.until("end of a cancelled poll", p.quiet)
			p.poll(pollOut)
		}
		r.until("room", func() bool { p.drain(); return !p.polling })
		p.wants("room", p.polled[len(p.polled)-1], pollOut)
		p.wants("still room", p.pollFor(pollOut), pollOut)
		p.stuff()
	}
	p.poll(pollOut) // and is cancelled when the rig ends
}

// casePollBeside: a Poll, a Recv and a Send share a descriptor, and each ends as
// it would alone, whichever came first.
func casePollBeside(r *rig) {
	for _, pollsFirst := range []bool{true, false} {
		p := r.connect()
		if pollsFirst {
			p.wants("an empty socket", p.pollFor(pollOut), pollOut)
		}
		p.recv()
		p.wants("beside a recv", p.pollFor(pollOut), pollOut)
		p.feed = []byte("x")
		r.until("the byte", func() bool { return len(p.in) == 1 })
		p.poll(pollIn)
		p.stays("the byte was received")
		p.far.closeWrite()
		r.until("the end of file", func() bool { return p.eof && !p.polling })
		p.wants("an end of file", p.polled[len(p.polled)-1], pollIn)

		p = r.connect()
		if pollsFirst {
			p.poll(pollIn)
		}
		p.fillUp()
		if !pollsFirst {
			p.poll(pollIn)
		}
		p.stays("nothing to read")
		p.feed = []byte("y")
		r.until("a poll", func() bool { return !p.polling })
		p.wants("a byte", p.polled[len(p.polled)-1], pollIn)
		p.drain()
		p.deaf = false
		r.until("the send that waited", func() bool { return !p.sending })
		p.out = nil
		p.recv()
		r.until("the byte", func() bool { return string(p.in) == "y" })
	}
}

// casePollCancel: a cancelled poll ends once, with what it waited for or with
// ECANCELED; a cancel of none does nothing.
func casePollCancel(r *rig) {
	p := r.connect()
	p.cancel(aio.Poll)
	for i := range 200 {
		n := len(p.polled)
		p.poll([]uint32{pollIn, pollIn | pollRDHup}[i%2])
		r.turns(r.rng.IntN(3))
		if i%3 == 0 {
			p.feed = []byte("x")
			p.pumpFeed()
		}
		p.cancel(aio.Poll)
		if i%5 == 0 {
			p.cancel(aio.Poll)
		}
		r.until("end of a cancelled poll", func() bool { return !p.polling })
		r.turns(r.rng.IntN(3))
		if len(p.polled) != n+1 {
			r.t.Fatalf("%d completions of one poll", len(p.polled)-n)
		}
		if res := p.polled[n]; res != -int32(syscall.ECANCELED) && res&pollIn == 0 {
			r.t.Fatalf("a cancelled poll told %#x", res)
		}
	}
	p.want = true
	r.until("the bytes", func() bool { return len(p.in) == 67 })
}

// casePollReset: a reset ends a poll, whatever it waits for, and a later one too.
func casePollReset(r *rig) {
	p := r.connect()
	p.poll(pollIn)
	r.turns(3)
	p.far.reset()
	p.farErr = syscall.ECONNRESET
	r.until("the reset", func() bool { return !p.polling })
	p.wants("a reset", p.polled[0], pollErr)
	p.wants("a dead connection", p.pollFor(0), pollHup)
}

// casePollListener: a listener is ready while somebody waits, and what a poll
// tells is still there for the accept.
func casePollListener(r *rig) {
	fd, dial := r.net.listen(r.t)
	l := r.adopt(fd, nil)
	l.poll(pollIn)
	l.stays("nobody has dialled")
	far := dial()
	r.until("a poll", func() bool { return !l.polling })
	l.wants("somebody waits", l.polled[0], pollIn)
	l.wants("he still does", l.pollFor(pollIn), pollIn)
	for len(l.accepted) == 0 {
		if !l.armed {
			l.accept()
		}
		r.turns(1)
	}
	r.adopt(l.accepted[0], far)
	if l.armed {
		l.cancel(aio.Accept)
		r.until("end of a cancelled accept", func() bool { return !l.armed })
	}
	l.poll(pollIn)
	l.stays("nobody is left")
	far = dial()
	r.until("a poll", func() bool { return !l.polling })
	r.until("the second one", func() bool {
		if !l.armed {
			l.accept()
		}
		return len(l.accepted) == 2
	})
	r.adopt(l.accepted[1], far)
}

// casePollOthers: pipes, datagrams, counters and clocks.
func casePollOthers(r *rig) {
	for name, o := range r.net.others(r.t) {
		p := r.adopt(o.fd, nil)
		for range 3 {
			p.poll(o.events)
			p.stays(name + ", calm")
			o.fire()
			r.until(name, func() bool { return !p.polling })
			p.wants(name, p.polled[len(p.polled)-1], o.events)
			p.wants(name+" again", p.pollFor(o.events), o.events)
			o.calm()
		}
		p.poll(o.events)
		r.turns(1)
		p.cancel(aio.Poll)
		o.fire()
		r.until("end of a cancelled poll", p.quiet)
		// Another party of the same descriptor.
		p.leave()
		q := r.adopt(o.fd, nil)
		q.wants(name+", next party", q.pollFor(o.events), o.events)
	}
	// What is no descriptor fails; the rig's end does not close it.
	p := r.adopt(1<<20, nil)
	if r.net.name() != "fake" {
		if res := p.pollFor(pollIn); res != -int32(syscall.EBADF) {
			r.t.Errorf("poll of no descriptor told %d, want EBADF", res)
		}
	}
	p.leave()
}

// casePollConnect: connect(2), a Poll for room, then what a connection does.
func casePollConnect(r *rig) {
	fd, accept := r.net.connecting(r.t)
	if accept == nil {
		return
	}
	p := r.adopt(fd, nil)
	p.wants("connected", p.pollFor(pollOut), pollOut)
	p.far = accept()
	p.recv()
	p.feed = []byte("hello")
	p.sendAndCompare(r.random(100_000))
	r.until("bytes of the peer", func() bool { return string(p.in) == "hello" })
}

// casePollClose: the engine closes under polls of every kind.
func casePollClose(r *rig) {
	var fds []int32
	for _, events := range []uint32{pollIn, pollOut} {
		p := r.connect()
		if events == pollOut {
			p.stuff()
			p.far.closeWrite()
		}
		p.poll(events)
		r.turns(2)
		p.leave()
		fds = append(fds, p.fd)
	}
	if err := r.e.Close(); err != nil {
		r.t.Errorf("Close: %v", err)
	}
	for _, fd := range fds {
		r.net.release(fd)
	}
	r.closed = true
}
