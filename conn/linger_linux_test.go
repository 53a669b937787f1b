package conn_test

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// creeper is a client that takes its time, and no more than it has.
type creeper struct {
	*net.TCPConn
	t     *testing.T
	got   int
	err   error // of the last read
	buf   [4 << 10]byte
	crept chan struct{} // closed behind creepFor
}

// creep connects, with a small buffer, of which its kernel tells of room by the part, and
// with segments much smaller than that: else a window may be too small for one, and the
// other side looks at it again ever more seldom.
func creep(t *testing.T, l *conn.Listener) *creeper {
	t.Helper()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = errors.Join(unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10),
				unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 1460))
		})
		return errors.Join(err, failed)
	}}
	tcp, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tcp.Close() })
	_ = tcp.SetDeadline(time.Now().Add(testutil.Timeout(30 * time.Second)))
	return &creeper{TCPConn: tcp.(*net.TCPConn), t: t, crept: make(chan struct{})}
}

// creepFor has the loop of to, which is the other side, take that many bytes for each
// pause that has passed, for so long, and then the rest if it is to. A loop that is late
// runs what is due in its order: to is not judged before a reader that was to read earlier.
func (c *creeper) creepFor(to *conn.Conn, d, pause time.Duration, least uint64, toEnd bool) {
	c.every(to, d, pause, least, func() {
		if toEnd && c.err == nil {
			c.every(to, time.Hour, time.Millisecond, 64<<10, func() { close(c.crept) })
		} else {
			close(c.crept)
		}
	})
}

// every takes for so long, or until an error, and then runs done.
func (c *creeper) every(to *conn.Conn, d, pause time.Duration, least uint64, done func()) {
	l := to.Loop()
	began, had := l.Now(), time.Duration(0)
	var step *reactor.Timer
	step = l.Every(pause, nil, func() {
		pauses := (l.Now() - began) / pause
		c.take(to, least*uint64(pauses-had))
		if had = pauses; c.err != nil || l.Now() >= began+d {
			step.Stop()
			done()
		}
	})
}

// take reads until to has heard of n bytes more, or has nothing on its way. The kernel
// too may be late.
func (c *creeper) take(to *conn.Conn, n uint64) {
	had, _ := acked(to)
	for c.err == nil {
		now, more := acked(to)
		if now >= had+n || !c.try() && !more {
			return
		}
	}
}

// try reads, and reports whether there was something.
func (c *creeper) try() bool {
	raw, err := c.SyscallConn()
	n := 0
	if err == nil {
		failed := raw.Read(func(fd uintptr) bool {
			n, err = unix.Read(int(fd), c.buf[:])
			return true
		})
		err = errors.Join(err, failed)
	}
	switch {
	case errors.Is(err, unix.EAGAIN):
		time.Sleep(time.Millisecond / 4)
	case err != nil:
		c.err = err
	case n == 0:
		c.err = io.EOF
	default:
		c.got += n
	}
	return c.err == nil && err == nil
}

// acked returns the bytes of which c has heard that they have come, and whether its
// kernel has more.
func acked(c *conn.Conn) (n uint64, more bool) {
	raw, err := c.SyscallConn()
	if err == nil {
		_ = raw.Control(func(fd uintptr) { // Or c has closed.
			if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
				n, more = info.Bytes_acked, info.Notsent_bytes > 0 || info.Unacked > 0
			}
		})
	}
	return n, more
}

// wantAll checks that all has come, and the end.
func (c *creeper) wantAll(size int) {
	c.t.Helper()
	if c.got != size || c.err != io.EOF {
		c.t.Errorf("%d of %d bytes, then %v", c.got, size, c.err)
	}
}

// TestSlowReaderBehindClose has a client that reads slower than CloseTimeout
// would allow, and goes on sending meanwhile: what the kernel has taken before
// the close is not lost to a reset.
func TestSlowReaderBehindClose(t *testing.T) {
	const size = 300 << 10 // Which the kernel takes at once.
	timeout := testutil.Timeout(500 * time.Millisecond)
	looptest.Engines(t, reactor.Config{Loops: 1}, func(t *testing.T, g *reactor.Group) {
		peer, ended := make(chan *creeper, 1), make(chan error, 1)
		h := &conn.Funcs{
			Open: func(c *conn.Conn) {
				_, _ = c.Write(make([]byte, size))
				p := <-peer
				c.Loop().Every(timeout/8, nil, func() { _, _ = p.Write([]byte("still here")) })
				p.creepFor(c, 2*timeout, timeout/8, 12<<10, true) // 64 KiB in a CloseTimeout is the least.
				c.Close()
			},
			Close: func(_ *conn.Conn, err error) { ended <- err },
		}
		c := creep(t, listen(t, g, h, conn.Config{CloseTimeout: timeout, Linger: timeout / 10, SendBuffer: 200 << 10}))
		peer <- c
		<-c.crept
		c.wantAll(size)
		_ = c.Close()
		if err := <-ended; err != nil {
			t.Errorf("closed with %v", err)
		}
	})
}

// TestSlowReaderBehindEOF has a client that ends its side and reads its answer
// without a pause, but slower than the kernel frees room for the next of it
// within a CloseTimeout.
func TestSlowReaderBehindEOF(t *testing.T) {
	const size = 16 << 20
	timeout := testutil.Timeout(500 * time.Millisecond)
	looptest.Engines(t, reactor.Config{Loops: 1}, func(t *testing.T, g *reactor.Group) {
		peer, ended := make(chan *creeper, 1), make(chan error, 1)
		h := &conn.Funcs{
			Open: func(c *conn.Conn) {
				_, _ = c.Write(make([]byte, size))
				(<-peer).creepFor(c, 3*timeout, timeout/8, 1, true)
			},
			Close: func(_ *conn.Conn, err error) { ended <- err },
		}
		l := listen(t, g, h, conn.Config{CloseTimeout: timeout})
		c := creep(t, l)
		_ = c.CloseWrite()
		peer <- c
		<-c.crept
		c.wantAll(size)
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("closed with %v", err)
		}
	})
}
