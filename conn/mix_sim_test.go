package conn_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
)

// mix is connections that send by every means there are, with what each is owed.
type mix struct {
	*world
	cfg  conn.Config
	by   map[*conn.Conn]*mixed
	next int // number of the next message
}

// mixed is one connection of a mix.
type mixed struct {
	*mix
	c             *conn.Conn
	full          bool
	asked, told   int // lenders and streams
	admitted      int // bytes, but for those of streams
	streams       int
	fulls, drains uint64
	closes        int
	err           error
}

// newMix has marks, policies and a budget by the seed.
func newMix(t *testing.T, seed uint64) *mix {
	w := newWorld(t, seed, aiotest.Faults())
	high := 1 + w.Rand.IntN(6000)
	cfg := conn.Config{
		HighWater: high, LowWater: w.Rand.IntN(high), Limit: high + w.Rand.IntN(2)*w.Rand.IntN(5000),
		PauseOnFull: w.Rand.IntN(2) == 0, DrainAlways: w.Rand.IntN(4) == 0,
		SlowPeer:     []conn.Policy{conn.Reject, conn.Reject, conn.DropOldest, conn.CloseSlow}[w.Rand.IntN(4)],
		ZeroCopyMin:  w.Rand.IntN(2) * (1 + w.Rand.IntN(1000)),
		Linger:       time.Duration(1+w.Rand.IntN(50)) * time.Millisecond,
		CloseTimeout: time.Duration(1+w.Rand.IntN(200)) * time.Millisecond,
		WriteTimeout: time.Duration(w.Rand.IntN(2)) * 200 * time.Millisecond,
	}
	if w.Rand.IntN(3) == 0 {
		cfg.Budget = conn.NewBudget(500+w.Rand.IntN(20_000), conn.BudgetPolicy(w.Rand.IntN(2)))
	}
	cfg, err := cfg.Check()
	if err != nil {
		t.Fatal(err)
	}
	return &mix{world: w, cfg: cfg, by: map[*conn.Conn]*mixed{}}
}

// handler holds that the hooks alternate, and that OnClose is last. OnOpen is told of by opened.
func (m *mix) handler(opened func(c *conn.Conn)) *conn.Funcs {
	return &conn.Funcs{
		Open: opened,
		Data: func(*conn.Conn, *buf.Buf) {},
		Full: func(c *conn.Conn) {
			x := m.by[c]
			if x.full || x.closes > 0 {
				m.T.Fatal("OnFull twice, or behind OnClose")
			}
			x.full = true
			x.fulls++
		},
		Drain: func(c *conn.Conn) {
			x := m.by[c]
			if !x.full && !m.cfg.DrainAlways || x.closes > 0 {
				m.T.Fatal("OnDrain without OnFull, or behind OnClose")
			}
			x.full = false
			x.drains++
		},
		Close: func(c *conn.Conn, err error) {
			x := m.by[c]
			x.closes++
			x.err = err
		},
	}
}

// message returns the next message, of n bytes.
func (m *mix) message(n int) []byte {
	m.next++
	return numbered(m.next, n)
}

// took counts n bytes that were admitted, if they were.
func (x *mixed) took(s conn.Status, n int) {
	if s <= conn.Full {
		x.admitted += n
	}
}

// act sends something, or changes the marks.
func (x *mixed) act() {
	c := x.c
	switch n := x.Rand.IntN(24); {
	case n < 20:
		p := x.message(8 + x.Rand.IntN(900))
		x.say(carriers[n/2], p)
	case n < 22:
		body := bytes.Repeat(x.message(16), x.Rand.IntN(4000))
		if c.SendFrom(bytes.NewReader(body), int64(len(body)), func(int64, error) { x.told++ }) <= conn.Full {
			x.asked++
			x.streams++
		}
	case n == 22:
		x.took(c.WriteReserved(x.message(20)), 20)
	default:
		high := 1 + x.Rand.IntN(9000)
		_ = c.SetMarks(conn.Marks{High: high, Low: x.Rand.IntN(high), Limit: high + x.Rand.IntN(3000)})
	}
}

// say sends p by one of the carriers; a lender is to be told.
func (x *mixed) say(by carrier, p []byte) {
	send := by.send
	done := func() { x.told++ }
	switch by.name {
	case "SendBytes":
		send = func(c *conn.Conn, p []byte) conn.Status { return c.SendBytes(p, done) }
	case "Ref.SendBytes":
		send = func(c *conn.Conn, p []byte) conn.Status { return c.Ref().SendBytes(p, done) }
	default:
		done = nil
	}
	s := send(x.c, p)
	if x.took(s, len(p)); done != nil && s <= conn.Full {
		x.asked++
	}
}

// settled checks the account of a connection that has closed.
func (x *mixed) settled() {
	x.T.Helper()
	s := x.c.Stats()
	if x.closes != 1 || x.told != x.asked || s.Full+s.Starved != x.fulls || s.Drain > x.drains {
		x.T.Fatalf("closed %d times; %d lenders and streams, %d told; %d fulls and %d drains in %+v", x.closes, x.asked, x.told, x.fulls, x.drains, s)
	}
	if sum := int(s.BytesOut + s.LostBytes + s.DroppedBytes); sum != x.admitted && x.streams == 0 || sum < x.admitted {
		x.T.Fatalf("%d bytes admitted, %+v, closed with %v", x.admitted, s, x.err)
	}
}

// over checks that nothing is left, and that the queues were counted as they met it.
func (m *mix) over(q conn.QueueStats) {
	m.T.Helper()
	var fulls uint64
	for _, x := range m.by {
		fulls += x.fulls
	}
	if q.FullNow != 0 || q.Full+q.Starved != fulls {
		m.T.Errorf("%d fulls, counted %+v", fulls, q)
	}
	if b := m.cfg.Budget; b != nil {
		if s := b.Stats(); s.Total != 0 || s.Returning != 0 {
			m.T.Errorf("left in the budget: %+v", s)
		}
	}
	m.Finish()
}

// TestSimCrowd has up to twelve connections of one listener, which share what they lay by, send
// by all means, end in all ways, and take the same payloads.
func TestSimCrowd(t *testing.T) {
	looptest.Seeds(t, 600, func(t *testing.T, seed uint64) {
		m := newMix(t, seed)
		var all []*mixed
		var peers []*aiotest.Peer
		h := m.handler(func(c *conn.Conn) {
			x := &mixed{mix: m, c: c}
			m.by[c], all = x, append(all, x)
		})
		open := func() {
			fd, peer := m.Fake.Open()
			peers = append(peers, peer)
			m.Loop.Defer(func() {
				if len(all) == 0 {
					conn.New(m.Loop, int(fd), h, m.cfg)
				} else {
					conn.Another(all[0].c, int(fd))
				}
			})
			m.Turn()
		}
		open()
		queues := conn.CountQueue(all[0].c)
		for range 2 {
			open()
		}
		for range 120 {
			i := m.Rand.IntN(len(all))
			switch x, n := all[i], m.Rand.IntN(40); {
			case n < 24 && x.closes == 0:
				x.act()
			case n < 27:
				s := buf.NewShared(m.message(8 + m.Rand.IntN(300)))
				for _, x := range all {
					if x.closes == 0 {
						x.took(x.c.SendShared(s), s.Len())
					}
				}
				s.Release()
			case n < 34:
				_, _ = peers[i].Read(make([]byte, 1+m.Rand.IntN(5000)))
			case n == 34 && x.closes == 0:
				x.end(peers[i])
			case n == 35 && len(all) < 12:
				open()
			}
			if m.Rand.IntN(3) > 0 {
				m.Turn()
			}
		}
		for i, x := range all {
			if x.closes == 0 {
				x.c.Close()
			}
			peers[i].AutoRead(true)
			m.Settle("close", func() bool {
				if peers[i].EOF() {
					peers[i].CloseWrite()
				}
				return x.closes == 1
			})
			x.settled()
			if x.err == nil && !peers[i].WasReset() {
				numbers(t, peers[i].Received())
			}
		}
		m.over(queues())
	})
}

// end ends a connection in one of the ways in which it may.
func (x *mixed) end(peer *aiotest.Peer) {
	switch x.Rand.IntN(10) {
	case 0:
		x.c.Close()
	case 1:
		x.c.Abort()
	case 2:
		x.c.CloseWrite()
	case 3:
		peer.Reset()
	case 4:
		peer.Close()
	case 5:
		x.c.Ref().Do(func(*conn.Conn) { panic("in the mailbox") })
		for range x.Rand.IntN(9) {
			p := x.message(8 + x.Rand.IntN(900))
			x.took(x.c.Ref().Write(p), len(p))
		}
	case 6:
		x.took(x.c.CloseWith(x.message(30)), 30)
	}
}

// TestSimReconnectMix sends by all means over a connection that is lost again and again.
func TestSimReconnectMix(t *testing.T) {
	looptest.Seeds(t, 600, func(t *testing.T, seed uint64) {
		m := newMix(t, seed)
		m.cfg.CloseTimeout = time.Hour
		x := &mixed{mix: m}
		d, f := m.dialer(&conn.Dialer{
			Timeout: 200 * time.Millisecond, Config: m.cfg,
			Reconnect: &conn.Reconnect{Least: 2 * time.Millisecond, Most: 20 * time.Millisecond, Keep: m.Rand.IntN(2) == 0},
		})
		c, err := d.Dial(m.Loop, "tcp", "192.0.2.1:7", m.handler(func(*conn.Conn) {}))
		if err != nil {
			t.Fatal(err)
		}
		x.c, m.by[c] = c, x
		for range 150 {
			for range m.Rand.IntN(4) {
				if x.closes == 0 {
					x.act()
				}
			}
			for _, p := range f.waiting() {
				if m.Rand.IntN(2) == 0 {
					p.Accept()
				}
			}
			if len(f.peers) > 0 && !f.last().Connecting() && !f.last().WasReset() {
				switch n := m.Rand.IntN(30); {
				case n == 0:
					f.last().Reset()
				case n == 1:
					f.last().Close()
				case n < 20:
					_, _ = f.last().Read(make([]byte, 1+m.Rand.IntN(5000)))
				}
			}
			m.Turn()
		}
		if x.closes == 0 {
			m.Settle("a connection", func() bool {
				for _, p := range f.waiting() {
					p.Accept()
				}
				return c.Connected() || x.closes > 0
			})
			c.Close()
		}
		m.Settle("the end", func() bool {
			for _, p := range f.waiting() {
				p.Accept()
			}
			if len(f.peers) > 0 {
				if f.last().AutoRead(true); f.last().EOF() {
					f.last().CloseWrite()
				}
			}
			return x.closes == 1
		})
		x.settled()
		m.over(d.Stats().Queues)
	})
}
