package conn

import (
	"context"

	"github.com/penstock-go/penstock/reactor"
)

// NetDial is DialContext that returns a *NetConn, for clients that take a
// net.Conn: it makes the DialContext of an http.Transport. A d.Reconnect serves
// the first connection alone; see [Conn.NetConn].
//
// Thread: any but that of a loop: there it returns ErrWouldBlock.
func (d *Dialer) NetDial(ctx context.Context, at reactor.Remote, network, address string) (*NetConn, error) {
	opened := make(chan *NetConn, 1)
	h := &Funcs{Open: func(c *Conn) {
		n, _ := c.NetConn() // nil only if c was closed before it opened.
		select {
		case opened <- n:
		default:
		}
	}}
	if _, err := d.DialContext(ctx, at, network, address, h); err != nil {
		return nil, err
	}
	if n := <-opened; n != nil {
		return n, nil
	}
	return nil, ErrClosed
}
