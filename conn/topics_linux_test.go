package conn_test

import (
	"bufio"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/invariants"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// TestTopicsAcrossLoops publishes from goroutines and from handlers of members to
// members on all loops, one of whom never reads: each other one gets every message
// once, those of a publisher in order, and Done and Stats count them.
func TestTopicsAcrossLoops(t *testing.T) {
	const members, publishers, each = 8, 4, 500
	looptest.Engines(t, reactor.Config{Loops: 3}, func(t *testing.T, g *reactor.Group) {
		topics := conn.NewTopics(g)
		says := func(who string, done func(conn.Reach)) {
			for i := range each {
				s := buf.NewShared(fmt.Appendf(nil, "%s %d %0200d\n", who, i, i))
				topics.Broadcast("x", conn.Publication{Shared: s, Done: done})
				s.Release()
			}
		}
		var taken, refused, dones atomic.Int64
		count := func(r conn.Reach) {
			taken.Add(int64(r.Taken))
			refused.Add(int64(r.Refused))
			dones.Add(1)
		}
		l := listen(t, g, &conn.Funcs{
			Open: func(c *conn.Conn) { _ = topics.Join("x", c) },
			Data: func(c *conn.Conn, _ *buf.Buf) { says(fmt.Sprint("member", c.ID()), count) },
		}, conn.Config{HighWater: 2048, Limit: 2048, SendBuffer: 2048})
		slow := dial(t, l)
		defer slow.Close()
		_ = slow.SetReadBuffer(2048)
		fast := listen(t, g, &conn.Funcs{
			Open: func(c *conn.Conn) { _ = topics.Join("x", c) },
			Data: func(c *conn.Conn, _ *buf.Buf) { says(fmt.Sprint("member", c.ID()), count) },
		}, conn.Config{})
		var conns []net.Conn
		for range members {
			conns = append(conns, dial(t, fast))
		}
		testutil.Eventually(t, 5*time.Second, "joined", func() bool { return topics.Len("x") == members+1 })
		var readers, writers sync.WaitGroup
		for _, c := range conns {
			readers.Go(func() { readAll(t, c, (publishers+1)*each) })
		}
		if _, err := conns[0].Write([]byte("go")); err != nil {
			t.Fatal(err)
		}
		for p := range publishers {
			writers.Go(func() { says(fmt.Sprint("goroutine", p), count) })
		}
		readers.Wait()
		writers.Wait()
		const all = (publishers + 1) * each
		testutil.Eventually(t, 5*time.Second, "done", func() bool { return dones.Load() == all })
		s := topics.Stats()
		if n := taken.Load() + refused.Load(); n != all*(members+1) || refused.Load() == 0 || s.Taken != uint64(taken.Load()) || s.Refused != uint64(refused.Load()) || s.Published != all {
			t.Errorf("%d taken and %d refused of %d, stats %+v", taken.Load(), refused.Load(), all*(members+1), s)
		}
		for _, c := range conns {
			_ = c.Close()
		}
		testutil.Eventually(t, 5*time.Second, "left", func() bool { return topics.Len("x") == 1 })
	})
}

// readAll reads n lines and checks that those of each publisher are in order.
func readAll(t *testing.T, c net.Conn, n int) {
	last := map[string]int{}
	in := bufio.NewReader(c)
	for got := range n {
		line, err := in.ReadString('\n')
		who, number, _ := strings.Cut(line, " ")
		number, _, _ = strings.Cut(number, " ")
		if err != nil || number != fmt.Sprint(last[who]) {
			t.Errorf("line %d of a member is %q, want %d of %s; %v", got, line, last[who], who, err)
			return
		}
		last[who]++
	}
	defer c.SetReadDeadline(time.Now().Add(testutil.Timeout(30 * time.Second)))
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
	if line, err := in.ReadString('\n'); err == nil {
		t.Errorf("one more line: %q", line)
	}
}

// TestTopicsBehind publishes to a loop that does not turn: what may wait for it is
// bounded, and what is refused is counted. Its end leaves nothing to wait for.
func TestTopicsBehind(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		topics := conn.NewTopics(g)
		l := listen(t, g, &conn.Funcs{Open: func(c *conn.Conn) { _ = topics.Join("x", c) }}, conn.Config{HighWater: 1 << 30})
		c := dial(t, l)
		defer c.Close()
		testutil.Eventually(t, 5*time.Second, "joined", func() bool { return topics.Len("x") == 1 })
		stop, stopped := make(chan struct{}), make(chan struct{})
		g.Loop(0).Post(func(*reactor.Loop) { close(stopped); <-stop })
		<-stopped
		large, small := buf.NewShared(make([]byte, 1<<20)), buf.NewShared([]byte("x"))
		defer large.Release()
		defer small.Release()
		var reach conn.Reach
		done := make(chan struct{})
		taken, refused := 0, 0
		for i := range 20 {
			p := conn.Publication{Shared: large}
			if i%2 == 1 { // What a function publishes counts what it says.
				p = conn.Publication{Size: large.Len(), Send: func(c *conn.Conn) conn.Status { return c.SendShared(large) }}
			}
			if i == 0 {
				p.Done = func(r conn.Reach) { reach = r; close(done) }
			}
			if topics.Broadcast("x", p) == conn.Queued {
				taken++
			} else {
				refused++
			}
		}
		for range 1 << 16 {
			topics.Publish("x", small)
		}
		if topics.Publish("nobody", large) != conn.Queued || taken != 16 || refused != 4 {
			t.Errorf("%d MiB taken and %d refused while the loop stood", taken, refused)
		}
		close(stop)
		<-done
		testutil.Eventually(t, 5*time.Second, "delivered", func() bool {
			s := topics.Stats()
			return s.Taken+s.Refused == 20+1<<16 && s.Refused > 4
		})
		if reach != (conn.Reach{Taken: 1}) {
			t.Errorf("reach %+v", reach)
		}
		_ = g.Close()
		if n := topics.Len("x"); n != 0 {
			t.Errorf("%d members of a group that has ended", n)
		}
		told := 0
		topics.Broadcast("x", conn.Publication{Shared: small, Done: func(r conn.Reach) { told++; reach = r }})
		if told != 1 || reach != (conn.Reach{}) {
			t.Errorf("without members Done ran %d times, with %+v", told, reach)
		}
	})
}

// TestTopicsDone holds that Done never runs inside Broadcast, however fast the
// loops are, and whether there are members or not: a publisher may wait for it.
func TestTopicsDone(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		topics := conn.NewTopics(g)
		l := listen(t, g, &conn.Funcs{Open: func(c *conn.Conn) { _ = topics.Join("x", c) }}, conn.Config{})
		for range 4 {
			defer dial(t, l).Close()
		}
		testutil.Eventually(t, 5*time.Second, "joined", func() bool { return topics.Len("x") == 4 })
		s := buf.NewShared([]byte("x"))
		defer s.Release()
		for i := range 2000 {
			topic, want := "x", uint64(4)
			if i%10 == 0 {
				topic, want = "nobody", 0
			}
			reached := make(chan conn.Reach) // Without room: inside Broadcast it would wait for ever.
			topics.Broadcast(topic, conn.Publication{Shared: s, Done: func(r conn.Reach) { reached <- r }})
			if r := <-reached; r.Taken != want {
				t.Fatalf("%+v, want %d taken", r, want)
			}
		}
	})
}

// TestTopicsAllocs holds that publishing allocates nothing but what is published,
// and nothing at all without members.
func TestTopicsAllocs(t *testing.T) {
	if invariants.Enabled {
		return
	}
	payload := make([]byte, 100)
	shared := buf.NewShared(payload)
	defer shared.Release()
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		topics := conn.NewTopics(g)
		l := listen(t, g, &conn.Funcs{
			Open: func(c *conn.Conn) { _ = topics.Join("x", c) },
			Data: func(*conn.Conn, *buf.Buf) { topics.Publish("x", shared) },
		}, conn.Config{})
		fd := rawClient(t, l)
		ask, answer := []byte("ping"), make([]byte, len(payload))
		if n := testutil.Mallocs(2000, func() { roundTrip(t, fd, ask, answer) }); n > 0.01 {
			t.Errorf("%v allocations a message", n)
		}
		if n := testutil.Mallocs(2000, func() { topics.PublishBytes("nobody", payload) }); n > 0.01 {
			t.Errorf("%v allocations a message to nobody", n)
		}
	})
}

// BenchmarkTopics is what a member costs, beside the bare walk of a slice, when
// its send costs nothing: with 1000 members on one loop.
func BenchmarkTopics(b *testing.B) {
	const members, batch = 1000, 20
	t := &testing.T{}
	ts, rigs := crowd(t, 1, 64, conn.Config{}, nil)
	w := rigs[0].world
	cfg, _ := conn.Config{}.Check()
	var conns []*conn.Conn
	for range members {
		fd, _ := w.Fake.Open()
		c := conn.New(w.Loop, int(fd), conn.NopHandler{}, cfg)
		c.PauseRead() // Nothing is armed, so a turn costs little.
		conns = append(conns, c)
		_ = ts.Join("x", c)
	}
	n, want := 0, uint64(0)
	send := func(c *conn.Conn) conn.Status { n += int(c.ID() & 1); return conn.Queued }
	w.Turn()
	b.Run("walk", func(b *testing.B) {
		for range b.N {
			for range batch {
				w.Loop.Remote().Post(func(*reactor.Loop) {
					for _, c := range conns {
						if send(c) >= conn.Rejected {
							n++
						}
					}
				})
			}
			w.Turn()
		}
		b.ReportMetric(float64(b.Elapsed())/float64(b.N)/members/batch, "ns/member")
	})
	b.Run("topics", func(b *testing.B) {
		for range b.N {
			for range batch {
				ts.Broadcast("x", conn.Publication{Send: send})
			}
			for want += members * batch; ts.Stats().Taken < want; {
				w.Turn()
			}
		}
		b.ReportMetric(float64(b.Elapsed())/float64(b.N)/members/batch, "ns/member")
	})
}
