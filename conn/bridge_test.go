package conn_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"regexp"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/nettest"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// netPair returns two ends of a connection, both on loops of g.
func netPair(t testing.TB, g *reactor.Group, network string, cfg conn.Config) (one, two *conn.NetConn) {
	t.Helper()
	near, far := pair(t, network)
	ends := make(chan *conn.NetConn, 2)
	h := &conn.Funcs{Open: func(c *conn.Conn) { n, _ := c.NetConn(); ends <- n }}
	for i, s := range []net.Conn{near, far} {
		if err := conn.Attach(g.Loop(i%g.Len()), s, h, cfg, nil); err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			one = <-ends
		} else {
			two = <-ends
		}
	}
	return one, two
}

// TestNetConn is the test that package net passes.
func TestNetConn(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		for _, network := range []string{"tcp", "unix"} {
			t.Run(network, func(t *testing.T) {
				nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
					one, two := netPair(t, g, network, conn.Config{})
					return one, two, func() { _ = one.Close(); _ = two.Close() }, nil
				})
			})
		}
	})
}

// bridged returns a NetConn and the peer as package net has it.
func bridged(t testing.TB, g *reactor.Group, network string, h *conn.Funcs, cfg conn.Config) (*conn.NetConn, net.Conn) {
	t.Helper()
	near, far := pair(t, network)
	opened := make(chan *conn.NetConn, 1)
	h.Open = func(c *conn.Conn) { n, _ := c.NetConn(); opened <- n }
	if err := conn.Attach(g.Loop(0), near, h, cfg, nil); err != nil {
		t.Fatal(err)
	}
	n := <-opened
	t.Cleanup(func() { _ = n.Close() })
	return n, far
}

// TestNetConnBlocks holds that a Write waits when the queue is at its limit, that
// a deadline ends the wait with the number of bytes that were taken, and that
// exactly those reach the peer, once it reads.
func TestNetConnBlocks(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		for _, policy := range []conn.Policy{conn.CloseSlow, conn.DropOldest} { // None of them is for a Write.
			testBlocks(t, g, 200_000, conn.Config{SlowPeer: policy})
		}
		testBlocks(t, g, 200_000, conn.Config{HighWater: 1 << 20, Limit: 1 << 20, Budget: conn.NewBudget(400_000, conn.BudgetReject)})
	})
}

func testBlocks(t *testing.T, g *reactor.Group, limit int, cfg conn.Config) {
	t.Helper()
	cfg.SendBuffer = 64 << 10
	if cfg.Budget == nil {
		cfg.HighWater = limit
	}
	var full, drain atomic.Int32
	h := &conn.Funcs{Full: func(*conn.Conn) { full.Add(1) }, Drain: func(*conn.Conn) { drain.Add(1) }}
	n, far := bridged(t, g, "tcp", h, cfg)
	data := make([]byte, 16<<20)
	_, _ = rand.NewChaCha8([32]byte{3}).Read(data)
	taken := 0
	write := func(size int) (took int, full bool) {
		_ = n.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		m, err := n.Write(data[taken : taken+size])
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) || (m == size) != (err == nil) {
			t.Fatalf("%d bytes to a peer that does not read: %d, %v", size, m, err)
		}
		if taken += m; n.Ref().Pending() >= limit+64<<10 {
			t.Errorf("%d bytes pending", n.Ref().Pending())
		}
		return m, err != nil
	}
	for m, full := write(len(data) - 2<<20); m > 0 || taken == 0; m, full = write(len(data) - 2<<20 - taken) {
		if !full {
			t.Fatalf("all of %d bytes were taken", len(data)-2<<20)
		}
	}
	for _, size := range []int{1, 1000, 60_000} {
		m, full := write(size)
		for !full { // The kernel's own queues grow for a while.
			m, full = write(size)
		}
		if m != 0 {
			t.Errorf("%d bytes of %d were taken", m, size)
		}
	}
	if m, err := n.Write(data[taken:]); m != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("behind the deadline: %d, %v", m, err)
	}
	_ = n.SetWriteDeadline(time.Time{})
	wrote := make(chan error, 1)
	go func() {
		_, err := n.Write(data[taken:])
		wrote <- errors.Join(err, n.CloseWrite())
	}()
	got, err := io.ReadAll(far)
	if !bytes.Equal(got, data) || err != nil {
		t.Errorf("%d bytes of %d arrived, or others; %v", len(got), len(data), err)
	}
	if err := <-wrote; err != nil {
		t.Error(err)
	}
	if full.Load() == 0 && cfg.Budget == nil || drain.Load() != full.Load() {
		t.Errorf("%d fulls and %d drains", full.Load(), drain.Load())
	}
}

// ringBytes is what an idle engine has for receives.
const ringBytes = 64*reactor.SmallBlock + 16*reactor.BulkBlock

// TestNetConnReadAhead holds that a peer who sends much, or in many pieces, to
// somebody who does not read fills no more than was agreed, and that all of it is
// there when it is read.
func TestNetConnReadAhead(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		for _, tc := range []struct{ piece, ahead, total, bytes int }{
			{1 << 20, 100_000, 16 << 20, 100_000 + 3*reactor.BulkBlock},
			{7, 50_000, 60_000, 60_000},
		} {
			n, far := bridged(t, g, "tcp", &conn.Funcs{}, conn.Config{ReadAhead: tc.ahead})
			data := make([]byte, tc.total)
			_, _ = rand.NewChaCha8([32]byte{4}).Read(data)
			sent := make(chan error, 1)
			go func() {
				for p := data; len(p) > 0; {
					k := min(len(p), tc.piece)
					if _, err := far.Write(p[:k]); err != nil {
						sent <- err
						return
					}
					p = p[k:]
				}
				sent <- far.(*net.TCPConn).CloseWrite()
			}()
			stats := func() (s conn.Stats) {
				got := make(chan conn.Stats)
				n.Ref().Do(func(c *conn.Conn) { got <- c.Stats() })
				return <-got
			}
			testutil.Eventually(t, 5*time.Second, "bytes", func() bool { return int(stats().BytesIn) >= tc.ahead })
			time.Sleep(30 * time.Millisecond)
			if in := int(stats().BytesIn); in > tc.bytes {
				t.Errorf("pieces of %d: %d bytes were received, and nobody reads", tc.piece, in)
			}
			if size := inUse(g); size > 2*ringBytes+8*reactor.BulkBlock {
				t.Errorf("pieces of %d: blocks of %d bytes are in use", tc.piece, size)
			}
			if got, err := io.ReadAll(n); !bytes.Equal(got, data) || err != nil {
				t.Errorf("pieces of %d: %d bytes of %d were read, or others; %v", tc.piece, len(got), len(data), err)
			}
			if g.Info().Engine == "epoll" { // The other has blocks of its own, more and more.
				testutil.Eventually(t, 5*time.Second, "blocks given back", func() bool { return inUse(g) <= reactor.SmallBlock })
			}
			if err := <-sent; err != nil {
				t.Error(err)
			}
		}
	})
}

// TestNetConnDeadline moves a deadline while a Read waits for it: nearer, farther,
// away and into the past.
func TestNetConnDeadline(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		n, far := bridged(t, g, "tcp", &conn.Funcs{}, conn.Config{})
		read := func() <-chan error {
			got := make(chan error, 1)
			go func() {
				_, err := n.Read(make([]byte, 10))
				got <- err
			}()
			return got
		}
		waits := func(what string, got <-chan error) {
			t.Helper()
			select {
			case err := <-got:
				t.Fatalf("%s: Read has ended with %v", what, err)
			case <-time.After(30 * time.Millisecond):
			}
		}
		ends := func(what string, got <-chan error, want error) {
			t.Helper()
			select {
			case err := <-got:
				var ne net.Error
				if !errors.Is(err, want) || want != nil && (!errors.As(err, &ne) || !ne.Timeout()) {
					t.Fatalf("%s: Read has ended with %v", what, err)
				}
			case <-time.After(testutil.Timeout(10 * time.Second)):
				t.Fatalf("%s: Read waits", what)
			}
		}
		_ = n.SetReadDeadline(time.Now().Add(15 * time.Millisecond))
		got := read()
		_ = n.SetReadDeadline(time.Time{})
		waits("lifted", got)
		_ = n.SetReadDeadline(time.Now().Add(time.Hour))
		waits("far", got)
		_ = n.SetReadDeadline(time.Now().Add(10 * time.Millisecond))
		ends("near", got, os.ErrDeadlineExceeded)
		ends("behind it", read(), os.ErrDeadlineExceeded)
		_ = n.SetDeadline(time.Now().Add(time.Hour))
		got = read()
		waits("renewed", got)
		_ = n.SetReadDeadline(time.Unix(1, 0))
		ends("in the past", got, os.ErrDeadlineExceeded)
		_, _ = far.Write([]byte("x"))
		ends("with bytes there", read(), os.ErrDeadlineExceeded)
		_ = n.SetReadDeadline(time.Time{})
		ends("lifted behind it", read(), nil)
	})
}

// TestNetConnErrors holds that errors are those of package net, text and all: each
// case is run on both.
func TestNetConnErrors(t *testing.T) {
	addr := regexp.MustCompile(`127\.0\.0\.1:\d+`)
	cases := []struct {
		name string
		run  func(c, far net.Conn) error
	}{
		{"end of file", func(c, far net.Conn) error { _ = far.Close(); return readOne(c) }},
		{"read after close", func(c, _ net.Conn) error { _ = c.Close(); return readOne(c) }},
		{"write after close", func(c, _ net.Conn) error { _ = c.Close(); return writeOne(c) }},
		{"close after close", func(c, _ net.Conn) error { _ = c.Close(); return c.Close() }},
		{"deadline after close", func(c, _ net.Conn) error { _ = c.Close(); return c.SetDeadline(time.Now()) }},
		{"half-close after close", func(c, _ net.Conn) error { _ = c.Close(); return halves(c).CloseWrite() }},
		{"write after half-close", func(c, _ net.Conn) error { _ = halves(c).CloseWrite(); return writeOne(c) }},
		{"read after half-close", func(c, _ net.Conn) error { _ = halves(c).CloseRead(); return readOne(c) }},
		{"read deadline", func(c, _ net.Conn) error { _ = c.SetReadDeadline(time.Now()); return readOne(c) }},
		{"write deadline", func(c, _ net.Conn) error { _ = c.SetWriteDeadline(time.Now()); return writeOne(c) }},
		{"read after reset", func(c, far net.Conn) error { reset(far); return readOne(c) }},
		{"write after reset", func(c, far net.Conn) error {
			reset(far)
			_ = readOne(c)
			if err := writeOne(c); !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
				return err
			}
			return nil
		}},
		{"nothing to read", func(c, _ net.Conn) error { _, err := c.Read(nil); return err }},
		{"nothing to write after close", func(c, _ net.Conn) error { _ = c.Close(); _, err := c.Write(nil); return err }},
	}
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		for _, tc := range cases {
			var texts []string
			var errs []error
			near, far := pair(t, "tcp")
			err := tc.run(near, far)
			errs, texts = append(errs, err), append(texts, addr.ReplaceAllString(fmt.Sprint(err), "addr"))
			n, far := bridged(t, g, "tcp", &conn.Funcs{}, conn.Config{})
			err = tc.run(n, far)
			errs, texts = append(errs, err), append(texts, addr.ReplaceAllString(fmt.Sprint(err), "addr"))
			if texts[0] != texts[1] {
				t.Errorf("%s: %q, and with package net %q", tc.name, texts[1], texts[0])
			}
			var one, two *net.OpError
			if errors.As(errs[0], &one) != errors.As(errs[1], &two) || one != nil && one.Timeout() != two.Timeout() {
				t.Errorf("%s: %#v, and with package net %#v", tc.name, errs[1], errs[0])
			}
		}
	})
}

type halfCloser interface {
	CloseRead() error
	CloseWrite() error
}

func halves(c net.Conn) halfCloser { return c.(halfCloser) }

func readOne(c net.Conn) error {
	_, err := c.Read(make([]byte, 1))
	return err
}

// writeOne writes until a write fails, as one that meets a reset may not.
func writeOne(c net.Conn) (err error) {
	for range 100 {
		if _, err = c.Write([]byte("x")); err != nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

func reset(c net.Conn) {
	_ = c.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

// TestNetConnReset holds that what had come before a reset is read before it.
func TestNetConnReset(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		closed := make(chan error, 1)
		n, far := bridged(t, g, "tcp", &conn.Funcs{Close: func(_ *conn.Conn, err error) { closed <- err }}, conn.Config{})
		_, _ = far.Write([]byte("last words"))
		if err := readOne(n); err != nil {
			t.Fatal(err)
		}
		reset(far)
		var ce *conn.CloseError
		if err := <-closed; !errors.As(err, &ce) || ce.Reason != conn.PeerReset {
			t.Fatalf("closed with %v", err)
		}
		if n := inUse(g); n > 0 && n != 64*reactor.SmallBlock {
			t.Errorf("blocks of %d bytes are in use behind OnClose", n)
		}
		got, err := io.ReadAll(n)
		if string(got) != "ast words" || !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("%q, %v", got, err)
		}
	})
}
