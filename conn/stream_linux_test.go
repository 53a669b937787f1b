package conn_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// TestSendFile sends one open file to several readers at once, slow ones and
// fast ones, between other sends and with a close behind it.
func TestSendFile(t *testing.T) {
	const size = 12 << 20
	data := noise(11, size)
	file := tempFile(t, data)
	want := sha256.Sum256(bytes.Join([][]byte{[]byte("head"), data, []byte("tail"), data[size/2:]}, nil))
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		var dones atomic.Int32
		l := listen(t, g, &conn.Funcs{Open: func(c *conn.Conn) {
			_, _ = c.Write([]byte("head"))
			c.SendFrom(file, size, func(sent int64, err error) {
				if dones.Add(1); sent != size || err != nil {
					t.Errorf("done: %d bytes, %v", sent, err)
				}
			})
			_, _ = c.Write([]byte("tail"))
			c.SendFrom(io.NewSectionReader(file, size/2, size), -1, func(sent int64, err error) {
				if dones.Add(1); sent != size/2 || err != nil {
					t.Errorf("done: %d bytes, %v", sent, err)
				}
			})
			c.Close()
		}}, conn.Config{})
		const readers = 4
		results := make(chan error, readers)
		for i := range readers {
			c := dial(t, l)
			defer c.Close()
			go func() {
				h := sha256.New()
				p := make([]byte, 1<<20)
				var err error
				for err == nil {
					var n int
					n, err = c.Read(p[:len(p)>>(2*i)])
					h.Write(p[:n])
				}
				if got := h.Sum(nil); err == io.EOF && bytes.Equal(got, want[:]) {
					err = nil
				}
				results <- err
			}()
		}
		for range readers {
			if err := <-results; err != nil {
				t.Error("not what was sent:", err)
			}
		}
		testutil.Eventually(t, 5*time.Second, "done", func() bool { return dones.Load() == 2*readers })
	})
}

// TestSendFileStalled holds that a file to a reader who has stopped waits in no
// block, and that its connection ends as a stream with a loss does.
func TestSendFileStalled(t *testing.T) {
	file := tempFile(t, make([]byte, 32<<20))
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		idle := dial(t, listen(t, g, echo(), conn.Config{}))
		defer idle.Close()
		if _, err := idle.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadFull(idle, make([]byte, 1))
		base := inUse(g)
		for _, kind := range []string{"reset", "abort", "truncate"} {
			if err := os.Truncate(file.Name(), 32<<20); err != nil {
				t.Fatal(err)
			}
			var out conn.Ref
			var sent atomic.Int64
			told, ended := make(chan error, 1), make(chan error, 1)
			l := listen(t, g, &conn.Funcs{
				Open: func(c *conn.Conn) {
					c.SendFrom(file, 32<<20, func(n int64, err error) { sent.Store(n); told <- err })
					out = c.Ref()
				},
				Close: func(_ *conn.Conn, err error) { ended <- err },
			}, conn.Config{})
			c := dial(t, l)
			if _, err := io.ReadFull(c, make([]byte, 1<<20)); err != nil {
				t.Fatal(err)
			}
			time.Sleep(20 * time.Millisecond)
			if n := inUse(g) - base; n > 0 {
				t.Errorf("%s: %d bytes in blocks beside a stalled file", kind, n)
			}
			var want conn.Reason
			switch kind {
			case "reset":
				want = conn.PeerReset
				_ = c.SetLinger(0)
				_ = c.Close()
			case "abort":
				want = conn.Aborted
				out.Do(func(c *conn.Conn) { c.Abort() })
			case "truncate":
				want = conn.StreamFailed
				if err := os.Truncate(file.Name(), 4096); err != nil {
					t.Fatal(err)
				}
				_, err := io.Copy(io.Discard, c)
				if err == nil {
					t.Error("a file that was cut short ended in a FIN")
				}
			}
			var ce *conn.CloseError
			if err := <-ended; !errors.As(err, &ce) || ce.Reason != want {
				t.Errorf("%s: closed with %v", kind, err)
			}
			if err := <-told; err == nil || sent.Load() == 0 || sent.Load() >= 32<<20 {
				t.Errorf("%s: done was told %d bytes and %v", kind, sent.Load(), err)
			}
			_ = c.Close()
			l.Close()
		}
	})
}

// TestSendFromBlocking streams from readers that wait: a pipe of the system and
// a file that hides, both byte for byte, and one that never comes.
func TestSendFromBlocking(t *testing.T) {
	data := noise(12, 3<<20)
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		pr, pw, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		never, block := io.Pipe()
		ended := make(chan error, 1)
		l := listen(t, g, &conn.Funcs{
			Open: func(c *conn.Conn) {
				c.SendFrom(pr, -1, func(_ int64, err error) { _ = pr.Close() })
				c.SendFrom(hidden{bytes.NewReader(data)}, int64(len(data)), nil)
				c.SendFrom(never, -1, func(int64, error) { _ = never.Close() })
			},
			Close: func(_ *conn.Conn, err error) { ended <- err },
		}, conn.Config{})
		c := dial(t, l)
		go func() {
			for p := data; len(p) > 0; p = p[min(len(p), 70_001):] {
				_, _ = pw.Write(p[:min(len(p), 70_001)])
			}
			_ = pw.Close()
		}()
		got := make([]byte, 2*len(data))
		if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got[:len(data)], data) || !bytes.Equal(got[len(data):], data) {
			t.Fatal("not what was sent", err)
		}
		_ = c.SetLinger(0)
		_ = c.Close()
		var ce *conn.CloseError
		if err := <-ended; !errors.As(err, &ce) || ce.Reason != conn.PeerReset {
			t.Errorf("closed with %v", err)
		}
		if _, err := block.Write([]byte("x")); err != io.ErrClosedPipe {
			t.Errorf("the reader that blocked was not given back: %v", err)
		}
	})
}

// TestSendFileLost holds that a file which meets a reset ends with its connection
// when that connects again: it is told once, and the loop goes on.
func TestSendFileLost(t *testing.T) {
	file := tempFile(t, make([]byte, 32<<20))
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		told, down, ended := make(chan error, 8), make(chan error, 8), make(chan error, 1)
		d := &conn.Dialer{Reconnect: &conn.Reconnect{Least: time.Hour, Most: time.Hour}}
		onLoop(t, g, func(loop *reactor.Loop) {
			_, err := d.Dial(loop, "tcp", l.Addr().String(), &conn.Funcs{
				Open: func(c *conn.Conn) {
					c.PauseRead() // So that the file is what meets the reset.
					c.SendFrom(file, -1, func(_ int64, err error) { told <- err })
				},
				Retry: func(c *conn.Conn, r conn.Retry) { down <- r.Err; c.Close() },
				Close: func(_ *conn.Conn, err error) { ended <- err },
			})
			if err != nil {
				t.Error(err)
			}
		})
		peer, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.ReadFull(peer, make([]byte, 1<<20))
		_ = peer.(*net.TCPConn).SetLinger(0)
		_ = peer.Close()
		var ce *conn.CloseError
		for what, ch := range map[string]chan error{"done": told, "OnRetry": down} {
			select {
			case err := <-ch:
				if !errors.As(err, &ce) || ce.Reason != conn.PeerReset {
					t.Errorf("%s is told %v", what, err)
				}
			case <-time.After(testutil.Timeout(5 * time.Second)):
				t.Fatalf("%s is not told", what)
			}
		}
		if err := <-ended; err != nil {
			t.Errorf("closed with %v", err)
		}
		if len(told) > 0 {
			t.Error("told twice")
		}
	})
}
