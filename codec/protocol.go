package codec

import (
	"errors"
	"fmt"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
)

// Defaults of [Config].
const (
	DefaultLimit = 10 << 20
	DefaultBurst = 1024
)

// Config shapes a [Protocol]. The zero value works.
type Config struct {
	// Limit is how many bytes a message may have on the wire, its framing included.
	// Default 10 MiB.
	Limit int
	// Burst is how many messages of one connection are handed over at a time;
	// then the other connections of the loop have their turn. Default 1024.
	Burst int
	// Refusal returns what a peer is told before its connection closes because of
	// err; nil is nothing. As with conn.WriteReserved, conn.Reserve bytes of it
	// are taken even past the limit of the queue.
	Refusal func(err error) []byte
}

// Protocol is a codec and what is done with its messages: a handler for package
// conn, for any number of connections.
//
// A handler of your own may stand in front of it and pass events on. It stands
// there until the first message that comes in two pieces: then the Protocol puts a
// handler of its own in place, by SetHandler. What is to see all of a connection
// belongs behind the Protocol, or below the connection.
//
// A connection costs nothing more with it than without, until a message has come
// in two pieces. From then on it is about 200 bytes more for its life, and while
// a piece waits for the rest, a block of 4 or 64 KiB or, above that, at most twice
// what has come.
type Protocol[M any] struct {
	codec   Codec[M]
	handler Handler[M]
	cfg     Config
	leave   func(c *conn.Conn) // of handler, or nil
}

// New returns the protocol of a codec and a handler. It fails when the codec, by a
// method Check() error, or cfg is not usable.
func New[M any](cd Codec[M], h Handler[M], cfg Config) (*Protocol[M], error) {
	if c, ok := cd.(interface{ Check() error }); ok {
		if err := c.Check(); err != nil {
			return nil, err
		}
	}
	switch {
	case cfg.Limit < 0:
		return nil, fmt.Errorf("codec: negative limit of %d bytes", cfg.Limit)
	case cfg.Burst < 0:
		return nil, fmt.Errorf("codec: negative burst of %d messages", cfg.Burst)
	}
	if cfg.Limit == 0 {
		cfg.Limit = DefaultLimit
	}
	if cfg.Burst == 0 {
		cfg.Burst = DefaultBurst
	}
	return &Protocol[M]{codec: cd, handler: h, cfg: cfg, leave: leaveOf(h)}, nil
}

// Send sends one message as cd frames it. It is encoded only once it was admitted,
// straight into the queue, so the answers are those of conn.Encode: when cd cannot
// encode m, the connection closes, nothing of m is sent, and the answer is Closed.
//
// From another goroutine, and for many receivers, send what Append of the codec
// makes by conn.Ref.Write and conn.Topics.
//
// Thread: that of c.
func Send[M any](c *conn.Conn, cd Codec[M], m M) conn.Status {
	n := 1 << 10
	if s, ok := cd.(Sizer[M]); ok {
		n = s.Size(m)
	}
	return c.Encode(n, func(dst []byte) ([]byte, error) { return cd.Append(dst, m) })
}

// OnOpen implements conn.Handler.
func (p *Protocol[M]) OnOpen(c *conn.Conn) { p.handler.OnOpen(c) }

// OnData implements conn.Handler. It serves connections that have no piece of a
// message; with the first piece a connection has a handler of its own.
func (p *Protocol[M]) OnData(c *conn.Conn, in *buf.Buf) {
	if need, piece := p.cut(c, in, c.Handler(), p.cfg.Burst); piece {
		s := &session[M]{Protocol: p}
		c.SetHandler(s)
		s.held.begin(c, in.Bytes(), need)
	}
}

// OnClose implements conn.Handler.
func (p *Protocol[M]) OnClose(c *conn.Conn, err error) { p.handler.OnClose(c, err) }

// OnLeave implements conn.LeaveHandler. That a session takes the place is no leaving.
func (p *Protocol[M]) OnLeave(c *conn.Conn) {
	if s, ok := c.Handler().(*session[M]); ok && s.Protocol == p {
		return
	}
	p.left(c)
}

// left tells the handler that the connection leaves it.
func (p *Protocol[M]) left(c *conn.Conn) {
	if p.leave != nil {
		p.leave(c)
	}
}

// leaveOf returns OnLeave of h, or of what it wraps, or nil.
func leaveOf(h any) func(*conn.Conn) {
	for h != nil {
		if l, ok := h.(conn.LeaveHandler); ok {
			return l.OnLeave
		}
		w, ok := h.(conn.Wrapper)
		if !ok {
			break
		}
		h = w.Wrapped()
	}
	return nil
}

// Wrapped implements conn.Wrapper.
func (p *Protocol[M]) Wrapped() any { return p.handler }

// cut hands over the messages that lie within in, at most so many, without a copy.
// piece says that what is left of in is the beginning of one, of need bytes if
// need is not 0. me is the handler that the connection had before; it is compared, so
// one in front of a Protocol is a pointer.
func (p *Protocol[M]) cut(c *conn.Conn, in *buf.Buf, me conn.Handler, most int) (need int, piece bool) {
	data, at := in.Bytes(), 0
	for ; at < len(data); most-- {
		if most == 0 || !p.goesOn(c, me) {
			in.Advance(at)
			c.Unread(in)
			return 0, false
		}
		rest := data[at:]
		seen := rest[:min(len(rest), p.cfg.Limit)] // No more than if it came in pieces.
		n, err := p.codec.Split(seen, 0)
		if err = p.judge(n, len(seen), err); err != nil {
			p.fail(c, err)
			return 0, false
		}
		if n == 0 || n > len(rest) {
			in.Advance(at)
			return n, true
		}
		at += n
		p.deliver(c, rest[:n:n])
	}
	return 0, false
}

// goesOn reports whether the next message of the same bytes is for me.
func (p *Protocol[M]) goesOn(c *conn.Conn, me conn.Handler) bool {
	return c.Reading() && c.Handler() == me
}

// errNegative says that a codec breaks its contract.
var errNegative = errors.New("codec: Split returned a negative length")

// judge holds the answer of Split for have bytes against the limit.
func (p *Protocol[M]) judge(n, have int, err error) error {
	switch {
	case err != nil:
		return err
	case n < 0:
		return errNegative
	case n > p.cfg.Limit, n == 0 && have >= p.cfg.Limit:
		return &MessageTooLong{Length: n, Limit: p.cfg.Limit}
	}
	return nil
}

// deliver hands over one message.
func (p *Protocol[M]) deliver(c *conn.Conn, packet []byte) {
	switch m, err := p.codec.Decode(packet); err {
	case nil:
		p.handler.OnMessage(c, m)
	case ErrSkip:
	default:
		p.fail(c, err)
	}
}

// fail closes the connection because of what the peer has sent.
func (p *Protocol[M]) fail(c *conn.Conn, err error) {
	var last []byte
	if p.cfg.Refusal != nil {
		last = p.cfg.Refusal(err)
	}
	c.CloseError(conn.ProtocolError, err, last)
}
