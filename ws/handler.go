package ws

import (
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
)

// Handler is what a WebSocket does with its events. Whoever is given nil instead answers
// conn.ErrNoHandler.
//
// Thread: every method runs on the connection's loop, and must not block. One
// Handler that serves a whole listener is called from all loops at once, each
// time with a connection of the calling loop.
type Handler interface {
	// OnOpen runs once, first: the handshake is done, and the peer may be sent to.
	OnOpen(c *Conn)
	// OnMessage runs for each whole message. m is lent until it returns.
	OnMessage(c *Conn, m *Message)
	// OnClose runs once, last, for every connection that was opened; a client also
	// hears it of one that was not, see [Client]. err is never nil; see [CloseError].
	OnClose(c *Conn, err *CloseError)
}

// The interfaces below are optional. A Handler that has them is asked once, when
// it is given to a server or a client, never at an event.

// UpgradeHandler decides on handshakes: see [Request].
type UpgradeHandler interface {
	// OnUpgrade runs before a handshake is answered. It may refuse it, choose a
	// subprotocol, add headers, and give the connection another handler. r is
	// lent until it returns. It is for servers only.
	OnUpgrade(r *Request)
}

// FragmentHandler takes messages in pieces, as they come, instead of whole ones:
// OnMessage is never called. No memory is taken for a message, but for the bytes of a
// compressed one, which is told, 64 KiB at a time, when all of them have come. It is
// told to its end, also if reading is paused meanwhile.
type FragmentHandler interface {
	// OnFragment runs for each piece of a message, one at least, in order. They
	// are not the fragments that the peer has made. Text is checked as it comes,
	// so a piece may end within a character. f is lent until OnFragment returns.
	OnFragment(c *Conn, f *Fragment)
}

// FullHandler hears that the send queue has filled, as conn.FullHandler does.
type FullHandler interface{ OnFull(c *Conn) }

// DrainHandler hears that it has emptied, as conn.DrainHandler does: also after
// Close, while what was queued is flushed. What is sent then is answered Closed.
type DrainHandler interface{ OnDrain(c *Conn) }

// PingHandler hears the peer's pings, which are answered without it.
type PingHandler interface {
	// OnPing is told the payload, lent until it returns.
	OnPing(c *Conn, payload []byte)
}

// PongHandler hears the peer's pongs, those to the heartbeat's pings among them.
type PongHandler interface {
	// OnPong is told the payload, lent until it returns.
	OnPong(c *Conn, payload []byte)
}

// ErrorHandler hears of failures that have no caller to answer.
type ErrorHandler interface {
	// OnError runs with a *conn.SendError when messages that came through a Ref
	// or a topic were refused.
	OnError(c *Conn, err error)
}

// Message is a whole message that was received.
//
// Ownership: it, and its bytes, are lent until OnMessage returns.
type Message struct {
	Op Op // Text or Binary

	data  []byte
	block *buf.Buf // that data is the end of, but for tail bytes; or nil
	front int      // bytes of the block before data
	tail  int      // bytes of the block behind data
}

// Bytes returns the payload, which may be written to.
func (m *Message) Bytes() []byte { return m.data }

// Fragment is a piece of a message that was received.
//
// Ownership: it, and its bytes, are lent until OnFragment returns.
type Fragment struct {
	Op    Op   // that of the message, Text or Binary
	First bool // the message begins
	Last  bool // the message is whole with this piece, which may be empty

	data []byte
}

// Bytes returns the payload, which may be written to.
func (f *Fragment) Bytes() []byte { return f.data }

// NopHandler does nothing, and is there to embed.
type NopHandler struct{}

// OnOpen implements Handler.
func (NopHandler) OnOpen(*Conn) {}

// OnMessage implements Handler; the message is dropped.
func (NopHandler) OnMessage(*Conn, *Message) {}

// OnClose implements Handler.
func (NopHandler) OnClose(*Conn, *CloseError) {}

// Funcs is a Handler made of functions, for small programs. A nil function is an
// event that nobody hears.
type Funcs struct {
	Upgrade  func(r *Request)
	Open     func(c *Conn)
	Message  func(c *Conn, m *Message)
	Fragment func(c *Conn, f *Fragment) // instead of Message
	Full     func(c *Conn)
	Drain    func(c *Conn)
	Ping     func(c *Conn, payload []byte)
	Pong     func(c *Conn, payload []byte)
	Error    func(c *Conn, err error)
	Retry    func(c *Conn, r conn.Retry)
	Close    func(c *Conn, err *CloseError)
}

// OnOpen implements Handler.
func (f *Funcs) OnOpen(c *Conn) {
	if f.Open != nil {
		f.Open(c)
	}
}

// OnMessage implements Handler.
func (f *Funcs) OnMessage(c *Conn, m *Message) {
	if f.Message != nil {
		f.Message(c, m)
	}
}

// OnClose implements Handler.
func (f *Funcs) OnClose(c *Conn, err *CloseError) {
	if f.Close != nil {
		f.Close(c, err)
	}
}

// hooks is a Handler with its optional interfaces asked for once.
type hooks struct {
	handler  Handler
	upgrade  func(*Request)
	fragment func(*Conn, *Fragment)
	full     func(*Conn)
	drain    func(*Conn)
	ping     func(*Conn, []byte)
	pong     func(*Conn, []byte)
	err      func(*Conn, error)
	retry    func(*Conn, conn.Retry)
}

func newHooks(h Handler) *hooks {
	k := &hooks{handler: h}
	if f, ok := h.(*Funcs); ok {
		k.upgrade, k.fragment, k.full, k.drain = f.Upgrade, f.Fragment, f.Full, f.Drain
		k.ping, k.pong, k.err, k.retry = f.Ping, f.Pong, f.Error, f.Retry
		return k
	}
	if u, ok := h.(UpgradeHandler); ok {
		k.upgrade = u.OnUpgrade
	}
	if f, ok := h.(FragmentHandler); ok {
		k.fragment = f.OnFragment
	}
	if f, ok := h.(FullHandler); ok {
		k.full = f.OnFull
	}
	if d, ok := h.(DrainHandler); ok {
		k.drain = d.OnDrain
	}
	if p, ok := h.(PingHandler); ok {
		k.ping = p.OnPing
	}
	if p, ok := h.(PongHandler); ok {
		k.pong = p.OnPong
	}
	if e, ok := h.(ErrorHandler); ok {
		k.err = e.OnError
	}
	if r, ok := h.(RetryHandler); ok {
		k.retry = r.OnRetry
	}
	return k
}
