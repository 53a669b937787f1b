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
	t   *testing.T
	got int
	err error // of the last Read
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
	return &creeper{TCPConn: tcp.(*net.TCPConn), t: t}
}

// take reads until so many bytes more have come to its kernel, which is what the other
// side sees of a reader, or until the end.
func (c *creeper) take(n uint64) {
	buf := make([]byte, 4<<10)
	for came := c.came(); c.err == nil && c.came()-came < n; {
		c.read(buf)
	}
}

// creepFor takes something again and again for so long, with a pause behind each.
func (c *creeper) creepFor(d, pause time.Duration) {
	for began := time.Now(); c.err == nil && time.Since(began) < d; time.Sleep(pause) {
		c.take(1)
	}
}

func (c *creeper) read(buf []byte) {
	n, err := c.Read(buf)
	c.got, c.err = c.got+n, err
}

// came returns the bytes that its kernel has received.
func (c *creeper) came() (n uint64) {
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) {
			if info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
				n = info.Bytes_received
			}
		})
	}
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// rest reads to the end, and checks that all has come.
func (c *creeper) rest(size int) {
	c.t.Helper()
	for buf := make([]byte, 64<<10); c.err == nil; {
		c.read(buf)
	}
	if c.got != size || !errors.Is(c.err, io.EOF) {
		c.t.Errorf("%d of %d bytes, then %v", c.got, size, c.err)
	}
}

// TestSlowReaderBehindClose has a client that reads slower than CloseTimeout
// would allow, and goes on sending meanwhile: what the kernel has taken before
// the close is not lost to a reset.
func TestSlowReaderBehindClose(t *testing.T) {
	const size = 512 << 10
	timeout := testutil.Timeout(500 * time.Millisecond)
	looptest.Engines(t, reactor.Config{Loops: 1}, func(t *testing.T, g *reactor.Group) {
		ended := make(chan error, 1)
		h := &conn.Funcs{
			Open: func(c *conn.Conn) {
				_, _ = c.Write(make([]byte, size))
				c.Close()
			},
			Close: func(_ *conn.Conn, err error) { ended <- err },
		}
		l := listen(t, g, h, conn.Config{CloseTimeout: timeout, Linger: timeout / 10})
		c := creep(t, l)
		for began := time.Now(); c.err == nil && time.Since(began) < 5*timeout/2; time.Sleep(timeout / 8) {
			_, _ = c.Write([]byte("still here"))
			c.take(24 << 10) // 64 KiB in a CloseTimeout is the least.
		}
		c.rest(size)
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
		ended := make(chan error, 1)
		h := &conn.Funcs{
			Open:  func(c *conn.Conn) { _, _ = c.Write(make([]byte, size)) },
			Close: func(_ *conn.Conn, err error) { ended <- err },
		}
		l := listen(t, g, h, conn.Config{CloseTimeout: timeout})
		c := creep(t, l)
		_ = c.CloseWrite()
		c.creepFor(3*timeout, timeout/8)
		c.rest(size)
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("closed with %v", err)
		}
	})
}
