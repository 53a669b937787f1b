package conn_test

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// TestSlowReaderBehindClose has a client that reads slower than CloseTimeout
// would allow, and goes on sending meanwhile: what the kernel has taken before
// the close is not lost to a reset.
func TestSlowReaderBehindClose(t *testing.T) {
	const size = 400 << 10
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
		l, err := conn.Listen(g, "tcp", "127.0.0.1:0", h, conn.Config{CloseTimeout: timeout, Linger: timeout / 10})
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		buf := make([]byte, size/80)
		got := 0
		for {
			_, _ = c.Write([]byte("still here"))
			n, err := c.Read(buf)
			got += n
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("after %d of %d bytes: %v", got, size, err)
			}
			time.Sleep(timeout / 50) // 1.6 x CloseTimeout in all.
		}
		c.Close()
		if got != size {
			t.Errorf("%d of %d bytes", got, size)
		}
		if err := <-ended; err != nil {
			t.Errorf("closed with %v", err)
		}
	})
}

// TestSlowReaderBehindEOF has a client that ends its side and reads its answer
// without a pause, but slower than the kernel frees room for the next of it
// within a CloseTimeout.
func TestSlowReaderBehindEOF(t *testing.T) {
	const size = 4 << 20
	timeout := testutil.Timeout(300 * time.Millisecond)
	looptest.Engines(t, reactor.Config{Loops: 1}, func(t *testing.T, g *reactor.Group) {
		ended := make(chan error, 1)
		h := &conn.Funcs{
			Open:  func(c *conn.Conn) { _, _ = c.Write(make([]byte, size)) },
			Close: func(_ *conn.Conn, err error) { ended <- err },
		}
		l, err := conn.Listen(g, "tcp", "127.0.0.1:0", h, conn.Config{CloseTimeout: timeout})
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.(*net.TCPConn).CloseWrite()
		buf := make([]byte, 20<<10)
		got := 0
		for {
			n, err := c.Read(buf)
			got += n
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("after %d of %d bytes: %v", got, size, err)
			}
			time.Sleep(timeout / 30)
		}
		if got != size {
			t.Errorf("%d of %d bytes", got, size)
		}
		if err := <-ended; !errors.Is(err, io.EOF) {
			t.Errorf("closed with %v", err)
		}
	})
}
