package firehose

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// watcher checks, while it serves, what the protocol promises of memory.
type watcher struct {
	Handler
	mu               sync.Mutex
	heldMost, chunks int
	ends             []error
}

func (w *watcher) OnClose(c *conn.Conn, err error) {
	s := of(c)
	w.Handler.OnClose(c, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ends = append(w.ends, err)
	if s.in != nil || s.msg != nil || s.c != nil {
		w.chunks++
	}
}

func (w *watcher) OnDrain(c *conn.Conn) {
	w.mu.Lock()
	w.heldMost = max(w.heldMost, cap(of(c).in))
	w.mu.Unlock()
	w.Handler.OnDrain(c)
}

// start serves on a free port of loopback.
func start(t *testing.T, h conn.Handler, cfg conn.Config) (addr string, stop func()) {
	t.Helper()
	g, err := reactor.Start(reactor.Config{Loops: 1, Engine: reactor.Epoll})
	if err != nil {
		t.Fatal(err)
	}
	l, err := conn.Listen(g, "tcp", "127.0.0.1:0", h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), func() {
		ctx, cancel := context.WithTimeout(context.Background(), testutil.Timeout(10*time.Second))
		defer cancel()
		if err := g.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	}
}

func ask(t *testing.T, addr, text string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(testutil.Timeout(30 * time.Second)))
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestManyCommands sends far more commands than are served at once, each with
// an answer of its own, and checks how much of them was held at any time.
func TestManyCommands(t *testing.T) {
	w := &watcher{}
	addr, stop := start(t, w, conn.Config{HighWater: 4 << 10})
	var asked, want bytes.Buffer
	for i := range 10_000 {
		n := i % 150
		fmt.Fprintf(&asked, "SEND %d s%d\n", n, i)
		want.Write(reference(fmt.Sprintf("s%d", i), n))
	}
	asked.WriteString("QUIT\nthis is not served")
	c := ask(t, addr, "")
	defer c.Close()
	go func() { _, _ = c.Write(asked.Bytes()) }()
	time.Sleep(50 * time.Millisecond) // So that the queue fills at least once.
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, want.Bytes()) {
		t.Errorf("%d bytes, want %d: %v", len(got), want.Len(), err)
	}
	_ = c.Close()
	stop()
	// What is held, and the block behind which reading pauses, with the growth of append.
	if most := 4 * (heldInput + reactor.BulkBlock); w.heldMost > most || w.chunks != 0 {
		t.Errorf("%d bytes of input were held, want at most %d; %d sessions kept something", w.heldMost, most, w.chunks)
	}
	if len(w.ends) != 1 || w.ends[0] != nil {
		t.Errorf("it ended with %v", w.ends)
	}
}

// TestQuitPatience has the end wait behind a full queue whose peer does not read, also one
// that a SEND has not filled to its end yet: for Patience, and not for the time of a flush besides.
func TestQuitPatience(t *testing.T) {
	for _, asked := range []string{"FLOOD 3 1000000 x\nQUIT\n", "SEND 100000000 x\nQUIT\n", "SEND 100000000 x\nSEND 1 y\r\nQUIT\r\n", "SEND 100000000 x\nBYE\n", "SEND 100000000 x\n"} {
		t.Run(asked, func(t *testing.T) { quitPatience(t, asked) })
	}
}

func quitPatience(t *testing.T, asked string) {
	rejected := 0
	w := &watcher{Handler: Handler{Patience: 100 * time.Millisecond, Rejected: func(*conn.Conn, int) { rejected++ }}}
	addr, stop := start(t, w, conn.Config{HighWater: 4 << 10, CloseTimeout: time.Hour, SendBuffer: 4 << 10})
	c := ask(t, addr, "")
	defer c.Close()
	// Small buffers on both sides, so that the kernel holds little.
	if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, asked); err != nil {
		t.Fatal(err)
	}
	if strings.Count(asked, "\n") == 1 {
		_ = c.(*net.TCPConn).CloseWrite()
	}
	testutil.Eventually(t, 20*time.Second, "the end of a connection that nobody reads", func() bool {
		w.mu.Lock()
		defer w.mu.Unlock()
		return len(w.ends) == 1
	})
	stop()
	if ce, ok := w.ends[0].(*conn.CloseError); !ok || ce.Reason != conn.WriteTimeout || ce.LostBytes == 0 || (rejected > 0) != (asked[0] == 'F') {
		t.Errorf("it ended with %v, and %d rejections", w.ends[0], rejected)
	}
}

// TestQuitBehindSlowReader has a QUIT wait behind a queue whose peer reads for twice as
// long as Patience, a little at a time: it gets everything.
func TestQuitBehindSlowReader(t *testing.T) {
	const size, steps = 1_000_000, 40
	patience := testutil.Timeout(time.Second)
	w := &watcher{Handler: Handler{Patience: patience}}
	addr, stop := start(t, w, conn.Config{HighWater: 4 << 10, SendBuffer: 4 << 10})
	c := ask(t, addr, "")
	defer c.Close()
	if err := c.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(c, fmt.Sprintf("FLOOD 1 %d x\nQUIT\n", size)); err != nil {
		t.Fatal(err)
	}
	for range steps {
		if _, err := io.ReadFull(c, make([]byte, size/steps)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * patience / steps)
	}
	if rest, err := io.ReadAll(c); err != nil || len(rest) != HeadSize {
		t.Errorf("%d bytes at the end, %v", len(rest), err)
	}
	stop()
	if len(w.ends) != 1 || w.ends[0] != nil {
		t.Errorf("it ended with %v", w.ends)
	}
}
