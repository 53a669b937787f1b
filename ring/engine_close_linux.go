//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"errors"
	"fmt"
	"time"

	"github.com/penstock-go/penstock/aio"
	"golang.org/x/sys/unix"
)

const (
	// closePatience is how long Close waits for cancelled operations. They end
	// at once unless the kernel is in trouble.
	closePatience = 5 * time.Second
	// lentPatience is how long it waits for notifications of zero-copy sends,
	// which a peer that does not read can keep back for ever.
	lentPatience = 100 * time.Millisecond
	closeStep    = 10 * time.Millisecond
)

// Close implements aio.Engine: it submits what is queued, cancels what is in
// flight, and gives the blocks back to the pool when the kernel no longer writes
// to them. If an operation cannot be cancelled within seconds, its error says
// so and the blocks stay taken.
func (e *Engine) Close() error {
	if e.ring == nil {
		return nil
	}
	e.wake.close()
	e.recv[small].starved, e.recv[bulk].starved = nil, nil
	e.enter(false, 0)
	e.discard()
	e.reap(closePatience, func() int { return e.inflight - e.lent })
	e.reap(lentPatience, func() int { return e.inflight })
	return e.shut()
}

// reap cancels everything, again and again, until none is left, or time is up, or the
// ring takes nothing more.
func (e *Engine) reap(patience time.Duration, left func() int) {
	deadline := time.Now().Add(patience)
	for left() > 0 && time.Now().Before(deadline) {
		if s := e.ring.SQE(); s != nil {
			s.PrepCancelAny()
		}
		e.enter(true, closeStep)
		e.discard()
		if e.err != nil && !errors.Is(e.err, unix.EBUSY) && !errors.Is(e.err, unix.EAGAIN) {
			return
		}
		e.err = nil
	}
}

// discard drops all answers, and what they brought.
func (e *Engine) discard() {
	e.scan()
	n := e.answers.known()
	for i := range n {
		switch c := e.answer(i); kindOf(c) {
		case aio.Recv:
			if id, ok := c.BufferID(); ok {
				_, _, group := aio.Unpack(c.UserData)
				b := e.recv[group].take(id)
				b.Release()
			}
		case kindRecvWide:
			e.wide.put(wideOf(c))
		case aio.Accept:
			if c.Res >= 0 {
				_ = unix.Close(int(c.Res))
			}
		}
	}
	e.consume(n)
	e.answers.sends = 0
	e.sends.told = e.sends.concluded
	e.sends.reuse()
}

// shut gives up what open got, in the opposite order.
func (e *Engine) shut() (err error) {
	e.wake.close()
	if n := e.inflight - e.lent; n > 0 {
		err = fmt.Errorf("ring: %d operations could not be cancelled", n)
	} else {
		err = errors.Join(e.recv[small].close(), e.recv[bulk].close())
	}
	if e.arena.mem != nil {
		err = errors.Join(err, unix.Munmap(e.arena.mem))
	}
	if e.ring != nil {
		e.stats.Enters = e.ring.enters
		err = errors.Join(err, e.ring.Close())
	}
	e.ring, e.arena.mem = nil, nil
	return err
}
