package conn_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
)

func TestMain(m *testing.M) { looptest.Main(m) }

// calls is an engine that counts what it is asked.
type calls struct {
	aio.Engine
	tries, sends int
	last         aio.Op // Send
	onRecv       func(op *aio.Op)
}

func (e *calls) Try(op *aio.Op) int {
	e.tries++
	return e.Engine.Try(op)
}

func (e *calls) Submit(op *aio.Op) {
	if op.Kind == aio.Send {
		e.sends++
		e.last = *op
	}
	if op.Kind == aio.Recv && e.onRecv != nil {
		e.onRecv(op)
	}
	e.Engine.Submit(op)
}

// rig is one connection on a kernel without misfortunes, and its peer, whose
// window is so many bytes. It logs the hooks.
type rig struct {
	*world
	c      *conn.Conn
	peer   *aiotest.Peer
	window int
	log    []string
	got    []byte // what OnData brought
	err    error  // what OnClose was told
	lost   int

	onOpen, onFull, onDrain, onEOF func(c *conn.Conn)
	onData                         func(c *conn.Conn, in *buf.Buf)
	onError, onClose               func(c *conn.Conn, err error)
	onTimeout                      func(c *conn.Conn, which conn.Reason) bool
}

// newRig opens a connection; with prepares its hooks before.
func newRig(t *testing.T, window int, cfg conn.Config, with func(r *rig)) *rig {
	t.Helper()
	r := &rig{window: window, world: newWorld(t, 1, aiotest.Config{SendBufferMin: window, SendBufferMax: window})}
	r.join(cfg, with)
	return r
}

// join opens a connection of r, whose world is there.
func (r *rig) join(cfg conn.Config, with func(r *rig)) {
	r.T.Helper()
	cfg, err := cfg.Check()
	if err != nil {
		r.T.Fatal(err)
	}
	if with != nil {
		with(r)
	}
	fd, peer := r.Fake.Open()
	r.peer = peer
	// A handler may panic, so it runs where the loop catches that.
	r.Loop.Defer(func() { conn.New(r.Loop, int(fd), r.handler(), cfg) })
	r.Turn()
}

// second returns another connection in the same world.
func (r *rig) second(cfg conn.Config, with func(r *rig)) *rig {
	r.T.Helper()
	s := &rig{window: r.window, world: r.world}
	s.join(cfg, with)
	return s
}

func (r *rig) handler() *conn.Funcs {
	f := &conn.Funcs{
		Open: func(c *conn.Conn) { r.c = c; r.note("open"); call(r.onOpen, c) },
		Data: func(c *conn.Conn, in *buf.Buf) {
			r.note("data")
			r.got = append(r.got, in.Bytes()...)
			if r.onData != nil {
				r.onData(c, in)
			}
		},
		Full:  func(c *conn.Conn) { r.note("full"); call(r.onFull, c) },
		Drain: func(c *conn.Conn) { r.note("drain"); call(r.onDrain, c) },
		Error: func(c *conn.Conn, err error) {
			r.note("error")
			if r.onError != nil {
				r.onError(c, err)
			}
		},
		Close: func(c *conn.Conn, err error) {
			r.note("close")
			r.err, r.lost = err, int(c.Stats().LostBytes)
			if r.onClose != nil {
				r.onClose(c, err)
			}
		},
	}
	f.Timeout = r.onTimeout
	if r.onEOF != nil {
		f.EOF = func(c *conn.Conn) { r.note("eof"); r.onEOF(c) }
	}
	return f
}

func call(fn func(*conn.Conn), c *conn.Conn) {
	if fn != nil {
		fn(c)
	}
}

func (r *rig) note(event string) {
	if slices.Contains(r.log, "close") {
		r.T.Errorf("%s after close", event)
	}
	r.log = append(r.log, event)
}

func (r *rig) count(event string) (n int) {
	for _, e := range r.log {
		if e == event {
			n++
		}
	}
	return n
}

// wantLog checks the hooks so far, apart from open and data.
func (r *rig) wantLog(want string) {
	r.T.Helper()
	var got []string
	for _, e := range r.log {
		if e != "open" && e != "data" {
			got = append(got, e)
		}
	}
	if g := strings.Join(got, " "); g != want {
		r.T.Fatalf("hooks %q, want %q", g, want)
	}
}

// stuff fills the peer's window, so that all that is sent stays pending.
func (r *rig) stuff() {
	r.T.Helper()
	if _ = r.write(r.window); r.window > 0 {
		r.Turns(2)
	}
	if r.c.Pending() != 0 || r.peer.Waiting() != r.window {
		r.T.Fatalf("%d bytes pending, %d with the peer", r.c.Pending(), r.peer.Waiting())
	}
	r.log = r.log[:1] // Full, perhaps, and its drain.
}

func (r *rig) write(n int) error {
	_, err := r.c.Write(make([]byte, n))
	return err
}

// read has the peer read n bytes, and what becomes of that.
func (r *rig) read(n int) {
	r.T.Helper()
	if got, err := r.peer.Read(make([]byte, n)); got != n || err != nil {
		r.T.Fatalf("the peer read %d bytes of %d, %v", got, n, err)
	}
	r.Turns(2)
}

// do runs fn where the loop catches panics, for the connection.
func (r *rig) do(fn func(c *conn.Conn)) {
	r.c.Ref().Do(fn)
	r.Turn()
}

func (r *rig) isClosed() bool { return slices.Contains(r.log, "close") }

// gone waits for the end and checks that nothing is left. The peer is kind.
func (r *rig) gone() {
	r.T.Helper()
	if !r.isClosed() {
		r.c.Close()
	}
	if !r.peer.WasReset() {
		r.peer.AutoRead(true)
	}
	r.Settle("close", r.isClosed)
	r.Finish()
}

// wantReason checks what OnClose was told, and how many bytes were lost.
func (r *rig) wantReason(reason conn.Reason, lost int) {
	r.T.Helper()
	var ce *conn.CloseError
	if !errors.As(r.err, &ce) || ce.Reason != reason || ce.LostBytes != lost {
		r.T.Fatalf("closed with %v, want %v with %d bytes lost", r.err, reason, lost)
	}
	if r.lost != lost {
		r.T.Fatalf("Stats says %d bytes lost, want %d", r.lost, lost)
	}
}

func marks(high, low, limit int) conn.Config {
	return conn.Config{HighWater: high, LowWater: low, Limit: limit, CloseTimeout: time.Hour}
}

// method is one way to send n bytes.
type method struct {
	name string
	most int // bytes; 0 = any
	ref  bool
	send func(r *rig, n int) conn.Status
}

var methods = []method{
	{"Send", 64 << 10, false, func(r *rig, n int) conn.Status {
		b := r.Bulk.Get()
		b.Extend(n)
		s := r.c.Send(&b)
		if b.IsZero() != (s <= conn.Full) {
			r.T.Errorf("Send answered %v and the buffer is zero: %v", s, b.IsZero())
		}
		b.Release()
		return s
	}},
	{"Write", 0, false, func(r *rig, n int) conn.Status {
		m, err := r.c.Write(make([]byte, n))
		return r.status(n, m, err)
	}},
	{"Writev", 0, false, func(r *rig, n int) conn.Status {
		m, err := r.c.Writev([][]byte{make([]byte, n/3), nil, make([]byte, n-n/3)})
		return r.status(n, m, err)
	}},
	{"SendVec", 0, false, func(r *rig, n int) conn.Status {
		return r.c.SendVec([][]byte{make([]byte, n/2), nil, make([]byte, n-n/2)})
	}},
	{"SendHeaded", 0, false, func(r *rig, n int) conn.Status {
		return r.c.SendHeaded(make([]byte, n/7), make([]byte, n-n/7))
	}},
	{"SendShared", 0, false, func(r *rig, n int) conn.Status {
		s := buf.NewShared(make([]byte, n))
		defer s.Release()
		return r.c.SendShared(s)
	}},
	{"SendBytes", 0, false, func(r *rig, n int) conn.Status { return r.c.SendBytes(make([]byte, n), nil) }},
	{"Ref.Write", 0, true, func(r *rig, n int) conn.Status { return r.c.Ref().Write(make([]byte, n)) }},
	{"Ref.SendShared", 0, true, func(r *rig, n int) conn.Status {
		s := buf.NewShared(make([]byte, n))
		defer s.Release()
		return r.c.Ref().SendShared(s)
	}},
}

// status makes the answer of an io.Writer a Status. Full is not told.
func (r *rig) status(n, wrote int, err error) conn.Status {
	s := statusOf(err)
	if want := map[bool]int{true: n, false: 0}[s == conn.Queued]; wrote != want {
		r.T.Errorf("wrote %d bytes of %d with %v", wrote, n, err)
	}
	if s == conn.Queued && n > 0 && r.c.Pending() >= r.c.Marks().High {
		s = conn.Full
	}
	return s
}

func name(format string, args ...any) string {
	return strings.ReplaceAll(fmt.Sprintf(format, args...), " ", "_")
}
