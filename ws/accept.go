package ws

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
)

// What a handshake is refused for (RFC 6455, 4.2).
var (
	errMethod  = &badHead{http.StatusMethodNotAllowed, "a method other than GET"}
	errHost    = &badHead{http.StatusBadRequest, "not exactly one Host"}
	errBody    = &badHead{http.StatusBadRequest, "a handshake with a body"}
	errTwice   = &badHead{http.StatusBadRequest, "a header twice that may be there once"}
	errUpgrade = &badHead{http.StatusUpgradeRequired, "this is a WebSocket"}
	errVersion = &badHead{http.StatusUpgradeRequired, "a version other than 13"}
	errKey     = &badHead{http.StatusBadRequest, "no Sec-WebSocket-Key of 16 bytes"}
	errOrigin  = &badHead{http.StatusForbidden, "an origin that is not allowed"}
	errExtHead = &badHead{http.StatusBadRequest, errExtension.Error()}
	errTimeout = &badHead{http.StatusRequestTimeout, "the handshake took too long"}
)

// demand is what the headers of a request say for a handshake.
type demand struct {
	host, key, version, origin []byte
	upgrade, connection        bool
}

// read takes the headers that matter, and refuses those that a request for a
// handshake may not have.
func (d *demand) read(h *head) *badHead {
	*d = demand{}
	for i := range h.fields {
		name, value := h.fields[i].name, h.fields[i].value
		var once *[]byte
		switch {
		case equalFold(name, "Host"):
			if d.host != nil {
				return errHost
			}
			once = &d.host
		case equalFold(name, "Sec-WebSocket-Key"):
			once = &d.key
		case equalFold(name, "Sec-WebSocket-Version"):
			once = &d.version
		case equalFold(name, "Origin"):
			once = &d.origin
		case equalFold(name, "Upgrade"):
			d.upgrade = d.upgrade || hasItem(value, "websocket")
		case equalFold(name, "Connection"):
			d.connection = d.connection || hasItem(value, "upgrade")
		case equalFold(name, "Transfer-Encoding"), equalFold(name, "Content-Length") && string(value) != "0":
			return errBody
		}
		if once != nil {
			if *once != nil {
				return errTwice
			}
			*once = value
		}
	}
	return nil
}

// judge says whether the request is a handshake that can be accepted.
func (d *demand) judge(h *head) *badHead {
	method, version := h.first[0], h.first[2]
	switch {
	case string(version) != "HTTP/1.1":
		return errLine
	case string(method) != http.MethodGet:
		return errMethod
	}
	authority, path := cutTarget(h.first[1])
	if len(path) == 0 || path[0] != '/' || !isPath(path) {
		return errTarget
	}
	if bad := d.read(h); bad != nil {
		return bad
	}
	switch {
	case !isHost(d.host), authority != nil && !equalFold(authority, d.host):
		return errHost
	case !d.upgrade || !d.connection:
		return errUpgrade
	case d.version == nil:
		return &badHead{http.StatusBadRequest, "no Sec-WebSocket-Version"}
	case string(d.version) != "13":
		return errVersion
	case !isKey(d.key):
		return errKey
	}
	h.first[1] = path
	return nil
}

// cutTarget returns the path of a target with its query, and the authority of one in
// the absolute form, which only proxies are to be sent, and every server has to take
// (RFC 9112, 3.2.2).
func cutTarget(target []byte) (authority, path []byte) {
	scheme, rest, ok := bytes.Cut(target, []byte("://"))
	switch {
	case !ok || !equalFold(scheme, "http") && !equalFold(scheme, "ws") && !equalFold(scheme, "https") && !equalFold(scheme, "wss"):
		return nil, target
	}
	end := bytes.IndexAny(rest, "/?")
	switch {
	case end < 0:
		return rest, []byte("/")
	case rest[end] == '?':
		return rest[:end], append([]byte("/"), rest[end:]...)
	}
	return rest[:end], rest[end:]
}

// isPath reports whether p may be a target: visible ASCII, no fragment, and in the path each
// percent sign begins an octet (RFC 3986, 2.1). A query is taken as it is, as browsers send it.
func isPath(p []byte) bool {
	query := false
	for i, b := range p {
		switch {
		case b <= ' ' || b >= 0x7f || b == '#':
			return false
		case b == '?':
			query = true
		case b == '%' && !query && (len(p) < i+3 || !isHex(p[i+1]) || !isHex(p[i+2])):
			return false
		}
	}
	return true
}

func isHex(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F'
}

// isHost reports whether p may be a Host: one, and nothing that separates it from
// anything else.
func isHost(p []byte) bool {
	for _, b := range p {
		if b <= ' ' || b >= 0x7f || bytes.IndexByte([]byte(`/\@?#,"<>^{|}`+"`"), b) >= 0 {
			return false
		}
	}
	return len(p) > 0
}

// isKey reports whether p is the Base64 of 16 bytes.
func isKey(p []byte) bool {
	var raw [18]byte
	if len(p) != 24 {
		return false
	}
	n, err := base64.StdEncoding.Decode(raw[:], p)
	return n == 16 && err == nil
}

// acceptGUID is from RFC 6455, 1.3.
const acceptGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// appendAccept appends the answer to a key.
func appendAccept(dst, key []byte) []byte {
	var text [24 + len(acceptGUID)]byte
	sum := sha1.Sum(text[:copy(text[:], key)+copy(text[24:], acceptGUID)])
	return base64.StdEncoding.AppendEncode(dst, sum[:])
}

// originAllowed applies Config.Origins.
func originAllowed(origin, host []byte, allowed []string) bool {
	if origin == nil {
		return true
	}
	u, err := url.Parse(string(origin))
	if err != nil || u.Host == "" { // "null" of a page without an origin, or nonsense.
		return len(allowed) == 1 && allowed[0] == "*"
	}
	if len(allowed) == 0 {
		return equalFold(u.Host, host)
	}
	for _, a := range allowed {
		below, wild := strings.CutPrefix(a, "*.")
		switch {
		case a == "*", equalFold(u.Host, a), equalFold(u.Hostname(), a):
			return true
		case wild && len(u.Hostname()) > len(below)+1:
			name := u.Hostname()
			at := len(name) - len(below)
			if name[at-1] == '.' && equalFold(name[at:], below) {
				return true
			}
		}
	}
	return false
}

var crlf = []byte("\r\n")

// greet hears the head of a request.
func (c *Conn) greet(in *buf.Buf) {
	l := c.lane
	p, ok, bad := c.gather(in)
	if bad == nil && !ok {
		return
	}
	r := &l.request // It may be that of another, whose handler has panicked.
	*r = Request{conn: c, head: &l.head, extra: r.extra[:0]}
	if bad == nil {
		p = bytes.TrimPrefix(p, crlf) // One that a client has put behind a request before (RFC 9112, 2.2).
		bad = l.head.parse(p, l.ep.cfg.MaxHeaders)
	}
	if bad == nil {
		bad = r.demand.judge(&l.head)
	}
	if bad == nil && !originAllowed(r.demand.origin, r.demand.host, l.ep.cfg.Origins) {
		bad = errOrigin
	}
	if bad == nil {
		bad = r.negotiate(l.ep.cfg.Deflate)
	}
	if bad != nil {
		c.refuse(bad.status, bad.text, nil)
	} else {
		c.answer(r)
	}
	*r = Request{extra: r.extra[:0]}
	l.settle()
}

// answer lets the user decide, and says what was decided.
func (c *Conn) answer(r *Request) {
	l := c.lane
	ep := l.ep
	r.protocol = r.choose(ep.cfg.Protocols)
	if upgrade := c.hooks.upgrade; upgrade != nil {
		upgrade(r)
	}
	if c.phase != greeting {
		return // Closed in OnUpgrade.
	}
	if r.status != 0 {
		c.refuse(r.status, r.text, r.extra)
		return
	}
	p := append(l.bytes(1024), "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "...)
	p = append(appendAccept(p, r.demand.key), "\r\n"...)
	if r.protocol != "" {
		p = appendField(p, "Sec-WebSocket-Protocol", r.protocol)
	}
	if r.agreed.on {
		c.windows = l.windows(r.agreed)
		p = append(r.agreed.appendAnswer(append(p, "Sec-WebSocket-Extensions: "...), r.offer), "\r\n"...)
	}
	p = append(append(p, r.extra...), "\r\n"...)
	c.setProtocol(r.protocol)
	c.conn.Keep(true)
	s := c.conn.WriteReserved(p)
	if c.conn.Keep(false); s >= conn.Rejected {
		c.phase = over
		c.conn.Abort()
		return
	}
	c.begin()
}

// negotiate reads the extensions that the client offers, and takes one that can be
// met.
func (r *Request) negotiate(d *Deflate) *badHead {
	for i := range r.head.fields {
		if f := &r.head.fields[i]; equalFold(f.name, "Sec-WebSocket-Extensions") {
			a, o, err := d.acceptOffer(f.value)
			if err != nil {
				return errExtHead
			}
			if !r.agreed.on {
				r.agreed, r.offer = a, o
			}
		}
	}
	return nil
}

// choose returns the first of ours that the client asks for, or "".
func (r *Request) choose(ours []string) string {
	for _, p := range ours {
		for item := range r.head.items("Sec-WebSocket-Protocol") {
			if string(item) == p {
				return p
			}
		}
	}
	return ""
}

// begin is the end of the handshake.
func (c *Conn) begin() {
	l := c.lane
	c.phase, c.opened = open, true
	c.conn.Established()
	l.ep.counts.open.Add(1)
	l.ep.counts.opened.Add(1)
	l.clock.forget(c)
	if l.ep.cfg.PingAfter > 0 {
		c.heard = l.clock.time()
		l.clock.waitUntil(c, c.heard+c.patience())
	}
	c.hooks.handler.OnOpen(c)
}

// refuse answers with a status, and ends the connection.
func (c *Conn) refuse(status int, text string, extra []byte) {
	l := c.lane
	l.ep.counts.refused.Add(1)
	l.clock.forget(c)
	c.phase = over
	p := appendRefusal(l.bytes(1024), status, text, extra)
	_ = c.conn.CloseWith(p)
}

// appendRefusal appends the answer to a request that is refused.
func appendRefusal(p []byte, status int, text string, extra []byte) []byte {
	p = append(p, "HTTP/1.1 "...)
	p = strconv.AppendInt(p, int64(status), 10)
	p = append(append(append(p, ' '), http.StatusText(status)...), "\r\nConnection: close\r\n"...)
	switch status {
	case http.StatusUpgradeRequired: // Who sends Upgrade says so in Connection (RFC 9110, 7.8).
		p = append(p, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"...)
	case http.StatusMethodNotAllowed:
		p = append(p, "Allow: GET\r\n"...)
	case http.StatusNotModified: // It has no body (RFC 9110, 6.4.1).
		return append(append(p, extra...), "\r\n"...)
	}
	if !hasField(extra, "Content-Type") {
		p = append(p, "Content-Type: text/plain; charset=utf-8\r\n"...)
	}
	if !hasField(extra, "X-Content-Type-Options") {
		p = append(p, "X-Content-Type-Options: nosniff\r\n"...)
	}
	p = strconv.AppendInt(append(p, "Content-Length: "...), int64(len(text)+1), 10)
	p = append(append(append(p, "\r\n"...), extra...), "\r\n"...)
	return append(append(p, text...), '\n')
}

// handshakeLate gives up a handshake that takes too long.
func (c *Conn) handshakeLate() {
	if c.refusing() { // Its text is not awaited any more.
		c.endHandshake()
		return
	}
	c.lane.ep.counts.handshakeTimeouts.Add(1)
	if !c.lane.ep.client {
		c.refuse(errTimeout.status, errTimeout.text, nil)
		return
	}
	c.reject(&HandshakeError{Err: ErrHandshakeTimeout})
}

// gather collects a head of which in may have a part, and takes it off in. It is
// not ok while the head is not whole. What has come of it is copied to the heap, so that
// a peer that stops in the middle costs no block, but about as much as it has sent.
func (c *Conn) gather(in *buf.Buf) (p []byte, ok bool, bad *badHead) {
	l := c.lane
	var was, seen int
	if c.in != nil {
		was, seen = len(c.in.heap), int(c.in.size)
	}
	n := min(in.Len(), l.ep.cfg.MaxHead-was)
	p = in.Bytes()[:n]
	if c.in != nil {
		c.in.appendHead(p, l.ep.cfg.MaxHead)
		p = c.in.heap
	}
	end, seen, bad := headEnd(p, seen)
	switch {
	case bad != nil:
		return nil, false, bad
	case end > 0:
		in.Advance(end - was)
		if c.in != nil {
			*c.in = inbound{} // The head is no buffer for messages.
			c.rest()
		}
		return p[:end], true, nil
	case n < in.Len():
		return nil, false, errHeadSize
	case c.in == nil:
		c.in = l.inbound()
		c.in.appendHead(p, l.ep.cfg.MaxHead)
	}
	c.in.size = uint64(seen)
	in.Advance(n)
	return nil, false, nil
}

// headLeast is how much is taken for the first piece of a head.
const headLeast = 512

// appendHead appends p to what has come of a head, which is at most that long.
func (in *inbound) appendHead(p []byte, most int) {
	if need := len(in.heap) + len(p); need > cap(in.heap) {
		in.heap = append(make([]byte, 0, min(most, max(headLeast, 2*need))), in.heap...)
	}
	in.heap = append(in.heap, p...)
}
