package conn

import "github.com/penstock-go/penstock/aio"

// InFlight implements reactor.Sink. It is not for users.
func (c *Conn) InFlight(list []aio.Completion) []aio.Completion {
	if c.armed {
		list = append(list, aio.Lost(c.token, aio.Recv, 0, true))
	}
	if c.polling() {
		list = append(list, aio.Lost(c.token, aio.Poll, 0, true))
	}
	if c.out == nil {
		return list
	}
	batch := c.out.op.Batch
	if c.sending {
		list = append(list, aio.Lost(c.token, aio.Send, batch, true))
	}
	for _, l := range c.out.loans {
		if !c.sending || l.batch != batch {
			list = append(list, aio.Lost(c.token, aio.Send, l.batch, false))
		}
	}
	return list
}

// InFlight implements reactor.Sink.
func (a *acceptor) InFlight(list []aio.Completion) []aio.Completion {
	if !a.armed {
		return list
	}
	kind := aio.Accept
	if a.listener.limit != nil {
		kind = aio.Poll
	}
	return append(list, aio.Lost(a.token, kind, 0, true))
}

// InFlight implements reactor.Sink. It is not for users.
func (p *PacketConn) InFlight(list []aio.Completion) []aio.Completion {
	if !p.polling {
		return list
	}
	return append(list, aio.Lost(p.token, aio.Poll, 0, true))
}

// InFlight implements reactor.Sink.
func (t *try) InFlight(list []aio.Completion) []aio.Completion {
	if !t.polling {
		return list
	}
	return append(list, aio.Lost(t.token, aio.Poll, 0, true))
}
