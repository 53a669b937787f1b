package conn_test

import (
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"runtime/debug"
	"strconv"
	"strings"
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

var stalledPeers = flag.Int("stalled", 250, "peers that do not read, in the test of the budget's memory")

// stalledEnv makes this test binary so many peers that do not read, at an address:
// in a process of their own they have descriptors of their own.
const stalledEnv = "PENSTOCK_TEST_STALLED"

// TestStalledPeers is those peers, until the standard input ends.
func TestStalledPeers(t *testing.T) {
	at, number, ok := strings.Cut(os.Getenv(stalledEnv), " ")
	if !ok {
		return
	}
	to := netip.MustParseAddrPort(at)
	n, err := strconv.Atoi(number)
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Close(fd) }()
		_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 4<<10)
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
			t.Fatal(err)
		}
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// startStalled starts n peers that do not read; they end with the test.
func startStalled(t *testing.T, l *conn.Listener, n int) {
	t.Helper()
	peers := exec.Command(os.Args[0], "-test.run=^TestStalledPeers$")
	peers.Env = append(os.Environ(), fmt.Sprintf("%s=%v %d", stalledEnv, l.Addr(), n))
	in, err := peers.StdinPipe()
	if err == nil {
		err = peers.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = in.Close()
		if err := peers.Wait(); err != nil {
			t.Errorf("the peers: %v", err)
		}
	})
}

// What a budget costs beyond its size, as docs/send-queue.md states it: so much
// whatever is done, and for each connection with a backlog its record and the two
// blocks that are not full.
const (
	beyondBudget = 24 << 20
	beyondConn   = 12 << 10
)

// TestBudgetMemory has many peers that do not read, and a server that sends to all
// of them as much as is taken, against 64 MiB: the process grows by no more than the
// budget and what is stated, and peers that read are served. None of the servers that
// were looked at has such a bound (workerman 1.1, peers 1a).
func TestBudgetMemory(t *testing.T) {
	stalled := *stalledPeers
	if invariants.Enabled || testing.Short() {
		stalled = min(stalled, 150)
	}
	for _, tc := range []struct {
		name string
		size int // of a message
		send func(c *conn.Conn, p []byte) conn.Status
	}{
		{"small writes", 200, func(c *conn.Conn, p []byte) conn.Status { _, err := c.Write(p); return statusOf(err) }},
		{"large writes", 64 << 10, func(c *conn.Conn, p []byte) conn.Status { _, err := c.Write(p); return statusOf(err) }},
		{"through a Ref", 1000, func(c *conn.Conn, p []byte) conn.Status { return c.Ref().Write(p) }},
	} {
		if tc.size == 1000 && testing.Short() {
			continue
		}
		t.Run(name("%s", tc.name), func(t *testing.T) {
			looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
				fillBudget(t, g, stalled, make([]byte, tc.size), tc.send)
			})
		})
	}
}

func fillBudget(t *testing.T, g *reactor.Group, stalled int, p []byte, send func(*conn.Conn, []byte) conn.Status) {
	const size, served = 64 << 20, 512 << 10
	b := conn.NewBudget(size, conn.BudgetReject)
	var opened atomic.Int64
	l := listen(t, g, &conn.Funcs{
		Open: func(c *conn.Conn) {
			var feed func()
			feed = func() { // The kernel's own buffers fill little by little.
				for range 1 + (1<<20)/len(p) {
					if send(c, p) >= conn.Rejected {
						break
					}
				}
				c.AfterFunc(100*time.Millisecond, func(*conn.Conn) { feed() })
			}
			if opened.Add(1) <= int64(stalled) { // Those that read come behind them.
				c.AfterFunc(10*time.Millisecond, func(*conn.Conn) { feed() })
			}
		},
		Data: func(c *conn.Conn, _ *buf.Buf) { // One that reads asks for so many bytes.
			left := served
			c.SetUser(func() {
				for left > 0 && !c.IsFull() {
					if _, err := c.Write(make([]byte, min(left, 8<<10))); err != nil {
						return // It has gone, or is full, and is told when there is room.
					}
					left -= min(left, 8<<10)
				}
			})
			c.User().(func())()
		},
		Drain: func(c *conn.Conn) {
			if pump, ok := c.User().(func()); ok {
				pump()
			}
		},
	}, conn.Config{HighWater: 4 << 20, SendBuffer: 16 << 10, Budget: b})
	debug.FreeOSMemory()
	resident := rss(t)
	startStalled(t, l, stalled)
	testutil.Eventually(t, 20*time.Second, "open", func() bool { return opened.Load() == int64(stalled) })
	enough := min(size*stalled/(stalled+1), size) - stalled*len(p)
	testutil.Eventually(t, 60*time.Second, "a budget that is used up", func() bool {
		time.Sleep(20 * time.Millisecond)
		return b.Stats().Total >= max(enough, size/2)
	})
	for range 2 {
		fast := dial(t, l)
		_, _ = fast.Write([]byte("?"))
		if n, err := io.CopyN(io.Discard, fast, served); n != served || err != nil {
			t.Errorf("one that reads got %d bytes, %v", n, err)
		}
		_ = fast.Close()
	}
	most := size + beyondBudget + stalled*beyondConn
	peak, rose, s := rss(t)-resident, 0, b.Stats()
	fits := func() bool { // What a burst needed besides is given back within seconds.
		debug.FreeOSMemory()
		rose = rss(t) - resident
		return rose <= most || invariants.Enabled // They fill every block, and so it is resident.
	}
	for end := time.Now().Add(testutil.Timeout(10 * time.Second)); !fits() && time.Now().Before(end); {
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("%d peers: total %d KiB; the process grew by %d KiB, %d beyond the budget, %d bytes for each peer; at first by %d",
		stalled, s.Total>>10, rose>>10, (rose-size)>>10, (rose-s.Total)/stalled, peak>>10)
	if s.Peak > size-1+max(len(p), 8<<10) {
		t.Errorf("%+v", s)
	}
	if !fits() {
		t.Errorf("the process grew by %d bytes, at most %d are stated", rose, most)
	}
	_ = g.Close()
	if s := b.Stats(); s.Total != 0 {
		t.Errorf("at the end: %+v", s)
	}
}

// TestAllocsInBudget holds that with a budget, with DropOldest, and with RecvLimit a
// message allocates nothing either.
func TestAllocsInBudget(t *testing.T) {
	if invariants.Enabled {
		return // The detector allocates.
	}
	small := make([]byte, 100)
	for what, cfg := range map[string]conn.Config{
		"budget": {Budget: conn.NewBudget(1<<20, conn.BudgetReject)},
		"close":  {Budget: conn.NewBudget(1<<20, conn.BudgetClose)},
		"drop":   {SlowPeer: conn.DropOldest},
		"recv":   {RecvLimit: 1 << 20},
	} {
		for how, data := range map[string]func(c *conn.Conn, in *buf.Buf){
			"send":  func(c *conn.Conn, in *buf.Buf) { _, _ = c.Write(small[4:]); c.Send(in) },
			"write": func(c *conn.Conn, _ *buf.Buf) { _, _ = c.Write(small) },
			"ref":   func(c *conn.Conn, _ *buf.Buf) { c.Ref().Write(small) },
		} {
			looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
				l := listen(t, g, &conn.Funcs{Data: data}, cfg)
				fd := rawClient(t, l)
				ask, answer := []byte("ping"), make([]byte, len(small))
				if n := testutil.Mallocs(2000, func() { roundTrip(t, fd, ask, answer) }); n > 0.01 {
					t.Errorf("%s, %s: %v allocations a round trip", what, how, n)
				}
			})
		}
	}
}
