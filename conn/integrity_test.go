package conn_test

import (
	"crypto/sha256"
	"errors"
	"flag"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/invariants"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

var (
	integrityBytes = flag.Int64("integrity.bytes", 0, "bytes each way over all connections; 0 takes a few MB")
	integrityFor   = flag.Duration("integrity.for", 0, "repeat the integrity test for so long")
)

// readers is how many connections of different speed there are.
const readers = 16

func integrityShare() int64 {
	switch {
	case *integrityBytes > 0:
		return *integrityBytes / readers
	case invariants.Enabled || testing.Short():
		return 64 << 10
	}
	return 256 << 10
}

func TestIntegrity(t *testing.T) {
	for _, tc := range []struct {
		name string
		loop reactor.Config
		cfg  conn.Config
	}{
		{"plain", reactor.Config{Loops: 2}, conn.Config{HighWater: 64 << 10, LowWater: 16 << 10}},
		{"zero copy", reactor.Config{Loops: 2}, conn.Config{HighWater: 256 << 10, ZeroCopyMin: 4 << 10}},
		{"tiny marks", reactor.Config{Loops: 1}, conn.Config{HighWater: 1 << 10, LowWater: 100, SendBuffer: 4096}},
		{"little memory", reactor.Config{Loops: 1, PoolBytes: 16 << 20}, conn.Config{HighWater: 4 << 20, SendBuffer: 4096}},
	} {
		t.Run(name("%s", tc.name), func(t *testing.T) {
			looptest.Engines(t, tc.loop, func(t *testing.T, g *reactor.Group) {
				began := time.Now()
				for round := uint64(1); ; round++ {
					exchange(t, g, tc.cfg, integrityShare(), round)
					if t.Failed() || *integrityFor == 0 || time.Since(began) > *integrityFor {
						break
					}
				}
			})
		})
	}
}

// ends collects what both ends of the connections say.
type ends struct {
	mu   sync.Mutex
	all  map[string]*transfer // by the client's address
	done sync.WaitGroup
}

type transfer struct {
	out, in [sha256.Size]byte // of the server
	err     error
}

// exchange has clients of different speed pull and push random bytes.
func exchange(t *testing.T, g *reactor.Group, cfg conn.Config, share int64, seed uint64) {
	e := &ends{all: map[string]*transfer{}}
	l := listen(t, g, &conn.Funcs{
		Open:  func(c *conn.Conn) { openPusher(c, e, share) },
		Data:  func(c *conn.Conn, in *buf.Buf) { c.User().(*pusher).data(in) },
		Drain: func(c *conn.Conn) { c.User().(*pusher).push() },
		EOF:   func(c *conn.Conn) { c.User().(*pusher).endOfFile() },
		Close: func(c *conn.Conn, err error) { c.User().(*pusher).closed(err) },
	}, cfg)
	defer l.Close()
	var wg sync.WaitGroup
	for i := range readers {
		e.done.Add(1)
		c := dial(t, l)
		_ = c.SetDeadline(time.Now().Add(testutil.Timeout(2 * time.Minute)))
		_ = c.SetReadBuffer(128 << 10 << (i % 4)) // Below the MTU of loopback, 64 KiB, the window stalls.
		wg.Go(func() {
			defer c.Close()
			out, in, err := client(c, share, i, seed)
			if err != nil {
				t.Errorf("client %d: %v", i, err)
				return
			}
			e.done.Wait()
			e.mu.Lock()
			defer e.mu.Unlock()
			s := e.all[c.LocalAddr().String()]
			switch {
			case s == nil || s.err != nil && !errors.Is(s.err, io.EOF):
				t.Errorf("client %d: the server says %+v", i, s)
			case s.out != in || s.in != out:
				t.Errorf("client %d: digests differ: pulled %v, pushed %v", i, s.out == in, s.in == out)
			}
		})
	}
	wg.Wait()
}

// client pushes share random bytes, and pulls to the end of file.
func client(c *net.TCPConn, share int64, i int, seed uint64) (out, in [sha256.Size]byte, err error) {
	sent := make(chan error, 1)
	go func() {
		rng := rand.NewChaCha8([32]byte{byte(i), byte(seed), 1})
		h, chunk := sha256.New(), make([]byte, 1+(i*7919)%30000)
		for left := share; left > 0; {
			p := chunk[:min(int64(len(chunk)), left)]
			_, _ = rng.Read(p)
			h.Write(p)
			if _, err := c.Write(p); err != nil {
				sent <- err
				return
			}
			left -= int64(len(p))
		}
		h.Sum(out[:0])
		sent <- c.CloseWrite()
	}()
	h, chunk := sha256.New(), make([]byte, 1000+(i*104729)%60000)
	var got int64
	for {
		n, err := c.Read(chunk)
		h.Write(chunk[:n])
		if got += int64(n); err == io.EOF {
			break
		} else if err != nil {
			return out, in, err
		}
		if i%3 == 0 {
			time.Sleep(time.Duration(i*10) * time.Microsecond)
		}
	}
	if err := <-sent; err != nil {
		return out, in, err
	}
	if got != share {
		return out, in, errors.New("the pull ended early")
	}
	h.Sum(in[:0])
	return out, in, nil
}

// pusher is the server's side of one connection.
type pusher struct {
	c       *conn.Conn
	e       *ends
	key     string
	left    int64
	rng     *rand.Rand
	src     *rand.ChaCha8
	out, in hash.Hash
	chunk   []byte
	again   bool // a later push is under way
	eof     bool
}

func openPusher(c *conn.Conn, e *ends, share int64) {
	p := &pusher{c: c, e: e, key: c.RemoteAddr().String(), left: share, out: sha256.New(), in: sha256.New(), chunk: make([]byte, 100<<10)}
	p.src = rand.NewChaCha8([32]byte{byte(c.ID()), byte(c.ID() >> 8), 2})
	p.rng = rand.New(p.src)
	c.SetUser(p)
	p.push()
}

// push sends until the queue is full, in pieces of every size, by every means.
func (p *pusher) push() {
	for turn := 0; p.left > 0 && !p.c.IsFull(); turn += len(p.chunk) {
		if turn > 1<<20 { // A peer that reads everything must leave others their turn.
			p.later(0)
			return
		}
		n := min(p.left, int64(1+p.rng.IntN(1+p.rng.IntN(cap(p.chunk)))))
		p.chunk = p.chunk[:n]
		_, _ = p.src.Read(p.chunk)
		for !p.send() {
			// Full by the marks, or no memory: wait for the drain, or for time.
			p.left -= n
			p.out.Write(p.chunk)
			rest := append([]byte(nil), p.chunk...)
			p.retry(rest)
			return
		}
		p.left -= n
		p.out.Write(p.chunk)
	}
	if p.left == 0 && !p.again {
		p.c.CloseWrite()
		if p.eof {
			p.c.Close()
		}
	}
}

func (p *pusher) send() bool {
	c := p.c
	switch p.rng.IntN(5) {
	case 0:
		b := c.Loop().Bulk().Get()
		defer b.Release()
		return b.Append(p.chunk) == len(p.chunk) && c.Send(&b) <= conn.Full
	case 1:
		s := buf.NewShared(p.chunk)
		defer s.Release()
		return c.SendShared(s) <= conn.Full
	case 2:
		lent, pin := append([]byte(nil), p.chunk...), new(runtime.Pinner)
		pin.Pin(&lent[0])
		if c.SendBytes(lent, func() { clear(lent); pin.Unpin() }) <= conn.Full {
			return true
		}
		pin.Unpin()
		return false
	case 3:
		_, err := c.Writev([][]byte{p.chunk[:len(p.chunk)/2], p.chunk[len(p.chunk)/2:]})
		return err == nil
	}
	_, err := c.Write(p.chunk)
	return err == nil
}

// retry sends a message again until it is taken, and then goes on.
func (p *pusher) retry(rest []byte) {
	p.again = true
	p.c.Loop().AfterFunc(time.Millisecond, p.c, func() {
		switch _, err := p.c.Write(rest); {
		case errors.Is(err, conn.ErrClosed):
		case err != nil:
			p.retry(rest)
		default:
			p.again = false
			p.push()
		}
	})
}

func (p *pusher) later(d time.Duration) {
	p.again = true
	p.c.Loop().AfterFunc(d, p.c, func() { p.again = false; p.push() })
}

// data hashes, and stops reading now and then.
func (p *pusher) data(in *buf.Buf) {
	p.in.Write(in.Bytes())
	if p.rng.IntN(20) == 0 {
		p.c.PauseRead()
		p.c.Loop().AfterFunc(time.Millisecond, p.c, p.c.ResumeRead)
	}
}

func (p *pusher) endOfFile() {
	p.eof = true
	if p.left == 0 && !p.again {
		p.c.Close()
	}
}

func (p *pusher) closed(err error) {
	s := &transfer{err: err}
	p.out.Sum(s.out[:0])
	p.in.Sum(s.in[:0])
	p.e.mu.Lock()
	p.e.all[p.key] = s
	p.e.mu.Unlock()
	p.e.done.Done()
}

// TestEchoPaused echoes with tiny marks and with little memory: PauseOnFull
// keeps it in bounds and loses nothing.
func TestEchoPaused(t *testing.T) {
	for _, tc := range []struct {
		name string
		loop reactor.Config
		cfg  conn.Config
	}{
		{"tiny marks", reactor.Config{Loops: 2}, conn.Config{HighWater: 1 << 10, LowWater: 10, PauseOnFull: true}},
		{"little memory", reactor.Config{Loops: 1, PoolBytes: 16 << 20}, conn.Config{HighWater: 8 << 20, PauseOnFull: true, SendBuffer: 4096}},
		{"zero copy", reactor.Config{Loops: 1}, conn.Config{ZeroCopyMin: 1 << 10, PauseOnFull: true}},
	} {
		t.Run(name("%s", tc.name), func(t *testing.T) {
			looptest.Engines(t, tc.loop, func(t *testing.T, g *reactor.Group) {
				var mu sync.Mutex
				var rejected uint64
				h := echo()
				h.Close = func(c *conn.Conn, _ error) { mu.Lock(); rejected += c.Stats().Rejected; mu.Unlock() }
				l := listen(t, g, h, tc.cfg)
				var wg sync.WaitGroup
				for i := range readers {
					c := dial(t, l)
					_ = c.SetReadBuffer(128 << 10 << (i % 4)) // Below the MTU of loopback, 64 KiB, the window stalls.
					wg.Go(func() {
						defer c.Close()
						if out, in, err := client(c, integrityShare(), i, 1); err != nil || out != in {
							t.Errorf("client %d: %v, equal: %v", i, err, out == in)
						}
					})
				}
				wg.Wait()
				testutil.Eventually(t, 5*time.Second, "closed", func() bool { return l.Stats().Open == 0 })
				if rejected != 0 {
					t.Errorf("%d messages refused", rejected)
				}
			})
		})
	}
}
