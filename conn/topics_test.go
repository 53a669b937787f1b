package conn_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/invariants"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
)

// crowd is connections in one world, with topics.
func crowd(t *testing.T, n, window int, cfg conn.Config, with func(i int, r *rig)) (*conn.Topics, []*rig) {
	t.Helper()
	first := newRig(t, window, cfg, func(r *rig) { setUp(with, 0, r) })
	rigs := []*rig{first}
	for i := 1; i < n; i++ {
		rigs = append(rigs, first.second(cfg, func(r *rig) { setUp(with, i, r) }))
	}
	return conn.TopicsOf(first.Loop), rigs
}

func setUp(with func(int, *rig), i int, r *rig) {
	if with != nil {
		with(i, r)
	}
}

// endAll ends the connections of a crowd and checks that nothing is left.
func endAll(rigs []*rig) {
	for _, r := range rigs {
		if !r.isClosed() {
			r.c.Close()
		}
		r.peer.AutoRead(true)
		r.peer.CloseWrite()
	}
	for _, r := range rigs {
		r.Settle("close", r.isClosed)
	}
	rigs[0].Finish()
}

func join(t *testing.T, ts *conn.Topics, topic string, rigs ...*rig) {
	t.Helper()
	for _, r := range rigs {
		if err := ts.Join(topic, r.c); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTopics(t *testing.T) {
	ts, rigs := crowd(t, 4, 1<<20, conn.Config{}, nil)
	a, b, c, d := rigs[0], rigs[1], rigs[2], rigs[3]
	join(t, ts, "x", a, b, c)
	join(t, ts, "y", a, d)
	join(t, ts, "x", a) // Again.
	if n, m := ts.Len("x"), ts.Stats().Members; n != 3 || m != 5 || ts.Len("nobody") != 0 {
		t.Errorf("%d in x, %d in all", n, m)
	}
	of := ts.Of(a.c)
	if slices.Sort(of); !slices.Equal(of, []string{"x", "y"}) {
		t.Errorf("a is in %q", of)
	}
	if !ts.Leave("x", b.c) || ts.Leave("x", b.c) || ts.Leave("nobody", b.c) || ts.Of(b.c) != nil {
		t.Error("b has not left x once")
	}
	ts.PublishBytes("x", []byte("1 "))
	var reach conn.Reach
	three := buf.NewShared([]byte("3 "))
	ts.Publish("y", three)
	ts.Broadcast("x", conn.Publication{Shared: three, Except: c.c.ID(), Done: func(r conn.Reach) { reach = r }})
	ts.PublishEach("x", func(c *conn.Conn) *buf.Shared {
		if c.ID() == a.c.ID() {
			return nil
		}
		return three
	})
	ts.Broadcast("y", conn.Publication{Send: func(c *conn.Conn) conn.Status {
		_, err := fmt.Fprintf(c, "by %d ", c.ID())
		return statusOf(err)
	}})
	a.Turns(3)
	three.Release()
	for r, want := range map[*rig]string{
		a: fmt.Sprintf("1 3 3 by %d ", a.c.ID()), b: "", c: "1 3 ", d: fmt.Sprintf("3 by %d ", d.c.ID()),
	} {
		if got := string(r.peer.ReadAll()); got != want {
			t.Errorf("%d got %q, want %q", r.c.ID(), got, want)
		}
	}
	if want := (conn.Reach{Taken: 1, Skipped: 1}); reach != want {
		t.Errorf("reach %+v, want %+v", reach, want)
	}
	s := ts.Stats()
	if want := (conn.Reach{Taken: 8, Skipped: 2}); s.Reach != want || s.Published != 5 || three.Bytes() != nil {
		t.Errorf("stats %+v, want %+v", s, want)
	}
	endAll(rigs)
	if s := ts.Stats(); s.Members != 0 {
		t.Errorf("%d members of all closed connections", s.Members)
	}
}

// TestTopicsTellRefusals holds that a member hears of what it was refused, whatever way
// it was published, and that a hook which panics there costs nobody else a message.
func TestTopicsTellRefusals(t *testing.T) {
	ts, rigs := crowd(t, 2, 64, marks(100, 0, 100), nil)
	a, b := rigs[0], rigs[1]
	join(t, ts, "x", a, b)
	var told []string
	a.onError = func(_ *conn.Conn, err error) {
		var se *conn.SendError
		if !errors.As(err, &se) || !errors.Is(err, conn.ErrSendBufferFull) {
			t.Error(err)
		}
		if told = append(told, fmt.Sprint(se.Messages, se.Bytes)); len(told) == 3 {
			panic("in OnError")
		}
	}
	a.stuff()
	_ = a.write(100)
	b.peer.AutoRead(true)
	shared := buf.NewShared([]byte("1"))
	ts.Publish("x", shared)
	ts.PublishEach("x", func(*conn.Conn) *buf.Shared { return shared })
	ts.Broadcast("x", conn.Publication{Size: 5, Send: func(c *conn.Conn) conn.Status { return c.SendShared(shared) }})
	a.Turns(3)
	shared.Release()
	if got := fmt.Sprint(told); got != "[1 1 1 1 1 5]" {
		t.Errorf("told %s", got)
	}
	if got := string(b.peer.Received()); got != "111" {
		t.Errorf("the other got %q", got)
	}
	if s := ts.Stats(); s.Taken != 3 || s.Refused != 3 {
		t.Errorf("stats %+v", s)
	}
	endAll(rigs)
}

// TestTopicsAtClose holds that a member that closes has left, behind its OnClose,
// where it still knows its topics and says good-bye to the others.
func TestTopicsAtClose(t *testing.T) {
	for _, end := range []func(*conn.Conn){(*conn.Conn).Close, (*conn.Conn).Abort, func(*conn.Conn) { panic("handler") }} {
		var ts *conn.Topics
		ts, rigs := crowd(t, 3, 1<<20, conn.Config{}, func(i int, r *rig) {
			r.onClose = func(c *conn.Conn, _ error) {
				for _, topic := range ts.Of(c) {
					ts.PublishBytes(topic, fmt.Appendf(nil, "%d has left %s. ", i, topic))
				}
				if err := ts.Join("x", c); !errors.Is(err, conn.ErrClosed) {
					t.Errorf("Join in OnClose: %v", err)
				}
				if i == 0 {
					panic("in OnClose")
				}
			}
		})
		join(t, ts, "x", rigs...)
		join(t, ts, "y", rigs[0])
		rigs[0].do(end)
		var reach conn.Reach
		ts.Broadcast("x", conn.Publication{Shared: buf.NewShared([]byte("still there. ")), Done: func(r conn.Reach) { reach = r }})
		rigs[0].peer.CloseWrite()
		rigs[0].Settle("close", rigs[0].isClosed)
		rigs[0].Turns(2)
		if n, m := ts.Len("x"), ts.Len("y"); n != 2 || m != 0 {
			t.Errorf("%d members in x, %d in y", n, m)
		}
		if got := string(rigs[1].peer.ReadAll()); !strings.Contains(got, "0 has left x. ") || !strings.Contains(got, "still there. ") {
			t.Errorf("a member got %q", got)
		}
		if reach.Taken != 2 || reach.Closed > 1 {
			t.Errorf("reach %+v", reach)
		}
		endAll(rigs)
	}
}

// TestTopicsOtherGroup holds that a connection joins only on a loop of the group:
// a walk on another thread would be a data race.
func TestTopicsOtherGroup(t *testing.T) {
	ts, rigs := crowd(t, 1, 64, conn.Config{}, nil)
	stranger := newRig(t, 64, conn.Config{}, nil)
	if err := ts.Join("x", stranger.c); !errors.Is(err, conn.ErrOtherGroup) {
		t.Errorf("Join: %v", err)
	}
	if ts.Leave("x", stranger.c) || ts.Of(stranger.c) != nil || ts.Len("x") != 0 {
		t.Error("a stranger is in x")
	}
	if err := conn.TopicsOf().Join("x", rigs[0].c); !errors.Is(err, conn.ErrOtherGroup) {
		t.Errorf("Join of topics without loops: %v", err)
	}
	endAll(rigs)
	stranger.gone()
}

// TestTopicsSlow has one member that does not read: it is refused what its queue
// does not take, by its own policy, and the others get everything.
func TestTopicsSlow(t *testing.T) {
	for _, policy := range []conn.Policy{conn.Reject, conn.CloseSlow, conn.DropOldest} {
		cfg := marks(100, 0, 200)
		cfg.SlowPeer = policy
		ts, rigs := crowd(t, 3, 64, cfg, nil)
		slow := rigs[1]
		slow.stuff()
		join(t, ts, "x", rigs...)
		for i := range 10 {
			ts.PublishBytes("x", []byte(strings.Repeat(string(rune('0'+i)), 64)))
			slow.Turns(2)
			rigs[0].peer.ReadAll()
			rigs[2].peer.ReadAll()
		}
		want := conn.Reach{Taken: 24, Refused: 6} // The slow one is taken 4 messages of 64 bytes.
		switch policy {
		case conn.CloseSlow:
			want = conn.Reach{Taken: 24, Refused: 1}
		case conn.DropOldest:
			want = conn.Reach{Taken: 30, Dropped: 6}
		}
		if s := ts.Stats(); s.Reach != want || slow.isClosed() != (policy == conn.CloseSlow) {
			t.Errorf("policy %v: %+v, want %+v", policy, s.Reach, want)
		}
		for _, r := range []*rig{rigs[0], rigs[2]} {
			if n := len(r.peer.Received()); n != 640 {
				t.Errorf("policy %v: a fast member has %d bytes", policy, n)
			}
		}
		endAll(rigs)
	}
}

// TestTopicsShare holds that a walk of many members goes on over turns, in the
// order of the messages, and that who joins or leaves meanwhile changes places
// with nobody.
func TestTopicsShare(t *testing.T) {
	const members = 3000
	ts, rigs := crowd(t, 1, 1<<20, conn.Config{}, nil)
	w := rigs[0].world
	cfg, _ := conn.Config{}.Check()
	var conns []*conn.Conn
	var peers []interface{ ReadAll() []byte }
	for range members {
		fd, peer := w.Fake.Open()
		c := conn.New(w.Loop, int(fd), conn.NopHandler{}, cfg)
		conns, peers = append(conns, c), append(peers, peer)
		_ = ts.Join("x", c)
	}
	var order []string
	for _, m := range []string{"1", "2"} {
		ts.Broadcast("x", conn.Publication{Shared: buf.NewShared([]byte(m)), Done: func(r conn.Reach) {
			order = append(order, fmt.Sprint(m, " ", r.Taken))
		}})
	}
	turns := 0
	w.Settle("done", func() bool {
		if turns++; turns == 2 { // In the middle of the first.
			ts.Leave("x", conns[0])            // has it
			ts.Leave("x", conns[members-1])    // has not
			_ = ts.Join("x", conns[members-1]) // gets the second
			_ = ts.Join("x", conns[0])
		}
		return len(order) == 2
	})
	if want := []string{fmt.Sprint("1 ", members-1), fmt.Sprint("2 ", members)}; !slices.Equal(order, want) || turns < 5 {
		t.Errorf("%q in %d turns, want %q", order, turns, want)
	}
	w.Settle("sent", func() bool { return !slices.ContainsFunc(conns, func(c *conn.Conn) bool { return c.Pending() > 0 }) })
	for i, p := range peers {
		want := "12"
		if i == members-1 {
			want = "2"
		}
		if got := string(p.ReadAll()); got != want {
			t.Fatalf("member %d got %q", i, got)
		}
	}
	room := ts.Room("x")
	join(t, ts, "x", rigs[0])
	for _, c := range conns {
		c.Abort()
	}
	w.Settle("left", func() bool { return ts.Len("x") == 1 })
	if n := ts.Room("x"); room < members || n > members/10 {
		t.Errorf("room for %d members, and for %d when all but one have left", room, n)
	}
	endAll(rigs)
}

// TestTopicsLeak joins and leaves a million times: what is left is what there was.
func TestTopicsLeak(t *testing.T) {
	rounds, topics := 1000000, 100000
	if testing.Short() || invariants.Enabled {
		rounds, topics = 100000, 10000
	}
	ts, rigs := crowd(t, 2, 64, conn.Config{}, nil)
	a, b := rigs[0].c, rigs[1].c
	join(t, ts, "kept", rigs...)
	before := testutil.Heap()
	for i := range rounds {
		topic := "one"
		if i%2 == 0 {
			topic = fmt.Sprint("many", i%topics)
		}
		_ = ts.Join(topic, a)
		_ = ts.Join(topic, b)
		ts.Leave(topic, a)
		ts.Leave(topic, b)
	}
	for i := range topics {
		_ = ts.Join(fmt.Sprint("held", i), a)
	}
	if n := len(ts.Of(a)); n != topics+1 {
		t.Errorf("in %d topics, want %d", n, topics+1)
	}
	held := testutil.Heap() - before
	for _, topic := range ts.Of(a) {
		ts.Leave(topic, a)
	}
	if s := ts.Stats(); s.Members != 1 || ts.Len("one") != 0 {
		t.Errorf("%d members, want 1", s.Members)
	}
	if left := testutil.Heap() - before; left > held/10+1<<16 {
		t.Errorf("%d bytes left of %d", left, held)
	}
	t.Logf("%d bytes a topic with one member", held/topics)
	endAll(rigs)
}

// audience is the members of the simulation, and what they should have got.
type audience struct {
	*world
	topics  *conn.Topics
	clock   int
	parties []*subscriber
	sent    []*publication
}

// subscriber is one member; in is when it has joined each topic, and was is its
// memberships that have ended.
type subscriber struct {
	r      *rig
	in     map[string]int
	was    map[string][][2]int
	broken bool // it has panicked
}

type publication struct {
	topic           string
	published, done int
	except          uint64
}

func (a *audience) tick() int { a.clock++; return a.clock }

func (a *audience) left(s *subscriber, topic string) {
	if at, ok := s.in[topic]; ok {
		s.was[topic] = append(s.was[topic], [2]int{at, a.tick()})
		delete(s.in, topic)
	}
}

// act does one thing, perhaps inside a hook.
func (a *audience) act() {
	s := a.parties[a.Rand.IntN(len(a.parties))]
	if s.r.c == nil || s.r.isClosed() {
		return
	}
	topic := string(rune('x' + a.Rand.IntN(2)))
	switch a.Rand.IntN(8) {
	case 0, 1:
		if _, is := s.in[topic]; !is && a.topics.Join(topic, s.r.c) == nil {
			s.in[topic] = a.tick()
		}
	case 2:
		a.left(s, topic)
		a.topics.Leave(topic, s.r.c)
	case 3:
		if a.Rand.IntN(10) == 0 {
			s.r.c.Close()
		}
	default:
		p := &publication{topic: topic, published: a.tick()}
		if a.Rand.IntN(4) == 0 {
			p.except = s.r.c.ID()
		}
		payload := make([]byte, 8+a.Rand.IntN(60))
		binary.BigEndian.PutUint32(payload, uint32(len(a.sent)))
		binary.BigEndian.PutUint32(payload[4:], uint32(len(payload)))
		a.sent = append(a.sent, p)
		shared := buf.NewShared(payload)
		a.topics.Broadcast(topic, conn.Publication{Shared: shared, Except: p.except, Done: func(conn.Reach) { p.done = a.tick() }})
		shared.Release()
	}
}

// TestSimTopics has members join, leave, publish, close and panic, inside the
// hooks of a walk too: each gets what was published while it was there, once, in
// order, and nothing of other times.
func TestSimTopics(t *testing.T) {
	looptest.Seeds(t, 300, func(t *testing.T, seed uint64) {
		a := &audience{}
		ts, rigs := crowd(t, 4, 64, marks(60, 10, 150), func(_ int, r *rig) {
			s := &subscriber{r: r, in: map[string]int{}, was: map[string][][2]int{}}
			a.parties = append(a.parties, s)
			r.onFull = func(c *conn.Conn) {
				a.act()
				if a.Rand.IntN(50) == 0 {
					s.broken = true
					panic("in OnFull")
				}
			}
			r.onClose = func(*conn.Conn, error) { a.left(s, "x"); a.left(s, "y") }
		})
		a.world, a.topics = rigs[0].world, ts
		a.Rand = rand.New(rand.NewPCG(seed, 2))
		for range 150 {
			a.Loop.Defer(a.act) // Where a panic is caught.
			for _, r := range rigs {
				if a.Rand.IntN(4) == 0 {
					r.peer.ReadAll()
				}
			}
			if a.Rand.IntN(3) > 0 {
				a.Turn()
			}
		}
		a.turns(20, rigs) // All is read.
		taken := 0
		for _, s := range a.parties {
			taken += a.check(t, s)
		}
		if reach := ts.Stats().Reach; int(reach.Taken) < taken {
			t.Errorf("%d messages with the members, %d were taken", taken, reach.Taken)
		}
		endAll(rigs)
		if m := ts.Stats().Members; m != 0 {
			t.Errorf("%d members left", m)
		}
	})
}

func (a *audience) turns(n int, rigs []*rig) {
	for range n {
		a.Turn()
		for _, r := range rigs {
			r.peer.ReadAll()
		}
	}
}

// check returns how many messages a member has.
func (a *audience) check(t *testing.T, s *subscriber) int {
	has := map[int]bool{}
	last := map[string]int{}
	for got := s.r.peer.Received(); len(got) >= 8; {
		i, n := int(binary.BigEndian.Uint32(got)), int(binary.BigEndian.Uint32(got[4:]))
		if i >= len(a.sent) || n < 8 || n > len(got) {
			break // The rest of one that was cut off by an end without order.
		}
		got = got[n:]
		p := a.sent[i]
		if has[i] || last[p.topic] > i {
			t.Fatalf("message %d again, or behind %d", i, last[p.topic])
		}
		has[i], last[p.topic] = true, i
		if p.except == s.r.c.ID() || !s.there(p, func(from, to int) bool { return to > p.published && from < p.done }) {
			t.Fatalf("message %d reached who was not there: published %d, done %d, member in %v, %v", i, p.published, p.done, s.in, s.was)
		}
	}
	if s.broken && !s.r.isClosed() && s.r.c.Admit(0) != conn.Closed {
		t.Fatal("a member whose hook has panicked goes on")
	}
	if s.r.isClosed() || s.r.c.Stats().Rejected > 0 || s.r.c.Admit(0) == conn.Closed {
		return len(has)
	}
	for i, p := range a.sent {
		if p.done == 0 {
			t.Fatalf("message %d is not done", i)
		}
		if !has[i] && p.except != s.r.c.ID() && s.there(p, func(from, to int) bool { return from < p.published && to > p.done }) {
			t.Fatalf("message %d did not reach one that was there", i)
		}
	}
	return len(has)
}

// there reports whether a membership of p's topic is as is says.
func (s *subscriber) there(p *publication, is func(from, to int) bool) bool {
	if from, ok := s.in[p.topic]; ok && is(from, 1<<30) {
		return true
	}
	return slices.ContainsFunc(s.was[p.topic], func(m [2]int) bool { return is(m[0], m[1]) })
}

// TestTopicsBoundUnderWay holds that what a loop has begun with still counts as
// waiting for it: 16 MiB are all.
func TestTopicsBoundUnderWay(t *testing.T) {
	ts, rigs := crowd(t, 1, 1<<20, conn.Config{}, nil)
	join(t, ts, "x", rigs...)
	large := buf.NewShared(make([]byte, 1<<20))
	defer large.Release()
	var answers []conn.Status
	ts.PublishEach("x", func(*conn.Conn) *buf.Shared {
		for range 2 {
			answers = append(answers, ts.Publish("x", large))
		}
		return nil
	})
	for range 16 {
		ts.Publish("x", large)
	}
	rigs[0].Turns(2)
	if !slices.Equal(answers, []conn.Status{conn.Rejected, conn.Rejected}) {
		t.Errorf("behind 16 MiB under way: %v", answers)
	}
	if s := ts.Publish("x", large); s != conn.Queued {
		t.Errorf("behind all of it: %v", s)
	}
	rigs[0].Turns(2)
	endAll(rigs)
}
