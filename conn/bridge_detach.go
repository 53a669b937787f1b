package conn

import (
	"net"

	"github.com/penstock-go/penstock/reactor"
)

// detached is what a Detach is told.
type detached struct {
	Departure
	err error
}

// Detach takes the connection out of the library, as [Conn.Detach] does, and
// returns when it has left, or why it could not: then it is closed. Input is what
// nobody has read. All else that is called or waits returns net.ErrClosed. On a
// loop it does nothing, and returns ErrWouldBlock.
func (n *NetConn) Detach() (Departure, error) {
	if reactor.OnLoop() {
		return Departure{}, n.fault("detach", ErrWouldBlock)
	}
	told := make(chan detached, 1)
	n.mu.Lock()
	was := n.done
	if !was {
		n.leaving, n.exit = true, told
	}
	n.mu.Unlock()
	if was || !n.closing() {
		return Departure{}, n.fault("detach", net.ErrClosed)
	}
	if !n.ref.Do(func(c *Conn) { n.leave(c, told) }) {
		return Departure{}, n.fault("detach", net.ErrClosed)
	}
	select {
	case d := <-told:
		return d.Departure, n.fault("detach", d.err)
	case <-n.ref.g.remote.Done(): // The loop has failed, or was faster.
	}
	select {
	case d := <-told:
		return d.Departure, n.fault("detach", d.err)
	default:
		return Departure{}, n.fault("detach", net.ErrClosed)
	}
}

// leave begins a Detach on the loop.
func (n *NetConn) leave(c *Conn, told chan<- detached) {
	n.mu.Lock()
	n.exit = nil
	n.mu.Unlock()
	c.Detach(func(d Departure, err error) {
		n.hands.Lock() // A Read may still be at it.
		defer n.hands.Unlock()
		if err == nil {
			d.Input, n.rest = append(n.rest, d.Input...), nil
		}
		told <- detached{d, err}
	})
}

// attach is attach of a NetConn, which leaves its own loop before.
func (n *NetConn) attach(heard []byte, put func(fd int, heard []byte) error) error {
	d, err := n.Detach()
	if err != nil {
		return err
	}
	if err = put(d.FD, append(append([]byte(nil), heard...), d.Input...)); err != nil {
		closeSocket(d.FD)
	}
	return err
}
