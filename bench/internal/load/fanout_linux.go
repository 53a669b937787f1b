package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/bench/internal/pattern"
)

const (
	// subscribeWithin bounds the wait until everybody has subscribed.
	subscribeWithin = 15 * time.Second
	// syncQuiet is how long nothing has come when a server is done with a payload.
	syncQuiet = 50 * time.Millisecond
)

// Before the stream a subscriber gets payloads of these bytes, which are in no
// stream: any number of sync, and one of begin.
const (
	syncByte  = 0
	beginByte = 1
)

// fanoutShape publishes one payload when everybody has the one before.
type fanoutShape struct {
	publisher int
	stream    pattern.Stream
	frame     []byte   // P, the length, the payload
	says      [][]byte // instead, as a WebSocket: all frames, in turn
	published int64
	missing   int   // subscribers that have not got the last one
	at        int64 // when it was published
	err       error
}

func newFanout(publisher, size int, s pattern.Stream) *fanoutShape {
	f := &fanoutShape{publisher: publisher, stream: s, frame: make([]byte, 5+size)}
	f.frame[0] = 'P'
	binary.BigEndian.PutUint32(f.frame[1:5], uint32(size))
	return f
}

// send publishes a frame. One payload is on its way at a time, so
// the socket has room but for a server that does not read.
func (f *fanoutShape) send(frame []byte) error {
	for b := frame; len(b) > 0; {
		n, err := unix.Write(f.publisher, b)
		switch {
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			if n, _ := unix.Poll([]unix.PollFd{{Fd: int32(f.publisher), Events: unix.POLLOUT}}, int(subscribeWithin/time.Millisecond)); n == 0 {
				return fmt.Errorf("the server has not read from the publisher for %v", subscribeWithin)
			}
		case err != nil:
			return fmt.Errorf("publisher: %w", os.NewSyscallError("write", err))
		default:
			b = b[n:]
		}
	}
	return nil
}

func (f *fanoutShape) publish(w *worker) {
	frame := f.frame
	if f.says != nil {
		frame = f.says[f.published%int64(len(f.says))]
	} else {
		size := int64(w.spec.Size)
		copy(f.frame[5:], f.stream.At(f.published*size, int(size)))
	}
	f.published++
	f.missing = len(w.clients)
	for i := range w.clients { // Each is owed the payload; nothing is written to it.
		c := &w.clients[i]
		c.goal += w.talk.next(c)
		c.sent = c.goal
	}
	w.open += w.talk.back * int64(len(w.clients))
	f.at = w.now()
	f.err = errors.Join(f.err, f.send(frame))
}

func (f *fanoutShape) begin(w *worker, _ int64) { f.publish(w) }

func (f *fanoutShape) feed(w *worker, now int64) (int64, error) {
	if f.missing == 0 && now < w.win.stop.Load() {
		f.publish(w)
	}
	return never, f.err
}

func (f *fanoutShape) answer(w *worker, _ *client, now int64) {
	f.missing--
	w.record(now, f.at, now)
}

// acknowledge has what a subscriber hears acknowledged as it reads it. Whether the
// kernel delays that depends on how soon a subscriber said something behind what it
// heard; and where it does, it acknowledges inside the server's sends, at the server's
// expense. It is never said anything behind this, so it stays.
func acknowledge(clients []client) error {
	for i := range clients {
		if err := unix.SetsockoptInt(clients[i].fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1); err != nil {
			return clients[i].failed(os.NewSyscallError("setsockopt", err))
		}
	}
	return nil
}

// subscribe has everybody subscribe, and returns when each has got what says
// that the stream begins. A server may serve the publisher before it has seen
// the last subscriber, so payloads of sync bytes go first until all have one.
func (f *fanoutShape) subscribe(w *worker) error {
	for i := range w.clients {
		if _, err := unix.Write(w.clients[i].fd, []byte{'S'}); err != nil {
			return w.clients[i].failed(os.NewSyscallError("write", err))
		}
	}
	heard := make([]bool, len(w.clients))
	for deadline, all := time.Now().Add(subscribeWithin), false; !all; {
		fill(f.frame[5:], syncByte)
		err := f.send(f.frame)
		if err == nil {
			all, err = f.listen(w, heard)
		}
		if err == nil && time.Now().After(deadline) {
			err = fmt.Errorf("not every subscriber was served within %v", subscribeWithin)
		}
		if err != nil {
			return err
		}
	}
	return f.start(w)
}

// listen takes what comes until nothing has for a while, so that a server that
// is slow is not given more meanwhile, or until everybody has got something
// once. It reports whether everybody has.
func (f *fanoutShape) listen(w *worker, heard []bool) (all bool, err error) {
	for last := time.Now(); !all && time.Since(last) < syncQuiet; time.Sleep(time.Millisecond) {
		all = true
		for i := range w.clients {
			n, err := skim(&w.clients[i], w.in, len(w.in), syncByte)
			if err != nil {
				return false, err
			}
			if n > 0 {
				heard[i], last = true, time.Now()
			}
			all = all && heard[i]
		}
	}
	return all, nil
}

// start publishes the begin bytes and waits until everybody has them.
func (f *fanoutShape) start(w *worker) error {
	payload := f.frame[5:]
	fill(payload, beginByte)
	if err := f.send(f.frame); err != nil {
		return err
	}
	deadline := time.Now().Add(subscribeWithin)
	for i := range w.clients {
		for got := 0; got < len(payload); {
			n, err := skim(&w.clients[i], w.in, len(payload)-got, beginByte)
			if err != nil {
				return err
			}
			if got += n; n > 0 {
				continue
			}
			if time.Now().After(deadline) {
				return fmt.Errorf("subscriber %d has not got the first payload within %v", i, subscribeWithin)
			}
			time.Sleep(time.Millisecond)
		}
	}
	return nil
}

func fill(b []byte, v byte) {
	for i := range b {
		b[i] = v
	}
}

// skim reads what there is, at most so many bytes of value want, and leaves
// sync bytes out of the count when it looks for others.
func skim(c *client, in []byte, most int, want byte) (int, error) {
	n, err := unix.Read(c.fd, in[:min(most, len(in))])
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return 0, nil
	case err != nil:
		return 0, c.failed(os.NewSyscallError("read", err))
	case n == 0:
		return 0, c.failed(errClosed)
	}
	count := 0
	for _, b := range in[:n] {
		switch b {
		case want:
			count++
		case syncByte:
		default:
			return 0, fmt.Errorf("connection %d: the byte %#02x was never published", c.number, b)
		}
	}
	return count, nil
}
