package conn_test

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// failing is a group that has a loop fail: loop 0 by a handler that ends the goroutine,
// or by its engine.
type failing struct {
	*reactor.Group
	engine int // the descriptor to break; 0: Goexit
}

// fail has the loop fail.
func (f *failing) fail(t *testing.T) {
	if f.engine > 0 {
		breakEngine(t, f.engine)
	}
	f.Loop(0).Post(func(*reactor.Loop) {
		if f.engine == 0 {
			runtime.Goexit()
		}
	})
}

// breakEngine puts another file in the place of an epoll instance.
func breakEngine(t *testing.T, fd int) {
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Error(err)
		return
	}
	defer unix.Close(null)
	if err := unix.Dup3(null, fd, unix.O_CLOEXEC); err != nil {
		t.Error(err)
	}
}

// eachFailure runs a test with a loop that fails: on both engines by Goexit, and by its
// engine where a test can break that.
func eachFailure(t *testing.T, loops int, test func(t *testing.T, f *failing)) {
	for _, c := range []struct {
		name   string
		kind   reactor.EngineKind
		breaks bool
	}{{"uring goexit", reactor.Uring, false}, {"epoll goexit", reactor.Epoll, false}, {"epoll broken", reactor.Epoll, true}} {
		t.Run(c.name, func(t *testing.T) {
			before := epolls(t)
			g, err := reactor.Start(reactor.Config{Loops: loops, Engine: c.kind, Logger: slog.New(slog.DiscardHandler)})
			if c.kind == reactor.Uring {
				testutil.SkipIfKernelOlder(t, "6.1", "io_uring", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			f := &failing{Group: g}
			if c.breaks {
				fresh := slices.DeleteFunc(epolls(t), func(fd int) bool { return slices.Contains(before, fd) })
				f.engine = slices.Min(fresh)
			}
			test(t, f)
			if err := f.Close(); err == nil {
				t.Error("the group knows of no failure")
			}
		})
	}
}

// epolls returns the epoll instances of the process.
func epolls(t *testing.T) (fds []int) {
	names, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		if to, _ := os.Readlink("/proc/self/fd/" + n.Name()); to == "anon_inode:[eventpoll]" {
			fd, _ := strconv.Atoi(n.Name())
			fds = append(fds, fd)
		}
	}
	return fds
}

// within waits for done.
func within(t *testing.T, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(testutil.Timeout(20 * time.Second)):
		t.Fatalf("%s: not within 20 s", what)
	}
}

// TestFailedLoopClosesConnections: each has OnClose once, its peer hears of it, and the
// address is free.
func TestFailedLoopClosesConnections(t *testing.T) {
	eachFailure(t, 1, func(t *testing.T, f *failing) {
		var opens, closes, back atomic.Int64
		lent, err := unix.Mmap(-1, 0, 16<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			t.Fatal(err)
		}
		l := listen(t, f.Group, &conn.Funcs{
			Open: func(c *conn.Conn) { opens.Add(1) },
			Data: func(c *conn.Conn, in *buf.Buf) {
				switch in.Bytes()[in.Len()-1] { // The first may have come with it.
				case 'x':
					if f.engine == 0 {
						runtime.Goexit()
					}
					breakEngine(t, f.engine)
				case 's': // More than the peer takes.
					if s := c.SendBytes(lent, func() { back.Add(1) }); s > conn.Full {
						t.Error(s)
					}
				case 'p':
					c.PauseRead()
				}
			},
			Close: func(_ *conn.Conn, err error) {
				closes.Add(1)
				if f.engine == 0 {
					runtime.Goexit() // One more does no more harm.
				}
			},
		}, conn.Config{ZeroCopyMin: 64 << 10})
		clients := make([]*net.TCPConn, 8)
		for i := range clients {
			clients[i] = dial(t, l)
			defer clients[i].Close()
			_, _ = clients[i].Write([]byte{"sspphhhh"[i]})
		}
		testutil.Eventually(t, 10*time.Second, "all are open", func() bool { return opens.Load() == int64(len(clients)) })
		one := make([]byte, 1)
		if _, err := io.ReadFull(clients[1], one); err != nil { // The send is under way.
			t.Fatal(err)
		}
		_, _ = clients[7].Write([]byte("x"))
		within(t, "the group", f.Done())
		within(t, "the listener", l.Done())
		if back.Load() != 2 {
			t.Errorf("%d of 2 lenders were told", back.Load())
		}
		_ = unix.Munmap(lent)
		for i, c := range clients {
			if _, err := io.Copy(io.Discard, c); errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("client %d hears of nothing", i)
			}
		}
		if o, c := opens.Load(), closes.Load(); o != c {
			t.Errorf("%d opened, %d closed", o, c)
		}
		if s := l.Stats(); s.Open != 0 {
			t.Errorf("%d are open", s.Open)
		}
		if c, err := net.Dial("tcp", l.Addr().String()); err == nil {
			c.Close()
			t.Error("a client could connect")
		}
		again, err := net.Listen("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		again.Close()
	})
}

// TestFailedLoopEndsWaits: nobody waits for ever for a loop that is gone.
func TestFailedLoopEndsWaits(t *testing.T) {
	eachFailure(t, 2, func(t *testing.T, f *failing) {
		tcp, err := conn.NetListen(f.Group, "tcp", "127.0.0.1:0", conn.Config{MaxConns: 100})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "s")
		below := listenUnix(t, f.Group, path, echo(), conn.Config{})
		udp := listenPacket(t, f.Group, "udp", "127.0.0.1:0", packetEcho(), conn.PacketConfig{})
		waits := make(chan string, 8)
		wait := func(what string, fn func() error) {
			go func() {
				if err := fn(); err == nil {
					t.Errorf("%s: no error", what)
				}
				waits <- what
			}()
		}
		wait("http", func() error {
			return http.Serve(tcp, http.NotFoundHandler())
		})
		client, err := net.Dial("tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer client.Close()
		d := &conn.Dialer{}
		full := fullListener(t)
		wait("dial", func() error {
			_, err := d.DialContext(context.Background(), f.Loop(0), "tcp", full, echo())
			return err
		})
		peer := sink(t)
		n, err := d.NetDial(context.Background(), f.Loop(0), "tcp", peer)
		if err != nil {
			t.Fatal(err)
		}
		defer n.Close()
		wait("read", func() error { _, err := n.Read(make([]byte, 1)); return err })
		wait("write", func() (err error) {
			for err == nil {
				_, err = n.Write(make([]byte, 1<<20))
			}
			return err
		})
		testutil.Eventually(t, 10*time.Second, "the dials", func() bool { return d.Stats().Started == 2 })
		time.Sleep(20 * time.Millisecond) // All wait by now, most likely.
		f.fail(t)
		for range 4 {
			select {
			case what := <-waits:
				t.Log(what, "ended")
			case <-time.After(testutil.Timeout(20 * time.Second)):
				t.Fatal("somebody still waits after 20 s")
			}
		}
		within(t, "the group", f.Done())
		within(t, "the listener of a unix socket", below.Done())
		if p, err := net.ListenPacket("udp", udp.Addr().String()); err != nil {
			t.Error(err)
		} else {
			p.Close()
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the file of the unix socket: %v", err)
		}
	})
}

// fullListener returns the address of a listener that has no room, so that who dials
// waits.
func fullListener(t *testing.T) string {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: name.(*unix.SockaddrInet4).Port}
	for range 16 {
		c, err := net.DialTimeout("tcp", addr.String(), 50*time.Millisecond)
		if err != nil {
			return addr.String()
		}
		t.Cleanup(func() { _ = c.Close() })
	}
	t.Fatal("the listener is never full")
	return ""
}

// sink returns the address of a listener whose connections nobody reads from.
func sink(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}
