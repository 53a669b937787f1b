package ws

import (
	"context"
	"errors"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// Dial makes a client for an address and has it connect: NewClient and Client.Dial.
// Who dials one server many times keeps the Client.
//
// Thread: any but that of a loop: there it returns conn.ErrWouldBlock.
func Dial(ctx context.Context, g *reactor.Group, address string, h Handler, cfg ClientConfig) (Ref, error) {
	k, err := NewClient(address, h, cfg)
	if err != nil {
		return Ref{}, err
	}
	return k.Dial(ctx, g)
}

// Dial connects on one loop of a group after another, and waits until OnOpen has run,
// or until it has failed: the error is the *CloseError that OnClose was told, that of
// the connection, or that of ctx, which means nothing any more when Dial has
// returned. With Reconnect it waits for the first WebSocket that opens.
//
// Thread: any but that of a loop: there it returns conn.ErrWouldBlock.
func (k *Client) Dial(ctx context.Context, g *reactor.Group) (Ref, error) {
	if reactor.OnLoop() {
		return Ref{}, conn.ErrWouldBlock
	}
	at := g.Loop(int((k.next.Add(1) - 1) % uint32(g.Len())))
	done := make(chan answer, 1)
	a := &attempt{Client: k, done: done}
	if err := k.dialer.Start(ctx, at, k.network, k.address, a); err != nil {
		return Ref{}, err
	}
	select {
	case got := <-done:
		return got.ref, got.err
	case <-at.Done():
		return Ref{}, reactor.ErrEnded
	case <-ctx.Done():
	}
	at.Post(func(l *reactor.Loop) { a.cancel(l) })
	select { // What came first counts.
	case got := <-done:
		if cause := context.Cause(ctx); got.err != nil && !errors.Is(got.err, cause) {
			got.err = cause
		}
		return got.ref, got.err
	case <-at.Done():
		return Ref{}, reactor.ErrEnded
	}
}

// Start begins to connect on a loop, and does not wait: the handler hears what comes
// of it. See conn.Dialer.Start for ctx and the error.
//
// Thread: any.
func (k *Client) Start(ctx context.Context, at reactor.Remote) error {
	return k.dialer.Start(ctx, at, k.network, k.address, k)
}

// attempt is a Client for one connection that somebody waits for.
type attempt struct {
	*Client
	done chan answer // one; nil once it was given
	c    *conn.Conn  // as far as it has come
	gone bool        // nobody waits any more
}

type answer struct {
	ref Ref
	err error
}

// OnOpen implements conn.Handler.
func (a *attempt) OnOpen(c *conn.Conn) {
	a.c = c
	if a.gone {
		c.Abort()
		return
	}
	a.Client.OnOpen(c)
}

// OnData implements conn.Handler.
func (a *attempt) OnData(c *conn.Conn, in *buf.Buf) {
	if a.Client.OnData(c, in); a.done != nil {
		if w := of(c); w.opened && !w.told {
			a.tell(answer{ref: w.Ref()})
		}
	}
}

// OnClose implements conn.Handler.
func (a *attempt) OnClose(c *conn.Conn, err error) {
	defer func() { // Also when the handler panics.
		w := a.of(c)
		told := w.unopened(err)
		if w.opened {
			told = w.verdict(err)
		}
		a.tell(answer{err: told})
	}()
	a.Client.OnClose(c, err)
}

func (a *attempt) tell(got answer) {
	if a.done != nil {
		a.done <- got
		a.done = nil
	}
}

// cancel gives the connection up, unless it is open.
func (a *attempt) cancel(l *reactor.Loop) {
	if a.done == nil {
		return
	}
	if a.gone = true; a.c != nil {
		l.As(a.c)
		a.c.Abort()
	}
}
