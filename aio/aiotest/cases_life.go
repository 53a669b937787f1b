package aiotest

import (
	"math"
	"sync"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/internal/testutil"
)

// caseWake: a wake ends the present wait, or the next one, and that one only.
func caseWake(r *rig) {
	p := r.connect()
	p.recv()
	r.turns(3)
	r.e.Wake()
	before := r.e.Stats().Wakes
	r.wait(-1) // the wake came first
	if n := r.e.Stats().Wakes - before; n != 1 {
		r.t.Errorf("%d wakes counted, want 1", n)
	}
	for range 20 {
		go func(e aio.Engine) {
			time.Sleep(time.Millisecond)
			e.Wake()
		}(r.e)
		before := r.e.Stats().Wakes
		for range 1 << 20 { // a fake does not sleep
			if r.wait(-1); r.e.Stats().Wakes > before {
				break
			}
		}
	}
	before = r.e.Stats().Wakes
	r.wait(0)
	if r.e.Stats().Wakes != before {
		r.t.Error("a wake was told twice")
	}
	p.feed = []byte("awake")
	r.until("bytes after wakes", func() bool { return string(p.in) == "awake" })
}

// caseManyWakes: goroutines wake all the time; no wait hangs, no byte is lost.
func caseManyWakes(r *rig) {
	p := r.connect()
	p.recv()
	data := r.random(200_000)
	p.out, p.feed = append([]byte(nil), data...), append([]byte(nil), data...)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					r.e.Wake()
					time.Sleep(10 * time.Microsecond)
				}
			}
		})
	}
	r.until("both directions", func() bool { return len(p.in) >= len(data) && len(p.got) >= len(data) })
	for range 200 {
		r.wait(-1)
	}
	close(stop)
	wg.Wait()
	if string(p.in) != string(data) || string(p.got) != string(data) {
		r.t.Error("bytes differ")
	}
	for range 100_000 {
		r.e.Wake() // must neither block nor fail when nobody waits
	}
	r.wait(-1)
}

// caseWaitEnds: waits end neither early nor with something, whatever the waits
// before them were given: a later end, an earlier one, or the same again.
func caseWaitEnds(r *rig) {
	fake := r.e.Caps().Engine == "fake" // Its waits take no time.
	const ms = time.Millisecond
	for _, d := range []time.Duration{30 * ms, math.MaxInt64, 7 * ms, time.Hour, 5 * ms, 12 * ms, ms / 2, 12 * ms, time.Hour, 3 * ms, 3 * ms} {
		woken := d > time.Second
		if woken {
			r.e.Wake()
		}
		began := time.Now()
		if n := r.wait(d); n != 0 {
			r.t.Errorf("Wait(%v) told %d completions of nothing", d, n)
		}
		if took := time.Since(began); took < d && !woken && !fake {
			r.t.Errorf("Wait(%v) took %v", d, took)
		}
	}
}

// caseWaitKept: what one wait was given ends a later one that has no end of its own,
// though completions came before, and come still.
func caseWaitKept(r *rig) {
	p := r.connect()
	p.recv()
	r.turns(3)
	hang := time.AfterFunc(testutil.Timeout(patience), r.e.Wake)
	defer hang.Stop()
	feed := func() {
		p.feed = append(p.feed, "byte"...)
		p.pump()
	}
	for _, given := range []time.Duration{5 * time.Millisecond, time.Millisecond, 20 * time.Millisecond, 2 * time.Millisecond} {
		wakes := r.e.Stats().Wakes
		feed()
		for r.wait(given) == 0 { // Its bytes came late.
			feed()
		}
		for feed(); r.wait(-1) > 0; {
			feed()
		}
		if r.e.Stats().Wakes != wakes {
			r.t.Fatalf("waits outlasted the %v of the one before them", given)
		}
	}
}

// caseTimeout: a wait without an event ends, with nothing.
func caseTimeout(r *rig) {
	p := r.connect()
	p.recv()
	for _, d := range []time.Duration{0, 1, time.Microsecond, 3 * time.Millisecond, 1500 * time.Microsecond} {
		if n := r.wait(d); n != 0 {
			r.t.Errorf("Wait(%v) told %d completions of nothing", d, n)
		}
	}
	p.feed = []byte("x")
	p.pumpFeed()
	r.until("a byte", func() bool { return len(p.in) == 1 })
}

// caseCloseInFlight: cancel, wait until all is home, close; the peer reads our end of file.
func caseCloseInFlight(r *rig) {
	p := r.connect()
	p.recv()
	r.turns(2)
	p.finish()
	r.until("our end of file", p.ended)
	if !r.net.closed(p.fd) {
		r.t.Error("the descriptor is open after Close")
	}

	p = r.connect()
	p.recv()
	p.fillUp()
	fd := p.fd
	p.finish()
	r.until("the end for the peer", func() bool { p.drain(); return p.farErr != nil })
	if !r.net.closed(fd) {
		r.t.Error("the descriptor is open after Close")
	}
}

// caseCloseEngine: Close of the engine closes what was to be closed, and leaves
// the other descriptors open. The rest of the check is that of every case: all
// blocks come home although a receive is in flight.
func caseCloseEngine(r *rig) {
	gone, stays := r.connect(), r.connect()
	stays.recv()
	stays.feed = r.random(100)
	r.turns(1)
	gone.closeFD()
	stays.leave()
	if err := r.e.Close(); err != nil {
		r.t.Errorf("Close: %v", err)
	}
	if !r.net.closed(gone.fd) {
		r.t.Error("Close forgot a descriptor that was to be closed")
	}
	if r.net.closed(stays.fd) {
		r.t.Error("Close closed a descriptor of somebody else")
	}
	r.net.release(stays.fd)
	r.closed = true
}

// caseForget: a descriptor that is forgotten stays open, nothing is heard of it,
// and another party may go on with it, without a byte lost.
func caseForget(r *rig) {
	p := r.connect()
	p.recv()
	for range 20 {
		p.sendAndCompare(r.random(1000))
		p.cancel(aio.Recv)
		p.feed = []byte("before")
		r.until("the end of the receive", p.quiet)
		r.e.Submit(&aio.Op{Token: p.tok, Kind: aio.Forget, FD: p.fd})
		p.leave()
		p.pumpFeed()
		p.far.write([]byte(" and after"))
		for range 5 {
			if n := r.wait(time.Millisecond); n != 0 {
				r.t.Fatalf("%d completions after the descriptor was forgotten", n)
			}
		}
		next := r.adopt(p.fd, p.far)
		next.recv()
		r.until("bytes for the next party", func() bool { return string(p.in)+string(next.in) == "before and after" })
		p = next
		p.in = nil
	}
}

// caseSlotAgain: a slot that is used again gets nothing that was for its last user.
func caseSlotAgain(r *rig) {
	for gen := range uint32(50) {
		fd, far := r.net.pair(r.t)
		p := r.adoptAs(aio.Token{Slot: 1000, Gen: gen}, fd, far)
		p.recv()
		data := r.random(2000)
		p.feed = append([]byte(nil), data...)
		p.out = append([]byte(nil), data...)
		p.flags = aio.Prompt
		for _, k := range []aio.Kind{aio.Recv, aio.Send, aio.Poll} { // The last user's come late.
			r.e.Submit(&aio.Op{Token: aio.Token{Slot: 1000, Gen: gen - 1}, Kind: aio.Cancel, Target: k, FD: fd})
		}
		if gen%2 == 0 {
			r.until("bytes", func() bool { return len(p.in) == len(data) && len(p.got) == len(data) })
		} else {
			r.turns(r.rng.IntN(3))
		}
		p.feed = []byte("unread")
		p.pumpFeed()
		p.finish()
	}
}

// caseAccept: many connections, dialled before and after the accept is armed.
func caseAccept(r *rig) {
	const n = 120
	fd, dial := r.net.listen(r.t)
	l := r.adopt(fd, nil)
	var far []farEnd
	for i := range n {
		if i == n/3 {
			l.accept()
		}
		far = append(far, dial())
		if i > n/2 {
			r.wait(0)
		}
		if i > n/3 && !l.armed {
			l.accept() // a final completion is the fake's right
		}
	}
	r.until("all connections", func() bool {
		if !l.armed {
			l.accept()
		}
		return len(l.accepted) >= n
	})
	seen := map[int32]bool{}
	var near []*party
	for _, fd := range l.accepted {
		if seen[fd] {
			r.t.Fatalf("descriptor %d accepted twice", fd)
		}
		seen[fd] = true
		p := r.adopt(fd, nil)
		p.recv()
		near = append(near, p)
	}
	// Which is whose is not told, so the far ends say their number.
	for i, f := range far {
		f.write([]byte{byte(i)})
	}
	heard := map[byte]bool{}
	r.until("a byte of everybody", func() bool {
		for _, p := range near {
			if len(p.in) == 1 {
				heard[p.in[0]] = true
			}
		}
		return len(heard) == n
	})
}

// caseAcceptNoFD: without a free descriptor accept ends, and the connection that
// waits is there when there is one again, with no new event.
func caseAcceptNoFD(r *rig) {
	fd, dial := r.net.listen(r.t)
	l := r.adopt(fd, nil)
	far := dial()
	r.net.withoutDescriptors(r.t, func() {
		l.accept() // In here: io_uring takes the limit when an accept is armed.
		r.until("a failed accept", func() bool { return !l.armed })
		if r.net.name() != "fake" && l.acceptErr != syscall.EMFILE {
			r.t.Errorf("accept: %v, want EMFILE", l.acceptErr)
		}
		l.accept()
		r.until("a second failed accept", func() bool { return !l.armed })
	})
	r.until("the connection that waited", func() bool {
		if !l.armed {
			l.accept()
		}
		return len(l.accepted) == 1
	})
	p := r.adopt(l.accepted[0], far)
	p.sendAndCompare(r.random(100))
}

// caseCancelAccept: a cancelled accept ends; what it accepted before is told.
func caseCancelAccept(r *rig) {
	fd, dial := r.net.listen(r.t)
	l := r.adopt(fd, nil)
	for i := range 20 {
		l.accept()
		if i%2 == 0 {
			r.turns(1)
		}
		dial()
		l.cancel(aio.Accept)
		r.until("end of a cancelled accept", func() bool { return !l.armed })
	}
	r.until("the connections that waited", func() bool {
		if !l.armed {
			l.accept()
		}
		return len(l.accepted) == 20
	})
	for _, fd := range l.accepted {
		r.adopt(fd, nil)
	}
}
