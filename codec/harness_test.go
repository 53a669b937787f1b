package codec_test

import (
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/codec"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(max(8, runtime.GOMAXPROCS(0)))
	testutil.Main(m)
}

// world is one loop on a simulated kernel, turned by hand.
type world struct {
	t           testing.TB
	fake        *aiotest.Fake
	loop        *reactor.Loop
	small, bulk *buf.Pool
	now         time.Duration
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t}
	w.small, _ = buf.NewPool(buf.Config{BlockSize: reactor.SmallBlock, SlabBlocks: 8})
	w.bulk, _ = buf.NewPool(buf.Config{BlockSize: reactor.BulkBlock, SlabBlocks: 8})
	w.fake = aiotest.NewFake(1, w.small, aiotest.Config{Bulk: w.bulk})
	w.loop = reactor.NewLoop(reactor.LoopConfig{
		Engine: w.fake, Small: w.small, Bulk: w.bulk,
		Clock:  func() time.Duration { return w.now },
		Logger: slog.New(slog.DiscardHandler),
	})
	return w
}

func (w *world) turn() {
	w.t.Helper()
	if err := w.loop.Turn(0); err != nil {
		w.t.Fatal(err)
	}
	w.now += time.Millisecond
}

func (w *world) settle(what string, ok func() bool) {
	w.t.Helper()
	for range 20000 {
		if ok() {
			return
		}
		w.turn()
	}
	w.t.Fatalf("%s: not within 20000 turns", what)
}

// finish checks that no block is left.
func (w *world) finish() {
	w.t.Helper()
	w.settle("operations home", func() bool { return w.fake.InFlight() == 0 })
	if err := w.fake.Close(); err != nil {
		w.t.Error(err)
	}
	if a, b := w.small.InUse(), w.bulk.InUse(); a != 0 || b != 0 {
		w.t.Fatalf("%d small and %d bulk blocks leaked", a, b)
	}
	w.small.Close()
	w.bulk.Close()
}

// rig is one connection with a protocol, and its peer. It notes what the handler
// hears.
type rig struct {
	*world
	c    *conn.Conn
	peer *aiotest.Peer
	got  []string
	err  error // what OnClose was told
	gone bool

	onMessage func(c *conn.Conn, m []byte)
	onEOF     func(c *conn.Conn)
}

// open opens a connection that speaks cd.
func (w *world) open(cd codec.Codec[[]byte], cfg codec.Config, with func(r *rig)) *rig {
	w.t.Helper()
	r := &rig{world: w}
	if with != nil {
		with(r)
	}
	r.serve(r.protocol(cd, cfg))
	return r
}

func (r *rig) serve(h conn.Handler) {
	cfg, err := conn.Config{Linger: time.Millisecond}.Check()
	if err != nil {
		r.t.Fatal(err)
	}
	fd, peer := r.fake.Open()
	r.peer = peer
	r.loop.Defer(func() { r.c = conn.New(r.loop, int(fd), h, cfg) })
	r.turn()
}

func (r *rig) protocol(cd codec.Codec[[]byte], cfg codec.Config) *codec.Protocol[[]byte] {
	p, err := codec.New(cd, &codec.Funcs[[]byte]{
		Message: func(c *conn.Conn, m []byte) {
			r.got = append(r.got, string(m))
			if r.onMessage != nil {
				r.onMessage(c, m)
			}
		},
		EOF: r.onEOF,
		Close: func(_ *conn.Conn, err error) {
			if r.gone {
				r.t.Error("OnClose twice")
			}
			r.err, r.gone = err, true
		},
	}, cfg)
	if err != nil {
		r.t.Fatal(err)
	}
	return p
}

// feed has the peer send p and lets the loop see it.
func (r *rig) feed(p string) {
	r.t.Helper()
	r.peer.Feed([]byte(p))
	for range 2 + len(p)/1024 {
		r.turn()
	}
}

// end has the peer end its side, and waits for OnClose.
func (r *rig) end() {
	r.t.Helper()
	r.peer.AutoRead(true)
	r.peer.CloseWrite()
	r.settle("close", func() bool { return r.gone })
}

// wantEOF checks that the connection ended in order.
func (r *rig) wantEOF() {
	r.t.Helper()
	if r.err != io.EOF {
		r.t.Errorf("closed with %v, want EOF", r.err)
	}
}

func text(format string, args ...any) string { return fmt.Sprintf(format, args...) }

func heap() int {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

func mallocs() int {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.Mallocs)
}
