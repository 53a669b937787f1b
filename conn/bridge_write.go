package conn

import (
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"

	"github.com/penstock-go/penstock/reactor"
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
	lent lent
	pin  runtime.Pinner
}

// parcels is what is left of Writes, for the next ones. It is no state: no Write can tell
// whether one was there, and the collector empties it. One of a host or a
// connection would have less to give, and keep as much.
var parcels sync.Pool

func newParcel() *parcel {
	m, ok := parcels.Get().(*parcel)
	if !ok {
		m = &parcel{}
		m.lent.done = m.drop
		// One that nobody has given back is garbage, not a reason to crash.
		runtime.SetFinalizer(m, func(m *parcel) { m.pin.Unpin() })
	}
	return m
}

// fill notes that the first n bytes are to be sent.
func (m *parcel) fill(n int) {
	m.lent.p = m.room[:n]
	m.pin.Pin(&m.room[0])
}

// drop is called when nobody reads from m any more.
func (m *parcel) drop() {
	m.pin.Unpin()
	parcels.Put(m)
}

// Write queues p, and returns when the last of it was taken: by messages of up
// to 64 KiB, each as soon as pending is below the Limit, which therefore bounds
// what is queued at once. When it ends before, by a deadline or because the
// connection takes no more, n is how many bytes were taken.
func (n *NetConn) Write(p []byte) (total int, err error) {
	if err = inTurn(&n.writing); err != nil {
		return 0, n.fault("write", err)
	}
	defer n.writing.Unlock()
	if err = n.mayWrite(); err != nil {
		return 0, n.fault("write", err)
	}
	for total < len(p) {
		part := p[total:min(len(p), total+partMost)]
		var m *parcel
		if len(part) >= parcelMin {
			m = newParcel()
			m.fill(copy(m.room[:], part))
		}
		if err = n.post(part, m); err != nil {
			return total, n.fault("write", err)
		}
		total += len(part)
	}
	n.tidy()
	return total, nil
}

// ReadFrom implements io.ReaderFrom, for io.Copy: r reads to where is sent from. Of
// a regular *os.File, or an *io.LimitedReader of one, what the kernel has in memory
// goes by sendfile(2); what it would have to fetch from a disk is read, so that no
// loop stands still for it. On a loop all of it is read. For a file is taken what
// package net takes for one: an fs.File with the methods Seek and SyscallConn.
func (n *NetConn) ReadFrom(r io.Reader) (total int64, err error) {
	for {
		k, err := n.sendFile(r)
		if total += k; err != nil {
			return total, n.fault("write", err)
		}
		m := newParcel()
		read, ended := r.Read(m.room[:])
		if err = n.forward(m, read); err != nil {
			return total, n.fault("write", err)
		}
		switch total += int64(read); ended {
		case nil:
		case io.EOF:
			return total, nil
		default:
			return total, ended
		}
	}
}

// forward posts the first k bytes of m, which is taken.
func (n *NetConn) forward(m *parcel, k int) error {
	if err := inTurn(&n.writing); err != nil {
		m.drop()
		return err
	}
	defer n.writing.Unlock()
	if k >= parcelMin && n.mayWrite() == nil {
		m.fill(k)
		return n.post(m.room[:k], m)
	}
	defer m.drop()
	if err := n.mayWrite(); err != nil || k == 0 {
		return err
	}
	return n.post(m.room[:k], nil)
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
func (n *NetConn) post(p []byte, m *parcel) (err error) {
	i := item{n: len(p), vital: true} // A part of a stream must not be dropped.
	if m != nil {
		i.lent, p = &m.lent, nil
	}
	s := Rejected
	for s == Rejected && err == nil {
		var w *waiter
		if s, w = n.ref.g.put(i, p, nil, true); w != nil {
			s, err = n.awaitTurn(w)
		}
	}
	if s <= Full {
		return nil
	}
	if m != nil {
		m.drop()
	}
	if err == nil {
		err = n.whyShut()
	}
	return err
}

// whyShut returns why the queue takes no more.
func (n *NetConn) whyShut() error {
	if err := n.mayWrite(); err != nil {
		return err
	}
	return net.ErrClosed
}

// awaitTurn waits for the answer to w, or until this side must wait no more.
// Rejected without an error is neither: w has lost its place.
func (n *NetConn) awaitTurn(w *waiter) (Status, error) {
	n.mu.Lock()
	err := n.wr.stopped(n)
	if err == nil && reactor.OnLoop() {
		err = ErrWouldBlock
	}
	if err != nil {
		n.wr.ring()
	}
	n.mu.Unlock()
	s, gaveUp := n.ref.g.await(n.wr.bell, w)
	if gaveUp && err == nil {
		err = n.mayWrite()
	}
	return s, err
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
