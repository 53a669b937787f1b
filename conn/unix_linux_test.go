package conn_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// place returns a directory for sockets: the names of sockets are short, and
// that of t.TempDir is not.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "penstock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

var abstracts atomic.Int64

// abstract returns a name that nobody has.
func abstract() string { return fmt.Sprintf("@penstock-test-%d-%d", os.Getpid(), abstracts.Add(1)) }

func listenUnix(t *testing.T, g *reactor.Group, name string, h conn.Handler, cfg conn.Config) *conn.Listener {
	t.Helper()
	l, err := conn.Listen(g, "unix", name, h, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func dialUnix(t testing.TB, name string) *net.UnixConn {
	t.Helper()
	c, err := net.Dial("unix", name)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(testutil.Timeout(30 * time.Second)))
	return c.(*net.UnixConn)
}

// finished waits until nobody listens any more.
func finished(t *testing.T, l *conn.Listener) {
	t.Helper()
	l.Close()
	select {
	case <-l.Done():
	case <-time.After(testutil.Timeout(5 * time.Second)):
		t.Fatal("the listener is still there")
	}
}

// TestUnix serves a socket with a file and one without: who is told to be at the
// two ends, and a stream that is far more than a socket holds, in both
// directions, to its end.
func TestUnix(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		file := filepath.Join(place(t), "s")
		for _, name := range []string{file, abstract()} {
			var local, remote conn.Addr
			var cred conn.PeerCred
			var mu sync.Mutex
			h := echo()
			h.Open = func(c *conn.Conn) {
				mu.Lock()
				defer mu.Unlock()
				var err error
				local, remote = c.LocalAddr(), c.RemoteAddr()
				if cred, err = c.PeerCred(); err != nil {
					t.Error(err)
				}
			}
			l := listenUnix(t, g, name, h, conn.Config{PauseOnFull: true, HighWater: 256 << 10, SendBuffer: 64 << 10})
			if want := (conn.Addr{Net: "unix", Name: name}); l.Addr() != want {
				t.Errorf("listens on %v", l.Addr())
			}
			c := dialUnix(t, name)
			const total = 3 << 20
			sent := bytes.Repeat([]byte("0123456789abcde\n"), total/16)
			go func() {
				_, _ = c.Write(sent)
				_ = c.CloseWrite()
			}()
			if got, err := io.ReadAll(c); !bytes.Equal(got, sent) || err != nil {
				t.Errorf("%d bytes came back of %d, %v", len(got), total, err)
			}
			_ = c.Close()
			mu.Lock()
			if local != l.Addr() || remote != (conn.Addr{Net: "unix"}) {
				t.Errorf("from %v to %v", remote, local)
			}
			if want := (conn.PeerCred{PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid()}); cred != want {
				t.Errorf("the peer is %+v, want %+v", cred, want)
			}
			mu.Unlock()
			finished(t, l)
			if _, err := net.Dial("unix", name); err == nil {
				t.Error("somebody still listens")
			}
		}
		if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file is still there: %v", err)
		}
	})
}

// TestNoCred asks for what TCP does not have.
func TestNoCred(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		told := make(chan error, 2)
		l := listen(t, g, &conn.Funcs{
			Open:  func(c *conn.Conn) { _, err := c.PeerCred(); told <- err; c.Close() },
			Close: func(c *conn.Conn, _ error) { _, err := c.PeerCred(); told <- err },
		}, conn.Config{})
		dial(t, l).Close()
		if err := <-told; !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
		if err := <-told; !errors.Is(err, conn.ErrClosed) {
			t.Error(err)
		}
	})
}

// TestUnixEnds has bytes and the end of the stream come at once to a receive that
// waits, many times: the end is heard each time. A receive that stays armed on a
// unix socket can lose it (liburing#1549).
func TestUnixEnds(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		var ends atomic.Int64
		h := echo()
		h.EOF = func(c *conn.Conn) { ends.Add(1); c.Close() }
		l := listenUnix(t, g, abstract(), h, conn.Config{})
		total := int64(fewer(2000))
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for i := range total / 4 {
					c := dialUnix(t, l.Addr().Name)
					_ = c.SetDeadline(time.Now().Add(testutil.Timeout(3 * time.Second)))
					_, _ = c.Write([]byte("ping"))
					if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
						t.Error(err)
					}
					want := strings.Repeat("x", int(i%7)*1000+1)
					_, _ = c.Write([]byte(want))
					_ = c.CloseWrite()
					if got, err := io.ReadAll(c); string(got) != want || err != nil {
						t.Errorf("%d bytes of %d, %v", len(got), len(want), err)
						return
					}
					_ = c.Close()
				}
			})
		}
		wg.Wait()
		if n := ends.Load(); n != total/4*4 {
			t.Errorf("%d ends of %d", n, total/4*4)
		}
	})
}

// TestUnixSpreads holds that the connections of a unix socket go to all loops.
func TestUnixSpreads(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 3}, func(t *testing.T, g *reactor.Group) {
		var on [3]atomic.Int64
		h := echo()
		h.Open = func(c *conn.Conn) { on[c.Loop().ID()].Add(1) }
		l := listenUnix(t, g, abstract(), h, conn.Config{})
		for range 30 {
			c := dialUnix(t, l.Addr().Name)
			_, _ = c.Write([]byte("ping"))
			if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
				t.Error(err)
			}
			_ = c.Close()
		}
		for i := range on {
			if n := on[i].Load(); n != 10 {
				t.Errorf("%d of 30 on loop %d", n, i)
			}
		}
		testutil.Eventually(t, 5*time.Second, "closed", func() bool { return l.Stats().Open == 0 })
		if s := l.Stats(); s.Accepted != 30 {
			t.Errorf("%+v", s)
		}
	})
}

// stale leaves the socket of a server that is gone.
func stale(t *testing.T, name string) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	_ = l.Close()
}

// TestUnixInTheWay holds what is replaced, a socket that nobody listens on, and
// what is refused and left where it is: all else. gnet removes whatever there is
// at the path.
func TestUnixInTheWay(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		dir := place(t)
		at := func(name string) string { return filepath.Join(dir, name) }
		stale(t, at("stale"))
		finished(t, listenUnix(t, g, at("stale"), echo(), conn.Config{}))

		live := listenUnix(t, g, at("live"), echo(), conn.Config{})
		foreign, err := net.Listen("unix", at("foreign"))
		if err != nil {
			t.Fatal(err)
		}
		defer foreign.Close()
		taken := listenUnix(t, g, abstract(), echo(), conn.Config{})
		must := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		must(os.WriteFile(at("file"), []byte("precious"), 0o600))
		must(os.Mkdir(at("dir"), 0o700))
		must(os.Symlink(at("live"), at("link")))
		must(os.Symlink(at("nowhere"), at("dangling")))
		must(syscall.Mkfifo(at("fifo"), 0o600))
		packets, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: at("packets")})
		must(err)
		defer packets.Close()
		for name, want := range map[string]error{
			at("live"): syscall.EADDRINUSE, at("foreign"): syscall.EADDRINUSE, taken.Addr().Name: syscall.EADDRINUSE,
			at("packets"): syscall.EADDRINUSE, at("file"): syscall.EEXIST, at("dir"): syscall.EEXIST,
			at("link"): syscall.EEXIST, at("dangling"): syscall.EEXIST, at("fifo"): syscall.EEXIST,
			at("no/dir"): syscall.ENOENT, at("file/s"): syscall.ENOTDIR,
		} {
			before, _ := os.Lstat(name)
			l, err := conn.Listen(g, "unix", name, echo(), conn.Config{})
			if l != nil || !errors.Is(err, want) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
			if after, _ := os.Lstat(name); before != nil && (after == nil || !os.SameFile(before, after)) {
				t.Errorf("%s is not what it was", name)
			}
		}
		for _, l := range []*conn.Listener{live, taken} {
			c := dialUnix(t, l.Addr().Name)
			_, _ = c.Write([]byte("ping"))
			if _, err := io.ReadFull(c, make([]byte, 4)); err != nil {
				t.Errorf("%s no longer serves: %v", l.Addr(), err)
			}
			_ = c.Close()
		}
	})
}

// TestUnixNames holds which names are none.
func TestUnixNames(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		dir := place(t)
		long := dir + "/" + strings.Repeat("a", 106-len(dir))
		for _, good := range []string{long, "@" + strings.Repeat("b", 106)} {
			l := listenUnix(t, g, good, echo(), conn.Config{})
			dialUnix(t, good).Close()
			finished(t, l)
		}
		for bad, want := range map[string]string{
			"": "empty", "@": "empty", dir + "/a\x00b": "zero byte", "@a\x00b": "zero byte", "\x00a": "zero byte",
			long + "a": "108 bytes", "@" + strings.Repeat("b", 200): "201 bytes",
		} {
			if _, err := conn.Listen(g, "unix", bad, echo(), conn.Config{}); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%q: %v", bad, err)
			}
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("left behind: %v", left)
		}
	})
}

// TestUnixMode holds that the file has the mode that was asked for, whatever the
// umask, and that what has no file has no mode.
func TestUnixMode(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		name := filepath.Join(place(t), "s")
		was := unix.Umask(0o027)
		defer unix.Umask(was)
		for mode, want := range map[fs.FileMode]fs.FileMode{0: 0o750, 0o600: 0o600, 0o666: 0o666, 0o777: 0o777, 0o620: 0o620} {
			l := listenUnix(t, g, name, echo(), conn.Config{Mode: mode})
			info, err := os.Lstat(name)
			if err != nil || info.Mode() != want|fs.ModeSocket {
				t.Errorf("mode %v: %v, %v", mode, info.Mode(), err)
			}
			finished(t, l)
		}
		for _, bad := range []struct {
			network, address string
			mode             fs.FileMode
		}{{"unix", abstract(), 0o600}, {"tcp", "127.0.0.1:0", 0o600}, {"unix", name, fs.ModeSetuid | 0o600}} {
			if _, err := conn.Listen(g, bad.network, bad.address, echo(), conn.Config{Mode: bad.mode}); err == nil {
				t.Errorf("%+v is served", bad)
			}
		}
	})
}

// TestUnixNotOurs holds that a listener that closes leaves a file that is not
// the one it made.
func TestUnixNotOurs(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		name := filepath.Join(place(t), "s")
		for _, next := range []func(){
			func() { stale(t, name) },
			func() { _ = os.WriteFile(name, nil, 0o600) },
			func() {}, // gone
		} {
			l := listenUnix(t, g, name, echo(), conn.Config{})
			_ = os.Remove(name)
			next()
			before, _ := os.Lstat(name)
			finished(t, l)
			if after, _ := os.Lstat(name); before != nil && (after == nil || !os.SameFile(before, after)) {
				t.Error("somebody else's file is gone")
			}
			_ = os.Remove(name)
		}
	})
}

// TestUnixAtOnce has many start at once where a stale socket is: one serves, and
// is the one that clients reach; the others are refused.
func TestUnixAtOnce(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		name := filepath.Join(place(t), "s")
		for range fewer(40) {
			stale(t, name)
			const starts = 6
			ready := make(chan struct{})
			var served atomic.Int64
			var wg sync.WaitGroup
			var won [starts]*conn.Listener
			for i := range starts {
				wg.Go(func() {
					h := &conn.Funcs{Data: func(c *conn.Conn, in *buf.Buf) {
						served.Store(int64(i))
						c.Send(in)
					}}
					<-ready
					l, err := conn.Listen(g, "unix", name, h, conn.Config{})
					if won[i] = l; err != nil && !errors.Is(err, syscall.EADDRINUSE) {
						t.Error(err)
					}
				})
			}
			close(ready)
			wg.Wait()
			winner := -1
			for i, l := range won {
				switch {
				case l == nil:
				case winner >= 0:
					t.Errorf("both %d and %d listen", winner, i)
				default:
					winner = i
				}
			}
			if winner < 0 {
				t.Fatal("nobody listens")
			}
			c := dialUnix(t, name)
			_, _ = c.Write([]byte("ping"))
			if _, err := io.ReadFull(c, make([]byte, 4)); err != nil || served.Load() != int64(winner) {
				t.Errorf("%d serves and not %d, %v", served.Load(), winner, err)
			}
			_ = c.Close()
			for _, l := range won {
				if l != nil {
					finished(t, l)
				}
			}
			if _, err := os.Lstat(name); err == nil {
				t.Fatal("the file is still there")
			}
		}
	})
}

// TestUnixForcedClose holds that Close of a group does not wait for those who were
// still in the queue of a unix socket, whatever loop they went to.
func TestUnixForcedClose(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 3}, func(t *testing.T, g *reactor.Group) {
		large := buf.NewShared(make([]byte, 4<<20))
		defer large.Release()
		l := listenUnix(t, g, abstract(), &conn.Funcs{Open: func(c *conn.Conn) { c.SendShared(large) }},
			conn.Config{CloseTimeout: time.Hour, Linger: time.Hour})
		stop := make(chan struct{})
		for i := range 2 { // One loop goes ahead, and has nobody yet.
			g.Loop(i).Post(func(*reactor.Loop) { <-stop })
		}
		for range 200 {
			defer dialUnix(t, l.Addr().Name).Close()
		}
		ended := make(chan error)
		go func() { ended <- g.Close() }()
		time.Sleep(20 * time.Millisecond)
		close(stop)
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
		case <-time.After(testutil.Timeout(5 * time.Second)):
			t.Fatal("the group is still there")
		}
	})
}

// TestUnixAbort holds what the peer of a unix socket sees of an abort: what the
// kernel has taken, and no more.
func TestUnixAbort(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		ends := make(chan error, 1)
		stats := make(chan conn.Stats, 1)
		l := listenUnix(t, g, abstract(), &conn.Funcs{
			Open: func(c *conn.Conn) {
				_, _ = c.Write(make([]byte, 8<<20))
				c.AfterFunc(20*ms, (*conn.Conn).Abort)
			},
			Close: func(c *conn.Conn, err error) { stats <- c.Stats(); ends <- err },
		}, conn.Config{})
		c := dialUnix(t, l.Addr().Name)
		defer c.Close()
		s := <-stats
		var ce *conn.CloseError
		if err := <-ends; !errors.As(err, &ce) || ce.Reason != conn.Aborted || ce.LostBytes == 0 {
			t.Errorf("closed with %v", err)
		}
		if n, err := io.Copy(io.Discard, c); uint64(n) != s.BytesOut || err != nil {
			t.Errorf("the peer has %d bytes of the %d taken, %v", n, s.BytesOut, err)
		}
	})
}
