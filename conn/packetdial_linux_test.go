package conn_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/reactor"
)

// TestDialPacket has a resolver that takes its time: what is sent before goes out
// when it has answered, also when the socket was closed meanwhile.
func TestDialPacket(t *testing.T) {
	for _, closes := range []bool{false, true} {
		t.Run(fmt.Sprint(closes), func(t *testing.T) {
			looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
				froms := make(chan conn.Source, 10)
				l := listenPacket(t, g, "udp", ":0", &conn.PacketFuncs{Packet: func(p *conn.PacketConn, in *buf.Buf, from conn.Source) {
					froms <- from
					p.Send(from, in)
				}}, conn.PacketConfig{})
				answer := make(chan struct{})
				d := &conn.Dialer{
					LocalAddr: netip.MustParseAddrPort("127.0.0.8:0"),
					Resolver: resolver(func(context.Context, string, string) ([]netip.Addr, error) {
						<-answer
						return []netip.Addr{netip.IPv6Loopback(), netip.MustParseAddr("127.0.0.1")}, nil
					}),
				}
				opened, got, ended := make(chan conn.Addr, 1), make(chan string, 10), make(chan error, 1)
				h := &conn.PacketFuncs{
					Open: func(p *conn.PacketConn) {
						opened <- p.RemoteAddr()
						p.Write(conn.Source{}, []byte("open"))
					},
					Packet: func(p *conn.PacketConn, in *buf.Buf, from conn.Source) {
						if from.Peer != p.RemoteAddr().AddrPort || from.Local != p.LocalAddr().Addr() {
							t.Errorf("from %v", from)
						}
						got <- string(in.Bytes())
					},
					Close: func(_ *conn.PacketConn, err error) { ended <- err },
				}
				var p *conn.PacketConn
				onLoop(t, g, func(loop *reactor.Loop) {
					var err error
					if p, err = d.DialPacket(loop, "udp", fmt.Sprintf("x.test:%d", l.Addr().Port()), h); err != nil {
						t.Error(err)
						return
					}
					if s := p.Write(conn.Source{}, []byte("early")); s != conn.Queued || p.Pending() != 5+conn.PacketCost {
						t.Errorf("answer %v, %d pending", s, p.Pending())
					}
					if p.RemoteAddr() != (conn.Addr{}) {
						t.Error("it is connected")
					}
					if closes {
						p.Close()
					}
				})
				close(answer)
				if from := <-froms; from.Peer.Addr().String() != "127.0.0.8" || from.Local.String() != "127.0.0.1" {
					t.Errorf("came from %v", from)
				}
				if closes {
					if err := <-ended; err != nil || len(opened) > 0 {
						t.Errorf("closed with %v; %d opens", err, len(opened))
					}
					return
				}
				if a := <-opened; a.Port() != l.Addr().Port() || a.Network() != "udp" {
					t.Errorf("connected to %v", a)
				}
				for _, want := range []string{"early", "open"} {
					if s := <-got; s != want {
						t.Errorf("got %q, want %q", s, want)
					}
				}
			})
		})
	}
}

// TestDialPacketCancelled gives a socket up while its name is looked up.
func TestDialPacketCancelled(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		never := resolver(func(ctx context.Context, _, _ string) ([]netip.Addr, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
		d := &conn.Dialer{Resolver: never, Timeout: 20 * time.Millisecond}
		_, err := d.DialPacketContext(t.Context(), g.Loop(0), "udp", "x.test:1", &conn.PacketFuncs{})
		wantDial(t, err, conn.ConnectTimeout, os.ErrDeadlineExceeded)
		d = &conn.Dialer{Resolver: never}
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(10*time.Millisecond, cancel)
		_, err = d.DialPacketContext(ctx, g.Loop(0), "udp", "x.test:1", &conn.PacketFuncs{})
		wantDial(t, err, conn.Cancelled, context.Canceled)
		ended := make(chan error, 1)
		onLoop(t, g, func(loop *reactor.Loop) {
			p, err := d.DialPacket(loop, "udp", "x.test:1", &conn.PacketFuncs{Close: func(_ *conn.PacketConn, err error) { ended <- err }})
			if err != nil {
				t.Error(err)
				return
			}
			p.Close()
		})
		if err := <-ended; err != nil {
			t.Error(err)
		}
		errs := make(chan error)
		go func() {
			_, err := d.DialPacketContext(context.Background(), g.Loop(0), "udp", "x.test:1", &conn.PacketFuncs{})
			errs <- err
		}()
		time.Sleep(10 * time.Millisecond)
		_ = g.Close()
		if err := <-errs; err != reactor.ErrEnded {
			wantDial(t, err, conn.Cancelled, err)
		}
	})
}
