package ws_test

import (
	"bytes"
	"crypto/sha1"
	"encoding/base64"
	"flag"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/invariants"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
	"github.com/penstock-go/penstock/ws"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "replay the simulation of this one seed")
	simSeeds = flag.Uint64("sim.seeds", 300, "how many seeds to simulate, a sixth of them with -short or the race detector")
)

func TestMain(m *testing.M) {
	// A loop that waits keeps its P: leave some to the tests.
	runtime.GOMAXPROCS(max(8, runtime.GOMAXPROCS(0)))
	testutil.Main(m)
}

// simulate runs fn for each seed, and names the seed that fails.
func simulate(t *testing.T, fn func(t *testing.T, seed uint64)) {
	t.Helper()
	if *simSeed != 0 {
		fn(t, *simSeed)
		return
	}
	seeds := *simSeeds
	if testing.Short() || invariants.Enabled {
		seeds = max(1, seeds/6)
	}
	for seed := range seeds {
		ok := t.Run(fmt.Sprintf("seed=%d", seed+1), func(t *testing.T) {
			defer func() {
				if v := recover(); v != nil {
					buf := make([]byte, 16<<10)
					t.Fatalf("panic: %v\n%s", v, buf[:runtime.Stack(buf, false)])
				}
			}()
			fn(t, seed+1)
		})
		if !ok {
			t.Fatalf("replay: go test ./ws -run '^%s$' -sim.seed=%d", t.Name(), seed+1)
		}
	}
}

// world is one loop on a simulated kernel with a simulated clock.
type world struct {
	t           testing.TB
	rng         *rand.Rand
	fake        *aiotest.Fake
	loop        *reactor.Loop
	small, bulk *buf.Pool
	now         time.Duration
}

func newWorld(t testing.TB, seed uint64, faults aiotest.Config) *world {
	t.Helper()
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1))}
	w.small, _ = buf.NewPool(buf.Config{BlockSize: reactor.SmallBlock, SlabBlocks: 8})
	w.bulk, _ = buf.NewPool(buf.Config{BlockSize: reactor.BulkBlock, SlabBlocks: 8})
	faults.OnIdle = func(d time.Duration) { w.now += max(0, min(d, time.Second)) }
	faults.Bulk = w.bulk
	w.fake = aiotest.NewFake(seed, w.small, faults)
	w.loop = reactor.NewLoop(reactor.LoopConfig{
		Engine: w.fake, Small: w.small, Bulk: w.bulk,
		Clock:  func() time.Duration { return w.now },
		Logger: slog.New(slog.DiscardHandler),
	})
	return w
}

// turn turns the loop and lets a little time pass.
func (w *world) turn() {
	if err := w.loop.Turn(0); err != nil {
		w.t.Fatal(err)
	}
	w.now += time.Millisecond
}

func (w *world) turns(n int) {
	for range n {
		w.turn()
	}
}

// pass lets d pass, in steps that no timer is late by more than 10 ms.
func (w *world) pass(d time.Duration) {
	for end := w.now + d; w.now < end; w.now += 9 * time.Millisecond {
		w.turn()
	}
}

// settle turns until ok, and fails when that does not come about.
func (w *world) settle(what string, ok func() bool) {
	w.t.Helper()
	for range 50000 {
		if ok() {
			return
		}
		w.turn()
	}
	w.t.Fatalf("%s: not within 50000 turns", what)
}

// finish checks that nothing was left behind.
func (w *world) finish() {
	w.t.Helper()
	w.settle("operations home", func() bool { return w.fake.InFlight() == 0 })
	if n := w.fake.OpenFDs(); n != 0 {
		w.t.Errorf("%d descriptors left open", n)
	}
	if err := w.fake.Close(); err != nil {
		w.t.Error(err)
	}
	if a, b := w.small.InUse(), w.bulk.InUse(); a != 0 || b != 0 {
		w.t.Fatalf("%d small and %d bulk blocks leaked", a, b)
	}
	w.small.Close()
	w.bulk.Close()
}

// rig is one WebSocket of a server on a kernel without misfortunes, and its peer,
// which speaks bytes. It notes what the handler hears.
type rig struct {
	*world
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
	r := &rig{world: newWorld(t, max(1, o.seed), o.faults)}
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
	fd, peer := r.fake.Open()
	r.peer = peer
	r.loop.Defer(func() { conn.New(r.loop, int(fd), r.server, below) })
	r.turn()
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
	r.settle("handshake", func() bool { return bytes.Contains(r.peer.Received(), []byte("\r\n\r\n")) })
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
	r.turns(3)
}

// want checks the frames that have come since the last look.
func (r *rig) want(frames ...frame) {
	r.t.Helper()
	got, rest := decode(r.t, false, r.got())
	if len(rest) > 0 {
		r.t.Fatalf("% x behind the frames", rest)
	}
	if !equalFrames(got, frames) {
		r.t.Fatalf("got frames %v, want %v", got, frames)
	}
}

// gone waits for the end and checks that nothing is left. The peer is kind.
func (r *rig) gone() {
	r.t.Helper()
	if !r.peer.WasReset() {
		r.peer.AutoRead(true)
		r.peer.CloseWrite()
	}
	r.settle("close", func() bool { return r.fake.OpenFDs() == 0 })
	if r.funcs != nil && r.opens != r.closes {
		r.t.Errorf("%d opened, %d closed", r.opens, r.closes)
	}
	r.finish()
}

// wantClose checks what OnClose was told.
func (r *rig) wantClose(code ws.Code, remote, clean bool) {
	r.t.Helper()
	if r.closes != 1 || r.closed.Code != code || r.closed.Remote != remote || r.closed.Clean != clean {
		r.t.Fatalf("%d closes, the last %+v; want code %d, remote %v, clean %v", r.closes, r.closed, code, remote, clean)
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

// engines runs a test on each real engine.
func engines(t *testing.T, test func(t *testing.T, g *reactor.Group)) {
	t.Helper()
	for _, kind := range []reactor.EngineKind{reactor.Uring, reactor.Epoll} {
		t.Run(kind.String(), func(t *testing.T) {
			g, err := reactor.Start(reactor.Config{Loops: 1, Engine: kind, Logger: slog.New(slog.DiscardHandler)})
			if kind == reactor.Uring {
				testutil.SkipIfKernelOlder(t, "6.1", "io_uring", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := g.Close(); err != nil {
					t.Error(err)
				}
			}()
			test(t, g)
		})
	}
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
	r := &rig{world: newWorld(t, max(1, o.seed), o.faults)}
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
	fd, peer := r.fake.Open()
	r.peer = peer
	r.loop.Defer(func() { conn.New(r.loop, int(fd), k, below) })
	r.turn()
	return r
}

// request waits for what the client asks for.
func (r *rig) request() string {
	r.t.Helper()
	r.peer.AutoRead(true)
	r.settle("request", func() bool { return bytes.Contains(r.peer.Received(), []byte("\r\n\r\n")) })
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
