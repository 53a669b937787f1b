package ws

import (
	"cmp"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
)

// RetryHandler hears that a client which reconnects is down.
type RetryHandler interface {
	// OnRetry runs when a WebSocket was lost, behind its OnClose, and when an attempt
	// to connect or its handshake has failed. c is none of those that were open: it has
	// the User of the one that was lost, and takes no messages. To end it all call Close
	// or Abort of c.Conn().
	OnRetry(c *Conn, r conn.Retry)
}

// Client speaks WebSocket to a server: it is the conn.Handler of connections that
// are dialed to it. It keeps its state in the connection's User.
//
// With conn.Dialer.Reconnect a connection that was lost is dialed again, as one
// whose handshake was refused with a status from 500 on, or took too long. Each
// WebSocket is a new *Conn with an OnOpen and an OnClose of its own; in between there
// is none, and nothing is sent: what a Ref takes then is told to OnError. An OnClose
// without an OnOpen before it is the end: the server was not reached, its answer not
// taken, or the connection closed here in between. Behind a Close of ours no other
// follows, however the server takes it.
//
// Thread: any, but for what implements conn.Handler.
type Client struct {
	ep      *endpoint
	dialer  *conn.Dialer
	network string
	address string
	request []byte // but for the key and the empty line
	next    atomic.Uint32
}

// ClientConfig shapes a client. The zero value works.
type ClientConfig struct {
	Config

	// Header is sent with the request, beside what makes it a handshake.
	Header http.Header
	// Host is asked for instead of that of the address.
	Host string
	// Dialer makes the connections: time-outs, marks, Reconnect. Its Reconnect.Keep
	// must be off: half a conversation is of no use in the next. Default: a Dialer
	// without options.
	Dialer *conn.Dialer
	// Network and Address say where to connect instead of to the host of the
	// address: "unix" and a path, for one.
	Network, Address string
}

// NewClient returns a client for an address, ws://HOST[:PORT][/PATH][?QUERY],
// whose WebSockets h hears. One client may dial any number of connections, which
// share on each loop what compresses them.
func NewClient(address string, h Handler, cfg ClientConfig) (*Client, error) {
	ep, err := newEndpoint(h, cfg.Config, true)
	if err != nil {
		return nil, err
	}
	u, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	k := &Client{ep: ep, dialer: cfg.Dialer, network: cmp.Or(cfg.Network, "tcp"), address: cfg.Address}
	if k.address == "" {
		k.address = u.Host
		if u.Port() == "" {
			k.address = net.JoinHostPort(u.Hostname(), "80")
		}
	}
	switch {
	case k.dialer == nil:
		k.dialer = &conn.Dialer{}
	case k.dialer.Reconnect != nil && k.dialer.Reconnect.Keep:
		return nil, errors.New("ws: Reconnect.Keep would send what belongs to a WebSocket that is gone")
	}
	if k.request, err = cfg.head(u, &ep.cfg); err != nil {
		return nil, err
	}
	return k, nil
}

// head returns the head of a request, but for the key and the empty line.
func (cfg *ClientConfig) head(u *url.URL, checked *Config) ([]byte, error) {
	host := cmp.Or(cfg.Host, hostOf(u))
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
	if len(checked.Protocols) > 0 { // One line: some servers read no other.
		p = appendField(p, "Sec-WebSocket-Protocol", strings.Join(checked.Protocols, ", "))
	}
	if d := checked.Deflate; d != nil {
		p = d.appendOffers(p)
	}
	return p, nil
}

// hostOf returns what is asked for by an address: its host as far as others know it,
// so without the zone of IPv6, which is this machine's own (RFC 6874, 4).
func hostOf(u *url.URL) string {
	host := strings.TrimSuffix(u.Host, ":")
	if from := strings.IndexByte(host, '%'); from >= 0 && host[0] == '[' {
		host = host[:from] + host[strings.IndexByte(host, ']'):]
	}
	return host
}

// parseAddress reads the address of a WebSocket (RFC 6455, 3).
func parseAddress(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return nil, fmt.Errorf("ws: %w", err)
	case u.Scheme == "wss":
		return nil, fmt.Errorf("ws: address %q: TLS is not there yet: %w", address, errors.ErrUnsupported)
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
	_, _ = rand.Read(raw[:]) // It never fails.
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
func (k *Client) OnFull(c *conn.Conn) { k.of(c).full() }

// OnDrain implements conn.DrainHandler.
func (k *Client) OnDrain(c *conn.Conn) { k.of(c).drained() }

// OnError implements conn.ErrorHandler.
func (k *Client) OnError(c *conn.Conn, err error) { k.of(c).failed(err) }

// OnShutdown implements conn.ShutdownHandler: the server is told GoingAway.
func (k *Client) OnShutdown(c *conn.Conn) { k.of(c).shutdown() }

// OnRetry implements conn.RetryHandler.
func (k *Client) OnRetry(c *conn.Conn, r conn.Retry) {
	w := k.of(c)
	// The end was asked for here: that it comes without an answer is no loss.
	final := w.phase == closing || c.Loop().Stopping()
	switch {
	case w.refusing(): // In the middle of its text.
		w.asked.plain()
		final = final || !w.asked.err.passing()
		r.Err = &conn.CloseError{Reason: conn.Refused, Err: w.asked.err}
	case w.asked != nil:
		w.asked.err = nil // The end may be another's.
	}
	if w.ended(r.Err); w.told { // Nothing comes behind its OnClose.
		w = k.between(c, w.hooks, w.user)
		w.told = final
	}
	switch {
	case final:
		c.Close()
	case w.hooks.retry != nil:
		w.hooks.retry(w, r)
	}
}

// OnClose implements conn.Handler.
func (k *Client) OnClose(c *conn.Conn, err error) {
	w := k.of(c)
	if w.ended(err); !w.opened && !w.told {
		w.told = true
		w.hooks.handler.OnClose(w, w.unopened(err))
	}
}

// of returns the WebSocket on a connection, or what stands for it before there was
// one.
func (k *Client) of(c *conn.Conn) *Conn {
	if c.User() == nil {
		return k.between(c, k.ep.hooks, nil)
	}
	return of(c)
}

// between puts what stands for a WebSocket where there is none.
func (k *Client) between(c *conn.Conn, h *hooks, user any) *Conn {
	w := &Conn{conn: c, lane: k.ep.lane(c.Loop()), hooks: h, user: user, place: -1, phase: over, asked: &asked{}}
	c.SetUser(w)
	return w
}

// unopened is what OnClose is told of a WebSocket that did not come about.
func (c *Conn) unopened(err error) *CloseError {
	told := &CloseError{Code: Abnormal, Remote: remote(err), Err: err, unopened: true}
	if c.asked != nil && c.asked.err != nil {
		c.asked.plain()
		told.Remote, told.Err = true, c.asked.err
	}
	return told
}
