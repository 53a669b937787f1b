package conn

// Writev copies the pieces of v and queues them as one message; see Write.
func (c *Conn) Writev(v [][]byte) (n int, err error) {
	if s := c.SendVec(v); s >= Rejected {
		return 0, s.Err()
	}
	for _, p := range v {
		n += len(p)
	}
	return n, nil
}

// SendVec is Writev with the answer of a Send.
func (c *Conn) SendVec(v [][]byte) Status {
	n := 0
	for _, p := range v {
		n += len(p)
	}
	s := c.admit(n)
	if s != Queued || n == 0 {
		return s
	}
	if !c.store(n, v) {
		return c.refund(n)
	}
	return c.admitted()
}

// SendHeaded is SendVec of a header and what it is the header of. It is the cheapest
// way for small messages, many of which go out together.
func (c *Conn) SendHeaded(head, p []byte) Status {
	n := len(head) + len(p)
	if o := c.own(); o != nil && n > 0 && c.state == open {
		if tail := o.end().room(); tail != nil && n <= len(tail.Room()) && c.chargeWithin(n) {
			o.bounds.add(n)
			room := tail.Room()
			copy(room[copy(room, head):], p)
			tail.Extend(n)
			return c.admitted()
		}
	}
	v := [2][]byte{head, p}
	return c.SendVec(v[:])
}
