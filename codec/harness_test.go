package codec_test

import (
	"fmt"
	"hash/crc32"
	"io"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/codec"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
)

func TestMain(m *testing.M) { looptest.Main(m) }

type world struct{ *looptest.World }

// newWorld returns a world whose seed is the test's own, so that kernels of all kinds
// are among them, and a test has the same one each time.
func newWorld(t testing.TB) *world {
	t.Helper()
	return newWorldOf(t, uint64(crc32.ChecksumIEEE([]byte(t.Name()))))
}

func newWorldOf(t testing.TB, seed uint64) *world {
	t.Helper()
	return &world{looptest.New(t, looptest.Options{Seed: seed})}
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
	w.T.Helper()
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
		r.T.Fatal(err)
	}
	fd, peer := r.Fake.Open()
	r.peer = peer
	r.Loop.Defer(func() { r.c = conn.New(r.Loop, int(fd), h, cfg) })
	r.Turn()
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
				r.T.Error("OnClose twice")
			}
			r.err, r.gone = err, true
		},
	}, cfg)
	if err != nil {
		r.T.Fatal(err)
	}
	return p
}

// feed has the peer send p and lets the loop see it.
func (r *rig) feed(p string) {
	r.T.Helper()
	r.peer.Feed([]byte(p))
	for range 2 + len(p)/1024 {
		r.Turn()
	}
}

// end has the peer end its side, and waits for OnClose.
func (r *rig) end() {
	r.T.Helper()
	r.peer.AutoRead(true)
	r.peer.CloseWrite()
	r.Settle("close", func() bool { return r.gone })
}

// wantEOF checks that the connection ended in order.
func (r *rig) wantEOF() {
	r.T.Helper()
	if r.err != io.EOF {
		r.T.Errorf("closed with %v, want EOF", r.err)
	}
}

func text(format string, args ...any) string { return fmt.Sprintf(format, args...) }
