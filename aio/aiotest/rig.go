package aiotest

import (
	"encoding/binary"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/internal/testutil"
)

// patience bounds every wait of the suite.
const patience = 20 * time.Second

// rig is one engine with parties on both sides. It checks the law at every
// completion, whatever the case is about.
type rig struct {
	t       testing.TB
	e       aio.Engine
	pool    *buf.Pool
	net     network
	rng     *rand.Rand
	done    []aio.Completion
	parties map[aio.Token]*party
	order   []*party // the same, the oldest first
	slot    uint32
	waits   int
	asks    aio.Flags // of every Recv of a new party
	closed  bool      // the case closed the engine itself
}

// party is one connection: the engine's end, and the far one.
type party struct {
	r   *rig
	tok aio.Token
	fd  int32
	far farEnd

	in      []byte // received through the engine
	eof     bool
	failed  error // how Recv failed
	want    bool  // re-arm Recv when it ends
	armed   bool
	asks    aio.Flags // of every Recv
	blocks  int       // that the present Recv has brought
	behind  int       // bytes that it has brought since its cancel
	recvs   int       // how many were submitted
	starved int       // times Recv found no buffer
	keep    bool      // do not release what is received
	kept    []buf.Buf // what was not released

	out      []byte // to be sent through the engine
	sent     int    // bytes the engine took
	sending  bool   // a Send is without its first completion
	full     bool   // the last Send was short: PollFirst is next
	sendErr  error
	firsts   int
	lent     map[uint16][]byte // bytes of sends without their final completion
	lentSize map[uint16]int
	batch    uint16
	flags    aio.Flags // of every Send
	piece    int       // longest Send in bytes; 0 is 16 KiB
	manual   bool      // do not send the rest of a short Send

	feed   []byte // to be written by the far end
	got    []byte // read by the far end
	deaf   bool   // the far end does not read
	farErr error  // how reading by the far end ended

	polling bool    // a Poll is in flight
	polled  []int32 // results of Polls

	accepted  []int32
	acceptErr error
}

func newRig(t testing.TB, e aio.Engine, pool *buf.Pool, n network) *rig {
	return &rig{
		t: t, e: e, pool: pool, net: n,
		rng:     rand.New(rand.NewPCG(1, 2)),
		done:    make([]aio.Completion, 32),
		parties: map[aio.Token]*party{},
	}
}

// connect makes a connection and its party.
func (r *rig) connect() *party {
	fd, far := r.net.pair(r.t)
	return r.adopt(fd, far)
}

func (r *rig) adopt(fd int32, far farEnd) *party {
	r.slot++
	return r.adoptAs(aio.Token{Slot: r.slot, Gen: r.slot * 3}, fd, far)
}

func (r *rig) adoptAs(tok aio.Token, fd int32, far farEnd) *party {
	p := &party{r: r, tok: tok, fd: fd, far: far, asks: r.asks, lent: map[uint16][]byte{}, lentSize: map[uint16]int{}}
	r.parties[tok] = p
	r.order = append(r.order, p)
	return p
}

func (r *rig) random(n int) []byte {
	b := make([]byte, n)
	for i := 0; i < n; i += 8 {
		var word [8]byte
		binary.NativeEndian.PutUint64(word[:], r.rng.Uint64())
		copy(b[i:], word[:])
	}
	return b
}

// until turns the rig until ok holds.
func (r *rig) until(what string, ok func() bool) {
	r.t.Helper()
	for deadline := time.Now().Add(testutil.Timeout(patience)); !ok(); {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: not within %v", what, testutil.Timeout(patience))
		}
		r.turn(time.Millisecond)
	}
}

// turns turns the rig n times, for what must not happen.
func (r *rig) turns(n int) {
	r.t.Helper()
	for range n {
		r.turn(0)
	}
}

// turn lets both sides do what they can, and waits once.
func (r *rig) turn(d time.Duration) {
	r.t.Helper()
	for _, p := range r.order {
		p.pump()
	}
	r.wait(d)
}

// wait waits once and hands the completions to their parties.
func (r *rig) wait(d time.Duration) int {
	r.t.Helper()
	n, err := r.e.Wait(r.done, d)
	if err != nil {
		r.t.Fatalf("Wait: %v", err)
	}
	r.waits++
	others := false
	for i := range r.done[:n] {
		c := &r.done[i]
		if c.Kind == aio.Send && others {
			r.t.Error("a completion of Send behind another kind in one Wait")
		}
		others = others || c.Kind != aio.Send
		p := r.parties[c.Token]
		if p == nil {
			r.t.Fatalf("completion of %v for %+v, who is nobody", c.Kind, c.Token)
		}
		p.complete(c)
	}
	return n
}

func (p *party) complete(c *aio.Completion) {
	p.r.t.Helper()
	if !c.In.IsZero() && (c.Kind != aio.Recv || int(c.Res) != c.In.Len() || c.Res == 0) {
		p.r.t.Errorf("%v with result %d has %d bytes", c.Kind, c.Res, c.In.Len())
	}
	switch c.Kind {
	case aio.Recv:
		p.completeRecv(c)
	case aio.Send:
		p.completeSend(c)
	case aio.Accept:
		if !p.armed {
			p.r.t.Error("accept after its final completion")
		}
		p.armed = !c.Final
		if c.Res >= 0 {
			p.accepted = append(p.accepted, c.Res)
		} else {
			p.acceptErr = c.Err()
			if !c.Final {
				p.r.t.Errorf("accept failed with %v, and is not final", c.Err())
			}
		}
	case aio.Poll:
		if !p.polling || !c.First || !c.Final {
			p.r.t.Errorf("poll told %d, First %v, Final %v, in flight %v", c.Res, c.First, c.Final, p.polling)
		}
		p.polling = false
		p.polled = append(p.polled, c.Res)
	default:
		p.r.t.Errorf("completion of %v, which has none", c.Kind)
	}
}

func (p *party) completeRecv(c *aio.Completion) {
	p.r.t.Helper()
	if !p.armed {
		p.r.t.Errorf("recv result %d after the final completion", c.Res)
	}
	p.armed = !c.Final
	p.blocks++
	if p.asks&aio.Multishot != 0 && !p.want {
		if p.behind += c.In.Len(); p.behind > aio.MultishotBlocks*blockSize {
			p.r.t.Errorf("%d bytes behind the cancel of a receive", p.behind)
		}
	}
	if most := p.most(); p.armed && p.blocks >= most {
		p.r.t.Errorf("recv of %d blocks has told %d, and goes on", most, c.Res)
	}
	switch {
	case c.Res > 0:
		p.in = append(p.in, c.In.Bytes()...)
	case c.Res == 0:
		p.eof = true
	case c.Err() == syscall.ENOBUFS:
		p.starved++
	case c.Err() != syscall.ECANCELED:
		p.failed = c.Err()
	}
	if c.Res <= 0 && !c.Final {
		p.r.t.Errorf("recv result %d is not final", c.Res)
	}
	if p.keep && !c.In.IsZero() {
		p.kept = append(p.kept, c.In.Take())
		return
	}
	c.In.Release()
}

// most is how many blocks a Recv may bring.
func (p *party) most() int {
	switch {
	case p.asks == 0, p.asks&aio.Multishot != 0:
		return math.MaxInt
	case p.asks&aio.Wide != 0:
		return aio.WideBlocks
	}
	return 1
}

func (p *party) completeSend(c *aio.Completion) {
	p.r.t.Helper()
	out, ok := p.lent[c.Batch]
	if !ok {
		p.r.t.Fatalf("send completion of batch %d, which is not in flight", c.Batch)
	}
	if c.First == (p.lentSize[c.Batch] < 0) {
		p.r.t.Errorf("batch %d: First is %v where it must not be", c.Batch, c.First)
	}
	if c.First {
		p.firsts++
		p.sending = false
		if int(c.Res) > p.lentSize[c.Batch] {
			p.r.t.Fatalf("send took %d of %d bytes", c.Res, p.lentSize[c.Batch])
		}
		if c.Res < 0 {
			p.sendErr = c.Err()
		} else {
			p.full = int(c.Res) < p.lentSize[c.Batch]
			p.sent += int(c.Res)
			p.out = p.out[min(len(p.out), int(c.Res)):] // finish has dropped them all
		}
		p.lentSize[c.Batch] = -1
	}
	if c.Final {
		clear(out) // who still reads these bytes will see
		delete(p.lent, c.Batch)
		delete(p.lentSize, c.Batch)
	}
}

// pump re-arms, sends, writes and reads as far as each goes now.
func (p *party) pump() {
	if p.want && !p.armed && !p.eof && p.failed == nil {
		p.recv()
	}
	if len(p.out) > 0 && !p.sending && p.sendErr == nil && !(p.full && p.manual) {
		p.send()
	}
	if p.far == nil {
		return
	}
	if len(p.feed) > 0 {
		p.feed = p.feed[p.far.write(p.feed):]
	}
	if !p.deaf {
		p.read(1 + p.r.rng.IntN(64<<10))
	}
}

// read lets the far end read up to n bytes.
func (p *party) read(n int) {
	if p.farErr != nil {
		return
	}
	b := make([]byte, n)
	n, p.farErr = p.far.read(b)
	p.got = append(p.got, b[:n]...)
}

// drain lets the far end read what waits.
func (p *party) drain() {
	for before := -1; before != len(p.got); {
		before = len(p.got)
		p.read(1 << 20)
	}
}

func (p *party) recv() {
	p.armed, p.want = true, true
	p.blocks, p.behind = 0, 0
	p.recvs++
	p.r.e.Submit(&aio.Op{Token: p.tok, Kind: aio.Recv, FD: p.fd, Flags: p.asks})
}

func (p *party) accept() {
	p.armed, p.acceptErr = true, nil
	p.r.e.Submit(&aio.Op{Token: p.tok, Kind: aio.Accept, FD: p.fd})
}

func (p *party) poll(events uint32) {
	p.polling = true
	p.r.e.Submit(&aio.Op{Token: p.tok, Kind: aio.Poll, FD: p.fd, Events: events})
}

func (p *party) cancel(k aio.Kind) {
	if k == aio.Recv {
		p.want = false
	}
	p.r.e.Submit(&aio.Op{Token: p.tok, Kind: aio.Cancel, Target: k, FD: p.fd})
}

// send submits the head of out in up to eight elements.
func (p *party) send() {
	size := 16 << 10
	if p.piece > 0 {
		size = p.piece
	}
	bytes := append([]byte(nil), p.out[:min(size, len(p.out))]...)
	var out [][]byte
	for rest := bytes; len(rest) > 0; {
		n := len(rest)
		if len(out) < 7 {
			n = 1 + p.r.rng.IntN(n)
		}
		out = append(out, rest[:n:n])
		rest = rest[n:]
	}
	p.sendOut(bytes, out)
}

// sendOut submits out, whose bytes are those of all.
func (p *party) sendOut(all []byte, out [][]byte) {
	p.batch++
	p.sending = true
	p.lent[p.batch], p.lentSize[p.batch] = all, len(all)
	flags := p.flags
	if p.full {
		flags |= aio.PollFirst
	}
	op := aio.Op{Token: p.tok, Kind: aio.Send, Flags: flags, Batch: p.batch, FD: p.fd, Out: out}
	p.r.e.Submit(&op)
	op = aio.Op{} // the Op was lent until Submit returned
}

// quiet reports that no operation of p is in flight.
func (p *party) quiet() bool { return !p.armed && !p.polling && len(p.lent) == 0 }

// finish ends p: cancel, wait until all is home, close.
func (p *party) finish() {
	p.r.t.Helper()
	p.out, p.feed = nil, nil
	p.want = false
	p.cancelAll()
	p.r.until("operations home after cancel", p.quiet)
	p.closeFD()
}

func (p *party) cancelAll() {
	if p.armed {
		p.cancel(aio.Recv)
		p.cancel(aio.Accept)
	}
	if p.sending {
		p.cancel(aio.Send)
	}
	if p.polling {
		p.cancel(aio.Poll)
	}
}

func (p *party) closeFD() {
	p.r.e.Submit(&aio.Op{Token: p.tok, Kind: aio.Close, FD: p.fd})
	p.leave()
}

// leave makes p nobody: a completion for it fails the test.
func (p *party) leave() {
	delete(p.r.parties, p.tok)
	p.r.order = slices.DeleteFunc(p.r.order, func(q *party) bool { return q == p })
}

func (p *party) release() {
	for i := range p.kept {
		p.kept[i].Release()
	}
	p.kept = p.kept[:0]
}

// end finishes every party, closes the engine and looks for what is missing.
func (r *rig) end() {
	r.t.Helper()
	fds := []int32{}
	for _, p := range slices.Clone(r.order) {
		p.release()
		fds = append(fds, p.fd)
		p.finish()
	}
	if !r.closed {
		r.wait(0)
		for _, fd := range fds {
			if !r.net.closed(fd) {
				r.t.Errorf("descriptor %d is still open after Close", fd)
			}
		}
		if err := r.e.Close(); err != nil {
			r.t.Errorf("Close: %v", err)
		}
	}
	if n := r.pool.InUse(); n != 0 {
		r.t.Errorf("%d blocks are not home after Close", n)
	}
}

// ended reports whether the far end has read our end of file.
func (p *party) ended() bool {
	p.drain()
	return p.farErr == io.EOF
}
