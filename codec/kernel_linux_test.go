package codec_test

import (
	"bufio"
	"bytes"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/codec"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/invariants"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// echo sends every message back, and answers a full queue with a pause.
func echo(t testing.TB, g *reactor.Group, network, address string, cd codec.Codec[[]byte]) string {
	t.Helper()
	p, err := codec.New(cd, &codec.Funcs[[]byte]{Message: func(c *conn.Conn, m []byte) {
		if codec.Send(c, cd, m) >= conn.Rejected {
			t.Error("an answer was refused")
		}
	}}, codec.Config{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := conn.Listen(g, network, address, p, conn.Config{PauseOnFull: true})
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

func dial(t testing.TB, network, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(testutil.Timeout(30 * time.Second)))
	return c
}

// TestEcho pipelines messages of all sizes, with answers that fill the queue: each
// comes back whole and in order, and the end behind them.
func TestEcho(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		for name, cd := range map[string]codec.Codec[[]byte]{
			"line": codec.Line{}, "frame": codec.Frame32{}, "delimiter": codec.Delimiter("\x00\x01"),
			"length": codec.LengthField{Width: 3, Strip: true}, "unix": codec.Line{},
		} {
			t.Run(name, func(t *testing.T) {
				network, address := "tcp", "127.0.0.1:0"
				if name == "unix" {
					network, address = "unix", text("@penstock-codec-%x", rand.Uint64())
				}
				c := dial(t, network, echo(t, g, network, address, cd))
				defer c.Close()
				rng := rand.New(rand.NewPCG(1, 1))
				var sent []byte
				for range 400 {
					m := bytes.Repeat([]byte{'a' + byte(rng.IntN(26))}, rng.IntN(1<<rng.IntN(16)))
					sent, _ = cd.Append(sent, m)
				}
				large, _ := cd.Append(nil, bytes.Repeat([]byte{'x'}, 3<<20))
				sent = append(sent, large...)
				var writer sync.WaitGroup
				writer.Go(func() {
					for p := sent; len(p) > 0; {
						n, err := c.Write(p[:min(len(p), 1+rng.IntN(100000))])
						if err != nil {
							t.Error(err)
							return
						}
						p = p[n:]
					}
					_ = c.(interface{ CloseWrite() error }).CloseWrite()
				})
				got, err := io.ReadAll(c)
				writer.Wait()
				if !bytes.Equal(got, sent) || err != nil {
					t.Errorf("%d bytes came back of %d, %v", len(got), len(sent), err)
				}
			})
		}
	})
}

// TestReconnect holds that a piece of a message ends with the stream of which it is.
func TestReconnect(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		go func() {
			for _, s := range []string{"one\ntwo", "three\n"} {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = io.WriteString(c, s)
				_ = c.Close()
			}
		}()
		got, ends := make(chan string, 10), make(chan error, 1)
		lines, err := codec.New(codec.Line{}, &codec.Funcs[[]byte]{
			Message: func(c *conn.Conn, m []byte) {
				if got <- string(m); string(m) == "three" {
					c.Close()
				}
			},
			Retry: func(*conn.Conn, conn.Retry) { got <- "retry" },
			Close: func(_ *conn.Conn, err error) { ends <- err },
		}, codec.Config{})
		if err != nil {
			t.Fatal(err)
		}
		d := conn.Dialer{Reconnect: &conn.Reconnect{Least: time.Millisecond}}
		g.Loop(0).Post(func(loop *reactor.Loop) {
			if _, err := d.Dial(loop, "tcp", l.Addr().String(), lines); err != nil {
				t.Error(err)
			}
		})
		for _, want := range []string{"one", "retry", "three"} {
			select {
			case m := <-got:
				if m != want {
					t.Fatalf("got %q, want %q", m, want)
				}
			case <-time.After(testutil.Timeout(10 * time.Second)):
				t.Fatalf("no %q", want)
			}
		}
		if err := <-ends; err != nil {
			t.Error(err)
		}
	})
}

// TestAllocs holds that a message costs no allocation, received, encoded and sent,
// one at a time, many at once, and cut in two.
func TestAllocs(t *testing.T) {
	if invariants.Enabled {
		return // The detector allocates.
	}
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		for name, cd := range map[string]codec.Codec[[]byte]{"line": codec.Line{}, "frame": codec.Frame32{}} {
			t.Run(name, func(t *testing.T) {
				one, _ := cd.Append(nil, []byte("a message"))
				many := bytes.Repeat(one, 50)
				large, _ := cd.Append(nil, make([]byte, 20<<10))
				fd := rawClient(t, echo(t, g, "tcp", "127.0.0.1:0", cd))
				for how, parts := range map[string][][]byte{
					"one": {one}, "many": {many}, "large": {large}, "two": {one[:3], one[3:]},
				} {
					whole := bytes.Join(parts, nil)
					answer := make([]byte, len(whole))
					if n := testutil.Mallocs(400, func() {
						for _, p := range parts {
							write(t, fd, p)
						}
						read(t, fd, answer)
					}); n > 0.05 {
						t.Errorf("%s: %v allocations", how, n)
					}
				}
			})
		}
	})
}

// rawClient connects without the runtime's poller, whose buffers would count.
func rawClient(t *testing.T, addr string) int {
	t.Helper()
	at, err := net.ResolveTCPAddr("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	limit := unix.NsecToTimeval(int64(testutil.Timeout(10 * time.Second)))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: at.Port, Addr: [4]byte(at.IP.To4())}); err != nil {
		t.Fatal(err)
	}
	return fd
}

func write(t *testing.T, fd int, p []byte) {
	if n, err := unix.Write(fd, p); n != len(p) || err != nil {
		t.Fatalf("wrote %d bytes of %d, %v", n, len(p), err)
	}
}

func read(t *testing.T, fd int, p []byte) {
	for got := 0; got < len(p); {
		n, err := unix.Read(fd, p[got:])
		if err == unix.EINTR {
			continue // With a timeout set, a signal of the scheduler ends the call.
		}
		if n <= 0 || err != nil {
			t.Fatalf("read %d, %v", n, err)
		}
		got += n
	}
}

// BenchmarkMessages is what it costs to take messages out of blocks, beside a
// bufio.Scanner over the same bytes.
func BenchmarkMessages(b *testing.B) {
	for _, size := range []int{16, 64, 1024} {
		m := bytes.Repeat([]byte{'x'}, size)
		for name, cd := range map[string]codec.Codec[[]byte]{"line": codec.Line{}, "frame": codec.Frame32{}} {
			b.Run(text("%s/%d", name, size), func(b *testing.B) {
				w := newWorld(b)
				n := 0
				p, err := codec.New(cd, &codec.Funcs[[]byte]{Message: func(_ *conn.Conn, m []byte) { n += len(m) }}, codec.Config{Burst: 1 << 20})
				if err != nil {
					b.Fatal(err)
				}
				cfg, _ := conn.Config{}.Check()
				fd, _ := w.Fake.Open()
				c := conn.New(w.Loop, int(fd), p, cfg)
				one, _ := cd.Append(nil, m)
				data := bytes.Repeat(one, reactor.BulkBlock/len(one))
				block := w.Bulk.Get()
				in := new(buf.Buf)
				for b.Loop() {
					copy(block.Room(), data)
					block.Extend(len(data))
					*in = block.Take()
					c.Handler().OnData(c, in)
					block = in.Take()
					block.Release()
					block = w.Bulk.Get()
				}
				b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(len(data)/len(one)), "ns/message")
			})
		}
		b.Run(text("scanner/%d", size), func(b *testing.B) {
			data := bytes.Repeat(append(bytes.Clone(m), '\n'), reactor.BulkBlock/(size+1))
			n := 0
			for b.Loop() {
				s := bufio.NewScanner(bytes.NewReader(data))
				for s.Scan() {
					n += len(s.Bytes())
				}
			}
			b.ReportMetric(float64(b.Elapsed())/float64(b.N)/float64(len(data)/(size+1)), "ns/message")
		})
	}
}
