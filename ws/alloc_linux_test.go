package ws_test

import (
	"bytes"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/invariants"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
	"github.com/penstock-go/penstock/ws"
)

// rawClient connects without the runtime's poller, whose buffers would count, and
// does the handshake.
func rawClient(t testing.TB, l *conn.Listener, headers ...string) int {
	t.Helper()
	fd := rawDial(t, l, headers...)
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// rawDial is rawClient for a caller that closes by itself.
func rawDial(t testing.TB, l *conn.Listener, headers ...string) int {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	limit := unix.NsecToTimeval(int64(testutil.Timeout(10 * time.Second)))
	_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &limit)
	at := l.Addr()
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(at.Port()), Addr: at.Addr().As4()}); err != nil {
		t.Fatal(err)
	}
	writeAll(t, fd, handshake(headers...))
	var head []byte
	for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
		var b [1]byte
		readAll(t, fd, b[:])
		head = append(head, b[0])
	}
	return fd
}

func writeAll(t testing.TB, fd int, p []byte) {
	for len(p) > 0 {
		n, err := unix.Write(fd, p)
		if err != nil {
			t.Fatal(err)
		}
		p = p[n:]
	}
}

func readAll(t testing.TB, fd int, p []byte) {
	for len(p) > 0 {
		n, err := unix.Read(fd, p)
		if err == unix.EINTR {
			continue // With a timeout set, a signal of the scheduler ends the call.
		}
		if n <= 0 || err != nil {
			t.Fatalf("read %d, %v", n, err)
		}
		p = p[n:]
	}
}

// TestAllocs holds that a message of the steady state allocates nothing.
func TestAllocs(t *testing.T) {
	if invariants.Enabled {
		return // The detector allocates.
	}
	prepared := ws.Prepare(ws.Text, []byte("to all"))
	small := []byte("small")
	echo := func(c *ws.Conn, m *ws.Message) { c.SendReceived(m) }
	for _, tc := range []struct {
		name    string
		ask     []frame
		answer  []frame
		headers string
		message func(c *ws.Conn, m *ws.Message)
	}{
		{"echo 64", frames(text(strings.Repeat("x", 64))), nil, "X: y", echo},
		{"echo 1 KiB", frames(bin(strings.Repeat("x", 1<<10))), nil, "X: y", echo},
		{"echo 16 KiB", frames(bin(strings.Repeat("x", 16<<10))), nil, "X: y", echo},
		{"echo 100 KiB", frames(bin(strings.Repeat("x", 100<<10))), nil, "X: y", echo},
		{"echo of many", frames(text("a"), text("b"), bin(strings.Repeat("c", 2500)), text("d")), nil, "X: y", echo},
		{"echo by copy", frames(text("a")), nil, "X: y", func(c *ws.Conn, m *ws.Message) { c.Send(m.Op, m.Bytes()) }},
		{"fragments", frames(more(text("one")), more(cont("two")), cont("three")), frames(text("onetwothree")), "X: y", echo},
		{"ping", frames(ping("x")), frames(pong("x")), "X: y", echo},
		{"prepared", frames(text("a")), frames(text("to all")), "X: y", func(c *ws.Conn, _ *ws.Message) { c.SendPrepared(prepared) }},
		{"small", frames(text("a")), frames(text("small")), "X: y", func(c *ws.Conn, _ *ws.Message) { c.Send(ws.Text, small) }},
		{"compressed", frames(text(sentence(1, 1000))), nil, offerAll, echo},
	} {
		t.Run(name("%s", tc.name), func(t *testing.T) {
			looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
				d := &ws.Deflate{SendTakeover: true, RecvTakeover: true, Threshold: 1 << 20} // The answers are plain.
				_, l, err := ws.Listen(g, "tcp", "127.0.0.1:0", &ws.Funcs{Message: tc.message}, ws.Config{Deflate: d}, conn.Config{})
				if err != nil {
					t.Fatal(err)
				}
				fd := rawClient(t, l, tc.headers)
				want := tc.answer
				if want == nil {
					want = tc.ask
				}
				ask, answer := encode(true, tc.ask...), make([]byte, len(encode(false, want...)))
				if tc.headers == offerAll {
					ask = encode(true, (&squeezer{}).message(t, tc.ask[0]))
				}
				n := 1000
				if len(ask) > 1<<15 {
					n = 200
				}
				if got := testutil.Mallocs(n, func() { writeAll(t, fd, ask); readAll(t, fd, answer) }); got > 0.05 {
					t.Errorf("%v allocations a round trip", got)
				}
				if !bytes.Equal(answer, encode(false, want...)) {
					t.Error("another answer")
				}
			})
		})
	}
}

// TestAllocsOfRef holds the same for what comes from another goroutine, and for
// messages that are compressed on the way out.
func TestAllocsOfRef(t *testing.T) {
	if invariants.Enabled {
		return
	}
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		for _, headers := range []string{"X: y", offerAll} {
			var ref atomic.Pointer[ws.Ref]
			h := &ws.Funcs{Open: func(c *ws.Conn) { r := c.Ref(); ref.Store(&r) }}
			_, l, err := ws.Listen(g, "tcp", "127.0.0.1:0", h, ws.Config{Deflate: &ws.Deflate{Threshold: 100}}, conn.Config{})
			if err != nil {
				t.Fatal(err)
			}
			fd := rawClient(t, l, headers)
			testutil.Eventually(t, 5*time.Second, "open", func() bool { return ref.Load() != nil })
			r := *ref.Load()
			plain, long := []byte("hello"), bytes.Repeat([]byte("all alike "), 100)
			if got := testutil.Mallocs(500, func() {
				r.Send(ws.Text, plain)
				r.Send(ws.Text, long)
				readFrame(t, fd)
				readFrame(t, fd)
			}); got > 0.05 {
				t.Errorf("%q: %v allocations for two messages", headers, got)
			}
		}
	})
}

// TestIdleMemory holds what a WebSocket costs that is open and silent: the record
// of its connection, its own, and nothing of its handshake; with context takeover
// its windows besides, as far as they are filled.
func TestIdleMemory(t *testing.T) {
	if invariants.Enabled {
		return
	}
	const peers = 400
	long := text(sentence(1, 20000))
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		for _, tc := range []struct {
			name    string
			headers string
			say     frame
			most    int
		}{
			{"plain", "X: y", text("hello"), 550},
			{"no takeover", offerAll + "; server_no_context_takeover; client_no_context_takeover", text(sentence(1, 400)), 600},
			{"takeover, little said", offerAll, text(sentence(1, 400)), 600 + 2*512},
			{"takeover, much said", "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12; client_max_window_bits=11", long, 600 + 4096 + 2048},
		} {
			s, l, err := ws.Listen(g, "tcp", "127.0.0.1:0", echoer(), ws.Config{Deflate: everything, PingAfter: time.Hour}, conn.Config{})
			if err != nil {
				t.Fatal(err)
			}
			ask := tc.say
			if tc.headers != "X: y" {
				ask = (&squeezer{}).message(t, ask)
			}
			p := encode(true, ask)
			var fds []int
			defer func() {
				for _, fd := range fds {
					_ = unix.Close(fd)
				}
			}()
			connect := func(n int) {
				for range n {
					fd := rawDial(t, l, tc.headers)
					fds = append(fds, fd)
					writeAll(t, fd, p)
					readFrame(t, fd)
				}
			}
			fds = make([]int, 0, peers+50)
			connect(50) // What a loop needs once.
			before := testutil.Heap()
			connect(peers)
			each := (testutil.Heap() - before) / peers
			t.Logf("%s: %d bytes of heap each", tc.name, each)
			if each > tc.most {
				t.Errorf("%s: %d bytes of heap each, at most %d", tc.name, each, tc.most)
			}
			if n := s.Stats().Open; n != peers+50 {
				t.Errorf("%d open", n)
			}
		}
	})
}

// readFrame reads the payload of a frame away.
func readFrame(t testing.TB, fd int) {
	var p [4096]byte
	readAll(t, fd, p[:2])
	n := int(p[1])
	if n == 126 {
		readAll(t, fd, p[:2])
		n = int(p[0])<<8 | int(p[1])
	}
	for n > 0 {
		k := min(n, len(p))
		readAll(t, fd, p[:k])
		n -= k
	}
}

// TestWritersShareACompressor holds what a message costs that is being written.
func TestWritersShareACompressor(t *testing.T) {
	const peers = 50
	r := dialed(t, options{cfg: ws.Config{Deflate: &ws.Deflate{}}, window: 1 << 20}, offerAll)
	cfg, _ := conn.Config{}.Check()
	var cs []*ws.Conn
	r.funcs.Open = func(c *ws.Conn) { cs = append(cs, c) }
	for range peers {
		fd, p := r.Fake.Open()
		p.AutoRead(true)
		p.Feed(handshake(offerAll))
		r.Loop.Defer(func() { conn.New(r.Loop, int(fd), r.server, cfg) })
		r.Turns(3)
	}
	r.c.Send(ws.Text, []byte(noise(1000))) // The compressor of the loop is there.
	before, data := testutil.Heap(), []byte(noise(20000))
	for _, c := range cs {
		w, err := c.NewWriter(ws.Text)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := w.Write(data[:10000]); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.Turns(5)
	if each := (testutil.Heap() - before) / peers; each > 64<<10 {
		t.Errorf("%d KiB for each message that is being written", each>>10)
	}
	for _, c := range cs {
		c.Conn().Abort()
	}
	r.Turns(5)
}
