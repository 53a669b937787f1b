package ws

import (
	"bytes"
	"fmt"
	"iter"
	"net/http"
	"strings"

	"github.com/penstock-go/penstock/conn"
)

// Request is a handshake that a server is about to answer: what the client asks
// for, and what it will be told.
//
// Ownership: it is lent until OnUpgrade returns. The strings that it gives are
// copies, and may be kept.
type Request struct {
	conn   *Conn
	head   *head
	demand demand

	status   int // 0: the handshake is accepted
	text     string
	protocol string
	extra    []byte // header lines of the answer
	agreed   agreed
	offer    offer // that it comes of
}

// Target returns the path and the query as they were sent, not decoded. Where the
// client has sent a whole address, its scheme and host are left out.
func (r *Request) Target() string { return string(r.head.first[1]) }

// Path returns the path as it was sent, not decoded.
func (r *Request) Path() string {
	path, _, _ := bytes.Cut(r.head.first[1], []byte("?"))
	return string(path)
}

// Query returns what is behind the question mark, as it was sent.
func (r *Request) Query() string {
	_, query, _ := bytes.Cut(r.head.first[1], []byte("?"))
	return string(query)
}

// Host returns the header of that name.
func (r *Request) Host() string { return string(r.demand.host) }

// Origin returns the header of that name, or "" if there is none.
func (r *Request) Origin() string { return string(r.demand.origin) }

// Header returns the first header of a name in any case, or "".
func (r *Request) Header(name string) string {
	value, _ := r.head.get(name)
	return string(value)
}

// Headers returns all headers in their order, names as they were sent.
func (r *Request) Headers() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for i := range r.head.fields {
			if f := &r.head.fields[i]; !yield(string(f.name), string(f.value)) {
				return
			}
		}
	}
}

// Protocols returns the subprotocols that the client asks for, its choice first.
func (r *Request) Protocols() []string {
	var list []string
	for item := range r.head.items("Sec-WebSocket-Protocol") {
		list = append(list, string(item))
	}
	return list
}

// RemoteAddr returns the address of the client.
func (r *Request) RemoteAddr() conn.Addr { return r.conn.conn.RemoteAddr() }

// Conn returns the connection below, for what is known of it.
func (r *Request) Conn() *conn.Conn { return r.conn.conn }

// Refuse has the handshake answered with an HTTP status from 300 to 599 and a
// text of one's own, and the connection closed. OnOpen does not run then, and
// neither does OnClose. For any other status 500 is sent. The text is plain, unless
// AddHeader says by a Content-Type what it is.
func (r *Request) Refuse(status int, text string) {
	if status < 300 || status > 599 {
		status = http.StatusInternalServerError
	}
	r.status, r.text = status, text
}

// SetProtocol chooses a subprotocol. It must be one of those that the client asks
// for, or "" for none; for any other the client would end the connection, so it
// is an error and changes nothing.
func (r *Request) SetProtocol(name string) error {
	if name == "" {
		r.protocol = ""
		return nil
	}
	for item := range r.head.items("Sec-WebSocket-Protocol") {
		if string(item) == name {
			r.protocol = name
			return nil
		}
	}
	return fmt.Errorf("ws: subprotocol %q was not asked for", name)
}

// AddHeader adds a header to the answer, whatever the answer will be. A name that
// is no token, a value with a line break or another control character, and a
// header that is the handshake's own are errors and add nothing.
func (r *Request) AddHeader(name, value string) error {
	if err := checkHeader(name, value); err != nil {
		return err
	}
	r.extra = appendField(r.extra, name, value)
	return nil
}

// SetHandler has h hear the connection, from OnOpen on, instead of the handler of
// the server. Its own OnUpgrade does not run.
func (r *Request) SetHandler(h Handler) { r.conn.SetHandler(h) }

// User returns what was given to Upgrader.Upgrade, or nil.
func (r *Request) User() any { return r.conn.user }

// SetUser keeps a value with the connection; see Conn.User.
func (r *Request) SetUser(v any) { r.conn.user = v }

// DisableDeflate has the connection do without compression.
func (r *Request) DisableDeflate() { r.agreed = agreed{} }

// reserved are the headers that only the handshake itself may send.
var reserved = []string{
	"Connection", "Content-Length", "Host", "Sec-WebSocket-Accept", "Sec-WebSocket-Extensions", "Sec-WebSocket-Key",
	"Sec-WebSocket-Protocol", "Sec-WebSocket-Version", "Transfer-Encoding", "Upgrade",
}

// checkHeader looks at a header that the user wants to be sent: it must stay what
// it is, one header.
func checkHeader(name, value string) error {
	if !isToken(name) {
		return fmt.Errorf("ws: header name %q is no token", name)
	}
	if !isText(value) || strings.TrimSpace(value) != value {
		return fmt.Errorf("ws: value %q of header %s has white space around it or a control character", value, name)
	}
	for _, own := range reserved {
		if equalFold(name, own) {
			return fmt.Errorf("ws: header %s is part of the handshake", name)
		}
	}
	return nil
}

func appendField[T ~string | ~[]byte](dst []byte, name string, value T) []byte {
	return append(append(append(append(dst, name...), ": "...), value...), "\r\n"...)
}

// hasField reports whether lines, which appendField has made, have a header of that
// name.
func hasField(lines []byte, name string) bool {
	for line := range bytes.Lines(lines) {
		if have, _, _ := bytes.Cut(line, []byte(":")); equalFold(have, name) {
			return true
		}
	}
	return false
}
