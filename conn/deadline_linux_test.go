package conn_test

import (
	"errors"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/invariants"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// TestSilentPeer holds on the kernel that silence is measured from the last
// byte, and that who reads slowly is not silent: workerman 8.6.
func TestSilentPeer(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		idle := testutil.Timeout(300 * ms)
		type end struct {
			err error
			at  time.Time
		}
		ends := make(chan end, 1)
		h := echo()
		h.Close = func(_ *conn.Conn, err error) { ends <- end{err, time.Now()} }
		l := listen(t, g, h, conn.Config{IdleTimeout: idle})
		last := time.Now() // Before the last byte that is sure to have come, or there was any.
		c := dial(t, l)
		defer c.Close()
		var err error
		for range 12 {
			at := time.Now()
			if _, err = c.Write([]byte("ping")); err == nil {
				_, err = io.ReadFull(c, make([]byte, 4))
			}
			if err != nil {
				break // A busy host has kept us silent for that long, or it closes too soon.
			}
			last = at
			time.Sleep(idle / 8)
		}
		if err == nil {
			if _, err = c.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the peer is told %v", err)
			}
		}
		e := <-ends
		var ce *conn.CloseError
		if !errors.As(e.err, &ce) || ce.Reason != conn.IdleTimeout {
			t.Errorf("closed with %v", e.err)
		}
		if d := e.at.Sub(last); d < idle {
			t.Errorf("closed %v after the last byte", d)
		}
	})
}

// TestIdleAfterPush has the server speak last, to a loop that sleeps then: it is
// silence from then on, and not from when the loop next hears of that send.
func TestIdleAfterPush(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		const idle, push = 400 * ms, 100 * ms
		closed := make(chan time.Time, 1)
		l := listen(t, g, &conn.Funcs{
			Open: func(c *conn.Conn) {
				c.AfterFunc(push, func(c *conn.Conn) { _, _ = c.Write([]byte("news")) })
			},
			Close: func(*conn.Conn, error) { closed <- time.Now() },
		}, conn.Config{IdleTimeout: idle})
		var took time.Duration
		for range 3 { // A busy host may be late, but not each time by that much.
			began := time.Now()
			c := dial(t, l)
			took = (<-closed).Sub(began)
			_ = c.Close()
			if took < push+idle {
				t.Errorf("closed after %v", took)
			}
			if took < push+idle+idle/2 {
				return
			}
		}
		t.Errorf("closed after %v, %v after the last byte", took, took-push)
	})
}

// TestIdleDuringWork holds that work of Go is no silence, however long it takes, and
// that silence behind it is.
func TestIdleDuringWork(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		ends := make(chan error, 1)
		l := listen(t, g, &conn.Funcs{
			Open: func(c *conn.Conn) {
				c.Go(func() { time.Sleep(400 * ms) }, func(*conn.Conn) {})
			},
			Close: func(_ *conn.Conn, err error) { ends <- err },
		}, conn.Config{IdleTimeout: 100 * ms})
		began := time.Now()
		defer dial(t, l).Close()
		var err error
		select {
		case err = <-ends:
		case <-time.After(testutil.Timeout(5 * time.Second)):
		}
		var ce *conn.CloseError
		if d := time.Since(began); d < 500*ms || !errors.As(err, &ce) || ce.Reason != conn.IdleTimeout {
			t.Errorf("closed with %v after %v", err, d)
		}
	})
}

// TestSlowReaderOfTheKernel has a peer that takes longer than IdleTimeout for what
// the kernel took at once.
func TestSlowReaderOfTheKernel(t *testing.T) {
	const total = 300 << 10
	timeout := testutil.Timeout(400 * ms)
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		var pending atomic.Int64
		peer := make(chan *creeper, 1)
		l := listen(t, g, &conn.Funcs{
			Open: func(c *conn.Conn) {
				_, _ = c.Write(make([]byte, total))
				c.AfterFunc(timeout/2, func(c *conn.Conn) { pending.Store(int64(c.Pending())) })
				(<-peer).creepFor(c, 9*timeout/4, timeout/4, 1, false) // It may pass twice.
			},
		}, conn.Config{IdleTimeout: timeout, SendBuffer: 200 << 10}) // Which the kernel doubles.
		c := creep(t, l)
		peer <- c
		<-c.crept
		if c.err != nil {
			t.Fatalf("closed while the peer read, after %d bytes of %d: %v", c.got, total, c.err)
		}
		if n := pending.Load(); n > 0 || c.got == total {
			t.Fatalf("%d bytes pending, %d of %d read: the kernel is to have all at once, and the peer not", n, c.got, total)
		}
	})
}

// TestSlowReaderIsNotIdle has a peer that takes longer for what the kernel has
// than IdleTimeout and WriteTimeout, and then stops to read.
func TestSlowReaderIsNotIdle(t *testing.T) {
	timeout := testutil.Timeout(400 * ms)
	for _, tc := range []struct {
		name   string
		cfg    conn.Config
		reason conn.Reason
	}{
		// The kernel takes no more for longer than that: it does when a third is free.
		{"idle", conn.Config{IdleTimeout: timeout, SendBuffer: 200 << 10}, conn.IdleTimeout},
		{"write", conn.Config{WriteTimeout: timeout, SendBuffer: 200 << 10}, conn.WriteTimeout},
	} {
		t.Run(tc.name, func(t *testing.T) {
			looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
				peer, ends := make(chan *creeper, 1), make(chan error, 1)
				c := creep(t, listen(t, g, &conn.Funcs{
					Open: func(c *conn.Conn) {
						_, _ = c.Write(make([]byte, 16<<20))
						(<-peer).creepFor(c, 5*timeout/2, timeout/4, 1, false)
					},
					Close: func(_ *conn.Conn, err error) { ends <- err },
				}, tc.cfg))
				peer <- c
				<-c.crept
				if c.err != nil {
					t.Fatalf("closed while the peer read, after %d bytes: %v", c.got, c.err)
				}
				select {
				case err := <-ends:
					var ce *conn.CloseError
					if !errors.As(err, &ce) || ce.Reason != tc.reason || ce.LostBytes == 0 {
						t.Errorf("closed with %v", err)
					}
				case <-time.After(testutil.Timeout(5 * time.Second)):
					t.Error("still open")
				}
			})
		})
	}
}

// TestDialedDeadlines holds that the deadlines of a connection that was dialed
// begin when it is connected, each time anew, and that its timers go on.
func TestDialedDeadlines(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		for _, network := range []string{"tcp", "unix"} {
			address := "127.0.0.1:0"
			if network == "unix" {
				address = abstract()
			}
			l, err := conn.Listen(g, network, address, &conn.Funcs{}, conn.Config{})
			if err != nil {
				t.Fatal(err)
			}
			ends := make(chan error, 1)
			var opens, losses, ticks atomic.Int64
			d := conn.Dialer{
				Config:    conn.Config{IdleTimeout: 60 * ms},
				Reconnect: &conn.Reconnect{Least: ms, Most: ms},
			}
			began := time.Now()
			err = d.Start(t.Context(), g.Loop(0), network, l.Addr().String(), &conn.Funcs{
				Open: func(c *conn.Conn) {
					if opens.Add(1) == 1 {
						c.Every(10*ms, func(c *conn.Conn) {
							if ticks.Add(1); opens.Load() >= 3 {
								c.Close()
							}
						})
					}
				},
				Retry: func(_ *conn.Conn, r conn.Retry) {
					var ce *conn.CloseError
					if errors.As(r.Err, &ce) && ce.Reason == conn.IdleTimeout {
						losses.Add(1)
					}
				},
				Close: func(_ *conn.Conn, err error) { ends <- err },
			})
			if err != nil {
				t.Fatal(err)
			}
			select {
			case err := <-ends:
				if d := time.Since(began); err != nil || losses.Load() < 2 || d < 120*ms {
					t.Errorf("closed with %v after %v, %d losses, %d ticks", err, d, losses.Load(), ticks.Load())
				}
			case <-time.After(testutil.Timeout(5 * time.Second)):
				t.Error("still there")
			}
			finished(t, l)
		}
	})
}

// TestAllocsWithDeadlines holds that a message with all deadlines on allocates
// nothing, by TCP and over a unix socket.
func TestAllocsWithDeadlines(t *testing.T) {
	if invariants.Enabled {
		return
	}
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		cfg := conn.Config{IdleTimeout: time.Hour, ReadTimeout: time.Hour, WriteTimeout: time.Hour, HandshakeTimeout: time.Hour}
		fds := []int{rawClient(t, listen(t, g, echo(), cfg))}
		name := abstract()
		listenUnix(t, g, name, echo(), cfg)
		fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer unix.Close(fd)
		if err := unix.Connect(fd, &unix.SockaddrUnix{Name: name}); err != nil {
			t.Fatal(err)
		}
		for _, fd := range append(fds, fd) {
			ask, answer := []byte("ping"), make([]byte, 4)
			if n := testutil.Mallocs(4000, func() { roundTrip(t, fd, ask, answer) }); n > 0.01 {
				t.Errorf("%v allocations a round trip", n)
			}
		}
	})
}

// BenchmarkDeadlines is what deadlines add to a message that is echoed, one a turn,
// on a simulated kernel.
func BenchmarkDeadlines(b *testing.B) {
	for name, cfg := range map[string]conn.Config{
		"none": {}, "all": {IdleTimeout: time.Hour, ReadTimeout: time.Hour, WriteTimeout: time.Hour, HandshakeTimeout: time.Hour},
	} {
		b.Run(name, func(b *testing.B) {
			small, _ := buf.NewPool(buf.Config{BlockSize: reactor.SmallBlock, SlabBlocks: 8})
			bulk, _ := buf.NewPool(buf.Config{BlockSize: reactor.BulkBlock, SlabBlocks: 8})
			fake := aiotest.NewFake(1, small, aiotest.Config{Bulk: bulk})
			loop := reactor.NewLoop(reactor.LoopConfig{Engine: fake, Small: small, Bulk: bulk})
			cfg, err := cfg.Check()
			if err != nil {
				b.Fatal(err)
			}
			fd, peer := fake.Open()
			peer.AutoRead(true)
			conn.New(loop, int(fd), echo(), cfg)
			for message := []byte("ping"); b.Loop(); {
				peer.Feed(message)
				if err := loop.Turn(0); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
