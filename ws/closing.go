package ws

import (
	"errors"

	"github.com/penstock-go/penstock/conn"
)

// What ends a WebSocket beside the mistakes of the peer.
var (
	errSilent   = &failure{Abnormal, "no answer to a ping"}
	errNoAnswer = &failure{Abnormal, "no answer to the close frame"}
)

// ErrHandshakeTimeout says that a handshake took longer than
// Config.HandshakeTimeout.
var ErrHandshakeTimeout = errors.New("ws: handshake timeout")

// control hears a control frame.
func (c *Conn) control(op Op, payload []byte) {
	switch op {
	case opPing:
		c.pong(payload)
		if c.hooks.ping != nil && c.phase == open {
			c.hooks.ping(c, payload)
		}
	case opPong:
		if c.hooks.pong != nil && c.phase == open {
			c.hooks.pong(c, payload)
		}
	case opClose:
		c.closed(payload)
	}
}

// closeRoom is what of the reserve is left to a close frame, whatever else is said
// past the limit of the queue.
const closeRoom = 2 + 4 + maxControl

// Close begins the end: it sends a close frame behind what is queued, past the
// limit if need be, takes no more messages, and has the connection closed when
// the peer has answered, or not answered within Config.CloseTimeout, which begins when
// the frame has gone, as long as the peer takes 64 KiB of what is before it, or all of
// that, in each CloseTimeout. Messages that still come are dropped; to hear the answer
// reading goes on where it was paused. A reason beyond 123 bytes is cut, and what is no
// UTF-8 in it is replaced by U+FFFD. Closing twice does nothing.
//
// code is one that may be sent, see RFC 6455, 7.4, or NoStatus for a close frame
// without a code; for any other Internal is sent.
func (c *Conn) Close(code Code, reason string) {
	if c.phase != open {
		return
	}
	if !code.sendable() && code != NoStatus {
		code = Internal
	}
	c.phase, reason = closing, sayable(code, reason)
	c.last = &last{told: CloseError{Code: code, Reason: reason}, gone: c.conn.Pending() == 0}
	c.conn.ReadOn()
	c.goodbye(code, reason)
	c.last.took, c.last.since = uint32(c.conn.Stats().BytesOut), c.lane.clock.time()
	c.await()
}

// goneBytes is how much of what is before our close frame a peer must take in each
// CloseTimeout, unless it takes all: one that trickles would hold the connection for days.
const goneBytes = 64 << 10

// await waits for the peer's close frame, CloseTimeout from when ours has gone, or from
// when the peer has last taken enough of what is before that.
func (c *Conn) await() {
	k, l := &c.lane.clock, c.last
	if took := uint32(c.conn.Stats().BytesOut); !l.gone && (took-l.took >= goneBytes || c.conn.Pending() == 0) {
		l.gone = c.conn.Pending() == 0
		l.took, l.since = took, k.time()
	}
	most := k.ticksOf(c.lane.ep.cfg.CloseTimeout)
	at := l.since + most
	switch {
	case int32(at-k.time()) <= 0:
		c.closeLate()
	case l.gone:
		k.waitUntil(c, at)
	default: // Look now and then whether it has gone.
		k.waitUntil(c, k.time()+max(1, most/8))
	}
}

// goodbye sends a close frame. Where not even the reserve has room for it, the
// peer is left without.
func (c *Conn) goodbye(code Code, reason string) {
	var p [maxControl]byte
	c.say(byte(opClose)|bitFin, appendClose(p[:0], code, reason))
}

// closed hears the peer's close frame.
func (c *Conn) closed(payload []byte) {
	code, reason, err := parseClose(payload)
	if err != nil {
		c.fail(err)
		return
	}
	if c.phase == open {
		c.phase = closing // Goodbye may run OnFull, behind which nothing is said.
		c.last = &last{told: CloseError{Code: code, Reason: string(reason), Remote: true}}
		c.goodbye(code, "")
	}
	c.phase = over
	c.last.told.Clean = true
	if c.lane.ep.client && c.last.told.Remote { // The server is to end the connection (RFC 6455, 7.1.1).
		c.lane.clock.wait(c, c.lane.ep.cfg.CloseTimeout)
		return
	}
	c.lane.clock.forget(c)
	c.conn.Close()
}

// giveUp ends a WebSocket whose peer does not answer a ping.
func (c *Conn) giveUp() {
	c.lane.ep.counts.pongTimeouts.Add(1)
	c.phase = over
	c.last = &last{told: CloseError{Code: Abnormal}, err: errSilent}
	c.conn.GiveUp(conn.IdleTimeout, errSilent)
}

// shutdown says goodbye, as far as that makes sense.
func (c *Conn) shutdown() { c.leave(GoingAway, "") }

// leave is Close that also ends a connection without a WebSocket to say goodbye on.
func (c *Conn) leave(code Code, reason string) {
	switch c.phase {
	case open:
		c.Close(code, reason)
	case greeting, over:
		c.phase = over
		c.conn.Close()
	}
}

// closeLate gives up to wait for the peer's close frame.
func (c *Conn) closeLate() {
	c.lane.ep.counts.closeTimeouts.Add(1)
	c.phase = over
	c.last.err = errNoAnswer
	c.conn.Close()
}

// fail ends the WebSocket for what the peer has done: it is told the code, and
// nothing more is heard from it (RFC 6455, 7.1.7).
func (c *Conn) fail(f *failure) {
	if c.phase > closing {
		return
	}
	c.lane.ep.counts.failed(f.code)
	c.lane.clock.forget(c)
	silent := c.phase == closing // A second close frame would be none.
	c.phase = over
	if c.last == nil {
		c.last = &last{told: CloseError{Code: f.code, Reason: f.text}}
	}
	c.last.err = f
	if !silent {
		c.goodbye(f.code, f.text)
	}
	c.conn.CloseError(conn.ProtocolError, f, nil)
}

// ended is the end of the WebSocket: err is what became of the connection.
func (c *Conn) ended(err error) {
	l := c.lane
	l.settle()
	l.clock.forget(c)
	delete(l.owed, c)
	if c.in != nil {
		l.release(c.in)
		c.in = nil
	}
	c.phase = over
	if c.windows != nil {
		c.windows.release(l)
	}
	if w := c.writer; w != nil {
		c.writer = nil
		if w.stream != nil {
			defer c.ended(err) // Also when done panics.
			w.stream.finish(conn.ErrClosed)
			return
		}
	}
	if c.opened && !c.told {
		c.told = true
		l.ep.counts.open.Add(-1)
		c.hooks.handler.OnClose(c, c.verdict(err))
	}
}

// verdict is what OnClose is told.
func (c *Conn) verdict(err error) *CloseError {
	if c.last == nil { // No close frame, neither here nor there.
		return &CloseError{Code: Abnormal, Remote: remote(err), Err: err}
	}
	told := &c.last.told
	var ce *conn.CloseError
	switch {
	case errors.Is(err, c.last.err) && err != nil:
		told.Err = err
	case c.last.err != nil:
		told.Err = c.last.err
	case !told.Clean, errors.As(err, &ce) && ce.LostBytes > 0:
		told.Err = err
	}
	return told
}

// remote reports whether the peer has ended a connection.
func remote(err error) bool {
	var ce *conn.CloseError
	if errors.As(err, &ce) {
		return ce.Reason == conn.PeerReset
	}
	return err != nil // io.EOF
}
