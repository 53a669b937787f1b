package conn_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// fileOf returns a file of n bytes, at its beginning.
func fileOf(t *testing.T, n int) *os.File {
	t.Helper()
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	if _, err = f.Write(make([]byte, n)); err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// callOn runs fn on the loop of n, and fails the test when that does not come back.
func callOn(t *testing.T, n *conn.NetConn, fn func()) {
	t.Helper()
	done := make(chan struct{})
	n.Ref().Do(func(*conn.Conn) { defer close(done); fn() })
	select {
	case <-done:
	case <-time.After(testutil.Timeout(10 * time.Second)):
		panic("the loop stands still") // It would not end either.
	}
}

// TestNetConnOnLoopBeside holds that a loop does not wait for a goroutine that
// waits for the loop, and that a file is read there.
func TestNetConnOnLoopBeside(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		n, far := bridged(t, g, "tcp", &conn.Funcs{}, conn.Config{HighWater: 1000})
		read, wrote := make(chan error, 1), make(chan error, 1)
		go func() { read <- readOne(n) }()
		testutil.Eventually(t, 10*time.Second, "a Read that waits", func() bool { return conn.Waits(n) })
		callOn(t, n, func() {
			if err := readOne(n); !errors.Is(err, conn.ErrWouldBlock) {
				t.Errorf("Read beside one: %v", err)
			}
		})
		callOn(t, n, func() {
			k, err := n.ReadFrom(fileOf(t, 1<<20))
			if k == 0 || err != nil && !errors.Is(err, conn.ErrWouldBlock) {
				t.Errorf("of a file: %d, %v", k, err)
			}
		})
		go func() {
			_, err := n.Write(make([]byte, 32<<20))
			wrote <- err
		}()
		testutil.Eventually(t, 10*time.Second, "a Write that waits", func() bool { return conn.Waiting(n.Ref()) > 0 })
		callOn(t, n, func() {
			if err := writeOne(n); !errors.Is(err, conn.ErrWouldBlock) {
				t.Errorf("Write beside one: %v", err)
			}
			if _, err := n.ReadFrom(fileOf(t, 1<<20)); !errors.Is(err, conn.ErrWouldBlock) {
				t.Errorf("of a file beside a Write: %v", err)
			}
		})
		go func() { _, _ = io.Copy(io.Discard, far) }()
		if err := <-wrote; err != nil {
			t.Error(err)
		}
		_, _ = far.Write([]byte("x"))
		if err := <-read; err != nil {
			t.Error(err)
		}
	})
}

// TestNetConnRecvLimit holds that a NetConn reads on, however small the limit is.
func TestNetConnRecvLimit(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		for _, limit := range []int{1, reactor.SmallBlock, 3 * reactor.SmallBlock, 100_000} {
			n, far := bridged(t, g, "tcp", &conn.Funcs{}, conn.Config{RecvLimit: limit})
			_ = n.SetReadDeadline(time.Now().Add(testutil.Timeout(10 * time.Second)))
			for i := range 20 {
				_, _ = far.Write([]byte{byte(i)})
				testutil.Eventually(t, 10*time.Second, "the byte on the loop", func() bool { return conn.Unread(n) == 1 })
				if k, err := n.Read(make([]byte, 10)); k != 1 || err != nil {
					t.Fatalf("limit %d, byte %d: %d, %v", limit, i, k, err)
				}
			}
		}
	})
}

// TestNetConnRecvLimitInParts is that with a limit that one block fills, which is read
// in two parts: behind the first the loop reads on by ReadAhead, and gets no block back.
func TestNetConnRecvLimitInParts(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		const size = reactor.SmallBlock
		near, far := pair(t, "tcp")
		h := &counter{opened: make(chan *conn.NetConn, 1)}
		if err := conn.Attach(g.Loop(0), near, h, conn.Config{RecvLimit: size, ReadAhead: size / 2}, nil); err != nil {
			t.Fatal(err)
		}
		n := <-h.opened
		defer n.Close()
		_ = n.SetReadDeadline(time.Now().Add(testutil.Timeout(10 * time.Second)))
		for i := range 5 {
			_, _ = far.Write(make([]byte, size))
			testutil.Eventually(t, 10*time.Second, "the block on the loop", func() bool { return conn.Unread(n) == size })
			for _, part := range []int{size * 3 / 4, size / 4} {
				if k, err := io.ReadFull(n, make([]byte, part)); err != nil {
					t.Fatalf("block %d: %d, %v", i, k, err)
				}
				seen := make(chan struct{}) // What the Read has asked of the loop is done.
				h.ref.Do(func(*conn.Conn) { close(seen) })
				<-seen
			}
		}
	})
}

// TestNetConnLeavesOnce holds that the handler whose input goes to a NetConn is not told
// so again when that one is detached.
func TestNetConnLeavesOnce(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		near, _ := pair(t, "tcp")
		h := &counter{opened: make(chan *conn.NetConn, 1)}
		if err := conn.Attach(g.Loop(0), near, h, conn.Config{}, nil); err != nil {
			t.Fatal(err)
		}
		d, err := (<-h.opened).Detach()
		if err != nil || h.leaves.Load() != 1 {
			t.Errorf("OnLeave ran %d times; detached with %v", h.leaves.Load(), err)
		}
		_ = unix.Close(d.FD)
	})
}

// counter gives its connection to goroutines, and counts how often it hears of that.
type counter struct {
	conn.NopHandler
	opened chan *conn.NetConn
	ref    conn.Ref
	leaves atomic.Int32
}

func (h *counter) OnOpen(c *conn.Conn)  { n, _ := c.NetConn(); h.ref = c.Ref(); h.opened <- n }
func (h *counter) OnLeave(c *conn.Conn) { h.leaves.Add(1) }

// TestNetConnFileAtLimit holds that a file waits for room as a Write does: no
// policy is asked, and what a deadline cuts off was not taken.
func TestNetConnFileAtLimit(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		n, far := bridged(t, g, "tcp", &conn.Funcs{}, conn.Config{HighWater: 4096, SlowPeer: conn.CloseSlow, SendBuffer: 8192})
		f := fileOf(t, 3<<20)
		_ = n.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		wrote, err := n.Write(make([]byte, 64<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("a peer that does not read took %d bytes, %v", wrote, err)
		}
		_ = n.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		first, err := n.ReadFrom(f)
		if first == 3<<20 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("at the limit %d bytes of the file were taken, %v", first, err)
		}
		_ = n.SetWriteDeadline(time.Time{})
		go func() {
			if k, err := n.ReadFrom(f); first+k != 3<<20 || err != nil {
				t.Errorf("%d bytes and %d of the file were taken, %v", first, k, err)
			}
			_ = n.Close()
		}()
		if got, err := io.Copy(io.Discard, far); got != int64(wrote)+3<<20 || err != nil {
			t.Errorf("the peer got %d bytes of %d, %v", got, wrote+3<<20, err)
		}
	})
}

// TestNetConnKnowsFile holds that a file is known in every type in which io.Copy
// passes one on, and that a reader which hides its file is none.
func TestNetConnKnowsFile(t *testing.T) {
	f := fileOf(t, 1<<20)
	for name, tc := range map[string]struct {
		copy func(to io.Writer)
		want bool
	}{
		"Copy":   {func(to io.Writer) { _, _ = io.Copy(to, f) }, true},
		"CopyN":  {func(to io.Writer) { _, _ = io.CopyN(to, f, 1<<20) }, true},
		"hidden": {func(to io.Writer) { _, _ = io.Copy(to, struct{ io.Reader }{f}) }, false},
	} {
		var to receiver
		if tc.copy(&to); to.isFile != tc.want {
			t.Errorf("%s: taken for a file in memory: %v", name, to.isFile)
		}
	}
}

// receiver looks at what io.Copy brings.
type receiver struct {
	io.Writer
	isFile bool
}

func (r *receiver) ReadFrom(from io.Reader) (int64, error) {
	r.isFile = conn.IsCached(from)
	return 0, nil
}

// TestNoDialOnLoop holds that what waits for a loop is refused on one, where it
// would wait for ever.
func TestNoDialOnLoop(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		l := listen(t, g, echo(), conn.Config{})
		udp := listenPacket(t, g, "udp", "127.0.0.1:0", packetEcho(), conn.PacketConfig{})
		accepting, err := conn.NetListen(g, "tcp", "127.0.0.1:0", conn.Config{})
		if err != nil {
			t.Fatal(err)
		}
		ctx, d := t.Context(), &conn.Dialer{}
		done := make(chan struct{})
		g.Loop(0).Post(func(*reactor.Loop) {
			defer close(done)
			for what, err := range map[string]error{
				"DialContext":       second(d.DialContext(ctx, g.Loop(0), "tcp", l.Addr().String(), echo())),
				"DialGroup":         second(d.DialGroup(ctx, g, "tcp", l.Addr().String(), echo())),
				"NetDial":           second(d.NetDial(ctx, g.Loop(0), "tcp", l.Addr().String())),
				"DialPacketContext": second(d.DialPacketContext(ctx, g.Loop(0), "udp", udp.Addr().String(), packetEcho())),
				"Accept":            second(accepting.Accept()),
			} {
				if !errors.Is(err, conn.ErrWouldBlock) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
		<-done
	})
}

func second[T any](_ T, err error) error { return err }
