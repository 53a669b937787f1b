package ws

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Defaults of [Config].
const (
	DefaultMaxMessage       = 10 << 20
	DefaultMaxHead          = 8 << 10
	DefaultMaxHeaders       = 100
	DefaultHandshakeTimeout = 10 * time.Second
	DefaultCloseTimeout     = 5 * time.Second
	DefaultPongWithin       = 10 * time.Second
)

// Config shapes the WebSockets of a server or a client. The zero value works.
type Config struct {
	// MaxMessage bounds a message that is received, in bytes, as it comes and as
	// it inflates to; a longer one is refused with TooBig before memory is taken
	// for it. A compressed one may come a thousandth and 64 bytes longer, as what is
	// random does. Default 10 MiB. A [FragmentHandler] needs no memory for its messages, and
	// may set it very high, but with Deflate: a compressed one is collected as it comes.
	MaxMessage int
	// MaxHead and MaxHeaders bound the head of a handshake, in bytes and in
	// headers. Default 8 KiB, at most 64 KiB, and 100.
	MaxHead, MaxHeaders int
	// HandshakeTimeout is how long a handshake may take. Default 10 s.
	HandshakeTimeout time.Duration
	// CloseTimeout is how long the peer may take to answer a close frame, once the
	// kernel has taken that, before the connection is closed without an answer; and how
	// long the kernel may need for each 64 KiB of what is queued before it. Default 5 s.
	CloseTimeout time.Duration
	// PingAfter is after how long a silence the peer is sent a ping: between
	// three quarters of it and the whole, so that the pings of many connections
	// are spread. Default 0: never.
	PingAfter time.Duration
	// PongWithin is how long the peer may then stay silent before it is given up.
	// It has as long again as it still takes what is sent to it. Default 10 s.
	PongWithin time.Duration
	// Protocols are the subprotocols that a server speaks, the best first, or
	// that a client asks for, each once. A server without an OnUpgrade that chooses takes the
	// first of them that the client asks for.
	Protocols []string
	// Origins are the hosts whose pages may connect to a server, as HOST or
	// HOST:PORT, "*.HOST" for all below a host, or "*" for all. Default: only the
	// host that is asked itself. Who sends no Origin is no browser, and passes.
	Origins []string
	// Deflate, unless nil, has messages compressed with peers that can.
	Deflate *Deflate
}

// Check returns c with its defaults filled in, or an error that names what is
// wrong. It never changes what was set.
func (c Config) Check() (Config, error) {
	c.MaxMessage = cmp.Or(c.MaxMessage, DefaultMaxMessage)
	c.MaxHead = cmp.Or(c.MaxHead, DefaultMaxHead)
	c.MaxHeaders = cmp.Or(c.MaxHeaders, DefaultMaxHeaders)
	c.HandshakeTimeout = cmp.Or(c.HandshakeTimeout, DefaultHandshakeTimeout)
	c.CloseTimeout = cmp.Or(c.CloseTimeout, DefaultCloseTimeout)
	c.PongWithin = cmp.Or(c.PongWithin, DefaultPongWithin)
	for _, f := range []struct {
		name  string
		value int64
	}{
		{"MaxMessage", int64(c.MaxMessage)}, {"MaxHead", int64(c.MaxHead)}, {"MaxHeaders", int64(c.MaxHeaders)},
		{"HandshakeTimeout", int64(c.HandshakeTimeout)}, {"CloseTimeout", int64(c.CloseTimeout)},
		{"PingAfter", int64(c.PingAfter)}, {"PongWithin", int64(c.PongWithin)},
	} {
		if f.value < 0 {
			return c, fmt.Errorf("ws: negative %s", f.name)
		}
	}
	if c.MaxHead > maxHeadMost {
		return c, fmt.Errorf("ws: MaxHead of %d bytes is above %d", c.MaxHead, maxHeadMost)
	}
	for i, p := range c.Protocols {
		switch {
		case !isToken(p):
			return c, fmt.Errorf("ws: subprotocol %q is no token", p)
		case slices.Contains(c.Protocols[:i], p):
			return c, fmt.Errorf("ws: subprotocol %q twice", p)
		}
	}
	for _, o := range c.Origins {
		if o == "" || strings.Contains(o, "/") {
			return c, fmt.Errorf("ws: origin %q is no host", o)
		}
	}
	if c.Deflate != nil {
		d, err := c.Deflate.check()
		if err != nil {
			return c, err
		}
		c.Deflate = &d
	}
	return c, nil
}

// maxHeadMost is what MaxHead may be.
const maxHeadMost = 64 << 10
