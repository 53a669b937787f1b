package conn_test

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/sys"
	"github.com/penstock-go/penstock/reactor"
)

// BenchmarkPacketEcho is one loop that echoes datagrams of 64 bytes, beside one
// goroutine on a net.UDPConn that does: for a client that has one datagram on the
// way, and for one that has 64. The client itself uses recvmmsg and sendmmsg.
func BenchmarkPacketEcho(b *testing.B) {
	for _, window := range []int{1, 8, 64} {
		for _, kind := range []reactor.EngineKind{reactor.Uring, reactor.Epoll} {
			b.Run(fmt.Sprintf("window=%d/%v", window, kind), func(b *testing.B) {
				g, err := reactor.Start(reactor.Config{Loops: 1, Engine: kind, Logger: slog.New(slog.DiscardHandler)})
				if err != nil {
					b.Fatal(err)
				}
				defer g.Close()
				l := listenPacket(b, g, "udp4", "127.0.0.1:0", packetEcho(), conn.PacketConfig{})
				swap(b, l.Addr().AddrPort, window)
			})
		}
		b.Run(fmt.Sprintf("window=%d/net", window), func(b *testing.B) {
			c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				b.Fatal(err)
			}
			defer c.Close()
			go func() {
				buf := make([]byte, 64<<10)
				for {
					n, from, err := c.ReadFromUDPAddrPort(buf)
					if err != nil {
						return
					}
					_, _ = c.WriteToUDPAddrPort(buf[:n], from)
				}
			}()
			swap(b, netip.MustParseAddrPort(c.LocalAddr().String()), window)
		})
	}
}

// swap sends b.N datagrams and awaits their echoes, with so many on the way.
func swap(b *testing.B, to netip.AddrPort, window int) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		b.Fatal(err)
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		b.Fatal(err)
	}
	p := sys.NewPackets(window)
	data, room := make([]byte, 64), make([]byte, 64*window)
	send := func(n int) {
		for i := range n {
			p.Out(i, data, false, netip.AddrPort{}, 0, netip.Addr{})
		}
		if k, err := p.Send(fd, n); k != n {
			b.Fatal(k, err)
		}
	}
	b.ResetTimer()
	start, cpu := time.Now(), cpuTime(b)
	send(min(window, b.N))
	for sent, got := min(window, b.N), 0; got < b.N; {
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 20000); err == unix.EINTR {
			continue
		}
		for i := range window {
			p.In(i, room[64*i:64*i+64], nil)
		}
		n, err := p.Recv(fd, window)
		if n == 0 {
			b.Fatalf("%d of %d came back, %v", got, sent, err)
		}
		got += n
		if more := min(n, b.N-sent); more > 0 {
			send(more)
			sent += more
		}
	}
	b.ReportMetric(float64(b.N)/time.Since(start).Seconds(), "datagrams/s")
	// Of both sides; unlike the time it says something on a host that is busy.
	b.ReportMetric(float64(cpuTime(b)-cpu)/float64(b.N), "cpu-ns/op")
}

func cpuTime(b *testing.B) time.Duration {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
