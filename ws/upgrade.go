package ws

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// Upgrader moves connections from a server of net/http onto the loops, where they
// are WebSockets: an http.Handler for the paths that are one. The handshake is read
// and answered on the loop, by the rules of a [Server] and with its hooks; the
// goroutine of net/http ends.
//
// It is for HTTP/1.1 over TCP and unix sockets without TLS: a proxy in front that ends
// TLS is the way today.
//
// Thread: any.
type Upgrader struct {
	*Server
	below *conn.Attacher
}

// NewUpgrader returns an Upgrader onto the loops of g, one after another: h hears the
// WebSockets, cfg shapes them, and below the connections they are on.
func NewUpgrader(g *reactor.Group, h Handler, cfg Config, below conn.Config) (*Upgrader, error) {
	s, err := NewServer(h, cfg)
	if err != nil {
		return nil, err
	}
	u := &Upgrader{Server: s}
	if u.below, err = conn.NewAttacher(g, upgraded{s}, below); err != nil {
		return nil, err
	}
	return u, nil
}

// ServeHTTP implements http.Handler: Upgrade without a value, whose error has been
// answered.
func (u *Upgrader) ServeHTTP(w http.ResponseWriter, r *http.Request) { _ = u.Upgrade(w, r, nil) }

// Upgrade takes the connection of r over. user becomes Conn.User, so that what the
// middleware of net/http has found out is known to OnUpgrade, by Request.User, and to
// OnOpen. Headers that were set on w are not sent: OnUpgrade adds those of the answer.
//
// When it fails, the request has been answered with a status: 501 where there is no
// socket to take over, as of a listener that wraps its connections, 503 when the
// MaxConns or the ConnLimit of below is reached.
func (u *Upgrader) Upgrade(w http.ResponseWriter, r *http.Request, user any) error {
	head, status, err := rebuild(r)
	if err == nil && r.TLS != nil {
		status, err = http.StatusNotImplemented, errors.New("ws: no WebSocket over TLS: let a proxy end it")
	}
	hijacker, ok := w.(http.Hijacker)
	if err == nil && !ok {
		status, err = http.StatusNotImplemented, fmt.Errorf("ws: %T cannot be hijacked", w)
	}
	if err != nil {
		u.ep.counts.refused.Add(1)
		if status == http.StatusMethodNotAllowed {
			w.Header().Set("Allow", http.MethodGet)
		}
		http.Error(w, err.Error(), status)
		return err
	}
	c, buffered, err := hijacker.Hijack()
	if err != nil {
		u.ep.counts.refused.Add(1)
		http.Error(w, "this connection cannot become a WebSocket", http.StatusInternalServerError)
		return fmt.Errorf("ws: %w", err)
	}
	if n := buffered.Reader.Buffered(); n > 0 { // Frames in the segment of the handshake.
		more, _ := buffered.Reader.Peek(n)
		head = append(head, more...)
	}
	if err := u.below.Attach(c, head, user); err != nil {
		u.ep.counts.refused.Add(1)
		turnAway(c, err)
		return fmt.Errorf("ws: %w", err)
	}
	return nil
}

// turnAway answers on a connection that was hijacked, and cannot be attached.
func turnAway(c net.Conn, err error) {
	status, text := http.StatusServiceUnavailable, "no room for a WebSocket now"
	if errors.Is(err, errors.ErrUnsupported) {
		status, text = http.StatusNotImplemented, "this connection cannot become a WebSocket"
	}
	_ = c.SetWriteDeadline(time.Now().Add(time.Second)) // It is the first that is written: there is room.
	_, _ = c.Write(appendRefusal(nil, status, text, nil))
	_ = c.Close()
}

// rebuild writes down the head of a request again. What cannot be a handshake is
// refused before, as long as net/http can answer.
func rebuild(r *http.Request) (head []byte, status int, err error) {
	switch {
	case r.ProtoMajor != 1 || r.ProtoMinor != 1:
		return nil, http.StatusHTTPVersionNotSupported, errors.New("ws: not HTTP/1.1")
	case r.Method != http.MethodGet:
		return nil, http.StatusMethodNotAllowed, errMethod
	case r.ContentLength != 0 || len(r.TransferEncoding) > 0:
		return nil, http.StatusBadRequest, errBody
	}
	p := append(append([]byte("GET "), r.RequestURI...), " HTTP/1.1\r\n"...)
	p = appendField(p, "Host", r.Host)
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		for _, value := range r.Header[name] {
			if !isToken(name) || !isText(value) {
				return nil, http.StatusBadRequest, errValue
			}
			p = appendField(p, name, value)
		}
	}
	if !isText(r.RequestURI) || !isText(r.Host) {
		return nil, http.StatusBadRequest, errTarget
	}
	return append(p, "\r\n"...), 0, nil
}

// upgraded is a Server for connections that net/http has had.
type upgraded struct{ *Server }

// OnOpen implements conn.Handler. The connection has the User that Upgrade was given.
func (u upgraded) OnOpen(c *conn.Conn) {
	user := c.User()
	u.Server.OnOpen(c)
	of(c).user = user
}
