package ws

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
)

// HandshakeError is why a server's answer to a handshake was not taken. It is the
// Err of the [CloseError] that OnClose is told then, without an OnOpen before.
type HandshakeError struct {
	// Status is the server's HTTP status, or 0 when there was no answer that can
	// be read.
	Status int
	// Header is that of the answer, or nil.
	Header http.Header
	// Err says what is wrong with the answer.
	Err error
}

// Error implements error.
func (e *HandshakeError) Error() string {
	if e.Status != 0 {
		return fmt.Sprintf("ws: handshake: status %d: %v", e.Status, e.Err)
	}
	return fmt.Sprintf("ws: handshake: %v", e.Err)
}

// Unwrap returns Err.
func (e *HandshakeError) Unwrap() error { return e.Err }

// Client speaks WebSocket to a server: it is the conn.Handler of connections that
// are dialed to it. It keeps its state in the connection's User.
//
// Thread: Stats may be called by any goroutine; the rest is for the loops.
type Client struct {
	ep      *endpoint
	request []byte // but for the key and the empty line
}

// ClientConfig shapes a client. The zero value works.
type ClientConfig struct {
	Config

	// Header is sent with the request, beside what makes it a handshake.
	Header http.Header
	// Host is asked for instead of that of the address.
	Host string
}

// NewClient returns a client for an address, ws://HOST[:PORT][/PATH][?QUERY],
// whose WebSockets h hears.
func NewClient(address string, h Handler, cfg ClientConfig) (*Client, error) {
	ep, err := newEndpoint(h, cfg.Config, true)
	if err != nil {
		return nil, err
	}
	u, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	host := u.Host
	if cfg.Host != "" {
		host = cfg.Host
	}
	if !isHost([]byte(host)) {
		return nil, fmt.Errorf("ws: host %q cannot be asked for", host)
	}
	p := append(append([]byte("GET "), u.RequestURI()...), " HTTP/1.1\r\n"...)
	p = appendField(p, "Host", host)
	p = append(p, "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"...)
	for _, name := range slices.Sorted(maps.Keys(cfg.Header)) {
		for _, value := range cfg.Header[name] {
			if err := checkHeader(name, value); err != nil {
				return nil, err
			}
			p = appendField(p, name, value)
		}
	}
	for _, name := range ep.cfg.Protocols {
		p = appendField(p, "Sec-WebSocket-Protocol", name)
	}
	if d := ep.cfg.Deflate; d != nil {
		p = append(d.appendOffer(append(p, "Sec-WebSocket-Extensions: "...)), "\r\n"...)
	}
	return &Client{ep: ep, request: p}, nil
}

// parseAddress reads the address of a WebSocket (RFC 6455, 3).
func parseAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, fmt.Errorf("ws: %w", err)
	case u.Scheme != "ws":
		return nil, fmt.Errorf("ws: address %q is not ws://HOST[:PORT][/PATH]", address)
	case u.Hostname() == "" || u.User != nil || u.Fragment != "" || u.Opaque != "":
		return nil, fmt.Errorf("ws: address %q has no host, or what an address of a WebSocket may not have", address)
	case !isPath([]byte(u.RequestURI())):
		return nil, fmt.Errorf("ws: path of %q cannot be asked for", address)
	}
	return u, nil
}

// Stats returns the counters.
func (k *Client) Stats() Stats { return k.ep.counts.stats() }

// OnOpen implements conn.Handler: it sends the request.
func (k *Client) OnOpen(c *conn.Conn) {
	l := k.ep.lane(c.Loop())
	w := &Conn{conn: c, lane: l, hooks: k.ep.hooks, place: -1, asked: &asked{}}
	c.SetUser(w)
	l.clock.wait(w, k.ep.cfg.HandshakeTimeout)
	var raw [16]byte
	_, _ = rand.Read(raw[:])
	base64.StdEncoding.Encode(w.asked.key[:], raw[:])
	p := append(l.bytes(len(k.request)+64), k.request...)
	p = append(appendField(p, "Sec-WebSocket-Key", w.asked.key[:]), "\r\n"...)
	c.Keep(true)
	_, _ = c.Write(p)
	c.Keep(false)
}

// OnData implements conn.Handler.
func (k *Client) OnData(c *conn.Conn, in *buf.Buf) { of(c).hear(in) }

// OnFull implements conn.FullHandler.
func (k *Client) OnFull(c *conn.Conn) { of(c).full() }

// OnDrain implements conn.DrainHandler.
func (k *Client) OnDrain(c *conn.Conn) { of(c).drained() }

// OnError implements conn.ErrorHandler.
func (k *Client) OnError(c *conn.Conn, err error) { of(c).failed(err) }

// OnShutdown implements conn.ShutdownHandler: the server is told GoingAway.
func (k *Client) OnShutdown(c *conn.Conn) { of(c).Close(GoingAway, "") }

// OnClose implements conn.Handler.
func (k *Client) OnClose(c *conn.Conn, err error) { of(c).ended(err) }

// asked is what a client remembers of its request until it is answered.
type asked struct {
	key [24]byte
	err *HandshakeError // why the answer was not taken
}

// hearAnswer hears the head of the server's answer.
func (c *Conn) hearAnswer(in *buf.Buf) {
	l := c.lane
	p, ok, bad := c.gather(in)
	if bad == nil && ok {
		bad = l.head.parse(p, l.ep.cfg.MaxHeaders)
	}
	switch {
	case bad != nil:
		c.reject(&HandshakeError{Err: bad})
	case !ok:
		return
	default:
		if err := c.checkAnswer(&l.head); err != nil {
			c.reject(err)
		} else {
			c.asked = nil
			c.begin()
		}
	}
	l.settle()
}

// reject ends a connection whose handshake has failed.
func (c *Conn) reject(err *HandshakeError) {
	c.lane.ep.counts.refused.Add(1)
	c.lane.clock.forget(c)
	c.phase = over
	c.asked.err = err
	c.conn.CloseError(conn.ProtocolError, err, nil)
}

// checkAnswer takes a server's answer, or says what is wrong with it (RFC 6455,
// 4.1).
func (c *Conn) checkAnswer(h *head) *HandshakeError {
	ep := c.lane.ep
	status := 0
	if string(h.first[0]) != "HTTP/1.1" || len(h.first[1]) != 3 {
		return &HandshakeError{Err: errLine}
	}
	for _, b := range h.first[1] {
		status = 10*status + int(b-'0')
	}
	fail := func(format string, args ...any) *HandshakeError {
		return &HandshakeError{Status: status, Header: h.clone(), Err: fmt.Errorf(format, args...)}
	}
	if status != http.StatusSwitchingProtocols {
		return fail("not the 101 that was asked for")
	}
	var upgrade, connection bool
	var accept, protocol, extensions []byte
	for i := range h.fields {
		name, value := h.fields[i].name, h.fields[i].value
		var once *[]byte
		switch {
		case equalFold(name, "Upgrade"):
			upgrade = upgrade || equalFold(value, "websocket")
		case equalFold(name, "Connection"):
			connection = connection || hasItem(value, "upgrade")
		case equalFold(name, "Sec-WebSocket-Accept"):
			once = &accept
		case equalFold(name, "Sec-WebSocket-Protocol"):
			once = &protocol
		case equalFold(name, "Sec-WebSocket-Extensions"):
			once = &extensions
		}
		if once != nil {
			if *once != nil {
				return fail("header %s twice", name)
			}
			*once = value
		}
	}
	var want [28]byte
	if !upgrade || !connection {
		return fail("no Upgrade to websocket")
	}
	if string(accept) != string(appendAccept(want[:0], c.asked.key[:])) {
		return fail("Sec-WebSocket-Accept %q is not that of the request", accept)
	}
	if protocol != nil {
		for _, p := range ep.cfg.Protocols {
			if string(protocol) == p {
				c.protocol = p
			}
		}
		if c.protocol == "" {
			return fail("subprotocol %q was not asked for", protocol)
		}
	}
	taken, err := ep.cfg.Deflate.readAnswer(extensions)
	if err != nil {
		return fail("%w", err)
	}
	if taken.on {
		c.windows = &windows{agreed: taken}
	}
	return nil
}

// clone returns a copy of the headers.
func (h *head) clone() http.Header {
	header := http.Header{}
	for i := range h.fields {
		header.Add(string(h.fields[i].name), string(h.fields[i].value))
	}
	return header
}
