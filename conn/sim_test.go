package conn_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/reactor"
)

// world is a loop on a simulated kernel that counts what it is asked.
type world struct {
	*looptest.World
	calls *calls
	work  []func() // of goroutines that the test has run, see runWork
}

func newWorld(t *testing.T, seed uint64, faults aiotest.Config) *world {
	t.Helper()
	return newWorldOf(t, seed, faults, 0)
}

// newWorldOf returns a world with so many bytes in large blocks, 0 for no bound.
func newWorldOf(t *testing.T, seed uint64, faults aiotest.Config, most int) *world {
	t.Helper()
	w := &world{calls: &calls{}}
	w.World = looptest.New(t, looptest.Options{
		Seed: seed, Faults: faults, BulkBytes: most,
		Engine: func(e aio.Engine) aio.Engine {
			w.calls.Engine = e
			return w.calls
		},
		Go: func(fn func()) { w.work = append(w.work, fn) },
	})
	return w
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
		p.w.T.Error("OnData after OnClose")
	}
	if p.w.Rand.IntN(4) == 0 { // It has had its share, and gives the rest back.
		share := p.w.Bulk.Get()
		defer func() { share.Release() }()
		in.Advance(share.Append(in.Bytes()[:p.w.Rand.IntN(in.Len()+1)]))
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
			p.w.T.Error("Send took the buffer and left it")
		}
	} else if in.IsZero() {
		p.w.T.Errorf("Send answered %v and took the buffer", s)
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
		p.w.T.Error("two Fulls without a Drain between them")
	}
	p.isFull = true
	if c.Pending() < c.Marks().High {
		p.w.T.Errorf("OnFull at %d pending, high water %d", c.Pending(), c.Marks().High)
	}
	if p.onFull != nil {
		p.onFull(c)
	}
}

func (p *party) OnDrain(c *conn.Conn) {
	p.drains++
	switch {
	case !p.isFull:
		p.w.T.Error("a Drain without a Full")
	case p.inSend:
		p.w.T.Error("OnDrain inside a Send")
	case c.Pending() > c.Marks().Low:
		p.w.T.Errorf("OnDrain at %d pending, low water %d", c.Pending(), c.Marks().Low)
	case p.closes > 0:
		p.w.T.Error("OnDrain after OnClose")
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
		p.w.T.Errorf("the error says %d bytes lost, Stats %d", ce.LostBytes, p.lost)
	}
}

// act does one random thing with the connection.
func (p *party) act() {
	w, c := p.w, p.c
	if p.closes > 0 {
		return
	}
	var s conn.Status
	data := make([]byte, 1+w.Rand.IntN(w.Rand.IntN(6000)+1))
	for i := range data {
		data[i] = byte(w.Rand.Uint32())
	}
	pending, limit, was := c.Pending(), c.Marks().Limit, c.IsFull()
	switch w.Rand.IntN(7) {
	case 0:
		if b := w.Bulk.Get(); !b.IsZero() {
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
					w.T.Error("lent bytes changed")
				}
				clear(lent) // Whoever still reads here sends zeros.
			})
		})
		if s <= conn.Full {
			p.lends++
		}
	case 3:
		cut := w.Rand.IntN(len(data) + 1)
		_, err := c.Writev([][]byte{data[:cut], nil, data[cut:]})
		s = statusOf(err)
	case 4:
		s = p.send(func() conn.Status {
			return c.Encode(w.Rand.IntN(2*len(data)), func(dst []byte) ([]byte, error) { return append(dst, data...), nil })
		})
	default:
		_, err := c.Write(data)
		s = statusOf(err)
	}
	switch {
	case s <= conn.Full:
		p.accepted = append(p.accepted, data...)
		if pending > 0 && pending >= limit && c.Pending() >= pending+len(data) {
			w.T.Errorf("taken at %d pending, limit %d", pending, limit)
		}
	case s == conn.Rejected && pending < limit:
		w.T.Errorf("rejected at %d pending, limit %d (full %v)", pending, limit, was)
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
	high := 1 + w.Rand.IntN(40000)
	cfg, err := conn.Config{
		HighWater: high, LowWater: w.Rand.IntN(high), Limit: high + w.Rand.IntN(2)*w.Rand.IntN(20000),
		PauseOnFull: w.Rand.IntN(2) == 0, CloseTimeout: time.Hour, Linger: time.Second,
		ZeroCopyMin: w.Rand.IntN(2) * (1 + w.Rand.IntN(3000)),
	}.Check()
	if err != nil {
		w.T.Fatal(err)
	}
	return cfg
}

// TestSimSend drives connections with every kind of send against peers that
// read now and then: what was taken arrives, once and in order, and the hooks
// alternate.
func TestSimSend(t *testing.T) {
	looptest.Seeds(t, 2000, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, aiotest.Faults())
		var parties []*party
		var peers []*aiotest.Peer
		for range 1 + w.Rand.IntN(3) {
			fd, peer := w.Fake.Open()
			p := &party{w: w}
			conn.New(w.Loop, int(fd), p, w.config())
			parties, peers = append(parties, p), append(peers, peer)
		}
		for range 60 {
			for i, p := range parties {
				for range w.Rand.IntN(4) {
					p.act()
				}
				if w.Rand.IntN(3) == 0 {
					_, _ = peers[i].Read(make([]byte, 1+w.Rand.IntN(20000)))
				}
				if w.Rand.IntN(20) == 0 && p.closes == 0 {
					high := 1 + w.Rand.IntN(50000)
					_ = p.c.SetMarks(conn.Marks{High: high, Low: w.Rand.IntN(high), Limit: high + w.Rand.IntN(1000)})
				}
			}
			w.Turn()
		}
		w.part(parties, peers)
	})
}

// part closes all in order, and checks what each peer has.
func (w *world) part(parties []*party, peers []*aiotest.Peer) {
	w.T.Helper()
	for i, p := range parties {
		p.c.Close()
		peers[i].AutoRead(true)
	}
	for i, p := range parties {
		w.Settle("FIN", peers[i].EOF)
		peers[i].CloseWrite()
		w.Settle("close", func() bool { return p.closes == 1 })
		p.check(peers[i])
	}
	w.Finish()
}

// check compares what was accepted with what the peer has, for a connection
// that ended in order.
func (p *party) check(peer *aiotest.Peer) {
	t := p.w.T
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
	looptest.Seeds(t, 2000, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, aiotest.Faults())
		fd, peer := w.Fake.Open()
		p := &party{w: w, echo: true}
		cfg := w.config()
		cfg.PauseOnFull = true
		much := w.Rand.IntN(8) == 0 // enough for receives of several blocks
		if much && w.Rand.IntN(2) == 0 {
			cfg.HighWater = 1 << 20
			cfg.Limit = 1 << 20
		}
		conn.New(w.Loop, int(fd), p, cfg)
		var sent []byte
		for range 50 {
			if w.Rand.IntN(2) == 0 {
				data := bytes.Repeat([]byte{byte(w.Rand.Uint32())}, 1+w.Rand.IntN(9000))
				if much && w.Rand.IntN(8) == 0 {
					data = append(data, bytes.Repeat([]byte{byte(w.Rand.Uint32())}, w.Rand.IntN(8*reactor.BulkBlock))...)
				}
				sent = append(sent, data...)
				peer.Feed(data)
			}
			if w.Rand.IntN(3) == 0 {
				_, _ = peer.Read(make([]byte, 1+w.Rand.IntN(20000)))
			}
			if w.Rand.IntN(8) == 0 {
				p.c.PauseRead()
			} else {
				p.c.ResumeRead()
			}
			w.Turn()
		}
		p.c.ResumeRead()
		peer.CloseWrite()
		peer.AutoRead(true)
		w.Settle("close", func() bool { return p.closes == 1 })
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
		w.Finish()
	})
}

// TestSimReset resets and closes at any step: every byte that was admitted has
// been taken by the kernel or is reported as lost, and nothing is left behind.
func TestSimReset(t *testing.T) {
	looptest.Seeds(t, 2000, func(t *testing.T, seed uint64) {
		faults := aiotest.Faults()
		faults.Reset, faults.NoMemory = 0.01, 0.01
		w := newWorld(t, seed, faults)
		fd, peer := w.Fake.Open()
		p := &party{w: w, echo: w.Rand.IntN(2) == 0}
		cfg := w.config()
		cfg.CloseTimeout = 5 * time.Second
		conn.New(w.Loop, int(fd), p, cfg)
		peerDone := false
		for range 80 {
			for range w.Rand.IntN(3) {
				p.act()
			}
			if w.Rand.IntN(3) == 0 && p.closes == 0 && !peerDone && !peer.WasReset() {
				peer.Feed(make([]byte, 1+w.Rand.IntN(3000)))
			}
			if w.Rand.IntN(3) == 0 {
				_, _ = peer.Read(make([]byte, 1+w.Rand.IntN(20000)))
			}
			if p.closes == 0 {
				switch w.Rand.IntN(150) {
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
			w.Turn()
		}
		if p.closes == 0 {
			p.c.Close()
		}
		w.Settle("close", func() bool { return p.closes == 1 })
		if s := p.c.Stats(); s.BytesOut+s.LostBytes != uint64(len(p.accepted)) {
			t.Fatalf("admitted %d bytes, taken %d, lost %d", len(p.accepted), s.BytesOut, s.LostBytes)
		}
		if p.dones != p.lends {
			t.Fatalf("%d lends and %d dones", p.lends, p.dones)
		}
		if p.fulls < p.drains || p.fulls > p.drains+1 {
			t.Fatalf("%d fulls and %d drains", p.fulls, p.drains)
		}
		w.Finish()
	})
}
