package conn_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/invariants"
	"github.com/penstock-go/penstock/reactor"
)

var (
	simSeed  = flag.Uint64("sim.seed", 0, "replay the simulation of this one seed")
	simSeeds = flag.Uint64("sim.seeds", 2000, "how many seeds to simulate, at most 300 with -short, 60 with the race detector")
)

// world is one loop on a simulated kernel with a simulated clock.
type world struct {
	t           *testing.T
	rng         *rand.Rand
	fake        *aiotest.Fake
	calls       *calls
	loop        *reactor.Loop
	small, bulk *buf.Pool
	now         time.Duration
	work        []func() // of goroutines that the test has run, see runWork
}

func newWorld(t *testing.T, seed uint64, faults aiotest.Config) *world {
	t.Helper()
	return newWorldOf(t, seed, faults, 0)
}

// newWorldOf returns a world with so many bytes in large blocks, 0 for no bound.
func newWorldOf(t *testing.T, seed uint64, faults aiotest.Config, most int) *world {
	t.Helper()
	w := &world{t: t, rng: rand.New(rand.NewPCG(seed, 1))}
	w.small, _ = buf.NewPool(buf.Config{BlockSize: reactor.SmallBlock, SlabBlocks: 8})
	w.bulk, _ = buf.NewPool(buf.Config{BlockSize: reactor.BulkBlock, SlabBlocks: 8, MaxBytes: most})
	faults.OnIdle = func(d time.Duration) { w.now += max(0, min(d, time.Second)) }
	faults.Bulk = w.bulk
	faults.Immediate = faults.Immediate || seed%3 == 0
	w.fake = aiotest.NewFake(seed, w.small, faults)
	w.calls = &calls{Engine: w.fake}
	w.loop = reactor.NewLoop(reactor.LoopConfig{
		Engine: w.calls, Small: w.small, Bulk: w.bulk,
		Clock:  func() time.Duration { return w.now },
		Logger: slog.New(slog.DiscardHandler),
		Go:     func(fn func()) { w.work = append(w.work, fn) },
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

// simulate runs fn for each seed, and names the seed that fails.
func simulate(t *testing.T, fn func(t *testing.T, seed uint64)) { simulateUpTo(t, *simSeeds, fn) }

// simulateUpTo is simulate with so many seeds at the most.
func simulateUpTo(t *testing.T, most uint64, fn func(t *testing.T, seed uint64)) {
	if *simSeed != 0 {
		fn(t, *simSeed)
		return
	}
	t.Parallel() // With the other simulations, behind all that measures.
	seeds := min(*simSeeds, most)
	if testing.Short() {
		seeds = min(seeds, 300)
	}
	if invariants.Enabled {
		seeds = min(seeds, 60)
	}
	for seed := range seeds {
		ok := t.Run(fmt.Sprintf("seed=%d", seed+1), func(t *testing.T) {
			defer func() {
				if v := recover(); v != nil {
					t.Fatalf("panic: %v\nreplay: go test ./conn -run '%s' -sim.seed=%d", v, t.Name(), seed+1)
				}
			}()
			fn(t, seed+1)
		})
		if !ok {
			t.Fatalf("replay: go test ./conn -run '^%s$' -sim.seed=%d", t.Name(), seed+1)
		}
	}
}

// party is a handler that checks the contract of the hooks, and does something
// of everything.
type party struct {
	w    *world
	c    *conn.Conn
	echo bool

	accepted       []byte // what Send took, in order
	got            []byte // what OnData brought
	fulls, drains  int
	opens, closes  int
	eofs           int
	inSend, isFull bool
	dones, lends   int
	closeErr       error
	lost           uint64
	onDrain        func(c *conn.Conn)
	onFull         func(c *conn.Conn)
}

func (p *party) OnOpen(c *conn.Conn) { p.c = c; p.opens++ }

func (p *party) OnData(c *conn.Conn, in *buf.Buf) {
	if p.closes > 0 {
		p.w.t.Error("OnData after OnClose")
	}
	if p.w.rng.IntN(4) == 0 { // It has had its share, and gives the rest back.
		share := p.w.bulk.Get()
		defer func() { share.Release() }()
		in.Advance(share.Append(in.Bytes()[:p.w.rng.IntN(in.Len()+1)]))
		c.Unread(in)
		in = &share
	}
	p.got = append(p.got, in.Bytes()...)
	if !p.echo {
		return
	}
	data := append([]byte(nil), in.Bytes()...)
	if s := p.send(func() conn.Status { return c.Send(in) }); s == conn.Queued || s == conn.Full {
		p.accepted = append(p.accepted, data...)
		if !in.IsZero() {
			p.w.t.Error("Send took the buffer and left it")
		}
	} else if in.IsZero() {
		p.w.t.Errorf("Send answered %v and took the buffer", s)
	}
}

func (p *party) send(fn func() conn.Status) conn.Status {
	before := p.inSend
	p.inSend = true
	defer func() { p.inSend = before }()
	return fn()
}

func (p *party) OnFull(c *conn.Conn) {
	p.fulls++
	if p.isFull {
		p.w.t.Error("two Fulls without a Drain between them")
	}
	p.isFull = true
	if c.Pending() < c.Marks().High {
		p.w.t.Errorf("OnFull at %d pending, high water %d", c.Pending(), c.Marks().High)
	}
	if p.onFull != nil {
		p.onFull(c)
	}
}

func (p *party) OnDrain(c *conn.Conn) {
	p.drains++
	switch {
	case !p.isFull:
		p.w.t.Error("a Drain without a Full")
	case p.inSend:
		p.w.t.Error("OnDrain inside a Send")
	case c.Pending() > c.Marks().Low:
		p.w.t.Errorf("OnDrain at %d pending, low water %d", c.Pending(), c.Marks().Low)
	case p.closes > 0:
		p.w.t.Error("OnDrain after OnClose")
	}
	p.isFull = false
	if p.onDrain != nil {
		p.onDrain(c)
	}
}

func (p *party) OnEOF(c *conn.Conn) {
	p.eofs++
	c.Close()
}

func (p *party) OnClose(c *conn.Conn, err error) {
	p.closes++
	p.closeErr = err
	p.lost = c.Stats().LostBytes
	var ce *conn.CloseError
	if errors.As(err, &ce) && uint64(ce.LostBytes) != p.lost {
		p.w.t.Errorf("the error says %d bytes lost, Stats %d", ce.LostBytes, p.lost)
	}
}

// act does one random thing with the connection.
func (p *party) act() {
	w, c := p.w, p.c
	if p.closes > 0 {
		return
	}
	var s conn.Status
	data := make([]byte, 1+w.rng.IntN(w.rng.IntN(6000)+1))
	for i := range data {
		data[i] = byte(w.rng.Uint32())
	}
	pending, limit, was := c.Pending(), c.Marks().Limit, c.IsFull()
	switch w.rng.IntN(7) {
	case 0:
		if b := w.bulk.Get(); !b.IsZero() {
			data = data[:b.Append(data)]
			s = p.send(func() conn.Status { return c.Send(&b) })
			b.Release()
		}
	case 1:
		shared := buf.NewShared(data)
		s = p.send(func() conn.Status { return c.SendShared(shared) })
		shared.Release()
	case 2:
		lent := append([]byte(nil), data...)
		s = p.send(func() conn.Status {
			return c.SendBytes(lent, func() {
				if p.dones++; !bytes.Equal(lent, data) {
					w.t.Error("lent bytes changed")
				}
				clear(lent) // Whoever still reads here sends zeros.
			})
		})
		if s <= conn.Full {
			p.lends++
		}
	case 3:
		cut := w.rng.IntN(len(data) + 1)
		_, err := c.Writev([][]byte{data[:cut], nil, data[cut:]})
		s = statusOf(err)
	case 4:
		s = p.send(func() conn.Status {
			return c.Encode(w.rng.IntN(2*len(data)), func(dst []byte) ([]byte, error) { return append(dst, data...), nil })
		})
	default:
		_, err := c.Write(data)
		s = statusOf(err)
	}
	switch {
	case s <= conn.Full:
		p.accepted = append(p.accepted, data...)
		if pending > 0 && pending >= limit && c.Pending() >= pending+len(data) {
			w.t.Errorf("taken at %d pending, limit %d", pending, limit)
		}
	case s == conn.Rejected && pending < limit:
		w.t.Errorf("rejected at %d pending, limit %d (full %v)", pending, limit, was)
	}
}

func statusOf(err error) conn.Status {
	switch {
	case errors.Is(err, conn.ErrSendBufferFull):
		return conn.Rejected
	case errors.Is(err, conn.ErrClosed):
		return conn.Closed
	}
	return conn.Queued
}

func (w *world) config() conn.Config {
	high := 1 + w.rng.IntN(40000)
	cfg, err := conn.Config{
		HighWater: high, LowWater: w.rng.IntN(high), Limit: high + w.rng.IntN(2)*w.rng.IntN(20000),
		PauseOnFull: w.rng.IntN(2) == 0, CloseTimeout: time.Hour, Linger: time.Second,
		ZeroCopyMin: w.rng.IntN(2) * (1 + w.rng.IntN(3000)),
	}.Check()
	if err != nil {
		w.t.Fatal(err)
	}
	return cfg
}

// TestSimSend drives connections with every kind of send against peers that
// read now and then: what was taken arrives, once and in order, and the hooks
// alternate.
func TestSimSend(t *testing.T) {
	simulate(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, aiotest.Faults())
		var parties []*party
		var peers []*aiotest.Peer
		for range 1 + w.rng.IntN(3) {
			fd, peer := w.fake.Open()
			p := &party{w: w}
			conn.New(w.loop, int(fd), p, w.config())
			parties, peers = append(parties, p), append(peers, peer)
		}
		for range 60 {
			for i, p := range parties {
				for range w.rng.IntN(4) {
					p.act()
				}
				if w.rng.IntN(3) == 0 {
					_, _ = peers[i].Read(make([]byte, 1+w.rng.IntN(20000)))
				}
				if w.rng.IntN(20) == 0 && p.closes == 0 {
					high := 1 + w.rng.IntN(50000)
					_ = p.c.SetMarks(conn.Marks{High: high, Low: w.rng.IntN(high), Limit: high + w.rng.IntN(1000)})
				}
			}
			w.turn()
		}
		w.part(parties, peers)
	})
}

// part closes all in order, and checks what each peer has.
func (w *world) part(parties []*party, peers []*aiotest.Peer) {
	w.t.Helper()
	for i, p := range parties {
		p.c.Close()
		peers[i].AutoRead(true)
	}
	for i, p := range parties {
		w.settle("FIN", peers[i].EOF)
		peers[i].CloseWrite()
		w.settle("close", func() bool { return p.closes == 1 })
		p.check(peers[i])
	}
	w.finish()
}

// check compares what was accepted with what the peer has, for a connection
// that ended in order.
func (p *party) check(peer *aiotest.Peer) {
	t := p.w.t
	t.Helper()
	got := append(peer.Received(), peer.ReadAll()...)
	if !bytes.Equal(got, p.accepted) {
		at := 0
		for at < min(len(got), len(p.accepted)) && got[at] == p.accepted[at] {
			at++
		}
		t.Fatalf("accepted %d bytes, the peer has %d; they differ at %d", len(p.accepted), len(got), at)
	}
	if p.fulls != p.drains {
		t.Fatalf("%d fulls and %d drains", p.fulls, p.drains)
	}
	if p.dones != p.lends {
		t.Fatalf("%d lends and %d dones", p.lends, p.dones)
	}
	if p.opens != 1 || p.closes != 1 {
		t.Fatalf("%d opens and %d closes", p.opens, p.closes)
	}
	if s := p.c.Stats(); s.LostBytes != 0 || s.BytesOut != uint64(len(p.accepted)) || s.Full != uint64(p.fulls) || s.Drain != uint64(p.drains) {
		t.Fatalf("stats %+v", s)
	}
	if p.closeErr != nil && !errors.Is(p.closeErr, io.EOF) {
		t.Fatalf("closed with %v", p.closeErr)
	}
}

// TestSimEcho has peers that talk, stop reading, half-close: every byte comes
// back as long as the queue takes it, and with PauseOnFull every one.
func TestSimEcho(t *testing.T) {
	simulate(t, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, aiotest.Faults())
		fd, peer := w.fake.Open()
		p := &party{w: w, echo: true}
		cfg := w.config()
		cfg.PauseOnFull = true
		much := w.rng.IntN(8) == 0 // enough for receives of several blocks
		if much && w.rng.IntN(2) == 0 {
			cfg.HighWater = 1 << 20
			cfg.Limit = 1 << 20
		}
		conn.New(w.loop, int(fd), p, cfg)
		var sent []byte
		for range 50 {
			if w.rng.IntN(2) == 0 {
				data := bytes.Repeat([]byte{byte(w.rng.Uint32())}, 1+w.rng.IntN(9000))
				if much && w.rng.IntN(8) == 0 {
					data = append(data, bytes.Repeat([]byte{byte(w.rng.Uint32())}, w.rng.IntN(8*reactor.BulkBlock))...)
				}
				sent = append(sent, data...)
				peer.Feed(data)
			}
			if w.rng.IntN(3) == 0 {
				_, _ = peer.Read(make([]byte, 1+w.rng.IntN(20000)))
			}
			if w.rng.IntN(8) == 0 {
				p.c.PauseRead()
			} else {
				p.c.ResumeRead()
			}
			w.turn()
		}
		p.c.ResumeRead()
		peer.CloseWrite()
		peer.AutoRead(true)
		w.settle("close", func() bool { return p.closes == 1 })
		if !errors.Is(p.closeErr, io.EOF) {
			t.Fatalf("closed with %v, not io.EOF", p.closeErr)
		}
		if !bytes.Equal(p.got, sent) {
			t.Fatalf("the peer sent %d bytes, OnData brought %d", len(sent), len(p.got))
		}
		if n := p.c.Stats().Rejected; n != 0 {
			t.Fatalf("%d messages rejected with PauseOnFull", n)
		}
		p.check(peer)
		w.finish()
	})
}

// TestSimReset resets and closes at any step: every byte that was admitted has
// been taken by the kernel or is reported as lost, and nothing is left behind.
func TestSimReset(t *testing.T) {
	simulate(t, func(t *testing.T, seed uint64) {
		faults := aiotest.Faults()
		faults.Reset = 0.01
		w := newWorld(t, seed, faults)
		fd, peer := w.fake.Open()
		p := &party{w: w, echo: w.rng.IntN(2) == 0}
		cfg := w.config()
		cfg.CloseTimeout = 5 * time.Second
		conn.New(w.loop, int(fd), p, cfg)
		peerDone := false
		for range 80 {
			for range w.rng.IntN(3) {
				p.act()
			}
			if w.rng.IntN(3) == 0 && p.closes == 0 && !peerDone && !peer.WasReset() {
				peer.Feed(make([]byte, 1+w.rng.IntN(3000)))
			}
			if w.rng.IntN(3) == 0 {
				_, _ = peer.Read(make([]byte, 1+w.rng.IntN(20000)))
			}
			if p.closes == 0 {
				switch w.rng.IntN(150) {
				case 0:
					peer.Reset()
				case 1:
					peerDone = true
					peer.Close()
				case 2:
					p.c.Abort()
				case 3:
					p.c.Close()
				case 4:
					p.c.CloseWrite()
				case 5:
					peerDone = true
					peer.CloseWrite()
				}
			}
			w.turn()
		}
		if p.closes == 0 {
			p.c.Close()
		}
		w.settle("close", func() bool { return p.closes == 1 })
		if s := p.c.Stats(); s.BytesOut+s.LostBytes != uint64(len(p.accepted)) {
			t.Fatalf("admitted %d bytes, taken %d, lost %d", len(p.accepted), s.BytesOut, s.LostBytes)
		}
		if p.dones != p.lends {
			t.Fatalf("%d lends and %d dones", p.lends, p.dones)
		}
		if p.fulls < p.drains || p.fulls > p.drains+1 {
			t.Fatalf("%d fulls and %d drains", p.fulls, p.drains)
		}
		w.finish()
	})
}
