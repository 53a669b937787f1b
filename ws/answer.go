package ws

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httputil"
	"slices"
	"strconv"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
)

// HandshakeError is why a server's answer to a handshake was not taken. It is the
// Err of the [CloseError] that OnClose is told then, without an OnOpen before.
type HandshakeError struct {
	// Status is the server's HTTP status, or 0 when there was no answer that can
	// be read, and Reason the text behind it.
	Status int
	Reason string
	// Header is that of the answer, or nil.
	Header http.Header
	// Body is how the text of a refusal begins, at most 1 KiB of it: what of it has
	// come before the end of the connection, or within a second.
	Body []byte
	// Err says what is wrong with the answer.
	Err error
}

// Error implements error: one line.
func (e *HandshakeError) Error() string {
	s := "ws: handshake: "
	switch {
	case e.Status != 0 && e.Status != http.StatusSwitchingProtocols:
		s += "the server answers " + strconv.Itoa(e.Status)
		if e.Reason != "" {
			s += fmt.Sprintf(" %.*s", quoteMost, e.Reason)
		}
		if text := bytes.TrimSpace(e.Body); len(text) > 0 {
			s += fmt.Sprintf(": %.*q", quoteMost, text)
		}
		return s
	case e.Err == ErrHandshakeTimeout:
		return s + "no answer in time"
	}
	return s + e.Err.Error()
}

// quoteMost is how many bytes of a text the line of an error quotes.
const quoteMost = 200

// Unwrap returns Err.
func (e *HandshakeError) Unwrap() error { return e.Err }

// passing reports whether the server may take another handshake later.
func (e *HandshakeError) passing() bool { return e.Status >= 500 }

// What is wrong with an answer.
var (
	errRefused = errors.New("a status other than 101")
	errInterim = errors.New("too many interim answers")
)

const (
	// interimMost is how many interim answers may come before the one that counts.
	interimMost = 8
	// bodyMost is how much of the text of a refusal is kept, and bodyWait how long it
	// is waited for.
	bodyMost = 1 << 10
	bodyWait = time.Second
)

// asked is what a client remembers of its request until it is answered.
type asked struct {
	key     [24]byte
	interim uint8           // answers that do not count
	err     *HandshakeError // why the answer was not taken
	chunked bool            // so its text comes
	left    int             // of the text, of which no more is awaited than is kept
}

// refusing reports whether a refusal has come, and its text may be to come.
func (c *Conn) refusing() bool {
	return c.phase == greeting && c.asked != nil && c.asked.err != nil
}

// hearAnswer hears the server's answer: interim ones (RFC 9110, 15.2), then the one
// that counts.
func (c *Conn) hearAnswer(in *buf.Buf) {
	l := c.lane
	for c.phase == greeting && c.asked != nil && in.Len() > 0 {
		if c.refusing() {
			c.hearRefusal(in)
			return
		}
		p, ok, bad := c.gather(in)
		if bad == nil && ok {
			bad = l.head.parse(p, l.ep.cfg.MaxHeaders)
		}
		if bad != nil {
			c.reject(&HandshakeError{Err: bad})
		} else if ok {
			c.takeAnswer(&l.head)
		}
	}
}

// takeAnswer acts on the head of an answer.
func (c *Conn) takeAnswer(h *head) {
	status, ok := parseStatus(h.first[1])
	version := string(h.first[0])
	switch {
	case !ok, version != "HTTP/1.1" && (version != "HTTP/1.0" || status < 200):
		c.reject(&HandshakeError{Err: errLine})
	case status == http.StatusSwitchingProtocols:
		if err := c.checkAnswer(h); err != nil {
			c.reject(h.wrong(status, err))
			return
		}
		c.asked = nil
		c.begin()
	case status < 200:
		if c.asked.interim++; c.asked.interim > interimMost {
			c.reject(&HandshakeError{Err: errInterim})
		}
	default:
		c.refused(h, status)
	}
}

// refused begins to hear the text of a refusal.
func (c *Conn) refused(h *head, status int) {
	k, a := &c.lane.clock, c.asked
	c.lane.ep.counts.refused.Add(1)
	a.err, a.left = h.wrong(status, errRefused), bodyMost
	encoding, chunked := h.get("Transfer-Encoding")
	length, _ := h.get("Content-Length")
	switch n, err := strconv.ParseUint(string(length), 10, 63); {
	case status == http.StatusNoContent, status == http.StatusNotModified:
		a.left = 0
	case chunked:
		a.chunked = equalFold(encoding, "chunked")
	case err == nil:
		a.left = int(min(n, bodyMost))
	}
	if a.left == 0 {
		c.endHandshake()
	} else if at := k.time() + k.ticksOf(bodyWait); int32(at-c.due) < 0 {
		k.waitUntil(c, at)
	}
}

// hearRefusal keeps the text of a refusal, and ends the connection behind it.
func (c *Conn) hearRefusal(in *buf.Buf) {
	a := c.asked
	n := min(a.left, in.Len())
	a.err.Body = append(a.err.Body, in.Bytes()[:n]...)
	if a.left -= n; a.left == 0 || a.chunked && a.whole() {
		c.endHandshake()
	}
}

// whole reports whether all chunks have come.
func (a *asked) whole() bool {
	_, err := io.Copy(io.Discard, httputil.NewChunkedReader(bytes.NewReader(a.err.Body)))
	return err == nil
}

// plain takes the chunks apart, as far as they have come.
func (a *asked) plain() {
	if a.chunked {
		a.chunked = false
		a.err.Body, _ = io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(a.err.Body)))
	}
}

// reject ends a connection whose handshake has failed.
func (c *Conn) reject(err *HandshakeError) {
	c.lane.ep.counts.refused.Add(1)
	c.asked.err = err
	c.endHandshake()
}

// endHandshake ends a connection for its asked.err.
func (c *Conn) endHandshake() {
	c.lane.clock.forget(c)
	c.phase = over
	err := c.asked.err
	c.asked.plain()
	switch {
	case errors.Is(err.Err, ErrHandshakeTimeout):
		c.conn.GiveUp(conn.HandshakeTimeout, err)
	case err.passing():
		c.conn.GiveUp(conn.Refused, err)
	default:
		c.conn.CloseError(conn.ProtocolError, err, nil)
	}
}

// wrong returns an error with what the answer says.
func (h *head) wrong(status int, err error) *HandshakeError {
	return &HandshakeError{Status: status, Reason: string(h.first[2]), Header: h.clone(), Err: err}
}

// promise is what the headers of a 101 say for a handshake.
type promise struct {
	accept, protocol, extensions []byte
	upgrade, connection          bool
}

// read takes the headers that matter, and says which is there twice.
func (p *promise) read(h *head) error {
	for i := range h.fields {
		name, value := h.fields[i].name, h.fields[i].value
		var once *[]byte
		switch {
		case equalFold(name, "Upgrade"):
			p.upgrade = p.upgrade || equalFold(value, "websocket")
		case equalFold(name, "Connection"):
			p.connection = p.connection || hasItem(value, "upgrade")
		case equalFold(name, "Sec-WebSocket-Accept"):
			once = &p.accept
		case equalFold(name, "Sec-WebSocket-Protocol"):
			once = &p.protocol
		case equalFold(name, "Sec-WebSocket-Extensions"):
			once = &p.extensions
		}
		if once != nil {
			if *once != nil {
				return fmt.Errorf("header %s twice", name)
			}
			*once = value
		}
	}
	return nil
}

// checkAnswer takes a 101, or says what is wrong with it (RFC 6455, 4.1).
func (c *Conn) checkAnswer(h *head) error {
	cfg := &c.lane.ep.cfg
	var p promise
	if err := p.read(h); err != nil {
		return err
	}
	var want [28]byte
	switch {
	case !p.upgrade || !p.connection:
		return errors.New("no Upgrade to websocket")
	case string(p.accept) != string(appendAccept(want[:0], c.asked.key[:])):
		return fmt.Errorf("Sec-WebSocket-Accept %.*q is not that of the request", quoteMost, p.accept)
	case p.protocol != nil && !slices.Contains(cfg.Protocols, string(p.protocol)):
		return fmt.Errorf("subprotocol %.*q was not asked for", quoteMost, p.protocol)
	case p.protocol != nil:
		c.setProtocol(string(p.protocol))
	}
	taken, err := cfg.Deflate.readAnswer(p.extensions)
	if err != nil {
		return err
	}
	if taken.on {
		c.windows = c.lane.windows(taken)
	}
	return nil
}

// parseStatus reads a status: three digits (RFC 9112, 4), of which 0 is never the first.
func parseStatus(p []byte) (status int, ok bool) {
	if len(p) != 3 || p[0] == '0' {
		return 0, false
	}
	for _, b := range p {
		if b < '0' || b > '9' {
			return 0, false
		}
		status = 10*status + int(b-'0')
	}
	return status, true
}

// clone returns a copy of the headers.
func (h *head) clone() http.Header {
	header := http.Header{}
	for i := range h.fields {
		header.Add(string(h.fields[i].name), string(h.fields[i].value))
	}
	return header
}
