package conn_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// answers reports whether a client gets an answer within d.
func answers(c net.Conn, d time.Duration) bool {
	_, _ = c.Write([]byte("ping"))
	_ = c.SetReadDeadline(time.Now().Add(d))
	_, err := io.ReadFull(c, make([]byte, 4))
	_ = c.SetReadDeadline(time.Time{})
	return err == nil
}

// census counts who is open at once, over all loops.
type census struct{ open, most, opened atomic.Int64 }

func (s *census) handler() *conn.Funcs {
	h := echo()
	h.Open = func(*conn.Conn) {
		s.opened.Add(1)
		for n, most := s.open.Add(1), s.most.Load(); n > most && !s.most.CompareAndSwap(most, n); most = s.most.Load() {
		}
	}
	h.Close = func(*conn.Conn, error) { s.open.Add(-1) }
	return h
}

// TestMaxConns has far more clients than places, on loops between which the
// kernel does not spread them evenly: never more than the limit are open, all
// places are used, and everybody is served in the end.
func TestMaxConns(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			looptest.Engines(t, reactor.Config{Loops: 3}, func(t *testing.T, g *reactor.Group) {
				const most, clients, each = 5, 60, 5
				var s census
				address := "127.0.0.1:0"
				if network == "unix" {
					address = abstract()
				}
				l, err := conn.Listen(g, network, address, s.handler(), conn.Config{MaxConns: most})
				if err != nil {
					t.Fatal(err)
				}
				var wg sync.WaitGroup
				for range clients {
					wg.Go(func() {
						for range each {
							c, err := net.Dial(network, l.Addr().String())
							if err != nil {
								t.Error(err)
								return
							}
							if !answers(c, testutil.Timeout(20*time.Second)) {
								t.Error("nobody answers")
								return
							}
							time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond)
							_ = c.Close()
						}
					})
				}
				wg.Wait()
				if s.most.Load() != most || s.opened.Load() != clients*each {
					t.Errorf("%d at once and %d in all, want %d and %d", s.most.Load(), s.opened.Load(), most, clients*each)
				}
				testutil.Eventually(t, 5*time.Second, "all places free", func() bool { return l.Limit().Used() == 0 })
				finished(t, l)
			})
		})
	}
}

// TestMaxConnsWaits holds that who comes past the limit waits, on whatever loop,
// and is served as soon as somebody leaves; and that the loops sleep meanwhile.
func TestMaxConnsWaits(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		const most, clients = 4, 12
		l := listen(t, g, echo(), conn.Config{MaxConns: most})
		all := make([]*net.TCPConn, clients)
		for i := range all {
			all[i] = dial(t, l)
			defer all[i].Close()
		}
		testutil.Eventually(t, 5*time.Second, "the first", func() bool { return l.Stats().Open == most })
		turns := func() (n uint64) {
			for _, s := range g.Stats() {
				n += s.Turns
			}
			return n
		}
		time.Sleep(20 * time.Millisecond)
		before := turns()
		time.Sleep(200 * time.Millisecond)
		if n := turns() - before; n > 20 {
			t.Errorf("%d turns in 200 ms: the loops spin", n)
		}
		if s := l.Stats(); s.Open != most || s.Accepted != most || s.Failed != 0 || l.Limit().Used() != most {
			t.Errorf("%+v, %d places used", s, l.Limit().Used())
		}
		served := map[*net.TCPConn]bool{}
		for len(served) < clients {
			now := 0
			for _, c := range all {
				if !served[c] && answers(c, 100*time.Millisecond) {
					served[c] = true
					now++
					_ = c.Close()
				}
			}
			if now == 0 {
				t.Fatalf("%d of %d are served, and nobody more: %+v", len(served), clients, l.Stats())
			}
		}
	})
}

// TestConnLimit shares a limit between listeners, and pauses one
// of them while it waits for a place: it goes to the other.
func TestConnLimit(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		limit, err := conn.NewConnLimit(2)
		if err != nil || limit.Most() != 2 || limit.Used() != 0 {
			t.Fatal(limit, err)
		}
		cfg := conn.Config{ConnLimit: limit}
		a, b := listen(t, g, echo(), cfg), listenUnix(t, g, abstract(), echo(), cfg)
		first, second := dial(t, a), dialUnix(t, b.Addr().Name)
		defer first.Close()
		defer second.Close()
		if !answers(first, testutil.Timeout(5*time.Second)) || !answers(second, testutil.Timeout(5*time.Second)) {
			t.Fatal("the first two are not served")
		}
		third, fourth := dial(t, a), dialUnix(t, b.Addr().Name)
		defer third.Close()
		defer fourth.Close()
		if answers(third, 50*time.Millisecond) || answers(fourth, 50*time.Millisecond) {
			t.Error("more than two are served")
		}
		a.Pause()
		_ = first.Close()
		if !answers(fourth, testutil.Timeout(5*time.Second)) {
			t.Error("the place did not go to who waits")
		}
		a.Resume()
		_ = second.Close()
		if !answers(third, testutil.Timeout(5*time.Second)) {
			t.Error("the place did not come back after a pause")
		}
		last := dial(t, a)
		defer last.Close()
		time.Sleep(20 * time.Millisecond)
		finished(t, a) // At the limit: nobody waits for a place to close.
		if answers(last, testutil.Timeout(5*time.Second)) {
			t.Error("served past the limit")
		}
		_, _ = third.Close(), fourth.Close()
		testutil.Eventually(t, 5*time.Second, "places free", func() bool { return limit.Used() == 0 })
	})
	for _, bad := range []conn.Config{{MaxConns: -1}, {MaxConns: 1, ConnLimit: new(conn.ConnLimit)}} {
		if _, err := bad.Check(); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	if _, err := conn.NewConnLimit(0); err == nil {
		t.Error("a limit of 0 is taken")
	}
}

// TestMaxConnsWithoutDescriptors runs out of descriptors below the limit: a place
// is not lost by an accept that fails, nor by a handler that panics.
func TestMaxConnsWithoutDescriptors(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		h := echo()
		h.Open = func(*conn.Conn) { panic("in OnOpen") }
		l := listen(t, g, h, conn.Config{MaxConns: 3})
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		restore := noMoreDescriptors(t)
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(l.Addr().Port()), Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			restore()
			t.Fatal(err)
		}
		waitBackoffs(l, 2)
		restore()
		testutil.Eventually(t, 5*time.Second, "accepted", func() bool { return l.Stats().Accepted == 1 })
		for range 6 {
			if c, err := net.Dial("tcp", l.Addr().String()); err == nil { // Else it was reset already.
				_ = c.Close()
			}
		}
		testutil.Eventually(t, 5*time.Second, "all have come and gone", func() bool {
			return l.Stats().Accepted == 7 && l.Limit().Used() == 0
		})
		if s := l.Stats(); s.Backoffs < 2 {
			t.Errorf("%+v", s)
		}
	})
}

// TestPause holds that while a listener is paused clients wait in the accept
// queue, that those who are open are served, and that all are served behind it,
// however fast it is paused and resumed.
func TestPause(t *testing.T) {
	for _, cfg := range []conn.Config{{}, {MaxConns: 100}} {
		looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
			l := listen(t, g, echo(), cfg)
			before := dial(t, l)
			defer before.Close()
			if !answers(before, testutil.Timeout(5*time.Second)) {
				t.Fatal("nobody answers")
			}
			l.Pause()
			l.Pause()
			settle(g)
			var waiting []*net.TCPConn
			for range 10 {
				c := dial(t, l)
				defer c.Close()
				waiting = append(waiting, c)
			}
			if !answers(before, testutil.Timeout(5*time.Second)) || answers(waiting[0], 50*time.Millisecond) {
				t.Error("the pause is not for those who come, and only them")
			}
			if s := l.Stats(); s.Accepted != 1 || s.Failed != 0 {
				t.Errorf("%+v", s)
			}
			for range 50 {
				l.Resume()
				l.Pause()
			}
			l.Resume()
			for _, c := range waiting {
				if !answers(c, testutil.Timeout(5*time.Second)) {
					t.Error("not served after Resume")
				}
			}
			l.Pause()
			settle(g)
			last := dial(t, l)
			defer last.Close()
			finished(t, l) // Those who wait are served, also behind a pause.
			l.Resume()
			if !answers(last, testutil.Timeout(5*time.Second)) {
				t.Error("not served behind Close")
			}
		})
	}
}

// settle waits until each loop has done what was posted to it, and its outcome.
func settle(g *reactor.Group) {
	for range 2 {
		var wg sync.WaitGroup
		for i := range g.Len() {
			wg.Add(1)
			if !g.Loop(i).Post(func(l *reactor.Loop) { l.Defer(wg.Done) }) {
				wg.Done()
			}
		}
		wg.Wait()
	}
}

// TestListeners adds and removes listeners of one group while others serve.
func TestListeners(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		stays := listen(t, g, echo(), conn.Config{})
		c := dial(t, stays)
		defer c.Close()
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 10 {
					l := listen(t, g, echo(), conn.Config{})
					mine := dial(t, l)
					if !answers(mine, testutil.Timeout(5*time.Second)) {
						t.Error("a new one does not serve")
					}
					finished(t, l)
					if !answers(mine, testutil.Timeout(5*time.Second)) {
						t.Error("a connection ended with its listener")
					}
					_ = mine.Close()
				}
			})
		}
		wg.Wait()
		if !answers(c, testutil.Timeout(5*time.Second)) {
			t.Error("the first one no longer serves")
		}
		for _, s := range g.Stats() {
			if s.Parties > 3 { // The first one, its client, and who is just closing.
				t.Errorf("%d parties are left", s.Parties)
			}
		}
	})
}

// TestListenFromInside adds a listener from a goroutine of a handler, and closes
// it on the loop.
func TestListenFromInside(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		inner := make(chan *conn.Listener, 1)
		outer := listen(t, g, &conn.Funcs{Open: func(*conn.Conn) {
			go func() { inner <- listen(t, g, echo(), conn.Config{}) }()
		}}, conn.Config{})
		defer dial(t, outer).Close()
		l := <-inner
		c := dial(t, l)
		defer c.Close()
		if !answers(c, testutil.Timeout(5*time.Second)) {
			t.Error("the inner one does not serve")
		}
		g.Loop(1).Post(func(*reactor.Loop) { l.Close() })
		select {
		case <-l.Done():
		case <-time.After(testutil.Timeout(5 * time.Second)):
			t.Error("the inner one is still there")
		}
	})
}

// TestV6Only holds who is served by an address of all families, and by one of
// IPv6 alone.
func TestV6Only(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		for _, tc := range []struct {
			network, address string
			only, v4         bool
		}{
			{"tcp", "[::]:0", false, true}, {"tcp", ":0", false, true},
			{"tcp", "[::]:0", true, false}, {"tcp", ":0", true, false}, {"tcp6", "[::]:0", false, false},
		} {
			l, err := conn.Listen(g, tc.network, tc.address, echo(), conn.Config{V6Only: tc.only})
			if err != nil {
				t.Fatal(err)
			}
			for host, want := range map[string]bool{"127.0.0.1": tc.v4, "::1": true} {
				c, err := net.Dial("tcp", netip.AddrPortFrom(netip.MustParseAddr(host), l.Addr().Port()).String())
				if got := err == nil && answers(c, testutil.Timeout(5*time.Second)); got != want {
					t.Errorf("%+v: %s is served: %v, %v", tc, host, got, err)
				}
				if err == nil {
					_ = c.Close()
				}
			}
			finished(t, l)
		}
		for _, bad := range [][2]string{{"tcp", "127.0.0.1:0"}, {"tcp4", ":0"}} {
			if _, err := conn.Listen(g, bad[0], bad[1], echo(), conn.Config{V6Only: true}); err == nil {
				t.Errorf("%v with V6Only is served", bad)
			}
		}
	})
}

// TestKeepAlive holds that the options are on what a listener accepts.
func TestKeepAlive(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		got := make(chan [5]int, 1)
		h := &conn.Funcs{Open: func(c *conn.Conn) {
			got <- options(t, c)
			c.Close()
		}}
		for k, want := range map[conn.KeepAlive][5]int{
			{}:                              {0, -1, -1, -1, 0},
			{Idle: 1500 * time.Millisecond}: {1, 2, -1, -1, 0},
			{Idle: time.Minute, Interval: 5 * time.Second, Count: 3, UserTimeout: 2500 * time.Millisecond}: {1, 60, 5, 3, 2500},
		} {
			l := listen(t, g, h, conn.Config{KeepAlive: k})
			dial(t, l).Close()
			for i, n := range <-got {
				if want[i] >= 0 && n != want[i] {
					t.Errorf("%+v: option %d is %d, want %d", k, i, n, want[i])
				}
			}
			finished(t, l)
		}
		for _, bad := range []conn.KeepAlive{{Idle: -1}, {Count: 3}, {Interval: time.Second}, {Idle: time.Second, Count: 128},
			{Idle: 100 * time.Hour}, {UserTimeout: -1}} {
			if _, err := (conn.Config{KeepAlive: bad}).Check(); err == nil {
				t.Errorf("%+v is taken", bad)
			}
		}
	})
}

// options reads those of KeepAlive from the descriptor whose ends are c's.
func options(t *testing.T, c *conn.Conn) (all [5]int) {
	for fd := 3; fd < 4096; fd++ {
		sa, err := unix.Getpeername(fd)
		if at, ok := sa.(*unix.SockaddrInet4); err != nil || !ok || uint16(at.Port) != c.RemoteAddr().Port() {
			continue
		}
		for i, o := range [][2]int{{unix.SOL_SOCKET, unix.SO_KEEPALIVE}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE}, {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT}, {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT}} {
			if all[i], err = unix.GetsockoptInt(fd, o[0], o[1]); err != nil {
				t.Error(err)
			}
		}
		return all
	}
	t.Error("no such descriptor")
	return all
}

// dyingEnv makes this test binary a server that waits to be killed.
const dyingEnv = "PENSTOCK_TEST_DYING"

// TestDyingListener kills servers and listens where they did, at once. An
// io_uring gives an address back some tenths of a second after its process.
func TestDyingListener(t *testing.T) {
	if kind := os.Getenv(dyingEnv); kind != "" {
		serveUntilKilled(t, kind)
	}
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		for range 3 {
			cmd := exec.Command(os.Args[0], "-test.run=^TestDyingListener$")
			cmd.Env = append(os.Environ(), dyingEnv+"="+g.Info().Engine)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var tcp, udp, name string
			if _, err := fmt.Fscan(out, &tcp, &udp, &name); err != nil {
				t.Fatal(err)
			}
			// While it lives, it is refused, and not waited for.
			for network, address := range map[string]string{"tcp": tcp, "unix": name} {
				if _, err := conn.Listen(g, network, address, echo(), conn.Config{}); !errors.Is(err, syscall.EADDRINUSE) {
					t.Errorf("beside a live one: %v", err)
				}
			}
			if _, err := conn.ListenPacket(g, "udp", udp, &conn.PacketFuncs{}, conn.PacketConfig{}); !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("beside a live one: %v", err)
			}
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			for network, address := range map[string]string{"tcp": tcp, "unix": name} {
				l, err := conn.Listen(g, network, address, echo(), conn.Config{})
				if err != nil {
					t.Error(err)
					continue
				}
				c, err := net.Dial(network, address)
				if err != nil {
					t.Fatal(err)
				}
				if !answers(c, testutil.Timeout(5*time.Second)) {
					t.Error("nobody answers")
				}
				_ = c.Close()
				finished(t, l)
			}
			p, err := conn.ListenPacket(g, "udp", udp, &conn.PacketFuncs{}, conn.PacketConfig{})
			if err != nil {
				t.Error(err)
				continue
			}
			p.Close()
		}
	})
}

func serveUntilKilled(t *testing.T, engine string) {
	kind, err := reactor.ParseEngine(engine)
	if err != nil {
		t.Fatal(err)
	}
	g, err := reactor.Start(reactor.Config{Loops: 2, Engine: kind})
	if err != nil {
		t.Fatal(err)
	}
	h := &conn.Funcs{Data: func(c *conn.Conn, in *buf.Buf) { c.Send(in) }}
	l, u := listen(t, g, h, conn.Config{}), listenUnix(t, g, abstract(), h, conn.Config{})
	p, err := conn.ListenPacket(g, "udp", "127.0.0.1:0", &conn.PacketFuncs{}, conn.PacketConfig{})
	if err != nil {
		t.Fatal(err)
	}
	fmt.Println(l.Addr(), p.Addr(), u.Addr())
	<-context.Background().Done()
}
