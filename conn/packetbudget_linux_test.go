package conn_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/reactor"
)

// TestPacketBudget fills a budget with datagrams to a peer that does not read, on
// the loop and by a PacketRef, and holds that each is counted off once: when it is
// sent, and at the end.
func TestPacketBudget(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		const size = 64 << 10
		for _, byRef := range []bool{false, true} {
			b := conn.NewBudget(size, conn.BudgetReject)
			closed := make(chan error, 2)
			h := &conn.PacketFuncs{Close: func(_ *conn.PacketConn, err error) { closed <- err }}
			cfg := conn.PacketConfig{HighWater: 1 << 20, Budget: b}
			p, fd := packetPair(t, g, h, cfg)
			send := func() (s conn.Status) {
				onLoop(t, g, func(*reactor.Loop) {
					if byRef {
						s = p.Ref().Write(conn.Source{}, pattern(1000))
					} else {
						s = p.Write(conn.Source{}, pattern(1000))
					}
				})
				return s
			}
			n := 0
			for ; send() != conn.Rejected && n < 10_000; n++ {
			}
			s := b.Stats()
			if s.Total == 0 || s.Total >= size+1000+conn.PacketCost || s.Rejected != 1 || s.RejectedBytes != 1000 {
				t.Errorf("by ref %v: %+v after %d datagrams", byRef, s, n)
			}
			pending := func() (k int) {
				onLoop(t, g, func(*reactor.Loop) { k = p.Pending() })
				return k
			}
			for pending() > 0 {
				drainPackets(fd)
			}
			if s := b.Stats(); s.Total != 0 {
				t.Errorf("by ref %v: %d bytes are counted when all are sent", byRef, s.Total)
			}
			for send() != conn.Rejected {
			}
			onLoop(t, g, func(*reactor.Loop) { p.Abort() })
			<-closed
			if s := b.Stats(); s.Total != 0 {
				t.Errorf("by ref %v: %d bytes are counted after the end", byRef, s.Total)
			}
		}
		if _, err := (conn.PacketConfig{Budget: conn.NewBudget(0, conn.BudgetReject)}).Check(); err == nil {
			t.Error("a budget of no bytes was taken")
		}
	})
}

// TestPacketRefTooLong holds that a PacketRef of a connected socket knows how much a
// datagram to its peer can carry, as the socket does.
func TestPacketRefTooLong(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		l := listenPacket(t, g, "udp4", "127.0.0.1:0", packetEcho(), conn.PacketConfig{})
		r, err := (&conn.Dialer{}).DialPacketContext(context.Background(), g.Loop(0), "udp", l.Addr().String(), &conn.PacketFuncs{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		if s := r.Write(conn.Source{}, make([]byte, conn.MaxPacket4+1)); s != conn.TooLong {
			t.Errorf("answer %v", s)
		}
		if s := r.Write(conn.Source{}, make([]byte, conn.MaxPacket4)); s > conn.Full {
			t.Errorf("the longest one: answer %v", s)
		}
	})
}

// TestListenPacketEnded holds that who is told an error gets no listener.
func TestListenPacketEnded(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		_ = g.Close()
		if l, err := conn.ListenPacket(g, "udp", "127.0.0.1:0", packetEcho(), conn.PacketConfig{}); l != nil || !errors.Is(err, reactor.ErrEnded) {
			t.Errorf("%v, %v", l, err)
		}
	})
}

// TestPacketTurnEnds has a handler send until Full in each OnDrain, and another send
// what fails in each OnError: for each there is a turn of its own, in which others
// have theirs.
func TestPacketTurnEnds(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		peer := listenPacket(t, g, "udp4", "127.0.0.1:0", &conn.PacketFuncs{}, conn.PacketConfig{})
		for _, low := range []int{0, 9000} {
			var drains, failures, waits int
			turn := func(p *conn.PacketConn) {
				if waits++; waits > 4 {
					t.Errorf("low water %d: %d hooks in a turn", low, waits)
				}
				p.Loop().Post(func(*reactor.Loop) { waits-- })
			}
			h := &conn.PacketFuncs{
				Drain: func(p *conn.PacketConn) {
					turn(p)
					if drains++; drains > 20 {
						return
					}
					for p.Write(conn.Source{Peer: peer.Addr().AddrPort}, pattern(100)) == conn.Queued {
					}
				},
				Error: func(p *conn.PacketConn, _ error) {
					turn(p)
					if failures++; failures <= 20 { // Nobody is at a port of 0.
						p.Write(conn.Source{Peer: netip.MustParseAddrPort("127.0.0.1:0")}, nil)
					}
				},
			}
			h.Packet = func(p *conn.PacketConn, _ *buf.Buf, _ conn.Source) {
				h.Error(p, nil)
				h.Drain(p)
			}
			l := listenPacket(t, g, "udp4", "127.0.0.1:0", h, conn.PacketConfig{HighWater: 10_000, LowWater: low})
			c := udpClient(t, "udp4", l.Addr().String())
			_, _ = c.Write([]byte("begin"))
			for over := false; !over; {
				onLoop(t, g, func(*reactor.Loop) { over = drains > 20 && failures > 20 })
			}
		}
	})
}
