package main

import (
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"runtime/debug"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"
)

const (
	connections  = 16
	messageBytes = 64
	tail         = 150 * time.Millisecond // goes on, so that the server never measures without load
)

// client is one connection of the generator.
type client struct {
	fd   int
	due  []time.Time // of the messages that are not answered, oldest first
	left int         // bytes of them that the kernel has not taken yet
	got  int         // bytes of the oldest answer
}

// generator keeps its connections in one goroutine: its own scheduling must not
// be part of what it measures.
type generator struct {
	clients  []client
	poll     []unix.PollFd
	bytes    [4096]byte // to send
	buffer   [4096]byte
	closed   bool
	trips    *hdrhistogram.Histogram
	from, to time.Time // of what is recorded
	end      time.Time // of sending
}

// Run connects, tells so, waits for a line on stdin, and prints the report.
func (c *loadCmd) Run() error {
	debug.SetGCPercent(-1)
	g := &generator{closed: c.Rate == 0, trips: newHistogram()}
	if err := g.connect(c.Addr); err != nil {
		return err
	}
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode("ready"); err != nil {
		return err
	}
	if err := waitLine(); err != nil {
		return err
	}
	now := time.Now()
	g.from, g.to = now.Add(warmUp), now.Add(warmUp+c.Each)
	g.end = g.to.Add(tail)
	var err error
	if g.closed {
		err = g.runClosed()
	} else {
		err = g.runOpen(time.Second/time.Duration(c.Rate), c.Spin)
	}
	if err != nil {
		return err
	}
	return out.Encode(loadReport{Trip: summarize(g.trips)})
}

func (g *generator) connect(addr string) error {
	ap, err := netip.ParseAddrPort(addr)
	if err != nil {
		return err
	}
	for range connections {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return os.NewSyscallError("socket", err)
		}
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(ap.Port()), Addr: ap.Addr().As4()}); err != nil {
			return os.NewSyscallError("connect", err)
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if err := unix.SetNonblock(fd, true); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
		g.clients = append(g.clients, client{fd: fd})
		g.poll = append(g.poll, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	return nil
}

// runClosed keeps one message on its way on each connection.
func (g *generator) runClosed() error {
	now := time.Now()
	for i := range g.clients {
		if err := g.send(&g.clients[i], now); err != nil {
			return err
		}
	}
	for now.Before(g.end) {
		if err := g.wait(10 * time.Millisecond); err != nil {
			return err
		}
		now = time.Now()
	}
	return nil
}

// runOpen sends a message each interval, whatever has become of those before.
func (g *generator) runOpen(interval time.Duration, spin bool) error {
	due := time.Now()
	for i := 0; ; {
		now := time.Now()
		if !now.Before(g.end) {
			return nil
		}
		for ; !due.After(now); due = due.Add(interval) {
			if err := g.send(&g.clients[i%connections], due); err != nil {
				return err
			}
			i++
		}
		patience := time.Duration(0)
		if !spin {
			patience = max(0, time.Until(due))
		}
		if err := g.wait(patience); err != nil {
			return err
		}
	}
}

// wait waits for answers and takes them.
func (g *generator) wait(patience time.Duration) error {
	ts := unix.NsecToTimespec(int64(patience))
	n, err := unix.Ppoll(g.poll, &ts, nil)
	if errors.Is(err, unix.EINTR) || n == 0 {
		return nil
	}
	if err != nil {
		return os.NewSyscallError("ppoll", err)
	}
	for i := range g.poll {
		if g.poll[i].Revents != 0 {
			if err := g.take(&g.clients[i]); err != nil {
				return err
			}
		}
	}
	return nil
}

// take reads answers, and sends the next message in a closed loop.
func (g *generator) take(c *client) error {
	n, err := unix.Read(c.fd, g.buffer[:])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return os.NewSyscallError("read", err)
	case n == 0:
		return errors.New("the server has closed a connection")
	}
	now := time.Now()
	for c.got += n; c.got >= messageBytes; c.got -= messageBytes {
		if !now.Before(g.from) && now.Before(g.to) {
			record(g.trips, now.Sub(c.due[0]))
		}
		c.due = append(c.due[:0], c.due[1:]...)
		if g.closed {
			if err := g.send(c, now); err != nil {
				return err
			}
		}
	}
	return g.flush(c)
}

// send sends a message, or as much of it as the kernel takes: a server that
// stands still must not stop the clock of what it delays.
func (g *generator) send(c *client, due time.Time) error {
	c.due = append(c.due, due)
	c.left += messageBytes
	return g.flush(c)
}

// flush sends what is left, as far as the kernel takes it.
func (g *generator) flush(c *client) error {
	for c.left > 0 {
		n, err := unix.Write(c.fd, g.bytes[:min(c.left, len(g.bytes))])
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return os.NewSyscallError("write", err)
		default:
			c.left -= n
		}
	}
	return nil
}
