package aiotest

import (
	"bytes"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/internal/testutil"
)

// caseEOF: everything before the FIN comes before the end of file.
func caseEOF(r *rig) {
	p := r.connect()
	data := r.random(50_000)
	p.feed = bytes.Clone(data)
	p.recv()
	r.until("bytes on their way", func() bool { return len(p.feed) == 0 })
	p.far.closeWrite()
	r.until("end of file", func() bool { return p.eof && !p.armed })
	if !bytes.Equal(p.in, data) {
		r.t.Errorf("%d bytes before the end of file differ from the %d sent", len(p.in), len(data))
	}

	// Bytes and FIN are there before anybody asks: one event tells of both.
	p = r.connect()
	p.feed = []byte("last words")
	p.pumpFeed()
	p.far.closeWrite()
	p.recv()
	r.until("end of file", func() bool { return p.eof && !p.armed })
	if string(p.in) != "last words" {
		r.t.Errorf("%q before the end of file", p.in)
	}
}

// caseRecvOnce: a receive of one block, small or large, ends with it, and the next
// one goes on, to the end of file that comes together with bytes.
func caseRecvOnce(r *rig) {
	for _, flag := range []aio.Flags{aio.Once, aio.Bulk, aio.Once | aio.Bulk} {
		p := r.connect()
		p.asks = flag
		data := r.random(100_000)
		p.feed = bytes.Clone(data)
		p.recv()
		r.until("all bytes", func() bool { return len(p.in) >= len(data) })
		if !bytes.Equal(p.in, data) {
			r.t.Error("the bytes received differ from those sent")
		}
		p.far.closeWrite()
		r.until("end of file", func() bool { return p.eof && !p.armed })
	}
	for range 50 {
		p := r.connect()
		p.asks = aio.Once
		p.recv()
		r.turn(0)
		p.feed = []byte("last words")
		p.pumpFeed()
		p.far.closeWrite()
		r.until("end of file", func() bool { return p.eof && !p.armed })
		if string(p.in) != "last words" {
			r.t.Errorf("%q before the end of file", p.in)
		}
		p.finish()
	}
}

// caseRecvWide: a receive of some blocks brings what there is, as far as they go,
// and ends; what is there already comes with few of them.
func caseRecvWide(r *rig) {
	p := r.connect()
	p.asks = aio.Bulk | aio.Wide
	const blocks = 3*aio.WideBlocks + 1
	data := r.random((blocks-1)*blockSize + 1)
	p.feed = bytes.Clone(data)
	for len(p.feed) > 0 { // A socket may take less than all of it.
		before := len(p.feed)
		p.pumpFeed()
		if len(p.feed) == before {
			break
		}
	}
	ready := (len(data) - len(p.feed)) / blockSize
	p.recv()
	r.until("what was there", func() bool { return len(p.in) >= ready*blockSize })
	if most := ready/aio.WideBlocks + 3; r.e.Caps().Engine != "fake" && p.recvs > most {
		r.t.Errorf("%d blocks took %d receives, want %d at the most", ready, p.recvs, most)
	}
	r.until("all bytes", func() bool { return len(p.in) >= len(data) })
	if !bytes.Equal(p.in, data) {
		r.t.Error("the bytes received differ from those sent")
	}
	// It waits, and what comes then is told with the end of file behind it.
	r.turns(3)
	p.feed = []byte("last words")
	p.pumpFeed()
	p.far.closeWrite()
	r.until("end of file", func() bool { return p.eof && !p.armed })
	if !bytes.HasSuffix(p.in, []byte("last words")) {
		r.t.Error("the last bytes are missing")
	}
}

// caseRecvMultishot: a receive of much that may stay armed brings all bytes in order,
// and little behind its cancel, however fast the peer is.
func caseRecvMultishot(r *rig) {
	p := r.connect()
	p.asks = aio.Bulk | aio.Multishot
	data := r.random(64 * aio.MultishotBlocks * blockSize)
	p.feed = bytes.Clone(data)
	for len(p.in) < len(data) {
		if !p.armed {
			p.recv()
		}
		before := len(p.in)
		r.until("bytes", func() bool { return len(p.in) > before })
		p.pumpFeed()
		p.cancel(aio.Recv) // What comes behind it is counted.
		r.until("end of a cancelled recv", func() bool { return !p.armed })
	}
	if !bytes.Equal(p.in, data) {
		r.t.Error("the bytes received differ from those sent")
	}
	p.recv()
	p.far.closeWrite()
	r.until("end of file", func() bool { return p.eof && !p.armed })
}

// caseHalfClose: each direction ends by itself.
func caseHalfClose(r *rig) {
	p := r.connect()
	p.recv()
	p.far.closeWrite()
	r.until("the peer's end of file", func() bool { return p.eof && !p.armed })
	p.sendAndCompare(r.random(100_000))
	if err := r.net.shutdownWrite(p.fd); err != nil {
		r.t.Fatal(err)
	}
	r.until("our end of file", p.ended)

	p = r.connect()
	p.recv()
	if err := r.net.shutdownWrite(p.fd); err != nil {
		r.t.Fatal(err)
	}
	r.until("our end of file", p.ended)
	data := r.random(100_000)
	p.feed = bytes.Clone(data)
	r.until("bytes after our end of file", func() bool { return len(p.in) >= len(data) })
	if !bytes.Equal(p.in, data) {
		r.t.Error("bytes received after our end of file differ")
	}
}

// caseReset: a reset ends a receive and a send that waits for room.
func caseReset(r *rig) {
	p := r.connect()
	p.recv()
	r.turns(3)
	p.far.reset()
	p.farErr = syscall.ECONNRESET
	r.until("the reset", func() bool { return !p.armed && (p.failed != nil || p.eof) })
	if p.failed != syscall.ECONNRESET {
		r.t.Errorf("recv: %v, want ECONNRESET", p.failed)
	}

	p = r.connect()
	p.fillUp()
	p.far.reset()
	p.farErr = syscall.ECONNRESET
	r.until("the end of a send", func() bool { return !p.sending && len(p.lent) == 0 })
	if p.sendErr != syscall.ECONNRESET && p.sendErr != syscall.EPIPE {
		r.t.Errorf("send: %v, want ECONNRESET or EPIPE", p.sendErr)
	}
}

// casePause: a receive is cancelled and armed again at any moment; no byte is
// lost, doubled or out of order, and none comes while it is not armed.
func casePause(r *rig) {
	p := r.connect()
	var want []byte
	for i := range 300 {
		data := r.random(1 + r.rng.IntN(3*blockSize))
		want = append(want, data...)
		p.feed = append(p.feed, data...)
		switch {
		case p.armed && p.want && r.rng.IntN(2) == 0:
			p.cancel(aio.Recv)
			if i%2 == 0 {
				p.pumpFeed()
			}
			r.until("end of a cancelled recv", func() bool { return !p.armed })
		case !p.armed:
			p.recv()
		}
		r.turns(1 + r.rng.IntN(3))
	}
	p.want = true
	r.until("all bytes", func() bool { return len(p.in) >= len(want) })
	if !bytes.Equal(p.in, want) {
		r.t.Error("the bytes received differ from those sent")
	}
	// Paused, the bytes stay in the socket.
	p.cancel(aio.Recv)
	r.until("end of a cancelled recv", func() bool { return !p.armed })
	p.feed = []byte("later")
	r.turns(20)
	if len(p.in) != len(want) {
		r.t.Error("bytes came while no recv was armed")
	}
	p.recv()
	r.until("the bytes that waited", func() bool { return len(p.in) == len(want)+5 })
}

// pumpFeed lets the far end write without a turn of the engine.
func (p *party) pumpFeed() { p.feed = p.feed[p.far.write(p.feed):] }

// caseCancelNothing: a cancel of what is not there does nothing, and a cancel
// twice ends an operation once.
func caseCancelNothing(r *rig) {
	p := r.connect()
	for range 5000 { // more than any queue of submissions holds
		p.cancel(aio.Recv)
		p.cancel(aio.Send)
	}
	r.turns(10)
	p.recv()
	p.cancel(aio.Recv)
	p.cancel(aio.Recv)
	r.until("end of a cancelled recv", func() bool { return !p.armed })
	r.turns(10)
	p.recv()
	p.feed = []byte("alive")
	r.until("bytes after cancels", func() bool { return string(p.in) == "alive" })
	p.sendAndCompare(r.random(100))
}

// caseOutOfBuffers: with every block held by the party a receive is starved and
// goes on, without a lost byte, when the blocks come back.
func caseOutOfBuffers(r *rig) {
	p := r.connect()
	p.keep = true
	data := r.random(20 * fewBytes)
	p.feed = bytes.Clone(data)
	p.recv()
	// A Recv that has ended with bytes and is armed anew may wait without a word.
	dry := func() bool {
		return p.starved > 0 || p.asks&aio.Multishot != 0 && len(p.kept) == fewBytes/blockSize
	}
	for round := 0; len(p.in) < len(data); round++ {
		before := len(p.in)
		r.until("bytes or starvation", func() bool { return len(p.in) > before || dry() })
		if r.rng.IntN(3) == 0 || dry() {
			r.turns(20) // starved, the engine waits with us and does not report it again and again
			if p.starved > 3+round {
				r.t.Fatalf("starved %d times in %d rounds", p.starved, round+1)
			}
			p.release()
			p.starved = 0
		}
	}
	p.release()
	if !bytes.Equal(p.in, data) {
		r.t.Error("the bytes received differ from those sent")
	}
}

// caseStarvedMany: when the blocks are back, every starved party goes on.
func caseStarvedMany(r *rig) {
	const n = 40
	data := r.random(3 * blockSize)
	for range n {
		p := r.connect()
		p.keep = true
		p.feed = bytes.Clone(data)
		p.recv()
	}
	missing := func() (sum int) {
		for _, p := range r.order {
			sum += len(data) - len(p.in)
		}
		return sum
	}
	for missing() > 0 {
		before := missing()
		r.until("progress", func() bool {
			if missing() < before {
				return true
			}
			for _, p := range r.order {
				p.release()
			}
			return false
		})
	}
	for _, p := range r.order {
		p.release()
		if !bytes.Equal(p.in, data) {
			r.t.Errorf("party %d received bytes that differ", p.tok.Slot)
		}
	}
}

// caseStarvedIdle: one block that comes back serves who has bytes to receive, and does
// not wait for those who starved before and have none.
func caseStarvedIdle(r *rig) {
	hog := r.connect()
	hog.keep = true
	hog.feed = r.random(2 * fewBytes)
	hog.recv()
	r.until("starvation", func() bool { return hog.starved > 0 })
	var idle []*party
	for range 5 {
		p := r.connect()
		p.recv()
		idle = append(idle, p)
	}
	r.turns(20)
	hog.want, hog.feed = false, nil
	hog.cancel(aio.Recv)
	r.until("end of a cancelled recv", func() bool { return !hog.armed })
	r.turns(5)
	last := idle[len(idle)-1]
	last.feed = []byte("x")
	last.pumpFeed()
	hog.kept[0].Release()
	hog.kept = hog.kept[1:]
	hang := time.AfterFunc(testutil.Timeout(patience), r.e.Wake)
	defer hang.Stop()
	for wakes := r.e.Stats().Wakes; len(last.in) == 0; {
		for _, p := range idle {
			p.pump()
		}
		if r.wait(-1); r.e.Stats().Wakes != wakes {
			r.t.Fatal("a wait sleeps on a block that somebody could use")
		}
	}
}

// caseFair: one sender that never stops does not starve the others.
func caseFair(r *rig) {
	const rounds, others = 20, 20
	flood := r.random(1 << 20)
	fast := r.connect()
	fast.recv()
	var slow []*party
	for range others {
		p := r.connect()
		p.recv()
		slow = append(slow, p)
	}
	r.done = r.done[:8]
	for round := range rounds {
		for _, p := range slow {
			p.feed = append(p.feed, byte(round))
		}
		start := r.waits
		r.until("a byte of everybody", func() bool {
			if len(fast.feed) < len(flood) {
				fast.feed = append(fast.feed, flood...)
			}
			fast.in = fast.in[:0]
			for _, p := range slow {
				if len(p.in) <= round {
					return false
				}
			}
			return true
		})
		if n := r.waits - start; n > 50*others {
			r.t.Fatalf("round %d took %d waits of 8 completions beside a fast sender", round, n)
		}
	}
	fast.feed = nil
}

// caseDoneOne: the engine keeps what does not fit into done.
func caseDoneOne(r *rig) {
	r.done = r.done[:1]
	echo := []*party{r.connect(), r.connect(), r.connect()}
	data := r.random(100_000)
	for _, p := range echo {
		p.recv()
		p.feed = bytes.Clone(data)
		p.out = bytes.Clone(data)
	}
	r.until("both directions", func() bool {
		for _, p := range echo {
			if len(p.in) < len(data) || len(p.got) < len(data) {
				return false
			}
		}
		return true
	})
	for _, p := range echo {
		if !bytes.Equal(p.in, data) || !bytes.Equal(p.got, data) {
			r.t.Error("bytes differ")
		}
	}
}

// caseMany: more operations at once than a queue of submissions holds.
func caseMany(r *rig) {
	const n = 100
	want := map[*party][]byte{}
	for range n {
		want[r.connect()] = r.random(1000)
	}
	for range 3 {
		for p, data := range want {
			p.in, p.got = nil, nil
			p.feed = bytes.Clone(data)
			p.pumpFeed()
			for range 20 {
				p.cancel(aio.Send) // of nothing: it only takes room
			}
			if !p.armed {
				p.recv()
			}
			p.out = bytes.Clone(data)
			if !p.sending {
				p.send()
			}
		}
		r.until("all bytes", func() bool {
			for p, data := range want {
				if len(p.in) < len(data) || len(p.got) < len(data) {
					return false
				}
			}
			return true
		})
		for p, data := range want {
			if !bytes.Equal(p.in, data) || !bytes.Equal(p.got, data) {
				r.t.Fatal("bytes differ")
			}
		}
	}
}
