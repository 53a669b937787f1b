package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/bench/internal/host"
	"github.com/penstock-go/penstock/bench/internal/pattern"
)

const (
	// stallBuffer is the size of the kernel's buffers of a stalled connection:
	// little, so that what it sends is soon the server's to keep.
	stallBuffer = 16 << 10
	// drainBuffer is its size when what is owed is read.
	drainBuffer = 4 << 20
	// All are stuck when nobody has taken a byte at so many looks in a row, so long
	// apart: on a busy machine that is longer, as what the server does is.
	stalledLooks = 20
	stalledEvery = 10 * time.Millisecond
	// settleFor is how long a server's memory must have stayed as it is.
	settleFor = 100 * time.Millisecond
	// crowdWithin bounds what is done to a whole crowd.
	crowdWithin = 20 * time.Second
)

// crowd is connections beside those that are measured: silent, or stalled,
// which send and do not read.
type crowd struct {
	clients []client
	most    int64 // bytes that each sends
	in      []byte
	note    string
	talk    *talk
}

func newCrowd(fds []int, p *pattern.Pattern, first int, t *talk) *crowd {
	c := &crowd{in: make([]byte, 64<<10), talk: t}
	for i, fd := range fds {
		c.clients = append(c.clients, t.client(fd, first+i, p.Stream(first+i)))
	}
	return c
}

// crowd makes connections that speak as spec says. first is the number of the
// first of them.
func (g *generator) crowd(first, n, buffer int) (*crowd, error) {
	fds, note, err := g.dialer.dialAll(n, buffer)
	if err != nil {
		return nil, err
	}
	var t *talk
	if g.answer, err = g.greet(fds, g.spec.WS); err == nil {
		t, err = g.talk()
	}
	if err != nil {
		closeAll(fds)
		return nil, err
	}
	c := newCrowd(fds, g.pattern, first, t)
	c.note = note
	return c, nil
}

func (c *crowd) close() {
	for i := range c.clients {
		_ = unix.Close(c.clients[i].fd)
	}
}

func (c *crowd) sent() (n int64) {
	for i := range c.clients {
		n += c.clients[i].sent
	}
	return n
}

// stall sends on every connection until none takes more.
func (c *crowd) stall() error {
	deadline := time.Now().Add(crowdWithin)
	for vain := 0; vain < stalledLooks && time.Now().Before(deadline); {
		moved := false
		for i := range c.clients {
			for cl := &c.clients[i]; cl.sent < c.most; {
				n, err := unix.Write(cl.fd, cl.stream.At(cl.sent, int(min(c.most-cl.sent, 16<<10))))
				if errors.Is(err, unix.EAGAIN) {
					break
				}
				if err != nil {
					return cl.failed(os.NewSyscallError("write", err))
				}
				cl.sent += int64(n)
				moved = true
			}
		}
		if moved {
			vain = 0
		} else {
			vain++
			time.Sleep(stalledEvery)
		}
		if c.most == 0 {
			return nil
		}
	}
	return nil
}

// drain reads what the stalled ones are owed, and checks it.
func (c *crowd) drain() (checked int64, err error) {
	missing := c.sent()
	for i := range c.clients { // Small buffers made them stall; now they would only take time.
		_ = unix.SetsockoptInt(c.clients[i].fd, unix.SOL_SOCKET, unix.SO_RCVBUF, drainBuffer)
	}
	for deadline := time.Now().Add(crowdWithin); missing > 0; {
		moved := false
		for i := range c.clients {
			n, err := c.read(&c.clients[i])
			if err != nil {
				return checked, fmt.Errorf("a slow reader: %w", err)
			}
			missing, checked, moved = missing-n, checked+n, moved || n > 0
		}
		if moved {
			continue
		}
		if time.Now().After(deadline) {
			return checked, fmt.Errorf("%d bytes had not come back to slow readers after %v", missing, crowdWithin)
		}
		time.Sleep(time.Millisecond)
	}
	return checked, nil
}

// read takes what one connection has, up to the size of the buffer.
func (c *crowd) read(cl *client) (int64, error) {
	if cl.packed == nil && cl.received == c.talk.owed(cl) {
		return 0, nil
	}
	n, err := unix.Read(cl.fd, c.in)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return 0, nil
	case err != nil:
		return 0, cl.failed(os.NewSyscallError("read", err))
	case n == 0:
		return 0, cl.failed(errClosed)
	}
	return c.talk.hear(cl, c.in[:n])
}

// say sends one message on a connection.
func (c *crowd) say(cl *client) error {
	size := c.talk.next(cl)
	if _, err := unix.Write(cl.fd, cl.stream.At(cl.sent, int(size))); err != nil {
		return cl.failed(os.NewSyscallError("write", err))
	}
	cl.sent += size
	cl.goal += c.talk.back
	return nil
}

// hear waits until all that was said on a connection is answered.
func (c *crowd) hear(cl *client) error {
	for deadline := time.Now().Add(crowdWithin); cl.received < cl.goal; {
		n, err := c.read(cl)
		if err != nil {
			return err
		}
		if n == 0 {
			if time.Now().After(deadline) {
				return fmt.Errorf("connection %d: no answer within %v", cl.number, crowdWithin)
			}
			_, _ = unix.Poll([]unix.PollFd{{Fd: int32(cl.fd), Events: unix.POLLIN}}, 100)
		}
	}
	return nil
}

// settledRSS returns the memory of a process once it does not change.
func settledRSS(pid int) (int64, error) {
	last, err := host.RSS(pid)
	for range 20 {
		if err != nil {
			return 0, err
		}
		time.Sleep(settleFor)
		var now int64
		if now, err = host.RSS(pid); now == last {
			break
		}
		last = now
	}
	return last, err
}

// idle measures the server's memory without connections, with many that have
// never said a word, and with the same after an echo each, or more.
func (g *generator) idle(ctx context.Context, opened func()) (*Result, error) {
	warm, err := g.crowd(0, min(64, g.spec.Conns), stallBuffer)
	if err != nil {
		return nil, err
	}
	if err = warm.echoAll(ctx); err != nil {
		warm.close()
		return nil, err
	}
	warm.close()
	r := &g.result
	if r.RSSBefore, err = settledRSS(g.spec.PID); err != nil {
		return nil, err
	}
	opened()
	start := time.Now()
	if g.beside, err = g.crowd(0, g.spec.Conns, 0); err != nil {
		return nil, err
	}
	g.note(g.beside.note)
	r.Conns = len(g.beside.clients)
	if r.RSSIdle, err = settledRSS(g.spec.PID); err != nil {
		return nil, err
	}
	for range g.spec.Echoes {
		if err = g.beside.echoAll(ctx); err != nil {
			return nil, err
		}
	}
	r.Messages, r.Elapsed = int64(r.Conns)*int64(g.spec.Echoes), time.Since(start)
	r.Checked = r.Messages * int64(g.spec.Size)
	r.RSSAfter, err = settledRSS(g.spec.PID)
	return r, err
}

// atOnce is how many of a crowd speak at the same time.
const atOnce = 64

// echoAll sends one message on every connection and reads it back.
func (c *crowd) echoAll(ctx context.Context) error {
	for some := range slices.Chunk(c.clients, atOnce) {
		for i := range some {
			if err := c.say(&some[i]); err != nil {
				return err
			}
		}
		for i := range some {
			if err := c.hear(&some[i]); err != nil {
				return err
			}
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// nothing waits as long as a load would run.
func (g *generator) nothing(ctx context.Context, opened func()) (*Result, error) {
	var from, to snapshot
	sleep := func(d time.Duration) {
		select {
		case <-time.After(d):
		case <-ctx.Done():
		}
	}
	sleep(g.spec.Warm)
	from, err := g.snapshot()
	if err != nil {
		return nil, err
	}
	opened()
	sleep(g.spec.Window)
	if to, err = g.snapshot(); err != nil {
		return nil, err
	}
	g.result.Elapsed, g.result.CPU = to.at-from.at, to.cpu-from.cpu
	return &g.result, ctx.Err()
}
