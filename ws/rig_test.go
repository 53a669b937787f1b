package ws_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/ws"
)

func TestMain(m *testing.M) { looptest.Main(m) }

// rig is one WebSocket of a server on a kernel without misfortunes, and its peer,
// which speaks bytes. It notes what the handler hears.
type rig struct {
	*looptest.World
	server *ws.Server
	funcs  *ws.Funcs // of the rig
	client *ws.Client
	peer   *aiotest.Peer
	c      *ws.Conn
	opens  int
	msgs   []string // "text:hello"
	closed *ws.CloseError
	closes int
	read   int // of peer.Received()
}

// splits are misfortunes of receiving.
var splits = aiotest.Config{SplitRecv: 0.5, LateRecv: 0.2, FinalRecv: 0.2, NoBuffers: 0.05}

// options of a rig.
type options struct {
	cfg     ws.Config
	below   conn.Config
	handler ws.Handler // instead of the rig's own, which echoes
	window  int
	faults  aiotest.Config
	seed    uint64
}

func newRig(t *testing.T, o options) *rig {
	t.Helper()
	if o.window > 0 {
		o.faults.SendBufferMin, o.faults.SendBufferMax = o.window, o.window
	}
	r := &rig{World: looptest.New(t, looptest.Options{Seed: max(1, o.seed), Faults: o.faults})}
	h := o.handler
	if h == nil {
		r.funcs = r.echo()
		h = r.funcs
	}
	var err error
	if r.server, err = ws.NewServer(h, o.cfg); err != nil {
		t.Fatal(err)
	}
	below, err := o.below.Check()
	if err != nil {
		t.Fatal(err)
	}
	fd, peer := r.Fake.Open()
	r.peer = peer
	r.Loop.Defer(func() { conn.New(r.Loop, int(fd), r.server, below) })
	r.Turn()
	return r
}

// echo sends every message back, and notes it.
func (r *rig) echo() *ws.Funcs {
	return &ws.Funcs{
		Open: func(c *ws.Conn) { r.c = c; r.opens++ },
		Message: func(c *ws.Conn, m *ws.Message) {
			r.msgs = append(r.msgs, m.Op.String()+":"+string(m.Bytes()))
			c.SendReceived(m)
		},
		Close: func(_ *ws.Conn, err *ws.CloseError) { r.closed = err; r.closes++ },
	}
}

// dialed is a rig whose handshake is done.
func dialed(t *testing.T, o options, headers ...string) *rig {
	t.Helper()
	r := newRig(t, o)
	r.peer.AutoRead(true)
	r.peer.Feed(handshake(headers...))
	r.Settle("handshake", func() bool { return bytes.Contains(r.peer.Received(), []byte("\r\n\r\n")) })
	answer := r.peer.Received()
	if !bytes.HasPrefix(answer, []byte("HTTP/1.1 101 ")) {
		t.Fatalf("answer %q", answer)
	}
	r.read = bytes.Index(answer, []byte("\r\n\r\n")) + 4
	return r
}

// handshake is a request as a browser sends it, with more headers.
func handshake(headers ...string) []byte {
	s := "GET /chat?room=1 HTTP/1.1\r\nHost: server.example.com\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n" +
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
	for _, h := range headers {
		s += h + "\r\n"
	}
	return []byte(s + "\r\n")
}

// got returns what the peer has received since the last call.
func (r *rig) got() []byte {
	all := r.peer.Received()
	p := all[r.read:]
	r.read = len(all)
	return p
}

// feed sends frames, masked as a client does, and lets them be heard.
func (r *rig) feed(frames ...frame) {
	r.peer.Feed(encode(true, frames...))
	r.Turns(3)
}

// want checks the frames that have come since the last look.
func (r *rig) want(frames ...frame) {
	r.T.Helper()
	got, rest := decode(r.T, false, r.got())
	if len(rest) > 0 {
		r.T.Fatalf("% x behind the frames", rest)
	}
	if !equalFrames(got, frames) {
		r.T.Fatalf("got frames %v, want %v", got, frames)
	}
}

// gone waits for the end and checks that nothing is left. The peer is kind.
func (r *rig) gone() {
	r.T.Helper()
	if !r.peer.WasReset() {
		r.peer.AutoRead(true)
		r.peer.CloseWrite()
	}
	r.Settle("close", func() bool { return r.Fake.OpenFDs() == 0 })
	if r.funcs != nil && r.opens != r.closes {
		r.T.Errorf("%d opened, %d closed", r.opens, r.closes)
	}
	r.Finish()
}

// wantClose checks what OnClose was told.
func (r *rig) wantClose(code ws.Code, remote, clean bool) {
	r.T.Helper()
	if r.closes != 1 || r.closed.Code != code || r.closed.Remote != remote || r.closed.Clean != clean {
		r.T.Fatalf("%d closes, the last %+v; want code %d, remote %v, clean %v", r.closes, r.closed, code, remote, clean)
	}
}

// name keeps slashes and the like out of the names of tests.
func name(format string, args ...any) string {
	return string(bytes.Map(func(r rune) rune {
		if r == '/' || r == ' ' {
			return '_'
		}
		return r
	}, fmt.Appendf(nil, format, args...)))
}

// dialing is a rig whose side is the client, and whose handshake is done.
func dialing(t *testing.T, o options, headers ...string) *rig {
	t.Helper()
	r := newClientRig(t, o)
	r.peer.AutoRead(true)
	request := r.request()
	r.peer.Feed(answerTo(request, headers...))
	return r
}

// newClientRig opens a connection of a client; the handshake is still to come.
func newClientRig(t *testing.T, o options) *rig {
	t.Helper()
	if o.window > 0 {
		o.faults.SendBufferMin, o.faults.SendBufferMax = o.window, o.window
	}
	r := &rig{World: looptest.New(t, looptest.Options{Seed: max(1, o.seed), Faults: o.faults})}
	h := o.handler
	if h == nil {
		r.funcs = r.echo()
		h = r.funcs
	}
	k, err := ws.NewClient("ws://server.example.com/chat", h, ws.ClientConfig{Config: o.cfg})
	if err != nil {
		t.Fatal(err)
	}
	r.client = k
	below, err := o.below.Check()
	if err != nil {
		t.Fatal(err)
	}
	fd, peer := r.Fake.Open()
	r.peer = peer
	r.Loop.Defer(func() { conn.New(r.Loop, int(fd), k, below) })
	r.Turn()
	return r
}

// request waits for what the client asks for.
func (r *rig) request() string {
	r.T.Helper()
	r.peer.AutoRead(true)
	r.Settle("request", func() bool { return bytes.Contains(r.peer.Received(), []byte("\r\n\r\n")) })
	return string(r.got())
}

// answerTo is a server's answer to a request, with more headers.
func answerTo(request string, headers ...string) []byte {
	_, key, _ := strings.Cut(request, "Sec-WebSocket-Key: ")
	key, _, _ = strings.Cut(key, "\r\n")
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	s := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n"
	for _, h := range headers {
		s += h + "\r\n"
	}
	return []byte(s + "\r\n")
}
