package conn

import (
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
)

const (
	// partMost is how many bytes of a Write are one message.
	partMost = 64 << 10
	// parcelMin is from how many on they are worth a parcel. Below it, a second
	// copy costs less than the room that a parcel leaves unused.
	parcelMin = 32 << 10
)

// parcel is memory that a goroutine fills, and that the queue sends from without
// another copy.
type parcel struct {
	room [partMost]byte
	n    int
	pin  runtime.Pinner
	post func(*Conn) // made once, as is free
	free func()
}

var parcels sync.Pool

func newParcel() *parcel {
	if p, ok := parcels.Get().(*parcel); ok {
		return p
	}
	p := &parcel{}
	p.post, p.free = p.queue, p.sent
	// One that a failed loop has left behind is garbage, not a reason to crash.
	runtime.SetFinalizer(p, func(p *parcel) { p.pin.Unpin() })
	return p
}

func (p *parcel) drop() { parcels.Put(p) }

// sent is called when nobody reads from p any more.
func (p *parcel) sent() {
	p.pin.Unpin()
	p.drop()
}

// queue puts p, which is charged, into the queue.
func (p *parcel) queue(c *Conn) {
	if c.state >= ending { // Stays pending, and is lost with the rest.
		p.drop()
		return
	}
	p.pin.Pin(&p.room[0])
	o := c.outbox()
	o.end().push(entry{ext: p.room[:p.n], done: p.free})
	o.prompt = true
}

// Write queues p, and returns when the last of it was taken: by messages of up
// to 64 KiB, each as soon as pending is below the Limit, which therefore bounds
// what is queued at once. When it ends before, by a deadline or because the
// connection takes no more, n is how many bytes were taken.
func (n *NetConn) Write(p []byte) (total int, err error) {
	n.writing.Lock()
	defer n.writing.Unlock()
	if err = n.mayWrite(); err != nil {
		return 0, n.fault("write", err)
	}
	for total < len(p) {
		part := p[total:min(len(p), total+partMost)]
		var m *parcel
		if len(part) >= parcelMin {
			m = newParcel()
			m.n = copy(m.room[:], part)
		}
		if err = n.post(part, m); err != nil {
			return total, n.fault("write", err)
		}
		total += len(part)
	}
	n.tidy()
	return total, nil
}

// ReadFrom implements io.ReaderFrom, for io.Copy: r reads to where is sent from.
func (n *NetConn) ReadFrom(r io.Reader) (total int64, err error) {
	n.writing.Lock()
	defer n.writing.Unlock()
	for {
		m := newParcel()
		m.n, err = r.Read(m.room[:])
		part, ended := m.room[:m.n], err
		if err = n.mayWrite(); err == nil && m.n > 0 {
			full := m
			if m.n < parcelMin {
				full = nil
			}
			if err = n.post(part, full); err == nil {
				total += int64(len(part))
			}
			if full != nil {
				m = nil
			}
		}
		if m != nil {
			m.drop()
		}
		switch {
		case err != nil:
			return total, n.fault("readfrom", err)
		case ended == io.EOF:
			return total, nil
		case ended != nil:
			return total, ended
		}
	}
}

// mayWrite returns why nothing may be written.
func (n *NetConn) mayWrite() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.wr.stopped(n)
}

// stopped returns why a Write that waits must not.
func (s *side) stopped(n *NetConn) error {
	switch {
	case n.done:
		return net.ErrClosed
	case s.late:
		return os.ErrDeadlineExceeded
	case s.shut:
		return syscall.EPIPE
	}
	return n.end
}

// post posts one message, that of m if it is not nil, as soon as there is room.
// m is taken.
func (n *NetConn) post(p []byte, m *parcel) error {
	g := n.ref.g
	for !g.chargeWithin(len(p)) {
		if err := n.awaitRoom(); err != nil {
			if m != nil {
				m.drop()
			}
			return err
		}
	}
	if m != nil {
		if n.ref.Do(m.post) {
			return nil
		}
		m.drop()
	}
	g.charge(-int64(len(p)))
	if g.force(p) == Closed {
		return n.whyShut()
	}
	return nil
}

// whyShut returns why the queue takes no more.
func (n *NetConn) whyShut() error {
	if err := n.mayWrite(); err != nil {
		return err
	}
	return net.ErrClosed
}

// awaitRoom waits until there is room for a message.
func (n *NetConn) awaitRoom() error {
	if n.ref.g.budget != nil {
		time.Sleep(time.Millisecond)
	}
	roomy := false
	posted := n.ref.Do(func(c *Conn) {
		c.OnRoom(c.marks.Limit-1, func(*Conn) {
			n.mu.Lock()
			defer n.mu.Unlock()
			roomy = true
			n.wr.wake.Broadcast()
		})
	})
	if !posted {
		return n.whyShut()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for !roomy {
		if err := n.wr.stopped(n); err != nil {
			return err
		}
		n.wr.wake.Wait()
	}
	return n.wr.stopped(n)
}

// tidy gives the loop, which is about to come by anyway, what was read.
func (n *NetConn) tidy() {
	n.mu.Lock()
	owes := len(n.spent) > 0
	n.mu.Unlock()
	if owes {
		n.call()
	}
}
