package conn_test

import (
	"sync/atomic"
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

// rawClient connects without the runtime's poller, whose buffers would count.
func rawClient(t *testing.T, l *conn.Listener) int {
	t.Helper()
	fd := rawDial(t, rawAddr(l))
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// rawDial is rawClient for a caller that closes by itself.
func rawDial(t *testing.T, at unix.Sockaddr) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	limit := unix.NsecToTimeval(int64(testutil.Timeout(10 * time.Second)))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	if err := unix.Connect(fd, at); err != nil {
		t.Fatal(err)
	}
	return fd
}

func rawAddr(l *conn.Listener) unix.Sockaddr {
	return &unix.SockaddrInet4{Port: int(l.Addr().Port()), Addr: l.Addr().Addr().As4()}
}

// TestAllocs holds that the paths of the steady state allocate nothing.
func TestAllocs(t *testing.T) {
	if invariants.Enabled {
		return // The detector allocates.
	}
	shared := buf.NewShared(make([]byte, 100))
	defer shared.Release()
	small, large := make([]byte, 100), make([]byte, 20<<10)
	vector := [][]byte{small, small}
	nothing := func() {}
	for _, tc := range []struct {
		name string
		size int
		data func(c *conn.Conn, in *buf.Buf)
	}{
		{"echo", 4, func(c *conn.Conn, in *buf.Buf) { c.Send(in) }},
		{"write", 100, func(c *conn.Conn, _ *buf.Buf) { _, _ = c.Write(small) }},
		{"large write", 20 << 10, func(c *conn.Conn, _ *buf.Buf) { _, _ = c.Write(large) }},
		{"writev", 200, func(c *conn.Conn, _ *buf.Buf) { _, _ = c.Writev(vector) }},
		{"encode", 100, func(c *conn.Conn, _ *buf.Buf) {
			c.Encode(100, func(dst []byte) ([]byte, error) { return append(dst, small...), nil })
		}},
		{"shared", 100, func(c *conn.Conn, _ *buf.Buf) { c.SendShared(shared) }},
		{"lent", 100, func(c *conn.Conn, _ *buf.Buf) { c.SendBytes(small, nothing) }},
		{"pause", 4, func(c *conn.Conn, in *buf.Buf) { c.Send(in); c.PauseRead(); c.ResumeRead() }},
	} {
		t.Run(name("%s", tc.name), func(t *testing.T) {
			looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
				l := listen(t, g, &conn.Funcs{Data: tc.data}, conn.Config{})
				fd := rawClient(t, l)
				ask, answer := []byte("ping"), make([]byte, tc.size)
				if n := testutil.Mallocs(4000, func() { roundTrip(t, fd, ask, answer) }); n > 0.01 {
					t.Errorf("%v allocations a round trip", n)
				}
			})
		})
	}
}

func roundTrip(t *testing.T, fd int, ask, answer []byte) {
	if len(ask) > 0 {
		if _, err := unix.Write(fd, ask); err != nil {
			t.Fatal(err)
		}
	}
	for got := 0; got < len(answer); {
		n, err := unix.Read(fd, answer[got:])
		if err == unix.EINTR {
			continue // With a timeout set, a signal of the scheduler ends the call.
		}
		if n <= 0 || err != nil {
			t.Fatalf("read %d, %v", n, err)
		}
		got += n
	}
}

// TestAllocsOfRef holds the same for what comes from another goroutine.
func TestAllocsOfRef(t *testing.T) {
	if invariants.Enabled {
		return
	}
	shared := buf.NewShared(make([]byte, 100))
	defer shared.Release()
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		var ref atomic.Pointer[conn.Ref]
		l := listen(t, g, &conn.Funcs{Open: func(c *conn.Conn) { r := c.Ref(); ref.Store(&r) }}, conn.Config{})
		fd := rawClient(t, l)
		testutil.Eventually(t, 5*time.Second, "open", func() bool { return ref.Load() != nil })
		r, small, answer := *ref.Load(), make([]byte, 100), make([]byte, 300)
		if n := testutil.Mallocs(4000, func() {
			r.Write(small)
			r.SendShared(shared)
			r.Write(small)
			roundTrip(t, fd, nil, answer)
		}); n > 0.01 {
			t.Errorf("%v allocations for three messages", n)
		}
	})
}

// TestAllocsOfFullQueue holds it for a queue that fills and drains all the time.
func TestAllocsOfFullQueue(t *testing.T) {
	if invariants.Enabled {
		return
	}
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		block := make([]byte, 8<<10)
		fill := func(c *conn.Conn) {
			for !c.IsFull() {
				if _, err := c.Write(block); err != nil {
					return
				}
			}
		}
		var hooks atomic.Int64
		l := listen(t, g, &conn.Funcs{
			Open: fill, Drain: func(c *conn.Conn) { hooks.Add(1); fill(c) },
		}, conn.Config{HighWater: 256 << 10, LowWater: 64 << 10, SendBuffer: 64 << 10})
		fd := rawClient(t, l)
		chunk := make([]byte, 256<<10)
		if n := testutil.Mallocs(400, func() { roundTrip(t, fd, nil, chunk) }); n > 0.05 {
			t.Errorf("%v allocations for 256 KiB through a full queue", n)
		}
		if hooks.Load() < 100 {
			t.Errorf("%d drains: the queue was not full", hooks.Load())
		}
	})
}

// TestAllocsOfFanOut holds that a payload for many costs no memory for each of them.
func TestAllocsOfFanOut(t *testing.T) {
	if invariants.Enabled {
		return
	}
	const many = 400 // More than a loop keeps queues for.
	shared := buf.NewShared(make([]byte, 100))
	defer shared.Release()
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		var conns []*conn.Conn // on the loop
		var opened atomic.Int64
		l := listen(t, g, &conn.Funcs{Open: func(c *conn.Conn) { conns = append(conns, c); opened.Add(1) }}, conn.Config{})
		var peers []int
		for range many {
			peers = append(peers, rawClient(t, l))
		}
		testutil.Eventually(t, 5*time.Second, "open", func() bool { return opened.Load() == many })
		tell := func(*reactor.Loop) {
			for _, c := range conns {
				c.SendShared(shared)
			}
		}
		answer := make([]byte, shared.Len())
		if n := testutil.Mallocs(100, func() {
			g.Loop(0).Post(tell)
			for _, fd := range peers {
				roundTrip(t, fd, nil, answer)
			}
		}); n > many/50 {
			t.Errorf("%v allocations for a payload to %d", n, many)
		}
	})
}
