package conn_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
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

func listenPacket(t testing.TB, g *reactor.Group, network, address string, h conn.PacketHandler, cfg conn.PacketConfig) *conn.PacketListener {
	t.Helper()
	l, err := conn.ListenPacket(g, network, address, h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// packetEcho sends back what it gets.
func packetEcho() *conn.PacketFuncs {
	return &conn.PacketFuncs{Packet: func(p *conn.PacketConn, in *buf.Buf, from conn.Source) { p.Send(from, in) }}
}

// udpClient is a connected socket: it hears nothing but from the address it asks.
func udpClient(t testing.TB, network, address string) *net.UDPConn {
	t.Helper()
	c, err := net.Dial(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(testutil.Timeout(20 * time.Second)))
	return c.(*net.UDPConn)
}

// ask sends a datagram and returns the answer.
func ask(t testing.TB, c *net.UDPConn, data []byte) []byte {
	t.Helper()
	if _, err := c.Write(data); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 64<<10)
	n, err := c.Read(answer)
	if err != nil {
		t.Fatal(err)
	}
	return answer[:n]
}

// wantPackets waits for counters, which are known at the end of a turn.
func wantPackets(t *testing.T, l *conn.PacketListener, ok func(s conn.PacketStats) bool) {
	t.Helper()
	for deadline := time.Now().Add(testutil.Timeout(5 * time.Second)); !ok(l.Stats()); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("counted %+v", l.Stats())
		}
	}
}

func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + i>>8)
	}
	return p
}

// TestPacketEcho holds that every size of datagram comes and goes whole, by both
// families, and that an answer comes from the address that was asked, also from
// a socket that is bound to none.
func TestPacketEcho(t *testing.T) {
	for _, tc := range []struct {
		network, bind, client string
		hosts                 []string
	}{
		{"udp4", "127.0.0.1:0", "udp4", []string{"127.0.0.1"}},
		{"udp4", "0.0.0.0:0", "udp4", []string{"127.0.0.1", "127.0.0.2", "127.9.9.9"}},
		{"udp6", "[::1]:0", "udp6", []string{"::1"}},
		{"udp6", "[::]:0", "udp6", []string{"::1"}},
		{"udp", ":0", "udp", []string{"::1", "127.0.0.1", "127.0.0.3"}},
	} {
		t.Run(name("%s %s", tc.network, tc.bind), func(t *testing.T) {
			looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
				var sources atomic.Pointer[conn.Source]
				h := packetEcho()
				h.Packet = func(p *conn.PacketConn, in *buf.Buf, from conn.Source) {
					sources.Store(&from)
					p.Send(from, in)
				}
				l := listenPacket(t, g, tc.network, tc.bind, h, conn.PacketConfig{})
				for _, host := range tc.hosts {
					c := udpClient(t, tc.client, net.JoinHostPort(host, fmt.Sprint(l.Addr().Port())))
					for _, n := range []int{0, 1, 100, 4095, 4096, 4097, 9000, conn.MaxPacket4} {
						if got := ask(t, c, pattern(n)); !bytes.Equal(got, pattern(n)) {
							t.Fatalf("%s: sent %d bytes, got %d", host, n, len(got))
						}
					}
					want := conn.Source{Peer: c.LocalAddr().(*net.UDPAddr).AddrPort(), Local: netip.MustParseAddr(host)}
					if got := *sources.Load(); got != want {
						t.Errorf("from %v, want %v", got, want)
					}
				}
				wantPackets(t, l, func(s conn.PacketStats) bool {
					return s.In == uint64(8*len(tc.hosts)) && s.Out == s.In && s.BytesIn == s.BytesOut
				})
			})
		})
	}
}

// TestPacketTooLong holds the longest payload of each family.
func TestPacketTooLong(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		type answer struct{ at, past, send conn.Status }
		for _, host := range []string{"127.0.0.1", "::1"} {
			most := conn.MaxPacket4
			if host == "::1" {
				most = conn.MaxPacket6
			}
			answers := make(chan answer, 1)
			l := listenPacket(t, g, "udp", net.JoinHostPort(host, "0"), &conn.PacketFuncs{
				Packet: func(p *conn.PacketConn, in *buf.Buf, from conn.Source) {
					b := p.Loop().Bulk().Get()
					b.Extend(most + 1)
					a := answer{p.Write(from, pattern(most)), p.Write(from, pattern(most+1)), p.Send(from, &b)}
					if b.IsZero() {
						t.Error("Send took what is too long")
					}
					b.Release()
					answers <- a
				},
			}, conn.PacketConfig{})
			c := udpClient(t, "udp", l.Addr().String())
			_ = c.SetReadBuffer(1 << 20)
			if got := ask(t, c, nil); !bytes.Equal(got, pattern(most)) {
				t.Errorf("%s: got %d bytes of %d", host, len(got), most)
			}
			if a := <-answers; a.at > conn.Full || a.past != conn.TooLong || a.send != conn.TooLong || a.past.Err() != syscall.EMSGSIZE {
				t.Errorf("%s: answers %+v", host, a)
			}
		}
	})
}

// TestPacketTruncated holds that what does not fit is cut off, told and counted.
func TestPacketTruncated(t *testing.T) {
	for _, most := range []int{100, reactor.SmallBlock, 5000} {
		t.Run(fmt.Sprint(most), func(t *testing.T) {
			looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
				l := listenPacket(t, g, "udp", "127.0.0.1:0", &conn.PacketFuncs{
					Packet: func(p *conn.PacketConn, in *buf.Buf, from conn.Source) {
						p.Write(from, fmt.Appendf(nil, "%d %d", in.Len(), p.Cut()))
					},
				}, conn.PacketConfig{MaxPacket: most})
				c := udpClient(t, "udp", l.Addr().String())
				for _, n := range []int{most - 1, most, most + 1, 3 * most} {
					want := fmt.Sprintf("%d %d", min(n, most), max(0, n-most))
					if got := string(ask(t, c, pattern(n))); got != want {
						t.Errorf("of %d bytes came %s, want %s", n, got, want)
					}
				}
				wantPackets(t, l, func(s conn.PacketStats) bool { return s.Truncated == 2 })
			})
		})
	}
}

// TestPacketThousandPeers has a thousand peers ask one socket, each of whom must
// get its own answer.
func TestPacketThousandPeers(t *testing.T) {
	peers := 1000
	if invariants.Enabled || testing.Short() {
		peers = 300
	}
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		l := listenPacket(t, g, "udp", "127.0.0.1:0", packetEcho(), conn.PacketConfig{RecvBuffer: 4 << 20})
		to := &unix.SockaddrInet4{Port: int(l.Addr().Port()), Addr: [4]byte{127, 0, 0, 1}}
		fds := make([]int, peers)
		limit := unix.NsecToTimeval(int64(testutil.Timeout(10 * time.Second)))
		for i := range fds {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(fd)
			_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
			if err := unix.Connect(fd, to); err != nil {
				t.Fatal(err)
			}
			fds[i] = fd
		}
		for round := range 2 {
			for i, fd := range fds {
				if _, err := unix.Write(fd, fmt.Appendf(nil, "peer %d, %d", i, round)); err != nil {
					t.Fatal(err)
				}
			}
			for i, fd := range fds {
				got := make([]byte, 100)
				n, err := readAgain(fd, got)
				if want := fmt.Sprintf("peer %d, %d", i, round); err != nil || string(got[:n]) != want {
					t.Fatalf("got %q, %v, want %q; counted %+v", got[:max(n, 0)], err, want, l.Stats())
				}
			}
		}
	})
}

// TestPacketOneLoopAPeer holds that all datagrams of a peer come to one loop,
// and that several loops have their share.
func TestPacketOneLoopAPeer(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 4}, func(t *testing.T, g *reactor.Group) {
		l := listenPacket(t, g, "udp", "127.0.0.1:0", &conn.PacketFuncs{
			Packet: func(p *conn.PacketConn, in *buf.Buf, from conn.Source) {
				p.Write(from, []byte{byte(p.Loop().ID())})
			},
		}, conn.PacketConfig{})
		loops := map[byte]bool{}
		for range 64 {
			c := udpClient(t, "udp", l.Addr().String())
			first := ask(t, c, nil)[0]
			for range 5 {
				if again := ask(t, c, nil)[0]; again != first {
					t.Fatalf("loop %d after loop %d", again, first)
				}
			}
			loops[first] = true
		}
		if len(loops) < 2 {
			t.Errorf("all 64 peers came to loops %v", loops)
		}
		if _, err := conn.ListenPacket(g, "udp", l.Addr().String(), packetEcho(), conn.PacketConfig{}); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("listened twice: %v", err)
		}
	})
}

// TestPacketCloseFreesOnlyItself is workerman's defect 9: to close what stood for
// one peer closed the socket that served all.
func TestPacketCloseFreesOnlyItself(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		l := listenPacket(t, g, "udp", "127.0.0.1:0", packetEcho(), conn.PacketConfig{})
		other := listenPacket(t, g, "udp", "127.0.0.1:0", packetEcho(), conn.PacketConfig{})
		stays := udpClient(t, "udp", l.Addr().String())
		ask(t, stays, []byte("one"))
		for range 3 { // Clients of ours come and go, connected to the same socket.
			ended := make(chan error, 1)
			var d conn.Dialer
			ref, err := d.DialPacketContext(t.Context(), g.Loop(0), "udp", l.Addr().String(), &conn.PacketFuncs{
				Open:   func(p *conn.PacketConn) { p.Write(conn.Source{}, []byte("hello")) },
				Packet: func(p *conn.PacketConn, in *buf.Buf, from conn.Source) { p.Close() },
				Close:  func(_ *conn.PacketConn, err error) { ended <- err },
			})
			if err != nil || ref.ID() == 0 {
				t.Fatal(err)
			}
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if s := ref.Write(conn.Source{}, []byte("x")); s != conn.Closed {
				t.Errorf("a closed socket answers %v", s)
			}
		}
		other.Close()
		if got := ask(t, stays, []byte("two")); string(got) != "two" {
			t.Errorf("got %q", got)
		}
	})
}

// TestPacketRefused holds that a connected socket hears that nobody listens, and
// lives on to reach who does later.
func TestPacketRefused(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		free, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := free.LocalAddr().String()
		free.Close()
		failures := make(chan error, 100)
		got := make(chan string, 1)
		var d conn.Dialer
		ref, err := d.DialPacketContext(t.Context(), g.Loop(0), "udp", address, &conn.PacketFuncs{
			Error:  func(_ *conn.PacketConn, err error) { failures <- err },
			Packet: func(_ *conn.PacketConn, in *buf.Buf, _ conn.Source) { got <- string(in.Bytes()) },
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			ref.Write(conn.Source{}, []byte("anybody?"))
			var pe *conn.PacketError
			if err := <-failures; !errors.As(err, &pe) || !errors.Is(err, syscall.ECONNREFUSED) || pe.Packets != 0 {
				t.Fatalf("told %v", err)
			}
		}
		listenPacket(t, g, "udp", address, packetEcho(), conn.PacketConfig{})
		ref.Write(conn.Source{}, []byte("you"))
		if s := <-got; s != "you" {
			t.Errorf("got %q", s)
		}
	})
}

// packetPair is a socket on a loop whose peer is the test, and can be full.
func packetPair(t *testing.T, g *reactor.Group, h *conn.PacketFuncs, cfg conn.PacketConfig) (p *conn.PacketConn, fd int) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fds[1]) })
	onLoop(t, g, func(l *reactor.Loop) { p = conn.OpenPacketFD(l, fds[0], h, cfg) })
	return p, fds[1]
}

// onLoop runs fn on the first loop and waits for it.
func onLoop(t testing.TB, g *reactor.Group, fn func(l *reactor.Loop)) {
	t.Helper()
	done := make(chan struct{})
	if !g.Loop(0).Post(func(l *reactor.Loop) { fn(l); close(done) }) {
		t.Fatal("the loop has ended")
	}
	<-done
}

// readAgain is read(2), over signals.
func readAgain(fd int, b []byte) (n int, err error) {
	for {
		if n, err = unix.Read(fd, b); err != unix.EINTR {
			return n, err
		}
	}
}

// drainPackets reads what waits, and returns how many datagrams.
func drainPackets(fd int) (n int) {
	for {
		if _, err := unix.Read(fd, make([]byte, 100)); err != nil {
			return n
		}
		n++
	}
}

// TestPacketPanicForAnother has OnFull panic inside a Write of somebody who is not the
// socket: it is the socket that ends.
func TestPacketPanicForAnother(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		ended := make(chan error, 1)
		h := &conn.PacketFuncs{
			Full:  func(*conn.PacketConn) { panic("full") },
			Close: func(_ *conn.PacketConn, err error) { ended <- err },
		}
		p, _ := packetPair(t, g, h, conn.PacketConfig{HighWater: 1 << 10})
		g.Loop(0).Post(func(*reactor.Loop) {
			for p.Write(conn.Source{}, pattern(100)) < conn.Full {
			}
		})
		select {
		case err := <-ended:
			var ce *conn.CloseError
			if !errors.As(err, &ce) || ce.Reason != conn.HandlerPanic {
				t.Errorf("it ended with %v", err)
			}
		case <-time.After(testutil.Timeout(10 * time.Second)):
			t.Error("it has not ended")
		}
	})
}

// TestPacketMarks fills the queue of a socket whose peer does not read: the marks
// answer as those of a stream do, and each Full has its Drain.
func TestPacketMarks(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		const cost = conn.PacketCost + 100
		var events atomic.Value
		events.Store("")
		note := func(s string) func(*conn.PacketConn) {
			return func(p *conn.PacketConn) { events.Store(events.Load().(string) + s) }
		}
		h := &conn.PacketFuncs{Full: note("F"), Drain: note("D")}
		p, fd := packetPair(t, g, h, conn.PacketConfig{HighWater: 4 * cost, LowWater: cost, Limit: 6 * cost, PauseOnFull: true})
		send := func() (s conn.Status) {
			onLoop(t, g, func(*reactor.Loop) { s = p.Write(conn.Source{}, pattern(100)) })
			return s
		}
		sent := 0
		for pending := 0; pending == 0; { // What the kernel takes.
			if s := send(); s != conn.Queued {
				t.Fatalf("answer %v after %d", s, sent)
			}
			sent++
			onLoop(t, g, func(*reactor.Loop) { pending = p.Pending() })
		}
		for i, want := range []conn.Status{conn.Queued, conn.Queued, conn.Full, conn.Full, conn.Full, conn.Rejected, conn.Rejected} {
			if s := send(); s != want {
				t.Fatalf("answer %d is %v, want %v", i, s, want)
			} else if s <= conn.Full {
				sent++
			}
		}
		if e := events.Load(); e != "F" {
			t.Fatalf("events %q", e)
		}
		onLoop(t, g, func(*reactor.Loop) {
			if s := p.Stats(); p.Pending() != 6*cost || !p.IsFull() || !p.ReadPaused() || s.Rejected != 2 || s.RejectedBytes != 200 || s.PendingMax != 6*cost {
				t.Errorf("pending %d, full %v, %+v", p.Pending(), p.IsFull(), s)
			}
		})
		marks := func(high, low, limit int, want string) {
			onLoop(t, g, func(*reactor.Loop) {
				if err := p.SetMarks(conn.Marks{High: high * cost, Low: low * cost, Limit: limit * cost}); err != nil {
					t.Error(err)
				}
			})
			testutil.Eventually(t, 10*time.Second, want, func() bool { return events.Load() == want })
		}
		marks(8, 6, 8, "FD")
		marks(6, 1, 6, "FDF")
		got := 0
		testutil.Eventually(t, 10*time.Second, "drain", func() bool { got += drainPackets(fd); return got == sent })
		testutil.Eventually(t, 10*time.Second, "OnDrain", func() bool { return events.Load() == "FDFD" })
		onLoop(t, g, func(*reactor.Loop) {
			if p.Pending() != 0 || p.IsFull() || p.ReadPaused() || p.Stats().Out != uint64(sent) {
				t.Errorf("pending %d, %+v", p.Pending(), p.Stats())
			}
		})
	})
}

// TestPacketEmptyFlood holds that datagrams without a byte are bounded too.
func TestPacketEmptyFlood(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		p, _ := packetPair(t, g, &conn.PacketFuncs{}, conn.PacketConfig{HighWater: 1000 * conn.PacketCost})
		onLoop(t, g, func(*reactor.Loop) {
			taken := 0
			for p.Write(conn.Source{}, nil) <= conn.Full {
				if taken++; taken > 10000 {
					t.Fatal("10000 were taken")
				}
			}
			if taken < 1000 {
				t.Errorf("%d were taken", taken)
			}
		})
	})
}

// TestPacketCloseFlushes holds that Close sends what is queued, for as long as it
// may, and that what is left is told.
func TestPacketCloseFlushes(t *testing.T) {
	const sent = 2000
	for _, reads := range []bool{true, false} {
		t.Run(fmt.Sprint(reads), func(t *testing.T) {
			looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
				ends := make(chan error, 1)
				cfg := conn.PacketConfig{CloseTimeout: testutil.Timeout(20 * time.Second)}
				if !reads {
					cfg.CloseTimeout = 20 * time.Millisecond
				}
				p, fd := packetPair(t, g, &conn.PacketFuncs{Close: func(_ *conn.PacketConn, err error) { ends <- err }}, cfg)
				onLoop(t, g, func(*reactor.Loop) {
					for range sent {
						p.Write(conn.Source{}, pattern(10))
					}
					p.Close()
					if s := p.Write(conn.Source{}, nil); s != conn.Closed {
						t.Errorf("answer %v", s)
					}
				})
				got := 0
				if reads {
					testutil.Eventually(t, 10*time.Second, "flush", func() bool { got += drainPackets(fd); return got == sent })
					if err := <-ends; err != nil {
						t.Error(err)
					}
					return
				}
				var ce *conn.CloseError
				err := <-ends
				if got = drainPackets(fd); !errors.As(err, &ce) || ce.Reason != conn.WriteTimeout || ce.LostBytes != (sent-got)*10 {
					t.Errorf("closed with %v, %d came", err, got)
				}
				onLoop(t, g, func(*reactor.Loop) {
					if s := p.Stats(); s.Lost != uint64(sent-got) || s.AfterClose != 1 {
						t.Errorf("counted %+v", s)
					}
				})
			})
		})
	}
}

// TestPacketPanic holds that a handler that panics costs its datagram, and not
// the service, nor the datagrams behind it.
func TestPacketPanic(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		l := listenPacket(t, g, "udp", "127.0.0.1:0", &conn.PacketFuncs{
			Packet: func(p *conn.PacketConn, in *buf.Buf, from conn.Source) {
				if string(in.Bytes()) == "bad" {
					panic("bad")
				}
				p.Send(from, in)
			},
		}, conn.PacketConfig{})
		c := udpClient(t, "udp", l.Addr().String())
		onLoop(t, g, func(*reactor.Loop) { // One receive takes all.
			for _, s := range []string{"1", "bad", "2", "bad", "bad", "3"} {
				_, _ = c.Write([]byte(s))
			}
		})
		for _, want := range []string{"1", "2", "3", "4"} {
			if want == "4" {
				_, _ = c.Write([]byte(want))
			}
			got := make([]byte, 10)
			if n, err := c.Read(got); err != nil || string(got[:n]) != want {
				t.Fatalf("got %q, %v, want %q", got[:n], err, want)
			}
		}
		wantPackets(t, l, func(s conn.PacketStats) bool { return s.Panics == 3 && s.In == 7 })
	})
}

// TestPacketDropped holds that what the kernel drops, because nobody receives, is
// counted.
func TestPacketDropped(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		var got atomic.Uint64
		l := listenPacket(t, g, "udp", "127.0.0.1:0", &conn.PacketFuncs{
			Packet: func(*conn.PacketConn, *buf.Buf, conn.Source) { got.Add(1) },
		}, conn.PacketConfig{RecvBuffer: 8 << 10})
		c := udpClient(t, "udp", l.Addr().String())
		const sent = 200
		onLoop(t, g, func(*reactor.Loop) {
			for range sent {
				_, _ = c.Write(pattern(1000))
			}
		})
		testutil.Eventually(t, 10*time.Second, "what was kept", func() bool {
			_, _ = c.Write(nil) // The next datagram brings the count.
			s := l.Stats()
			return s.Dropped > 0 && s.Dropped+s.In >= sent && got.Load() > 0
		})
	})
}

// TestPacketRef has goroutines send through a PacketRef while others close it:
// what is admitted is sent or counted, in the order of each goroutine.
func TestPacketRef(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		const senders, each = 4, 2000
		var refused atomic.Int64
		h := &conn.PacketFuncs{Error: func(_ *conn.PacketConn, err error) {
			var se *conn.SendError
			if errors.As(err, &se) {
				refused.Add(int64(se.Messages))
			}
		}}
		p, fd := packetPair(t, g, h, conn.PacketConfig{HighWater: 64 << 10})
		var ref conn.PacketRef
		onLoop(t, g, func(*reactor.Loop) { ref = p.Ref() })
		_ = unix.SetNonblock(fd, false)
		limit := unix.NsecToTimeval(int64(testutil.Timeout(10 * time.Second)))
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
		var taken, rejected atomic.Int64
		done := make(chan bool, senders)
		for i := range senders {
			go func() {
				for k := range each {
					switch s := ref.Write(conn.Source{}, []byte{byte(i), byte(k >> 8), byte(k)}); s {
					case conn.Queued, conn.Full:
						taken.Add(1)
					case conn.Rejected:
						rejected.Add(1)
						time.Sleep(100 * time.Microsecond)
					default:
						t.Errorf("answer %v", s)
					}
				}
				done <- true
			}()
		}
		last := [senders]int{}
		got := int64(0)
		for ended := 0; ended < senders || got < taken.Load(); {
			select {
			case <-done:
				ended++
				continue
			default:
			}
			if got >= taken.Load() {
				time.Sleep(time.Millisecond)
				continue
			}
			b := make([]byte, 10)
			if n, err := readAgain(fd, b); n != 3 || err != nil {
				t.Fatalf("read %d, %v", n, err)
			}
			got++
			k := int(b[1])<<8 | int(b[2]) + 1
			if k <= last[b[0]] {
				t.Fatalf("%d behind %d", k, last[b[0]])
			}
			last[b[0]] = k
		}
		testutil.Eventually(t, 5*time.Second, "counts", func() bool { return refused.Load() == rejected.Load() })
		ref.Abort()
		testutil.Eventually(t, 5*time.Second, "close", func() bool { return ref.Write(conn.Source{}, nil) == conn.Closed })
		if (conn.PacketRef{}).Write(conn.Source{}, nil) != conn.Closed || (conn.PacketRef{}).Do(nil) {
			t.Error("the zero PacketRef reaches somebody")
		}
	})
}

// TestPacketShutdown holds that the end of a group ends its sockets.
func TestPacketShutdown(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		var closes atomic.Int64
		h := &conn.PacketFuncs{Close: func(_ *conn.PacketConn, err error) {
			if closes.Add(1); err != nil {
				t.Error(err)
			}
		}}
		l := listenPacket(t, g, "udp", "127.0.0.1:0", h, conn.PacketConfig{})
		ctx, cancel := context.WithTimeout(t.Context(), testutil.Timeout(10*time.Second))
		defer cancel()
		if err := g.Shutdown(ctx); err != nil || closes.Load() != 2 {
			t.Errorf("%v, %d closed", err, closes.Load())
		}
		l.Close()
		if _, err := conn.ListenPacket(g, "udp", "127.0.0.1:0", h, conn.PacketConfig{}); !errors.Is(err, reactor.ErrEnded) {
			t.Errorf("listened on a group that has ended: %v", err)
		}
	})
}

// TestPacketAllocs holds that a datagram allocates nothing, by either family.
func TestPacketAllocs(t *testing.T) {
	if invariants.Enabled {
		return // The detector allocates.
	}
	for _, bind := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::]:0"} {
		t.Run(name("%s", bind), func(t *testing.T) {
			looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
				l := listenPacket(t, g, "udp", bind, packetEcho(), conn.PacketConfig{})
				fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer unix.Close(fd)
				limit := unix.NsecToTimeval(int64(testutil.Timeout(10 * time.Second)))
				_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
				if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(l.Addr().Port()), Addr: [4]byte{127, 0, 0, 1}}); err != nil {
					t.Fatal(err)
				}
				data, answer := []byte("ping"), make([]byte, 4)
				n := testutil.Mallocs(4000, func() {
					for range 4 {
						if _, err := unix.Write(fd, data); err != nil {
							t.Fatal(err)
						}
					}
					for range 4 {
						if _, err := readAgain(fd, answer); err != nil {
							t.Fatal(err)
						}
					}
				})
				if n > 0.01 {
					t.Errorf("%v allocations for 4 datagrams", n)
				}
			})
		})
	}
}

// TestPacketNotSent holds that what the kernel does not send is told, counted and
// not in the way of what is behind it.
func TestPacketNotSent(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		failures := make(chan error, 10)
		l := listenPacket(t, g, "udp4", "127.0.0.1:0", &conn.PacketFuncs{
			Packet: func(p *conn.PacketConn, in *buf.Buf, from conn.Source) {
				p.Write(conn.Source{Peer: netip.MustParseAddrPort("[::1]:9")}, []byte("of the wrong family"))
				p.Write(conn.Source{}, []byte("to nobody"))
				p.Send(from, in)
				p.Write(conn.Source{Peer: netip.MustParseAddrPort("127.0.0.1:0")}, []byte("to no port"))
			},
			Error: func(_ *conn.PacketConn, err error) { failures <- err },
		}, conn.PacketConfig{})
		c := udpClient(t, "udp", l.Addr().String())
		if got := ask(t, c, []byte("right")); string(got) != "right" {
			t.Errorf("got %q", got)
		}
		var pe *conn.PacketError
		if err := <-failures; !errors.As(err, &pe) || pe.Packets != 3 {
			t.Errorf("told %v", err)
		}
		wantPackets(t, l, func(s conn.PacketStats) bool { return s.Failed == 3 && s.Out == 1 })
	})
}

// TestPacketZone asks each address of this host that needs the name of its
// interface: the answer comes from there, and goes there.
func TestPacketZone(t *testing.T) {
	var zoned []string
	ifs, _ := net.Interfaces()
	for _, ifi := range ifs {
		addrs, _ := ifi.Addrs()
		for _, a := range addrs {
			if ip, ok := a.(*net.IPNet); ok && ip.IP.IsLinkLocalUnicast() && ip.IP.To4() == nil && ifi.Flags&net.FlagUp != 0 {
				zoned = append(zoned, ip.IP.String()+"%"+ifi.Name)
			}
		}
	}
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		var source atomic.Pointer[conn.Source]
		h := packetEcho()
		h.Packet = func(p *conn.PacketConn, in *buf.Buf, from conn.Source) {
			source.Store(&from)
			p.Send(from, in)
		}
		l := listenPacket(t, g, "udp", ":0", h, conn.PacketConfig{})
		for _, host := range zoned {
			c := udpClient(t, "udp6", net.JoinHostPort(host, fmt.Sprint(l.Addr().Port())))
			if got := ask(t, c, []byte("zone")); string(got) != "zone" {
				t.Errorf("%s: got %q", host, got)
			}
			if from := source.Load(); from.Peer != c.LocalAddr().(*net.UDPAddr).AddrPort() {
				t.Errorf("%s: from %v, want %v", host, from.Peer, c.LocalAddr())
			}
		}
	})
}
