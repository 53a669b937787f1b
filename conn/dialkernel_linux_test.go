package conn_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
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

// resolver is a Resolver made of a function.
type resolver func(ctx context.Context, network, host string) ([]netip.Addr, error)

func (r resolver) LookupNetIP(ctx context.Context, network, host string) ([]netip.Addr, error) {
	return r(ctx, network, host)
}

// addresses resolves every name to the same list.
func addresses(list ...string) resolver {
	var ips []netip.Addr
	for _, s := range list {
		ips = append(ips, netip.MustParseAddr(s))
	}
	return func(context.Context, string, string) ([]netip.Addr, error) { return ips, nil }
}

// deaf returns the address of a TCP listener whose backlog is full: who connects
// there is not answered.
func deaf(t *testing.T, host string) string {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	ip := netip.MustParseAddr(host).As4()
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: ip}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	for range 4 { // One is accepted by the kernel, the others wait for room.
		c, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Close(c) })
		_ = unix.Connect(c, sa)
	}
	return netip.AddrPortFrom(netip.AddrFrom4(ip), uint16(sa.(*unix.SockaddrInet4).Port)).String()
}

// wantDial checks a *DialError.
func wantDial(t *testing.T, err error, reason conn.Reason, cause error) {
	t.Helper()
	var de *conn.DialError
	if !errors.As(err, &de) || de.Reason != reason || !errors.Is(err, cause) {
		t.Errorf("told %v, want %v for %v", err, reason, cause)
	}
}

// TestDialNobodyAnswers holds the time-out, and the context, against an address
// from which nothing comes; workerman has neither (2.4).
func TestDialNobodyAnswers(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		address := deaf(t, "127.0.0.1")
		h := &conn.Funcs{Open: func(*conn.Conn) { t.Error("OnOpen") }}
		d := &conn.Dialer{Timeout: 50 * time.Millisecond}
		_, err := d.DialContext(t.Context(), g.Loop(0), "tcp", address, h)
		var timeout net.Error
		if wantDial(t, err, conn.ConnectTimeout, os.ErrDeadlineExceeded); !errors.As(err, &timeout) || !timeout.Timeout() {
			t.Errorf("%v is no time-out", err)
		}
		d = &conn.Dialer{}
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("changed my mind")
		time.AfterFunc(20*time.Millisecond, func() { cancel(why) })
		_, err = d.DialContext(ctx, g.Loop(0), "tcp", address, h)
		wantDial(t, err, conn.Cancelled, why)
		_, err = d.DialContext(ctx, g.Loop(0), "tcp", address, h) // It is done already.
		wantDial(t, err, conn.Cancelled, why)
		ended := make(chan error, 1)
		ctx, cancel = context.WithCancelCause(t.Context())
		h.Close = func(_ *conn.Conn, err error) { ended <- err }
		if err := d.Start(ctx, g.Loop(0), "tcp", address, h); err != nil {
			t.Fatal(err)
		}
		cancel(why)
		wantDial(t, <-ended, conn.Cancelled, why)
	})
}

// TestDialContextAfter holds that the context means nothing once the connection is there.
func TestDialContextAfter(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		l := listen(t, g, echo(), conn.Config{})
		got := make(chan string, 1)
		ctx, cancel := context.WithCancel(t.Context())
		ref, err := (&conn.Dialer{}).DialContext(ctx, g.Loop(0), "tcp", l.Addr().String(), &conn.Funcs{
			Data: func(_ *conn.Conn, in *buf.Buf) { got <- string(in.Bytes()) },
		})
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		onLoop(t, g, func(*reactor.Loop) {})
		if s := ref.Write([]byte("still here")); s != conn.Queued {
			t.Errorf("answer %v", s)
		}
		if s := <-got; s != "still here" {
			t.Errorf("got %q", s)
		}
	})
}

// TestDialSlowResolver holds that a resolver that takes its time, or never
// answers, holds up nobody, and that it is told when nobody waits any more.
func TestDialSlowResolver(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		l := listen(t, g, echo(), conn.Config{})
		port := fmt.Sprint(l.Addr().Port())
		answer := make(chan struct{})
		asked, freed := make(chan string, 2), make(chan error, 1)
		d := &conn.Dialer{Resolver: resolver(func(ctx context.Context, network, host string) ([]netip.Addr, error) {
			asked <- network + " " + host
			select {
			case <-answer:
				return []netip.Addr{netip.MustParseAddr("::ffff:127.0.0.1")}, nil
			case <-ctx.Done():
				freed <- ctx.Err()
				return nil, ctx.Err()
			}
		})}
		got := make(chan string, 10)
		h := &conn.Funcs{
			Open: func(c *conn.Conn) { _, _ = c.Write([]byte("open")) },
			Data: func(c *conn.Conn, in *buf.Buf) { got <- string(in.Bytes()); c.Close() },
		}
		var slow *conn.Conn
		onLoop(t, g, func(loop *reactor.Loop) {
			c, err := d.Dial(loop, "tcp4", net.JoinHostPort("slow.test", port), h)
			if err != nil {
				t.Error(err)
				return
			}
			slow = c
			_, _ = slow.Write([]byte("early "))
		})
		if s := <-asked; s != "ip4 slow.test" {
			t.Errorf("asked for %q", s)
		}
		if _, err := d.DialContext(t.Context(), g.Loop(0), "tcp", l.Addr().String(), h); err != nil {
			t.Error(err)
		}
		if s := <-got; s != "open" {
			t.Errorf("beside the resolver came %q", s)
		}
		close(answer)
		if s := <-got; s != "early open" {
			t.Errorf("behind the resolver came %q", s)
		}
		answer = make(chan struct{})
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		_, err := d.DialContext(ctx, g.Loop(0), "tcp", net.JoinHostPort("slow.test", port), h)
		wantDial(t, err, conn.Cancelled, context.Canceled)
		if err := <-freed; err != context.Canceled {
			t.Error(err)
		}
	})
}

// TestDialUnresolved holds what a name that cannot be resolved is told as.
func TestDialUnresolved(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		notFound := &net.DNSError{Err: "no such host", Name: "x", IsNotFound: true}
		for i, tc := range []struct {
			resolver resolver
			cause    func(err error) bool
		}{
			{func(context.Context, string, string) ([]netip.Addr, error) { return nil, notFound },
				func(err error) bool { var de *net.DNSError; return errors.As(err, &de) && de.IsNotFound }},
			{func(context.Context, string, string) ([]netip.Addr, error) { panic("boom") },
				func(err error) bool { var de *net.DNSError; return errors.As(err, &de) }},
			{addresses(), func(err error) bool { var ae *net.AddrError; return errors.As(err, &ae) }},
			{addresses("::1"), func(err error) bool { var ae *net.AddrError; return errors.As(err, &ae) }},
		} {
			d := &conn.Dialer{Resolver: tc.resolver}
			_, err := d.DialContext(t.Context(), g.Loop(0), "tcp4", "x.test:80", &conn.Funcs{})
			var de *conn.DialError
			if !errors.As(err, &de) || de.Reason != conn.Unresolved || !tc.cause(err) {
				t.Errorf("%d: told %v", i, err)
			}
			_, err = d.DialPacketContext(t.Context(), g.Loop(0), "udp4", "x.test:80", &conn.PacketFuncs{})
			if !errors.As(err, &de) || de.Reason != conn.Unresolved || !tc.cause(err) {
				t.Errorf("%d: of datagrams told %v", i, err)
			}
		}
	})
}

// TestDialHappyEyeballs has the first address of a name refuse, or not answer:
// the next one is tried at once, or beside it after a while (RFC 8305).
func TestDialHappyEyeballs(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		silent := netip.MustParseAddrPort(deaf(t, "127.0.0.1"))
		port := silent.Port()
		// On the same port of other addresses of this host, one who listens.
		l, err := conn.Listen(g, "tcp", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.3"), port).String(), echo(), conn.Config{})
		if err != nil {
			t.Fatal(err)
		}
		_ = l
		for _, tc := range []struct {
			list  []string
			delay time.Duration
		}{
			{[]string{"::1", "127.0.0.2", "127.0.0.3"}, time.Hour}, // Two refuse.
			{[]string{"127.0.0.1", "127.0.0.3"}, 10 * time.Millisecond},
		} {
			d := &conn.Dialer{Resolver: addresses(tc.list...), FallbackDelay: tc.delay, Timeout: testutil.Timeout(20 * time.Second)}
			var remote conn.Addr
			ref, err := d.DialContext(t.Context(), g.Loop(0), "tcp", fmt.Sprintf("x.test:%d", port),
				&conn.Funcs{Open: func(c *conn.Conn) { remote = c.RemoteAddr() }})
			if err != nil {
				t.Fatal(err)
			}
			if remote.Addr().String() != "127.0.0.3" || remote.Port() != port {
				t.Errorf("connected to %v", remote)
			}
			ref.Close()
		}
		d := &conn.Dialer{Resolver: addresses("::1", "127.0.0.2"), FallbackDelay: time.Hour}
		_, err = d.DialContext(t.Context(), g.Loop(0), "tcp", fmt.Sprintf("x.test:%d", port), &conn.Funcs{})
		wantDial(t, err, conn.Refused, syscall.ECONNREFUSED)
	})
}

// TestDialSelf holds that a connection to oneself is none: TCP makes one when this
// end has the port that is dialed.
func TestDialSelf(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		address := unused(t, "tcp", "127.0.0.1:0")
		d := &conn.Dialer{LocalAddr: netip.MustParseAddrPort(address)}
		_, err := d.DialContext(t.Context(), g.Loop(0), "tcp", address, &conn.Funcs{Open: func(*conn.Conn) { t.Error("OnOpen") }})
		wantDial(t, err, conn.Refused, syscall.ECONNREFUSED)
	})
}

// TestDialFrom holds the local address, and that one local port of it serves many peers.
func TestDialFrom(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		froms := make(chan conn.Addr, 2)
		l := listen(t, g, &conn.Funcs{Open: func(c *conn.Conn) { froms <- c.RemoteAddr() }}, conn.Config{})
		d := &conn.Dialer{LocalAddr: netip.MustParseAddrPort("127.0.0.9:0"), Resolver: addresses("::1", "127.0.0.1"),
			Control: func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, 3) }}
		local, priority := conn.Addr{}, 0
		_, err := d.DialContext(t.Context(), g.Loop(0), "tcp", fmt.Sprintf("x.test:%d", l.Addr().Port()),
			&conn.Funcs{Open: func(c *conn.Conn) { local = c.LocalAddr() }})
		if from := <-froms; err != nil || from != local || from.Addr().String() != "127.0.0.9" {
			t.Errorf("from %v, which says %v; %v", from, local, err)
		}
		bad := errors.New("bad option")
		d = &conn.Dialer{Control: func(int) error { priority++; return bad }}
		_, err = d.DialContext(t.Context(), g.Loop(0), "tcp", l.Addr().String(), &conn.Funcs{})
		if wantDial(t, err, conn.IOError, bad); priority != 1 {
			t.Errorf("Control was called %d times", priority)
		}
		d = &conn.Dialer{Control: func(int) error { panic("boom") }}
		if _, err = d.DialContext(t.Context(), g.Loop(0), "tcp", l.Addr().String(), &conn.Funcs{}); err == nil {
			t.Error("connected over a panic")
		}
	})
}

// TestDialNoDescriptors holds that a lack of descriptors is an error of that dial
// alone, and that with Reconnect it is got over.
func TestDialNoDescriptors(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		opened := make(chan bool, 1)
		l, err := net.Listen("unix", "@penstock/"+t.Name()) // It accepts nobody, and needs no descriptor for it.
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		retries := 0
		restore := noMoreDescriptors(t)
		defer restore()
		d := &conn.Dialer{}
		_, err = d.DialContext(t.Context(), g.Loop(0), "unix", l.Addr().String(), &conn.Funcs{})
		wantDial(t, err, conn.IOError, syscall.EMFILE)
		d = &conn.Dialer{Reconnect: &conn.Reconnect{Least: time.Millisecond, Most: time.Millisecond}}
		err = d.Start(t.Context(), g.Loop(0), "unix", l.Addr().String(), &conn.Funcs{
			Retry: func(_ *conn.Conn, r conn.Retry) {
				if retries++; retries <= 3 && !errors.Is(r.Err, syscall.EMFILE) {
					t.Errorf("told %v", r.Err)
				}
				if retries == 3 {
					restore()
				}
			},
			Open: func(*conn.Conn) { opened <- true },
		})
		if err != nil {
			t.Fatal(err)
		}
		<-opened
		if s := d.Stats(); s.Failed < 3 || s.Retries < 3 || s.Connected != 1 || s.Open != 1 {
			t.Errorf("counted %+v", s)
		}
	})
}

// TestDialUnixNoRoom waits for room in the backlog of a unix listener, where
// connect(2) has nothing to poll for.
func TestDialUnixNoRoom(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		address := "@penstock/" + t.Name()
		if err := errors.Join(unix.Bind(fd, &unix.SockaddrUnix{Name: address}), unix.Listen(fd, 0)); err != nil {
			t.Fatal(err)
		}
		d := &conn.Dialer{Timeout: 60 * time.Millisecond}
		if _, err := d.DialContext(t.Context(), g.Loop(0), "unix", address, &conn.Funcs{}); err != nil {
			t.Fatal(err) // The kernel has room for one more than it was told.
		}
		_, err = d.DialContext(t.Context(), g.Loop(0), "unix", address, &conn.Funcs{})
		wantDial(t, err, conn.ConnectTimeout, os.ErrDeadlineExceeded)
		d = &conn.Dialer{Timeout: testutil.Timeout(20 * time.Second)}
		time.AfterFunc(20*time.Millisecond, func() {
			if nfd, _, err := unix.Accept(fd); err == nil {
				_ = unix.Close(nfd)
			}
		})
		if _, err := d.DialContext(t.Context(), g.Loop(0), "unix", address, &conn.Funcs{}); err != nil {
			t.Error(err)
		}
	})
}

// TestDialCalls holds that a call that makes no sense says so, and begins nothing.
func TestDialCalls(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		for _, tc := range []struct {
			network, address string
			d                *conn.Dialer
		}{
			{"tcp", "127.0.0.1", &conn.Dialer{}}, {"tcp", "127.0.0.1:70000", &conn.Dialer{}}, {"tcp", "127.0.0.1:", &conn.Dialer{}},
			{"udp", "127.0.0.1:1", &conn.Dialer{}}, {"ip", "127.0.0.1:1", &conn.Dialer{}}, {"tcp6", "127.0.0.1:1", &conn.Dialer{}},
			{"tcp4", "[::1]:1", &conn.Dialer{}}, {"unix", "", &conn.Dialer{}}, {"unix", "@a\x00b", &conn.Dialer{}},
			{"tcp", "127.0.0.1:1", &conn.Dialer{Timeout: -1}},
			{"tcp", "127.0.0.1:1", &conn.Dialer{Reconnect: &conn.Reconnect{Attempts: -1}}},
			{"tcp", "127.0.0.1:1", &conn.Dialer{Config: conn.Config{LowWater: 5, HighWater: 4}}},
		} {
			_, err := tc.d.DialContext(t.Context(), g.Loop(0), tc.network, tc.address, &conn.Funcs{
				Close: func(*conn.Conn, error) { t.Error("OnClose") },
			})
			var de *conn.DialError
			if err == nil || errors.As(err, &de) || tc.d.Stats() != (conn.DialerStats{}) {
				t.Errorf("%s %q: %v, %+v", tc.network, tc.address, err, tc.d.Stats())
			} else if tc.network == "udp" && !strings.Contains(err.Error(), "DialPacket") {
				t.Errorf("%v does not say what is for datagrams", err)
			}
		}
		if _, err := (&conn.Dialer{}).DialPacketContext(t.Context(), g.Loop(0), "tcp", "127.0.0.1:1", &conn.PacketFuncs{}); err == nil {
			t.Error("datagrams over tcp")
		}
	})
}

// TestDialShutdown holds that the end of a group ends those who still connect, and
// who waits for them.
func TestDialShutdown(t *testing.T) {
	for _, force := range []bool{false, true} {
		t.Run(fmt.Sprint(force), func(t *testing.T) {
			looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
				d := &conn.Dialer{Resolver: resolver(func(ctx context.Context, _, _ string) ([]netip.Addr, error) {
					<-ctx.Done()
					return nil, ctx.Err()
				})}
				errs := make(chan error, 3)
				silent, nobody := deaf(t, "127.0.0.1"), testutil.Refusing(t, "127.0.0.1")
				for _, address := range []string{silent, "x.test:1", nobody} {
					go func() {
						d := d
						if address == nobody {
							d = &conn.Dialer{Reconnect: &conn.Reconnect{Least: time.Hour, Most: time.Hour}}
						}
						_, err := d.DialContext(context.Background(), g.Loop(0), "tcp", address, &conn.Funcs{})
						errs <- err
					}()
				}
				testutil.Eventually(t, 5*time.Second, "three dials", func() bool { return g.Stats()[0].Parties >= 3 })
				ctx, cancel := context.WithTimeout(context.Background(), testutil.Timeout(10*time.Second))
				defer cancel()
				end := func() error { return g.Shutdown(ctx) }
				if force {
					end = g.Close
				}
				if err := end(); err != nil {
					t.Error(err)
				}
				for range 3 {
					var de *conn.DialError
					if err := <-errs; !errors.As(err, &de) || de.Reason != conn.Cancelled {
						t.Errorf("told %v", err)
					}
				}
				if _, err := d.DialContext(context.Background(), g.Loop(0), "tcp", silent, &conn.Funcs{}); err != reactor.ErrEnded {
					t.Errorf("told %v", err)
				}
			})
		})
	}
}

// TestDialMany dials from many goroutines onto all loops of a group, with a message
// each before it is connected.
func TestDialMany(t *testing.T) {
	const callers, each = 8, 40
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		l := listen(t, g, echo(), conn.Config{})
		d := &conn.Dialer{}
		var echoed atomic.Int64
		var wg sync.WaitGroup
		for range callers {
			wg.Go(func() {
				for range each {
					ref, err := d.DialGroup(t.Context(), g, "tcp", l.Addr().String(), &conn.Funcs{
						Data: func(c *conn.Conn, in *buf.Buf) { echoed.Add(int64(in.Len())); c.Close() },
					})
					if err != nil {
						t.Error(err)
						return
					}
					ref.Write([]byte("ping"))
				}
			})
		}
		wg.Wait()
		testutil.Eventually(t, 10*time.Second, "all echoes", func() bool { return echoed.Load() == 4*callers*each })
		testutil.Eventually(t, 10*time.Second, "all closed", func() bool { return d.Stats().Open == 0 })
		if s := d.Stats(); s.Started != callers*each || s.Connected != callers*each || s.Failed != 0 || s.Closed.BytesIn != 4*callers*each {
			t.Errorf("counted %+v", s)
		}
	})
}

// TestReconnectToAServer has a server go away and come back, under a client that
// goes on sending.
func TestReconnectToAServer(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		address := unused(t, "tcp", "127.0.0.1:0")
		var got atomic.Int64
		d := &conn.Dialer{Reconnect: &conn.Reconnect{Least: time.Millisecond, Most: 10 * time.Millisecond, Keep: true}}
		var opens, retries atomic.Int64
		var ref atomic.Pointer[conn.Ref]
		h := &conn.Funcs{
			Open:  func(c *conn.Conn) { r := c.Ref(); ref.Store(&r); opens.Add(1) },
			Retry: func(c *conn.Conn, _ conn.Retry) { retries.Add(1); _, _ = c.Write([]byte("x")) },
		}
		if err := d.Start(t.Context(), g.Loop(0), "tcp", address, h); err != nil {
			t.Fatal(err)
		}
		testutil.Eventually(t, 5*time.Second, "refusals", func() bool { return retries.Load() >= 3 })
		for i := range int64(3) {
			l, err := net.Listen("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			l.Close()
			testutil.Eventually(t, 5*time.Second, "open", func() bool { return opens.Load() == i+1 })
			ref.Load().Write([]byte("y"))
			_ = c.SetReadDeadline(time.Now().Add(testutil.Timeout(10 * time.Second)))
			for b := make([]byte, 100); ; {
				n, err := c.Read(b)
				if err != nil {
					t.Fatal(err)
				}
				if got.Add(int64(n)); b[n-1] == 'y' {
					break
				}
			}
			if want := retries.Load() + i + 1; got.Load() != want {
				t.Errorf("%d bytes have come, of %d retries and %d opens", got.Load(), retries.Load(), opens.Load())
			}
			_ = c.Close()
			was := retries.Load()
			testutil.Eventually(t, 5*time.Second, "loss", func() bool { return retries.Load() > was })
		}
	})
}

// TestDialControlPanics holds that a panic in Control ends its connection, at
// whichever address it comes.
func TestDialControlPanics(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		_, port, _ := net.SplitHostPort(testutil.Refusing(t, "127.0.0.1"))
		for at := 1; at <= 2; at++ {
			n := 0
			d := &conn.Dialer{Resolver: addresses("127.0.0.1", "127.0.0.2"), FallbackDelay: time.Hour, Control: func(int) error {
				if n++; n == at {
					panic("control")
				}
				return nil
			}}
			_, err := d.DialContext(t.Context(), g.Loop(0), "tcp", "x.test:"+port, &conn.Funcs{Close: func(_ *conn.Conn, err error) {
				var ce *conn.CloseError
				if !errors.As(err, &ce) || ce.Reason != conn.HandlerPanic {
					t.Errorf("address %d: closed with %v", at, err)
				}
			}})
			if err == nil || n != at {
				t.Errorf("address %d: Control ran %d times; %v", at, n, err)
			}
		}
	})
}
