package load

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/bench/internal/pattern"
	"github.com/penstock-go/penstock/internal/sys"
)

// client is one connection. Counts are in bytes since it was made.
type client struct {
	fd       int
	index    int32          // in worker.clients
	number   int            // over all threads, as errors name it
	stream   pattern.Stream // what is sent
	back     pattern.Stream // what is to come
	packed   *packed        // instead of it, where it is compressed: received is then in bytes of messages
	goal     int64          // what is to be sent
	sent     int64
	received int64
	end      int64 // where the next answer ends
	asked    int   // messages in goal without a time
	times    fifo  // of the messages on their way
	blocked  bool  // the socket is full
	queued   bool  // is in worker.due
}

// window is when latencies count, in ns of the generator's clock.
type window struct{ from, to, stop atomic.Int64 }

// never is a time that does not come.
const never = 1 << 62

// worker is one thread of the generator. The Go scheduler is told of no call that does
// not block: told of each, its monitor looks at this thread every 70 µs for a part of the
// time, and has no other CPU to do it.
type worker struct {
	spec    *Spec
	base    time.Time // of the clock
	win     *window
	epoll   int
	clients []client
	events  []unix.EpollEvent
	in      []byte
	due     []int32 // clients to write to in this turn
	times   *hdrhistogram.Histogram
	shape   shape
	open    int64 // bytes that are to come back and have not
	talk    *talk

	answered, idle, checked atomic.Int64
}

// shape is what differs between the ways to load a server.
type shape interface {
	// begin asks for the first messages.
	begin(w *worker, now int64)
	// feed asks for what is due now, and returns when the next is.
	feed(w *worker, now int64) (next int64, err error)
	// answer hears of a whole message that has come back.
	answer(w *worker, c *client, now int64)
}

func newWorker(spec *Spec, base time.Time, win *window, s shape, t *talk) (*worker, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	return &worker{spec: spec, base: base, win: win, shape: s, talk: t, epoll: epoll, times: NewHistogram(),
		events: make([]unix.EpollEvent, 1024), in: make([]byte, max(64<<10, min(spec.Size, pattern.MaxChunk)))}, nil
}

// add takes a connected socket over.
func (w *worker) add(fd, number int, s pattern.Stream) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET&0xffffffff, Fd: int32(len(w.clients))}
	c := w.talk.client(fd, number, s)
	c.index = int32(len(w.clients))
	w.clients = append(w.clients, c)
	return os.NewSyscallError("epoll_ctl", unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, fd, &ev))
}

func (w *worker) close() {
	_ = unix.Close(w.epoll)
	for i := range w.clients {
		_ = unix.Close(w.clients[i].fd)
	}
}

func (w *worker) now() int64 { return int64(time.Since(w.base)) }

// ask has one more message sent on a connection, in this turn.
func (w *worker) ask(i int32) {
	c := &w.clients[i]
	c.goal += w.talk.next(c)
	w.open += w.talk.back
	if !c.queued && !c.blocked {
		c.queued = true
		w.due = append(w.due, i)
	}
}

// run loads the server until the window's stop, and until all is answered.
func (w *worker) run() error {
	now := w.now()
	w.shape.begin(w, now)
	for {
		next, err := w.shape.feed(w, now)
		if err != nil {
			return err
		}
		for _, i := range w.due {
			w.clients[i].queued = false
			if err := w.transmit(&w.clients[i]); err != nil {
				return err
			}
		}
		w.due = w.due[:0]
		n, err := w.wait(next)
		if err != nil {
			return err
		}
		now = w.now()
		if stop := w.win.stop.Load(); now >= stop && (w.open == 0 || now >= stop+int64(w.spec.Drain)) {
			return w.ended()
		}
		for i := range w.events[:n] {
			if err := w.handle(&w.events[i]); err != nil {
				return err
			}
		}
	}
}

// wait fills events. next is when something is to be sent at the latest.
func (w *worker) wait(next int64) (int, error) {
	before := w.now()
	ms := 0
	if !w.spec.Spin {
		ms = 5
		if d := next - before; d < int64(ms)*1e6 {
			ms = 0
			if d > 0 { // epoll_wait counts in ms, ppoll in ns.
				ts := unix.NsecToTimespec(d)
				_, _ = unix.Ppoll([]unix.PollFd{{Fd: int32(w.epoll), Events: unix.POLLIN}}, &ts, nil)
			}
		}
	}
	n, err := 0, error(nil)
	if ms == 0 {
		n, err = sys.EpollNow(w.epoll, w.events)
	} else {
		n, err = unix.EpollWait(w.epoll, w.events, ms)
	}
	if errors.Is(err, unix.EINTR) {
		n, err = 0, nil
	}
	if n == 0 || !w.spec.Spin {
		w.idle.Add(w.now() - before)
	}
	return n, os.NewSyscallError("epoll_wait", err)
}

func (w *worker) handle(ev *unix.EpollEvent) error {
	c := &w.clients[ev.Fd]
	if ev.Events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		if err := w.receive(c); err != nil {
			return err
		}
	}
	if ev.Events&unix.EPOLLOUT != 0 {
		if c.blocked = false; c.sent < c.goal && !c.queued {
			c.queued = true
			w.due = append(w.due, ev.Fd)
		}
	}
	return nil
}

// receive reads and checks what has come. A read that does not fill the buffer
// has emptied the socket: the next byte is a new edge.
func (w *worker) receive(c *client) error {
	for {
		n, err := sys.ReadNow(c.fd, w.in)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return c.failed(os.NewSyscallError("read", err))
		case n == 0:
			return c.failed(errClosed)
		}
		if err := w.arrived(c, w.in[:n]); err != nil {
			return err
		}
		if n < len(w.in) {
			return nil
		}
	}
}

// arrived settles bytes that have come.
func (w *worker) arrived(c *client, got []byte) error {
	n, err := w.talk.hear(c, got)
	if err != nil {
		return err
	}
	w.open -= n
	w.checked.Add(n)
	if c.received >= c.end {
		for now := w.now(); c.received >= c.end; {
			c.end += w.talk.back
			w.shape.answer(w, c, now)
		}
	}
	return nil
}

// record counts a message that is answered now.
func (w *worker) record(at, sent, now int64) {
	w.answered.Add(1)
	if at >= w.win.from.Load() && at < w.win.to.Load() {
		Record(w.times, now-sent)
	}
}

// transmit writes what the socket takes.
func (w *worker) transmit(c *client) error {
	if c.asked > 0 {
		for now := w.now(); c.asked > 0; c.asked-- {
			c.times.push(now)
		}
	}
	for c.sent < c.goal {
		chunk := c.stream.At(c.sent, int(min(c.goal-c.sent, pattern.MaxChunk)))
		n, err := sys.WriteNow(c.fd, chunk)
		switch {
		case errors.Is(err, unix.EAGAIN):
			c.blocked = true
			return nil
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return c.failed(os.NewSyscallError("write", err))
		}
		c.sent += int64(n)
		if n < len(chunk) {
			c.blocked = true // The edge comes when there is room again.
			return nil
		}
	}
	return nil
}

func (c *client) failed(err error) error {
	return fmt.Errorf("connection %d, after %d bytes there and %d back: %w", c.number, c.sent, c.received, err)
}

// ended looks at what has not come back.
func (w *worker) ended() error {
	if w.open == 0 || w.spec.Shape == Open { // Open counts them.
		return nil
	}
	return fmt.Errorf("%d bytes had not come back %v after the end", w.open, w.spec.Drain)
}
