package conn_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/invariants"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// fewer is n, or a part of it where everything is slow.
func fewer(n int) int {
	if invariants.Enabled || testing.Short() {
		return n / 5
	}
	return n
}

// TestRandomResets has clients reset at any point: each connection ends once,
// and every byte that was admitted was taken or is told as lost.
func TestRandomResets(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		var opens, closes atomic.Int64
		l := listen(t, g, &conn.Funcs{
			Open: func(c *conn.Conn) {
				opens.Add(1)
				admitted := new(uint64)
				c.SetUser(admitted)
			},
			Data: func(c *conn.Conn, in *buf.Buf) {
				n := uint64(in.Len())
				if c.Send(in) <= conn.Full {
					*c.User().(*uint64) += n
				}
			},
			Close: func(c *conn.Conn, err error) {
				closes.Add(1)
				s := c.Stats()
				var ce *conn.CloseError
				if errors.As(err, &ce) && (ce.Reason != conn.PeerReset || uint64(ce.LostBytes) != s.LostBytes) {
					t.Errorf("closed with %v, stats %+v", err, s)
				}
				if got := *c.User().(*uint64); got != s.BytesOut+s.LostBytes {
					t.Errorf("admitted %d bytes, taken %d, lost %d", got, s.BytesOut, s.LostBytes)
				}
			},
		}, conn.Config{HighWater: 32 << 10, PauseOnFull: true})
		var wg sync.WaitGroup
		for w := range 10 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(w), 1))
				for range fewer(500) / 10 {
					c := dial(t, l)
					_ = c.SetDeadline(time.Now().Add(50 * time.Millisecond))
					for range rng.IntN(5) {
						_, _ = c.Write(make([]byte, 1+rng.IntN(100000)))
						if rng.IntN(2) == 0 {
							_, _ = c.Read(make([]byte, 1+rng.IntN(10000)))
						}
					}
					_ = c.SetLinger(0)
					_ = c.Close()
				}
			})
		}
		wg.Wait()
		// Who was reset while it waited to be accepted is accepted all the same.
		dialed := int64(fewer(500) / 10 * 10)
		testutil.Eventually(t, 15*time.Second, "every close", func() bool {
			return l.Stats().Accepted == uint64(dialed) && opens.Load() == dialed && closes.Load() == dialed && l.Stats().Open == 0
		})
		testutil.Eventually(t, 5*time.Second, "loops without connections", func() bool {
			return !slices.ContainsFunc(g.Stats(), func(s reactor.LoopStats) bool { return s.Parties != 1 })
		})
		for _, s := range g.Stats() {
			if s.Panics != 0 {
				t.Errorf("loop %d: %d panics", s.Loop, s.Panics)
			}
		}
	})
}

// TestRemoteAddrOfReset holds that a client is known that has reset its connection before
// the loop came to accept it.
func TestRemoteAddrOfReset(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		for _, at := range []string{"127.0.0.1:0", "[::1]:0", "[::]:0"} {
			heard := make(chan conn.Addr, 1)
			l, err := conn.Listen(g, "tcp", at, &conn.Funcs{Open: func(c *conn.Conn) { heard <- c.RemoteAddr() }}, conn.Config{})
			if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.EAFNOSUPPORT) {
				continue // This host has no IPv6.
			}
			if err != nil {
				t.Fatal(err)
			}
			goOn := make(chan struct{})
			g.Loop(0).Post(func(*reactor.Loop) { <-goOn })
			to := l.Addr().AddrPort
			if to.Addr().IsUnspecified() {
				to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), to.Port())
			}
			c, err := net.DialTCP("tcp", nil, net.TCPAddrFromAddrPort(to))
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetLinger(0)
			_ = c.Close()
			close(goOn)
			if got := <-heard; got.String() != c.LocalAddr().String() {
				t.Errorf("%s: %v was heard as %v", at, c.LocalAddr(), got)
			}
			l.Close()
		}
	})
}

// TestHalfCloseOnKernel has clients end their side before the answer, which is
// far more than a socket holds, comes from another goroutine.
func TestHalfCloseOnKernel(t *testing.T) {
	const answer = 4 << 20
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		var work sync.WaitGroup
		l := listen(t, g, &conn.Funcs{Data: func(c *conn.Conn, _ *buf.Buf) {
			ref := c.Ref()
			work.Go(func() { ref.Write(make([]byte, answer)) })
			work.Wait()
		}}, conn.Config{})
		for range 5 {
			c := dial(t, l)
			if _, err := c.Write([]byte("question")); err != nil {
				t.Fatal(err)
			}
			_ = c.CloseWrite()
			if n, err := io.Copy(io.Discard, c); n != answer || err != nil {
				t.Errorf("%d bytes of the answer, %v", n, err)
			}
			_ = c.Close()
		}
	})
}

func TestManyShortConnections(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		l := listen(t, g, echo(), conn.Config{})
		var wg sync.WaitGroup
		total := fewer(2000)
		for range 8 {
			wg.Go(func() {
				for range total / 8 {
					c := dial(t, l)
					got := make([]byte, 4)
					if _, err := c.Write([]byte("ping")); err != nil {
						t.Error(err)
					} else if _, err := io.ReadFull(c, got); err != nil || string(got) != "ping" {
						t.Errorf("%q, %v", got, err)
					}
					_ = c.Close()
				}
			})
		}
		wg.Wait()
		testutil.Eventually(t, 10*time.Second, "every close", func() bool { return l.Stats().Open == 0 })
		if s := l.Stats(); s.Accepted != uint64(total/8*8) || s.Failed != 0 {
			t.Errorf("%+v, want %d accepted", s, total/8*8)
		}
		testutil.Eventually(t, 10*time.Second, "blocks back", func() bool {
			n := 0
			for _, s := range g.Stats() {
				n = max(n, s.InUse)
			}
			return n <= 32<<20 // Only what the engine receives into.
		})
	})
}

// TestNoDescriptors lets accept run out of descriptors: it backs off, does not
// spin, and goes on when there are some.
func TestNoDescriptors(t *testing.T) {
	const clients = 8
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		// io_uring takes the limit when an accept is armed, so the loop waits with
		// that until the limit is low.
		lowered := make(chan struct{})
		g.Loop(0).Post(func(*reactor.Loop) { <-lowered })
		goOn := sync.OnceFunc(func() { close(lowered) })
		defer goOn()
		l := listen(t, g, echo(), conn.Config{})
		fds := make([]int, clients)
		for i := range fds {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			fds[i] = fd
		}
		restore := noMoreDescriptors(t)
		goOn()
		for _, fd := range fds {
			to := &unix.SockaddrInet4{Port: int(l.Addr().Port()), Addr: l.Addr().Addr().As4()}
			if err := unix.Connect(fd, to); err != nil {
				restore()
				t.Fatal(err)
			}
		}
		waitBackoffs(l, 2)
		turns := g.Stats()[0].Turns
		time.Sleep(300 * time.Millisecond)
		turns = g.Stats()[0].Turns - turns
		s := l.Stats()
		restore()
		if s.Backoffs < 2 || s.Failed != s.Backoffs || s.Accepted != 0 {
			t.Errorf("%+v", s)
		}
		if turns > 100 {
			t.Errorf("%d turns in 300 ms: accept spins", turns)
		}
		testutil.Eventually(t, 10*time.Second, "accepts", func() bool { return l.Stats().Accepted == clients })
		for _, fd := range fds {
			got := make([]byte, 4)
			_, _ = unix.Write(fd, []byte("ping"))
			if n, err := unix.Read(fd, got); n != 4 || err != nil || string(got) != "ping" {
				t.Errorf("%q, %v", got, err)
			}
		}
	})
}

func waitBackoffs(l *conn.Listener, n uint64) {
	for end := time.Now().Add(testutil.Timeout(5 * time.Second)); l.Stats().Backoffs < n && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// noMoreDescriptors lowers the limit to what is open, until restore is called.
func noMoreDescriptors(t *testing.T) (restore func()) {
	t.Helper()
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	next, err := unix.Dup(0) // The lowest that is free: all below are taken.
	if err != nil {
		t.Fatal(err)
	}
	_ = unix.Close(next)
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: uint64(next), Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	var once sync.Once
	restore = func() { once.Do(func() { _ = unix.Setrlimit(unix.RLIMIT_NOFILE, &was) }) }
	t.Cleanup(restore)
	return restore
}

// TestListenerClose holds that those who wait in the queue are served, that
// those who are open stay so, and that the port is free behind it.
func TestListenerClose(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		h := echo()
		h.Open = func(c *conn.Conn) {
			if c.ID()%5 == 0 {
				panic("one of five")
			}
		}
		l := listen(t, g, h, conn.Config{})
		release := make(chan struct{})
		for i := range g.Len() {
			g.Loop(i).Post(func(*reactor.Loop) { <-release })
		}
		time.Sleep(10 * time.Millisecond)
		const total = 100
		clients := make([]*net.TCPConn, total)
		for i := range clients {
			clients[i] = dial(t, l)
			defer clients[i].Close()
			_, _ = clients[i].Write([]byte("ping"))
		}
		l.Close()
		l.Close()
		close(release)
		served := 0
		for _, c := range clients {
			got := make([]byte, 4)
			if _, err := io.ReadFull(c, got); err == nil && string(got) == "ping" {
				served++
			}
		}
		if served != total*4/5 {
			t.Errorf("%d of %d served, a fifth panics", served, total)
		}
		testutil.Eventually(t, 5*time.Second, "port free", func() bool {
			next, err := net.Listen("tcp", l.Addr().String())
			if err != nil {
				return false
			}
			_ = next.Close()
			return true
		})
	})
}

// TestPortInUse holds that a port on which somebody listens is refused, with
// the errno, also when that one would share it.
func TestPortInUse(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		lc := net.ListenConfig{Control: func(_, _ string, rc syscall.RawConn) error {
			return rc.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
			})
		}}
		holder, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer holder.Close()
		ours := listen(t, g, echo(), conn.Config{})
		defer ours.Close()
		for _, address := range []string{holder.Addr().String(), ours.Addr().String()} {
			l, err := conn.Listen(g, "tcp", address, echo(), conn.Config{})
			if l != nil || !errors.Is(err, syscall.EADDRINUSE) {
				t.Errorf("%s: %v, %v", address, l, err)
			}
		}
		for _, bad := range [][2]string{{"tcp", "127.0.0.1:99999"}, {"udp", "127.0.0.1:0"}, {"tcp", "nonsense"}, {"tcp4", "[::1]:0"}} {
			if l, err := conn.Listen(g, bad[0], bad[1], echo(), conn.Config{}); err == nil {
				t.Errorf("%v: listens on %v", bad, l.Addr())
			} else if bad[0] == "udp" && !strings.Contains(err.Error(), "ListenPacket") {
				t.Errorf("%v does not say what is for datagrams", err)
			}
		}
	})
}

// TestAddresses holds that one port serves all loops, and which addresses it
// and its connections tell.
func TestAddresses(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 3}, func(t *testing.T, g *reactor.Group) {
		for _, tc := range []struct {
			network, address string
			to               []string
		}{
			{"tcp", ":0", []string{"127.0.0.1", "::1"}},
			{"tcp", "[::]:0", []string{"127.0.0.1", "::1"}},
			{"tcp4", ":0", []string{"127.0.0.1"}},
			{"tcp6", "[::1]:0", []string{"::1"}},
			{"tcp", "127.0.0.1:0", []string{"127.0.0.1"}},
		} {
			h := &conn.Funcs{Open: func(c *conn.Conn) {
				_, _ = c.Write([]byte(c.LocalAddr().String() + "\n" + c.RemoteAddr().String() + "\n"))
				c.Close()
			}}
			l, err := conn.Listen(g, tc.network, tc.address, h, conn.Config{})
			if err != nil {
				t.Errorf("%s %s: %v", tc.network, tc.address, err)
				continue
			}
			if l.Addr().Port() == 0 {
				t.Error("the port is not told")
			}
			for range 20 { // Enough for each loop to have some.
				for _, to := range tc.to {
					at := netip.AddrPortFrom(netip.MustParseAddr(to), l.Addr().Port())
					c, err := net.Dial("tcp", at.String())
					if err != nil {
						t.Errorf("%s %s: dial %s: %v", tc.network, tc.address, at, err)
						continue
					}
					_ = c.SetDeadline(time.Now().Add(testutil.Timeout(5 * time.Second)))
					got, _ := io.ReadAll(c)
					if want := at.String() + "\n" + c.LocalAddr().String() + "\n"; string(got) != want {
						t.Errorf("told %q, want %q", got, want)
					}
					_ = c.Close()
				}
			}
			l.Close()
		}
	})
}

// TestPanicOnKernel has handlers panic while others work.
func TestPanicOnKernel(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		var told atomic.Int64
		l := listen(t, g, &conn.Funcs{
			Data: func(c *conn.Conn, in *buf.Buf) {
				if bytes.Contains(in.Bytes(), []byte("boom")) {
					panic("boom")
				}
				c.Send(in)
			},
			Close: func(_ *conn.Conn, err error) {
				var ce *conn.CloseError
				if errors.As(err, &ce) && ce.Reason == conn.HandlerPanic {
					told.Add(1)
				}
			},
		}, conn.Config{})
		const total = 40
		for i := range total {
			c := dial(t, l)
			word := []string{"ping", "boom"}[i%2]
			_, _ = c.Write([]byte(word))
			got, err := io.ReadAll(io.LimitReader(c, 4))
			if i%2 == 0 && (string(got) != word || err != nil) || i%2 == 1 && !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("%s: %q, %v", word, got, err)
			}
			_ = c.Close()
		}
		testutil.Eventually(t, 5*time.Second, "told", func() bool { return told.Load() == total/2 })
		panics := uint64(0)
		for _, s := range g.Stats() {
			panics += s.Panics
		}
		if panics != total/2 {
			t.Errorf("%d panics counted", panics)
		}
	})
}

// TestCloseDoesNotReset holds that input that nobody reads does not turn the
// end into a reset that eats the answer.
func TestCloseDoesNotReset(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		const answer = 1 << 20
		l := listen(t, g, &conn.Funcs{Data: func(c *conn.Conn, _ *buf.Buf) {
			_, _ = c.Write(make([]byte, answer))
			c.Close()
		}}, conn.Config{})
		c := dial(t, l)
		defer c.Close()
		go func() { // Goes on sending what the server no longer wants.
			for _, err := c.Write(make([]byte, 4096)); err == nil; _, err = c.Write(make([]byte, 4096)) {
				time.Sleep(100 * time.Microsecond)
			}
		}()
		time.Sleep(50 * time.Millisecond)
		n, err := io.CopyN(io.Discard, c, answer)
		if n != answer || err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%d bytes of %d, %v", n, answer, err)
		}
	})
}

// TestUnackedExtendsLinger holds that the end waits for a peer that has all of
// it still to acknowledge, up to CloseTimeout, beyond Linger.
func TestUnackedExtendsLinger(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		ended := make(chan error, 1)
		l := listen(t, g, &conn.Funcs{
			Open:  func(c *conn.Conn) { _, _ = c.Write(make([]byte, 256<<10)); c.Close() },
			Close: func(_ *conn.Conn, err error) { ended <- err },
		}, conn.Config{SendBuffer: 1 << 20, Linger: 10 * time.Millisecond, CloseTimeout: time.Hour})
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 64<<10)
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(l.Addr().Port()), Addr: [4]byte{127, 0, 0, 1}}); err != nil {
			t.Fatal(err)
		}
		select {
		case err := <-ended:
			t.Fatalf("closed with %v while the peer had bytes to acknowledge", err)
		case <-time.After(300 * time.Millisecond):
		}
		total := 0
		for p := make([]byte, 64<<10); ; {
			n, err := unix.Read(fd, p)
			if total += n; n <= 0 || err != nil {
				break
			}
		}
		_ = unix.Shutdown(fd, unix.SHUT_WR)
		if err := <-ended; err != nil || total != 256<<10 {
			t.Errorf("closed with %v, the peer has %d bytes", err, total)
		}
	})
}
