package conn_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// TestNetConnCloseFlushes holds that Close gives the peer all that Write has
// taken, and then the end of file.
func TestNetConnCloseFlushes(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		closed := make(chan error, 1)
		n, far := bridged(t, g, "tcp", &conn.Funcs{Close: func(_ *conn.Conn, err error) { closed <- err }}, conn.Config{HighWater: 8 << 20})
		data := make([]byte, 4<<20)
		_, _ = rand.NewChaCha8([32]byte{5}).Read(data)
		if k, err := n.Write(data); k != len(data) || err != nil {
			t.Fatalf("%d, %v", k, err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
		got, err := io.ReadAll(far)
		if !bytes.Equal(got, data) || err != nil {
			t.Errorf("%d bytes of %d, or others; %v", len(got), len(data), err)
		}
		_ = far.Close()
		if err := <-closed; err != nil {
			t.Errorf("OnClose: %v", err)
		}
	})
}

// TestNetConnConcurrent has many goroutines write messages and read at once, until
// the connection is closed under them: messages arrive whole, all that were taken,
// and each goroutine ends.
func TestNetConnConcurrent(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		one, two := netPair(t, g, "tcp", conn.Config{HighWater: 100_000})
		var wg sync.WaitGroup
		var mu sync.Mutex
		taken := map[byte]int{}
		for id := range byte(6) {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(id), 1))
				for {
					size := 5 + rng.IntN([]int{50, 5000, 60_000}[rng.IntN(3)])
					p := bytes.Repeat([]byte{id}, size)
					binary.BigEndian.PutUint32(p[1:], uint32(size))
					k, err := one.Write(p)
					if err != nil {
						if k != 0 || !errors.Is(err, net.ErrClosed) {
							t.Errorf("writer %d: %d, %v", id, k, err)
						}
						return
					}
					mu.Lock()
					taken[id]++
					mu.Unlock()
				}
			})
		}
		for range 3 { // They get nothing, and are ended.
			wg.Go(func() {
				if k, err := one.Read(make([]byte, 10)); k != 0 || !errors.Is(err, net.ErrClosed) {
					t.Errorf("reader: %d, %v", k, err)
				}
			})
		}
		got, bytesIn := map[byte]int{}, 0
		head := make([]byte, 5)
		for {
			if bytesIn > 8<<20 {
				bytesIn = math.MinInt
				for range 3 {
					go one.Close()
				}
			}
			if _, err := io.ReadFull(two, head); err != nil {
				if err != io.EOF {
					t.Error(err)
				}
				break
			}
			body := make([]byte, binary.BigEndian.Uint32(head[1:])-5)
			if _, err := io.ReadFull(two, body); err != nil || bytes.Count(body, head[:1]) != len(body) {
				t.Fatalf("a message of %d bytes by %d is not whole: %v", len(body), head[0], err)
			}
			got[head[0]]++
			bytesIn += len(body)
		}
		wg.Wait()
		_ = two.Close()
		for id, n := range taken {
			if got[id] != n {
				t.Errorf("%d of %d messages of %d arrived", got[id], n, id)
			}
		}
	})
}

// TestNetConnCopy copies through both ends, by pieces of every size.
func TestNetConnCopy(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		data := make([]byte, 3<<20)
		_, _ = rand.NewChaCha8([32]byte{6}).Read(data)
		broken := errors.New("broken")
		for name, tc := range map[string]struct {
			from io.Reader
			want error
		}{
			"large":      {struct{ io.Reader }{bytes.NewReader(data)}, nil},
			"halves":     {iotest.HalfReader(struct{ io.Reader }{bytes.NewReader(data)}), nil},
			"with error": {iotest.DataErrReader(struct{ io.Reader }{bytes.NewReader(data)}), nil},
			"broken":     {io.MultiReader(bytes.NewReader(data), iotest.ErrReader(broken)), broken},
		} {
			one, two := netPair(t, g, "tcp", conn.Config{HighWater: 100_000})
			copied := make(chan error, 1)
			go func() {
				k, err := one.ReadFrom(tc.from)
				if k != int64(len(data)) {
					t.Errorf("%s: %d bytes of %d were copied in", name, k, len(data))
				}
				copied <- err
				_ = one.Close()
			}()
			var got bytes.Buffer
			if k, err := two.WriteTo(&got); k != int64(len(data)) || err != nil || !bytes.Equal(got.Bytes(), data) {
				t.Errorf("%s: %d bytes of %d were copied out, or others; %v", name, k, len(data), err)
			}
			if err := <-copied; err != tc.want {
				t.Errorf("%s: %v", name, err)
			}
			_ = two.Close()
		}
		one, two := netPair(t, g, "tcp", conn.Config{})
		defer two.Close()
		_ = one.Close()
		if _, err := one.ReadFrom(bytes.NewReader(data)); !errors.Is(err, net.ErrClosed) {
			t.Errorf("to a closed connection: %v", err)
		}
		_, _ = two.Write(data[:100])
		if _, err := one.WriteTo(io.Discard); !errors.Is(err, net.ErrClosed) {
			t.Errorf("from a closed connection: %v", err)
		}
	})
}

// TestNetConnFile copies files, which go another way than other readers: from where
// they are, as far as they are to go, and in spite of a deadline in the middle.
func TestNetConnFile(t *testing.T) {
	data := make([]byte, 9<<20+77)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(data)
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		f, err := os.Open(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		at := func() int64 {
			n, err := f.Seek(0, io.SeekCurrent)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
		n, far := bridged(t, g, "tcp", &conn.Funcs{}, conn.Config{HighWater: 100_000, SendBuffer: 64 << 10})
		_, _ = f.Seek(1000, io.SeekStart)
		limited := &io.LimitedReader{R: f, N: 8 << 20}
		_ = n.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		k, err := n.ReadFrom(limited)
		if k == 0 || !errors.Is(err, os.ErrDeadlineExceeded) || at() != 1000+k || limited.N != 8<<20-k {
			t.Fatalf("to a peer that does not read: %d, %v; the file is at %d, %d to go", k, err, at(), limited.N)
		}
		_ = n.SetWriteDeadline(time.Time{})
		copied := make(chan error, 1)
		go func() {
			more, err := n.ReadFrom(limited)
			if k+more != 8<<20 || limited.N != 0 || at() != 1000+8<<20 {
				t.Errorf("%d bytes and %d; the file is at %d, %d to go", k, more, at(), limited.N)
			}
			if err == nil {
				_, err = n.Write([]byte(" and "))
			}
			if err == nil {
				_, err = n.ReadFrom(f)
			}
			copied <- errors.Join(err, n.CloseWrite())
		}()
		got, err := io.ReadAll(far)
		want := string(data[1000:1000+8<<20]) + " and " + string(data[1000+8<<20:])
		if string(got) != want || err != nil {
			t.Errorf("%d bytes of %d, or others; %v", len(got), len(want), err)
		}
		if err := <-copied; err != nil || at() != int64(len(data)) {
			t.Errorf("%v; the file is at %d", err, at())
		}
		if k, err := n.ReadFrom(f); k != 0 || !errors.Is(err, syscall.EPIPE) {
			t.Errorf("behind CloseWrite: %d, %v", k, err)
		}

		n, _ = bridged(t, g, "tcp", &conn.Funcs{}, conn.Config{})
		_, _ = f.Seek(0, io.SeekStart)
		go func() {
			time.Sleep(20 * time.Millisecond)
			_ = n.Close()
		}()
		if _, err := n.ReadFrom(f); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closed in the middle: %v", err)
		}
	})
}

// TestNetDial has a client of net/http dial on a loop, and holds that a NetConn
// ends where another connection would connect again.
func TestNetDial(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(w, r.Body)
		}))
		defer srv.Close()
		d := &conn.Dialer{Reconnect: &conn.Reconnect{Least: time.Millisecond}}
		client := &http.Client{Timeout: testutil.Timeout(10 * time.Second), Transport: &http.Transport{
			DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
				return d.NetDial(ctx, g.Loop(0), network, addr)
			},
		}}
		for range 3 {
			resp, err := client.Post(srv.URL, "text/plain", strings.NewReader("over a loop"))
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(resp.Body)
			if _ = resp.Body.Close(); string(got) != "over a loop" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		}
		srv.CloseClientConnections()
		client.CloseIdleConnections()

		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		n, err := d.NetDial(t.Context(), g.Loop(0), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		reset(far)
		if err := readOne(n); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("reset: %v", err)
		}
		early := make(chan error, 2)
		g.Loop(0).Post(func(l *reactor.Loop) {
			c, err := d.Dial(l, "tcp", srv.Listener.Addr().String(), conn.NopHandler{})
			if err != nil {
				early <- err
				return
			}
			_, err = c.NetConn()
			early <- err
			c.Detach(func(_ conn.Departure, err error) { early <- err; c.Abort() })
		})
		for range 2 {
			if err := <-early; !errors.Is(err, syscall.ENOTCONN) {
				t.Errorf("before it is connected: %v", err)
			}
		}
		testutil.Eventually(t, 5*time.Second, "the end of all connections", func() bool { return d.Stats().Open == 0 })
		if s := d.Stats(); s.Retries != 0 {
			t.Errorf("%d attempts to connect again", s.Retries)
		}
		short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		if n, err := (&conn.Dialer{}).NetDial(short, g.Loop(0), "tcp", "127.0.0.1:1"); err == nil {
			_ = n.Close()
			t.Error("connected to nobody")
		}
	})
}

// TestNetConnDropOldest holds that what goes to make room is never a part of a
// stream, and that the stream's bytes are none that a dropped message takes along.
func TestNetConnDropOldest(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		n, far := bridged(t, g, "tcp", &conn.Funcs{}, conn.Config{HighWater: 2000, SlowPeer: conn.DropOldest})
		stop := make(chan struct{})
		g.Loop(0).Post(func(*reactor.Loop) { <-stop })
		for _, s := range []string{"one ", "two ", "three "} {
			n.Ref().Write(bytes.Repeat([]byte{'x'}, 500))
			if _, err := n.Write([]byte(s)); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 { // The first of these fill the queue, the others have room made.
			n.Ref().Write(bytes.Repeat([]byte{'x'}, 500))
		}
		close(stop)
		if _, err := n.Write([]byte("four")); err != nil {
			t.Fatal(err)
		}
		_ = n.CloseWrite()
		got, err := io.ReadAll(far)
		rest := string(bytes.ReplaceAll(got, []byte{'x'}, nil))
		if rest != "one two three four" || len(got) > 5000 || err != nil {
			t.Errorf("%q in %d bytes, %v", rest, len(got), err)
		}
	})
}

// TestNetConnIsOne holds what a second NetConn, a Pipe beside one, and the end of
// the group come to.
func TestNetConnIsOne(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		opened := make(chan *conn.NetConn, 1)
		h := &conn.Funcs{Open: func(c *conn.Conn) {
			n, err := c.NetConn()
			if again, err2 := c.NetConn(); again != n || err != nil || err2 != nil {
				t.Errorf("a second NetConn: %v, %v", err, err2)
			}
			if _, err := conn.Pipe(c, c, conn.PipeConfig{}); err != conn.ErrPiped {
				t.Errorf("a Pipe beside a NetConn: %v", err)
			}
			opened <- n
		}}
		near, far := pair(t, "unix")
		if err := conn.Attach(g.Loop(0), near, h, conn.Config{}, nil); err != nil {
			t.Fatal(err)
		}
		n := <-opened
		if a, ok := n.LocalAddr().(*net.UnixAddr); !ok || a.Name != far.RemoteAddr().String() {
			t.Errorf("local address %v", n.LocalAddr())
		}
		read := make(chan error)
		go func() { read <- readOne(n) }()
		time.Sleep(10 * time.Millisecond)
		_ = far.Close()
		if err := <-read; err != io.EOF {
			t.Errorf("at the end of file: %v", err)
		}
		piped := make(chan error, 1)
		near, _ = pair(t, "unix")
		_ = conn.Attach(g.Loop(0), near, &conn.Funcs{Open: func(c *conn.Conn) {
			_, _ = conn.Pipe(c, c, conn.PipeConfig{})
			_, err := c.NetConn()
			c.Close()
			_, closed := c.NetConn()
			piped <- errors.Join(err, closed)
		}}, conn.Config{}, nil)
		if err := <-piped; !errors.Is(err, conn.ErrPiped) {
			t.Errorf("a NetConn beside a Pipe: %v", err)
		}
		near, _ = pair(t, "unix")
		_ = conn.Attach(g.Loop(0), near, h, conn.Config{}, nil)
		n = <-opened
		go func() { read <- readOne(n) }()
		time.Sleep(10 * time.Millisecond)
		_ = g.Close()
		var ce *conn.CloseError
		if err := <-read; !errors.Is(err, net.ErrClosed) && !(errors.As(err, &ce) && ce.Reason == conn.Shutdown) {
			t.Errorf("when the group ends: %v", err)
		}
		if _, err := n.Write([]byte("x")); err == nil {
			t.Error("a Write behind the end of the group")
		}
	})
}

// TestNetConnOnLoop holds that nothing waits on a loop, and that what need not
// wait works there.
func TestNetConnOnLoop(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		n, far := bridged(t, g, "tcp", &conn.Funcs{}, conn.Config{HighWater: 1000})
		done := make(chan struct{})
		g.Loop(0).Post(func(*reactor.Loop) {
			defer close(done)
			if err := readOne(n); !errors.Is(err, conn.ErrWouldBlock) {
				t.Errorf("Read: %v", err)
			}
			if k, err := n.Write(make([]byte, 1<<20)); k < 1000 || k > 65<<10 || !errors.Is(err, conn.ErrWouldBlock) {
				t.Errorf("Write: %d, %v", k, err)
			}
			if _, err := n.Detach(); !errors.Is(err, conn.ErrWouldBlock) {
				t.Errorf("Detach: %v", err)
			}
			_ = n.Close()
		})
		<-done
		if got, err := io.ReadAll(far); len(got) < 1000 || err != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

// TestNetConnDetach moves a NetConn with bytes in every place, under a Read that
// waits, to a handler on another loop.
func TestNetConnDetach(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		n, far := bridged(t, g, "tcp", &conn.Funcs{}, conn.Config{ReadAhead: 10})
		_, _ = far.Write([]byte("one "))
		if err := readOne(n); err != nil {
			t.Fatal(err)
		}
		_, _ = far.Write([]byte("two three four "))
		time.Sleep(20 * time.Millisecond)
		_, _ = far.Write([]byte("five "))
		if _, err := n.Write([]byte("written before; ")); err != nil {
			t.Fatal(err)
		}
		if err := conn.Attach(g.Loop(1), n, echo(), conn.Config{}, []byte("o")); err != nil {
			t.Fatal(err)
		}
		if err := readOne(n); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a Read behind it: %v", err)
		}
		if err := conn.Attach(g.Loop(1), n, echo(), conn.Config{}, nil); !errors.Is(err, net.ErrClosed) {
			t.Errorf("a second Attach: %v", err)
		}
		_, _ = far.Write([]byte("six"))
		_ = far.(*net.TCPConn).CloseWrite()
		if got, err := io.ReadAll(far); string(got) != "written before; one two three four five six" || err != nil {
			t.Errorf("%q, %v", got, err)
		}

		n, _ = bridged(t, g, "tcp", &conn.Funcs{}, conn.Config{})
		read := make(chan error)
		go func() { read <- readOne(n) }()
		time.Sleep(10 * time.Millisecond)
		d, err := n.Detach()
		if err != nil {
			t.Fatal(err)
		}
		_ = syscall.Close(d.FD)
		if err := <-read; !errors.Is(err, net.ErrClosed) {
			t.Errorf("a Read that waited: %v", err)
		}

		n, far = bridged(t, g, "tcp", &conn.Funcs{}, conn.Config{})
		reset(far)
		if err := readOne(n); !errors.Is(err, syscall.ECONNRESET) {
			t.Fatal(err)
		}
		if _, err := n.Detach(); err == nil {
			t.Error("a connection that was reset has left")
		}
	})
}

// TestNetListener holds what Accept brings, and what becomes of those that nobody
// has accepted.
func TestNetListener(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		l, err := conn.NetListen(g, "tcp", "127.0.0.1:0", conn.Config{})
		if err != nil {
			t.Fatal(err)
		}
		before := runtime.NumGoroutine()
		var far []net.Conn
		dial := func(n int) {
			for range n {
				c, err := net.Dial("tcp", l.Addr().String())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = c.Close() })
				far = append(far, c)
			}
		}
		dial(1100)
		testutil.Eventually(t, 10*time.Second, "connections", func() bool { return l.Stats().Open >= 1024 })
		time.Sleep(50 * time.Millisecond) // The pause has set in.
		open := l.Stats().Open
		dial(400)
		time.Sleep(30 * time.Millisecond)
		if n := l.Stats().Open; n != open {
			t.Errorf("%d connections wait for Accept, %d a moment ago", n, open)
		}
		if n := runtime.NumGoroutine(); n > before+10 {
			t.Errorf("%d goroutines more for 1500 connections", n-before)
		}
		for range 1400 {
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := c.(*conn.NetConn); !ok {
				t.Fatalf("accepted a %T", c)
			}
			_, _ = c.Write([]byte("x"))
			defer c.Close()
		}
		testutil.Eventually(t, 10*time.Second, "all connections", func() bool { return l.Stats().Accepted == 1500 })
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept behind Close: %v", err)
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Close behind Close: %v", err)
		}
		greeted, refused := 0, 0
		for _, c := range far {
			_ = c.SetReadDeadline(time.Now().Add(testutil.Timeout(10 * time.Second)))
			switch err := readOne(c); {
			case err == nil:
				greeted++
			case !errors.Is(err, os.ErrDeadlineExceeded):
				refused++
			}
		}
		if greeted != 1400 || refused != 100 {
			t.Errorf("%d connections served and %d refused, of 1400 and 100", greeted, refused)
		}
	})
}

// TestNetListenerEnds holds that the end of the group ends Accept.
func TestNetListenerEnds(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		l, err := conn.NetListen(g, "unix", "@penstock-test-"+t.Name(), conn.Config{})
		if err != nil {
			t.Fatal(err)
		}
		accepted := make(chan error)
		go func() { _, err := l.Accept(); accepted <- err }()
		if err := g.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
		if err := <-accepted; !errors.Is(err, net.ErrClosed) {
			t.Error(err)
		}
		if _, err := conn.NetListen(g, "tcp", "127.0.0.1:0", conn.Config{}); err == nil {
			t.Error("listened on a group that has ended")
		}
		if _, err := conn.NetListen(g, "udp", "127.0.0.1:0", conn.Config{}); err == nil {
			t.Error("listened on udp")
		}
	})
}

// TestSyscallConn reaches the socket on the loop and from a goroutine, and no
// longer when it has closed.
func TestSyscallConn(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		closed := make(chan syscall.RawConn, 1)
		h := &conn.Funcs{Close: func(c *conn.Conn, _ error) { raw, _ := c.SyscallConn(); closed <- raw }}
		n, _ := bridged(t, g, "tcp", h, conn.Config{Linger: time.Millisecond})
		check := func(what string, c syscall.Conn) syscall.RawConn {
			raw, err := c.SyscallConn()
			if err != nil {
				t.Fatalf("%s: %v", what, err)
			}
			var nodelay int
			var failed error
			err = raw.Control(func(fd uintptr) {
				nodelay, failed = syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY)
			})
			if err != nil || failed != nil || nodelay == 0 {
				t.Errorf("%s: TCP_NODELAY is %d; %v, %v", what, nodelay, err, failed)
			}
			for i, once := range []func(func(uintptr) bool) error{raw.Read, raw.Write} {
				if err := once(func(uintptr) bool { return true }); err != nil {
					t.Errorf("%s %d: %v", what, i, err)
				}
				if err := once(func(uintptr) bool { return false }); !errors.Is(err, syscall.EAGAIN) {
					t.Errorf("%s %d: %v when it is not done", what, i, err)
				}
			}
			return raw
		}
		raw := check("NetConn", n)
		done := make(chan struct{})
		n.Ref().Do(func(c *conn.Conn) { check("Conn", c); close(done) })
		<-done
		_ = n.Close()
		if err := raw.Control(func(uintptr) { t.Error("ran behind Close") }); !errors.Is(err, net.ErrClosed) {
			t.Errorf("behind Close: %v", err)
		}
		if _, err := n.SyscallConn(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("behind Close: %v", err)
		}
		late := <-closed
		if err := late.Control(func(uintptr) { t.Error("ran behind OnClose") }); !errors.Is(err, net.ErrClosed) {
			t.Errorf("behind OnClose: %v", err)
		}
	})
}

// TestNetConnEndBehindWhatWasHeld makes a NetConn of a connection whose handler holds bytes
// and has heard the end of file: a Read has those bytes, and then the end.
func TestNetConnEndBehindWhatWasHeld(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		near, far := pair(t, "tcp")
		h := &holder{ended: make(chan *conn.NetConn, 1)}
		if err := conn.Attach(g.Loop(0), near, h, conn.Config{}, nil); err != nil {
			t.Fatal(err)
		}
		if _, err := far.Write([]byte("held")); err != nil {
			t.Fatal(err)
		}
		if err := far.(*net.TCPConn).CloseWrite(); err != nil {
			t.Fatal(err)
		}
		n := <-h.ended
		defer n.Close()
		_ = n.SetReadDeadline(time.Now().Add(testutil.Timeout(10 * time.Second)))
		if got, err := io.ReadAll(n); string(got) != "held" || err != nil || !errors.Is(h.first, conn.ErrWouldBlock) {
			t.Errorf("read %q, %v; at first %v", got, err, h.first)
		}
	})
}

// holder holds what it gets until the end of file, and gives it to a NetConn then.
type holder struct {
	leaver
	ended chan *conn.NetConn
	first error
}

func (h *holder) OnEOF(c *conn.Conn) {
	n, _ := c.NetConn()
	_, h.first = n.Read(make([]byte, 10)) // Before this turn brings what was held.
	h.ended <- n
}

// TestNetConnDetached holds what a NetConn hears when somebody else takes its
// connection out of the library: a Read ends, and its own Detach fails with no
// descriptor.
func TestNetConnDetached(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		gone := make(chan conn.Departure, 2)
		leave := func(c *conn.Conn) {
			c.Detach(func(d conn.Departure, err error) {
				if err != nil {
					t.Error(err)
				}
				gone <- d
			})
		}
		n, far := bridged(t, g, "tcp", &conn.Funcs{}, conn.Config{})
		defer far.Close()
		told := make(chan error, 1)
		go func() { _, err := n.Read(make([]byte, 10)); told <- err }()
		time.Sleep(10 * time.Millisecond)
		n.Ref().Do(leave)
		select {
		case err := <-told:
			var ce *conn.CloseError
			if !errors.As(err, &ce) || ce.Reason != conn.Detached {
				t.Errorf("Read: %v", err)
			}
		case <-time.After(testutil.Timeout(5 * time.Second)):
			t.Fatal("Read waits for ever")
		}
		_ = syscall.Close((<-gone).FD)

		n, far = bridged(t, g, "tcp", &conn.Funcs{}, conn.Config{})
		defer far.Close()
		n.Ref().Do(func(c *conn.Conn) {
			leave(c)
			time.Sleep(50 * time.Millisecond) // In which the other Detach begins.
		})
		time.Sleep(10 * time.Millisecond)
		if d, err := n.Detach(); err == nil || d.FD != 0 {
			t.Errorf("descriptor %d, %v", d.FD, err)
		}
		_ = syscall.Close((<-gone).FD)
	})
}
