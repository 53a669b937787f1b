package conn_test

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
)

// TestSimBudget has connections of every policy share a budget of either policy,
// and sends to them in every way while their peers read now and then, with faults.
// A model says what must have been taken, and where every byte has gone: no message is
// dropped without a count, as in workerman 8.15.
func TestSimBudget(t *testing.T) {
	looptest.Seeds(t, 300, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, aiotest.Faults())
		m := &market{world: w, size: 2000 + w.Rand.IntN(40000), policy: conn.BudgetPolicy(w.Rand.IntN(2))}
		m.b = conn.NewBudget(m.size, m.policy)
		for range 1 + w.Rand.IntN(5) {
			m.open()
		}
		for range 60 {
			for _, s := range m.customers {
				for range w.Rand.IntN(5) {
					m.act(s)
					m.check()
				}
				if w.Rand.IntN(4) == 0 {
					_, _ = s.peer.Read(make([]byte, 1+w.Rand.IntN(10000)))
				}
			}
			w.Turn()
			m.check()
		}
		for _, s := range m.customers {
			if s.closes == 0 {
				s.c.Close()
			}
			if !s.peer.WasReset() {
				s.peer.AutoRead(true)
			}
		}
		for _, s := range m.customers {
			w.Settle("FIN", func() bool { return s.closes > 0 || s.peer.WasReset() || s.peer.EOF() })
			if s.closes == 0 && !s.peer.WasReset() {
				s.peer.CloseWrite()
			}
			w.Settle("close", func() bool { return s.closes == 1 })
			s.settled(t)
		}
		if s := m.b.Stats(); s.Total != 0 || s.Returning != 0 || s.Peak > m.size-1+longest+conn.Reserve*len(m.customers) {
			t.Fatalf("at the end: %+v", s)
		}
		w.Finish()
	})
}

const longest = 6000

// market is the connections of one budget.
type market struct {
	*world
	b         *conn.Budget
	size      int
	policy    conn.BudgetPolicy
	customers []*customer
}

// customer is one of them, and what it has been asked to send.
type customer struct {
	conn.NopHandler
	queue  func() conn.QueueStats
	c      *conn.Conn
	peer   *aiotest.Peer
	policy conn.Policy
	closes int
	err    error
	stats  conn.Stats

	next          [2]int // numbers of messages: even ones of the loop, odd ones of a Ref
	taken, kept   map[int]int
	accepted      uint64
	refused       uint64
	fulls, drains int
	wrong         bool // one of them at the wrong time
}

func (s *customer) OnOpen(c *conn.Conn) { s.c, s.queue = c, conn.CountQueue(c) }
func (s *customer) OnEOF(c *conn.Conn)  { c.Close() }

func (s *customer) OnFull(c *conn.Conn) {
	s.fulls++
	s.wrong = s.wrong || s.fulls != s.drains+1 || c.Pending() < c.Marks().High && !c.Starved()
}

func (s *customer) OnDrain(c *conn.Conn) {
	s.drains++
	s.wrong = s.wrong || s.fulls != s.drains || c.Pending() > c.Marks().Low
	_, _ = c.Write(nil)
}

func (s *customer) OnClose(c *conn.Conn, err error) {
	s.closes++
	s.err, s.stats = err, c.Stats()
}

func (m *market) open() {
	s := &customer{policy: conn.Policy(m.Rand.IntN(4)), taken: map[int]int{}, kept: map[int]int{}}
	cfg := m.config()
	cfg.SlowPeer, cfg.Budget, cfg.PauseOnFull = s.policy, m.b, false
	cfg.CloseTimeout = time.Hour
	fd, peer := m.Fake.Open()
	s.peer = peer
	conn.New(m.Loop, int(fd), s, cfg)
	m.customers = append(m.customers, s)
}

// act does one thing with a connection.
func (m *market) act(s *customer) {
	if s.closes > 0 {
		return
	}
	switch m.Rand.IntN(200) {
	case 0:
		s.c.Close()
	case 1:
		s.c.Ref().Abort()
	case 2:
		s.c.CloseWrite()
	case 3:
		high := 1 + m.Rand.IntN(20000)
		_ = s.c.SetMarks(conn.Marks{High: high, Limit: high + m.Rand.IntN(10000)})
	case 4:
		k := s.number(0)
		p := numbered(k, 8+m.Rand.IntN(50))
		if s.c.WriteReserved(p) <= conn.Full {
			s.kept[k] = len(p)
			s.accepted += uint64(len(p))
		}
	default:
		m.send(s)
	}
}

// number returns that of the next message of the loop, or of a Ref.
func (s *customer) number(source int) int {
	s.next[source]++
	return 2*s.next[source] + source
}

func (m *market) send(s *customer) {
	carrier := carriers[m.Rand.IntN(len(carriers))]
	if carrier.ref && s.policy == conn.Block {
		return // It would wait for this very goroutine.
	}
	source := 0
	if carrier.ref {
		source = 1
	}
	k, n := s.number(source), 8+m.Rand.IntN(m.Rand.IntN(longest-8)+1)
	before, p, limit := m.b.Stats(), s.c.Pending(), s.c.Marks().Limit
	fits := p == 0 && before.Total < m.size || p < limit && p < m.size-before.Total
	status := carrier.send(s.c, numbered(k, n))
	after, q := m.b.Stats(), s.c.Pending()
	switch status {
	case conn.Queued, conn.Full:
		s.taken[k] = n
		s.accepted += uint64(n)
	case conn.Rejected:
		s.refused += uint64(n)
		atLimit := q > 0 && q >= limit
		short := after.Total >= m.size || q > 0 && q >= m.size-after.Total
		switch {
		case fits:
			m.T.Fatalf("%s refused at %d of %d pending, %d of %d in all", carrier.name, p, limit, before.Total, m.size)
		case !atLimit && !short:
			m.T.Fatalf("%s refused, and then it is %d of %d pending, %d of %d in all", carrier.name, q, limit, after.Total, m.size)
		case !atLimit && after.Total >= m.size && m.policy == conn.BudgetClose && after.Returning == 0:
			m.T.Fatalf("%s refused, and nobody was closed for it: %+v", carrier.name, after)
		}
	}
}

// check compares the account with what is pending.
func (m *market) check() {
	sum, live, closed := 0, 0, uint64(0)
	for _, s := range m.customers {
		var ce *conn.CloseError
		switch {
		case s.closes == 0:
			sum += s.c.Pending()
			live++
			if q := s.queue(); q.FullNow == 1 != s.c.IsFull() {
				m.T.Fatalf("the queue is full: %v; counted %+v", s.c.IsFull(), q)
			}
		case errors.As(s.err, &ce) && ce.Reason == conn.MemoryLimit:
			closed++
		}
	}
	s := m.b.Stats()
	if s.Total > sum || s.Total < 0 || s.Total < sum && s.Closed == closed && s.Returning == 0 && live > 0 && s.Closed == 0 {
		m.T.Fatalf("%d bytes are pending, %d of them closed for others; %+v", sum, sum-s.Total, s)
	}
}

// settled looks at where the bytes of a connection that has closed have gone.
func (s *customer) settled(t *testing.T) {
	t.Helper()
	if got := s.stats.BytesOut + s.stats.LostBytes + s.stats.DroppedBytes; got != s.accepted || s.stats.RejectedBytes != s.refused {
		t.Fatalf("taken %d bytes, rejected %d: %+v", s.accepted, s.refused, s.stats)
	}
	if st := s.stats; s.queue() != (conn.QueueStats{
		Full: st.Full, Drain: st.Drain, Starved: st.Starved, Rejected: st.Rejected, RejectedBytes: st.RejectedBytes,
		Dropped: st.Dropped, DroppedBytes: st.DroppedBytes,
	}) {
		t.Fatalf("counted as it happened %+v, in the end %+v", s.queue(), st)
	}
	if s.policy != conn.DropOldest && s.stats.Dropped > 0 {
		t.Fatalf("policy %d dropped %d messages", s.policy, s.stats.Dropped)
	}
	if st := s.stats; s.wrong || uint64(s.fulls) != st.Full+st.Starved {
		t.Fatalf("%d fulls and %d drains, perhaps at the wrong time: %+v", s.fulls, s.drains, st)
	}
	if s.err != nil && !errors.Is(s.err, io.EOF) {
		return
	}
	if s.fulls != s.drains {
		t.Fatalf("%d fulls and %d drains", s.fulls, s.drains)
	}
	var last [2]int
	bytes := uint64(0)
	for _, k := range numbers(t, append(s.peer.Received(), s.peer.ReadAll()...)) {
		if k <= last[k%2] {
			t.Fatalf("message %d behind %d", k, last[k%2])
		}
		last[k%2] = k
		if s.taken[k]+s.kept[k] == 0 {
			t.Fatalf("message %d was refused, and arrived", k)
		}
		bytes += uint64(s.taken[k] + s.kept[k])
		delete(s.taken, k)
		delete(s.kept, k)
	}
	if len(s.kept) > 0 || uint64(len(s.taken)) != s.stats.Dropped || s.accepted-bytes != s.stats.DroppedBytes {
		t.Fatalf("%d messages are missing, %d of them to be kept: %+v", len(s.taken), len(s.kept), s.stats)
	}
}
