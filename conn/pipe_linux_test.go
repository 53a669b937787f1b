package conn_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// piped is a pipe between two real connections, seen from its far ends.
type piped struct {
	a, b       *net.TCPConn // the peers
	endA, endB chan error   // what OnClose was told
	refA, refB conn.Ref
	fulls      atomic.Int32 // of b
}

// pipes runs a test on each engine, with both ends on one loop and on two.
func pipes(t *testing.T, cfg conn.Config, test func(t *testing.T, g *reactor.Group, p *piped)) {
	for _, loops := range []int{1, 2} {
		t.Run(fmt.Sprintf("loops=%d", loops), func(t *testing.T) {
			looptest.Engines(t, reactor.Config{Loops: loops}, func(t *testing.T, g *reactor.Group) {
				p := &piped{endA: make(chan error, 1), endB: make(chan error, 1)}
				var there, here chan conn.Ref = make(chan conn.Ref, 1), make(chan conn.Ref, 1)
				p.b = attach(t, g.Loop(loops-1), &conn.Funcs{
					Open:  func(c *conn.Conn) { c.PauseRead(); there <- c.Ref() },
					Full:  func(*conn.Conn) { p.fulls.Add(1) },
					Close: func(_ *conn.Conn, err error) { p.endB <- err },
				}, cfg)
				p.refB = <-there
				p.a = attach(t, g.Loop(0), &conn.Funcs{
					Open: func(c *conn.Conn) {
						if _, err := conn.PipeRef(c, p.refB, conn.PipeConfig{}); err != nil {
							t.Error(err)
						}
						p.refB.Do((*conn.Conn).ResumeRead)
						here <- c.Ref()
					},
					Close: func(_ *conn.Conn, err error) { p.endA <- err },
				}, cfg)
				p.refA = <-here
				defer p.a.Close()
				defer p.b.Close()
				test(t, g, p)
			})
		})
	}
}

// attach puts one end of a new TCP connection on a loop and returns the other.
func attach(t *testing.T, on reactor.Remote, h conn.Handler, cfg conn.Config) *net.TCPConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	near, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Attach(on, near, h, cfg, nil); err != nil {
		t.Fatal(err)
	}
	_ = far.SetDeadline(time.Now().Add(testutil.Timeout(30 * time.Second)))
	return far.(*net.TCPConn)
}

// pour writes total random bytes in writes of up to most, and returns their sum.
func pour(c *net.TCPConn, seed uint64, total, most int) hash.Hash {
	rng := rand.New(rand.NewPCG(seed, 7))
	h := sha256.New()
	p := make([]byte, most)
	for total > 0 {
		n := min(total, 1+rng.IntN(most))
		for i := range p[:n] {
			p[i] = byte(rng.Uint32())
		}
		h.Write(p[:n])
		if _, err := c.Write(p[:n]); err != nil {
			return nil
		}
		total -= n
	}
	_ = c.CloseWrite()
	return h
}

func sum(h hash.Hash) []byte {
	if h == nil {
		return nil
	}
	return h.Sum(nil)
}

// TestPipeIntegrity forwards both ways at once, in writes of every size, to
// readers of different speed: both sums agree, and both ends close in order.
func TestPipeIntegrity(t *testing.T) {
	for _, size := range []struct{ total, most int }{{1500, 1}, {100_000, 64}, {500_000, 5000}, {4 << 20, 1 << 20}} {
		t.Run(fmt.Sprintf("most=%d", size.most), func(t *testing.T) {
			pipes(t, conn.Config{HighWater: 100_000}, func(t *testing.T, g *reactor.Group, p *piped) {
				var wg sync.WaitGroup
				sums := make([][]byte, 4)
				for i, ends := range [][2]*net.TCPConn{{p.a, p.b}, {p.b, p.a}} {
					wg.Go(func() { sums[2*i] = sum(pour(ends[0], uint64(i), size.total, size.most)) })
					wg.Go(func() {
						h := sha256.New()
						for n, pause := 0, size.total/4; ; {
							k, err := io.CopyN(h, ends[1], int64(1000+i*100_000))
							if n += int(k); err != nil {
								break
							}
							if i == 0 && n > pause { // Stops now and then.
								pause += size.total / 4
								time.Sleep(10 * time.Millisecond)
							}
						}
						sums[2*i+1] = sum(h)
					})
				}
				wg.Wait()
				if !bytes.Equal(sums[0], sums[1]) || !bytes.Equal(sums[2], sums[3]) || sums[0] == nil || sums[2] == nil {
					t.Errorf("not what was sent: %x", sums)
				}
				if a, b := <-p.endA, <-p.endB; a != io.EOF || b != io.EOF {
					t.Errorf("closed with %v and %v", a, b)
				}
			})
		})
	}
}

// dam writes to c until nothing more is taken and full says that the sink is, and
// returns how many bytes that took.
func dam(t *testing.T, c *net.TCPConn, full func() bool) (n int) {
	t.Helper()
	block, until := make([]byte, 256<<10), time.Now().Add(testutil.Timeout(30*time.Second))
	for {
		_ = c.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		k, err := c.Write(block)
		n += k
		switch {
		case err != nil && !errors.Is(err, os.ErrDeadlineExceeded):
			t.Fatal(err)
		case n > 64<<20:
			t.Fatalf("%d bytes went to a sink that does not read", n)
		case k == 0 && full():
			return n
		case time.Now().After(until):
			t.Fatalf("after %d bytes the sink is not full", n)
		}
	}
}

// TestPipeStalledSink holds that a source is stopped by the marks of its sink,
// and costs what they say.
func TestPipeStalledSink(t *testing.T) {
	cfg := conn.Config{HighWater: 256 << 10}
	pipes(t, cfg, func(t *testing.T, g *reactor.Group, p *piped) {
		const warm = 2 << 20 // What engines hold ready for bulk does not count.
		go func() { _, _ = p.a.Write(make([]byte, warm)) }()
		if _, err := io.ReadFull(p.b, make([]byte, warm)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Millisecond)
		base := inUse(g)
		n := dam(t, p.a, func() bool { return p.fulls.Load() > 0 || g.Len() > 1 }) // Between loops it may have been the mailbox that was full.
		// What is queued, a block each that is parked, in the mailbox and in a receive.
		if held := inUse(g) - base; held > 256<<10+4*64<<10 {
			t.Errorf("%d bytes in blocks beside a stalled sink", held)
		}
		if n := p.refB.Pending(); n > 256<<10+64<<10 {
			t.Errorf("%d bytes pending", n)
		}
		got := make(chan int64)
		go func() {
			n, _ := io.Copy(io.Discard, p.b)
			got <- n
		}()
		_ = p.a.CloseWrite()
		_ = p.b.CloseWrite()
		if k := <-got; k != int64(n) {
			t.Errorf("%d bytes of %d arrived", k, n)
		}
	})
}

// TestPipeKilled holds that the reset of one peer is the reset of the other, and
// that both handlers are told: in silence, and in the middle of a flood.
func TestPipeKilled(t *testing.T) {
	for _, flood := range []bool{false, true} {
		t.Run(fmt.Sprintf("flood=%v", flood), func(t *testing.T) {
			pipes(t, conn.Config{}, func(t *testing.T, g *reactor.Group, p *piped) {
				wrote := make(chan error, 1)
				if flood {
					go func() {
						var err error
						for block := make([]byte, 1<<20); err == nil; {
							_, err = p.a.Write(block)
						}
						wrote <- err
					}()
				} else if _, err := p.a.Write([]byte("hello")); err != nil {
					t.Fatal(err)
				}
				if _, err := io.CopyN(io.Discard, p.b, map[bool]int64{false: 5, true: 16 << 20}[flood]); err != nil {
					t.Fatal(err)
				}
				_ = p.b.SetLinger(0)
				_ = p.b.Close()
				if flood {
					<-wrote
				} else if _, err := p.a.Read(make([]byte, 1)); err == nil || err == io.EOF {
					t.Errorf("the peer of the other end reads %v", err)
				}
				var ca, cb *conn.CloseError
				if a, b := <-p.endA, <-p.endB; !errors.As(a, &ca) || ca.Reason != conn.PipeBroken || !errors.As(b, &cb) || cb.Reason != conn.PeerReset {
					t.Errorf("closed with %v and %v", a, b)
				} else if !errors.As(ca.Err, &cb) {
					t.Errorf("the cause is %v", ca.Err)
				}
			})
		})
	}
}

// TestPipeHalfClose has a server that answers when its client has ended, as
// many do: through the pipe both hear the end of the other.
func TestPipeHalfClose(t *testing.T) {
	pipes(t, conn.Config{}, func(t *testing.T, g *reactor.Group, p *piped) {
		served := make(chan error, 1)
		go func() {
			all, err := io.ReadAll(p.b)
			_, _ = fmt.Fprintf(p.b, "%d bytes", len(all))
			_ = p.b.CloseWrite()
			served <- err
		}()
		if _, err := p.a.Write(make([]byte, 300_000)); err != nil {
			t.Fatal(err)
		}
		_ = p.a.CloseWrite()
		answer, err := io.ReadAll(p.a)
		if string(answer) != "300000 bytes" || err != nil {
			t.Errorf("answer %q, %v", answer, err)
		}
		if err := <-served; err != nil {
			t.Error(err)
		}
		if a, b := <-p.endA, <-p.endB; a != io.EOF || b != io.EOF {
			t.Errorf("closed with %v and %v", a, b)
		}
	})
}

// TestPipeBetweenLoops holds what PipeRef says of ends that are gone or taken.
func TestPipeBetweenLoops(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		ends := make(chan error, 8)
		refs := make(chan conn.Ref, 8)
		h := &conn.Funcs{Open: func(c *conn.Conn) { refs <- c.Ref() }, Close: func(_ *conn.Conn, err error) { ends <- err }}
		gone := attach(t, g.Loop(1), h, conn.Config{})
		there := <-refs
		_ = gone.Close()
		<-ends
		far := attach(t, g.Loop(0), h, conn.Config{})
		defer far.Close()
		here := <-refs
		here.Do(func(c *conn.Conn) {
			if _, err := conn.PipeRef(c, there, conn.PipeConfig{}); err != nil {
				t.Error(err)
			}
		})
		var ce *conn.CloseError
		if err := <-ends; !errors.As(err, &ce) || ce.Reason != conn.PipeBroken || !errors.Is(err, conn.ErrClosed) {
			t.Errorf("closed with %v", err)
		}
	})
}

// TestPipeDial pipes to a target that is being connected: what the client has sent
// before, its end among it, waits; and a target that refuses is told to the client's
// handler, as the cause, behind a reset.
func TestPipeDial(t *testing.T) {
	for _, reconnect := range []*conn.Reconnect{nil, {Keep: true}} {
		t.Run(fmt.Sprintf("reconnect=%v", reconnect != nil), func(t *testing.T) {
			looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
				server, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					t.Fatal(err)
				}
				defer server.Close()
				go func() {
					for {
						c, err := server.Accept()
						if err != nil {
							return
						}
						go func() {
							_, _ = io.Copy(c, c) // Answers behind the end too.
							_ = c.Close()
						}()
					}
				}()
				ends := make(chan error, 2)
				var target atomic.Value
				target.Store(server.Addr().String())
				d := &conn.Dialer{Reconnect: reconnect}
				l := listen(t, g, &conn.Funcs{
					Open: func(c *conn.Conn) {
						far, err := d.Dial(c.Loop(), "tcp", target.Load().(string), &conn.Funcs{Close: func(_ *conn.Conn, err error) { ends <- err }})
						if err == nil {
							_, err = conn.Pipe(c, far, conn.PipeConfig{})
						}
						if err != nil {
							t.Error(err)
						}
					},
					Close: func(_ *conn.Conn, err error) { ends <- err },
				}, conn.Config{})
				data := noise(21, 3<<20)
				c := dial(t, l)
				defer c.Close()
				go func() {
					_, _ = c.Write(data)
					_ = c.CloseWrite()
				}()
				if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
					t.Fatalf("%d bytes of %d, %v", len(got), len(data), err)
				}
				for range 2 {
					if err := <-ends; err != io.EOF {
						t.Errorf("closed with %v", err)
					}
				}
				if reconnect != nil {
					return
				}
				target.Store(testutil.Refusing(t, "127.0.0.1"))
				if c, err := net.Dial("tcp", l.Addr().String()); err == nil { // The reset may be faster than that.
					if _, err := io.ReadAll(c); err == nil {
						t.Error("a refused target is an end of file")
					}
					_ = c.Close()
				}
				for range 2 {
					var ce *conn.CloseError
					if err := <-ends; !errors.As(err, &ce) || !errors.Is(err, syscall.ECONNREFUSED) {
						t.Errorf("closed with %v", err)
					}
				}
			})
		})
	}
}

// TestSendFromBeforeConnected holds that a stream and a close behind it wait for the
// connection like everything else.
func TestSendFromBeforeConnected(t *testing.T) {
	data := noise(22, 1<<20)
	file := tempFile(t, data)
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		server, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		ended := make(chan error, 1)
		g.Loop(0).Post(func(l *reactor.Loop) {
			c, err := new(conn.Dialer).Dial(l, "tcp", server.Addr().String(), &conn.Funcs{Close: func(_ *conn.Conn, err error) { ended <- err }})
			if err != nil {
				t.Error(err)
				return
			}
			c.SendFrom(file, int64(len(data)), nil)
			c.Close()
		})
		c, err := server.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got, err := io.ReadAll(c); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes of %d, %v", len(got), len(data), err)
		}
		_ = c.Close()
		if err := <-ended; err != nil {
			t.Errorf("closed with %v", err)
		}
	})
}

// TestPipeSplice holds that what the kernel moves by itself is interrupted by
// whatever concerns either end: a send among it, a pause of its source, an Unpipe.
func TestPipeSplice(t *testing.T) {
	const flood, mark = 0x11, 0x99
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		var heard atomic.Int64
		opened := make(chan conn.Ref, 2)
		pipe := make(chan *conn.Piping, 1)
		b := attach(t, g.Loop(0), &conn.Funcs{Open: func(c *conn.Conn) { opened <- c.Ref() }}, conn.Config{})
		defer b.Close()
		refB := <-opened
		a := attach(t, g.Loop(0), &conn.Funcs{
			Open: func(c *conn.Conn) {
				p, err := conn.PipeRef(c, refB, conn.PipeConfig{})
				if err != nil {
					t.Error(err)
				}
				pipe <- p
				opened <- c.Ref()
			},
			Data: func(_ *conn.Conn, in *buf.Buf) { heard.Add(int64(in.Len())) },
		}, conn.Config{})
		defer a.Close()
		refA := <-opened
		p := <-pipe
		var sent atomic.Int64
		stop := make(chan struct{})
		go func() {
			block := bytes.Repeat([]byte{flood}, 1<<20)
			for {
				n, err := a.Write(block)
				sent.Add(int64(n))
				select {
				case <-stop:
					_ = a.CloseWrite()
					return
				default:
				}
				if err != nil {
					return
				}
			}
		}()
		spliced := func() {
			t.Helper()
			testutil.Eventually(t, 10*time.Second, "splice", func() bool {
				on := make(chan bool, 1)
				refA.Do(func(c *conn.Conn) { on <- conn.Splicing(c) })
				return <-on
			})
		}
		type sums struct{ floods, marks, torn int }
		read := make(chan sums, 1)
		go func() {
			var s sums
			block := make([]byte, 256<<10)
			run := 0
			for {
				n, err := b.Read(block)
				for _, x := range block[:n] {
					switch {
					case x == mark:
						run++
						s.marks++
					case run%100 != 0:
						s.torn++
						fallthrough
					default:
						run = 0
						s.floods++
					}
				}
				if err != nil {
					read <- s
					return
				}
			}
		}()
		for range 5 {
			spliced()
			refB.Write(bytes.Repeat([]byte{mark}, 100))
		}
		spliced()
		refA.Do((*conn.Conn).PauseRead)
		testutil.Eventually(t, 10*time.Second, "a pause", func() bool { // What is on its way may arrive.
			before, _ := p.Bytes()
			time.Sleep(20 * time.Millisecond)
			after, _ := p.Bytes()
			return after == before
		})
		refA.Do((*conn.Conn).ResumeRead)
		spliced()
		refA.Do(func(*conn.Conn) { p.Unpipe() })
		testutil.Eventually(t, 5*time.Second, "heard", func() bool { return heard.Load() > 0 })
		close(stop)
		testutil.Eventually(t, 10*time.Second, "all", func() bool {
			ab, _ := p.Bytes()
			return int64(ab)+heard.Load() == sent.Load()
		})
		refB.Close()
		s := <-read
		if ab, _ := p.Bytes(); s.marks != 500 || s.torn > 0 || s.floods != int(ab) {
			t.Errorf("%d bytes arrived of %d, %d marks, %d torn", s.floods, ab, s.marks, s.torn)
		}
	})
}

// TestPipeHearsReset holds that the reset of a source that is not read, since its
// sink has stopped, ends both.
func TestPipeHearsReset(t *testing.T) {
	pipes(t, conn.Config{HighWater: 64 << 10}, func(t *testing.T, g *reactor.Group, p *piped) {
		_ = p.a.SetWriteDeadline(time.Now().Add(200 * time.Millisecond))
		if _, err := p.a.Write(make([]byte, 64<<20)); err == nil {
			t.Fatal("a sink that does not read has taken all")
		}
		_ = p.a.SetLinger(0)
		_ = p.a.Close()
		var ca, cb *conn.CloseError
		if a, b := <-p.endA, <-p.endB; !errors.As(a, &ca) || ca.Reason != conn.PeerReset || !errors.As(b, &cb) || cb.Reason != conn.PipeBroken {
			t.Errorf("closed with %v and %v", a, b)
		}
	})
}

// TestPipeToItself echoes a flood, also by splice.
func TestPipeToItself(t *testing.T) {
	data := noise(23, 8<<20)
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		ended := make(chan error, 1)
		far := attach(t, g.Loop(0), &conn.Funcs{
			Open: func(c *conn.Conn) {
				if _, err := conn.Pipe(c, c, conn.PipeConfig{}); err != nil {
					t.Error(err)
				}
			},
			Close: func(_ *conn.Conn, err error) { ended <- err },
		}, conn.Config{})
		defer far.Close()
		go func() {
			_, _ = far.Write(data)
			_ = far.CloseWrite()
		}()
		if got, err := io.ReadAll(far); err != nil || !bytes.Equal(got, data) {
			t.Errorf("%d bytes of %d came back, %v", len(got), len(data), err)
		}
		if err := <-ended; err != io.EOF {
			t.Errorf("closed with %v", err)
		}
	})
}
