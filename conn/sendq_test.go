package conn

import (
	"bytes"
	"testing"

	"github.com/penstock-go/penstock/buf"
)

// sendqModel is the queue as plain as can be: the bytes that wait, and how
// many lenders are to be told.
type sendqModel struct {
	waiting []byte
	pushed  int // pieces that have a done
	lent    []lentPiece
}

// lentPiece is what one zero-copy send reads.
type lentPiece struct {
	from, to uint64
	reads    [][]byte
	was      []byte
}

// FuzzSendQueue drives the send queue and its model with the same steps: each
// byte of the program is a step and its size.
func FuzzSendQueue(f *testing.F) {
	f.Add([]byte("\x05\x81\x43\x09\x33\x82\xff\x07"), true)
	f.Add([]byte("\x00\x00\x08\x08\x03\x0b\x13\x04\x0c\x05\x04\x05\x06"), false)
	f.Add(bytes.Repeat([]byte("\x01\xf3\x0a\x2c\x05"), 40), true)
	f.Add(bytes.Repeat([]byte("\x02\x42\x83\x04\x05\x0d\x06\x07"), 100), false)
	f.Fuzz(func(t *testing.T, program []byte, early bool) {
		small, _ := buf.NewPool(buf.Config{BlockSize: 64, SlabBlocks: 64})
		large, _ := buf.NewPool(buf.Config{BlockSize: 512, SlabBlocks: 8})
		d := &sendqDriver{t: t, small: small, large: large, early: early}
		for i, step := range program[:min(len(program), 300)] {
			d.step(int(step&7), 1+int(step>>3)*13+i%5)
			d.check()
		}
		d.end()
		if a, b := small.InUse(), large.InUse(); a != 0 || b != 0 {
			t.Fatalf("%d small and %d large blocks leaked", a, b)
		}
		small.Close()
		large.Close()
	})
}

type sendqDriver struct {
	t            *testing.T
	q            sendq
	m            sendqModel
	small, large *buf.Pool
	early        bool // loans end in the order of their begin
	next         byte
	told         int
	total, taken int
	shared       []*buf.Shared
}

// data makes n bytes that no others look like.
func (d *sendqDriver) data(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		d.next++
		p[i] = d.next
	}
	d.m.waiting = append(d.m.waiting, p...)
	d.total += n
	return p
}

func (d *sendqDriver) step(kind, n int) {
	switch kind {
	case 0: // A block, of which the front is gone.
		b := d.large.Get()
		b.Extend(min(n, 7))
		b.Append(d.data(n))
		b.Advance(min(n, 7))
		d.q.push(entry{block: b.Take()})
	case 1: // Lent by the user, who is told.
		d.m.pushed++
		d.q.push(entry{ext: d.data(n), done: func() { d.told++ }})
	case 2:
		s := buf.NewShared(d.data(n))
		d.q.push(entry{ext: s.Bytes(), shared: s.Retain()})
		s.Release()
		d.shared = append(d.shared, s)
	case 3: // Behind the last block, as a small write goes.
		if tail := d.q.room(); tail != nil {
			tail.Append(d.data(min(n, len(tail.Room()))))
		}
	case 4: // A send that is taken, or a part of it.
		d.send(n, 0)
	case 5:
		d.send(n, 1+n%200)
	case 6:
		d.giveBack()
	case 7:
		d.q.squeeze(func(n int) buf.Buf {
			if n > 64 {
				return buf.Buf{}
			}
			return d.small.Get()
		})
	}
}

// send takes part of what gather offers; with zc the large pieces are lent.
func (d *sendqDriver) send(n, zc int) {
	out, size, large := d.q.gather(nil, 1+n%5, 600, zc)
	at := 0
	for _, p := range out {
		if len(p) == 0 || zc > 0 && large != (len(p) >= zc) {
			d.t.Fatalf("a piece of %d bytes, zero copy from %d on, said to be large: %v", len(p), zc, large)
		}
		if !bytes.Equal(p, d.m.waiting[at:at+len(p)]) {
			d.t.Fatalf("the bytes at %d of %d are not what waits", at, size)
		}
		at += len(p)
	}
	if at != size || (size == 0) != (len(d.m.waiting) == 0) {
		d.t.Fatalf("gathered %d bytes, said %d, %d wait", at, size, len(d.m.waiting))
	}
	if large && size > 0 {
		from, to := d.q.lend(len(out))
		d.m.lent = append(d.m.lent, lentPiece{from, to, out, bytes.Join(out, nil)})
	}
	took := min(size, n*3)
	d.q.take(took)
	d.taken += took
	d.m.waiting = d.m.waiting[took:]
}

// giveBack ends one loan: its bytes must be what they were.
func (d *sendqDriver) giveBack() {
	if len(d.m.lent) == 0 {
		return
	}
	i := len(d.m.lent) - 1
	if d.early {
		i = 0
	}
	l := d.m.lent[i]
	d.checkLoan(l)
	d.q.giveBack(l.from, l.to)
	d.m.lent = append(d.m.lent[:i:i], d.m.lent[i+1:]...)
}

func (d *sendqDriver) checkLoan(l lentPiece) {
	if !bytes.Equal(bytes.Join(l.reads, nil), l.was) {
		d.t.Fatal("bytes that are lent have changed")
	}
}

func (d *sendqDriver) check() {
	if d.q.empty() != (len(d.m.waiting) == 0) {
		d.t.Fatalf("empty: %v, %d bytes wait", d.q.empty(), len(d.m.waiting))
	}
	if n := len(d.m.lent); n > 0 {
		d.checkLoan(d.m.lent[d.total%n]) // All in turn, and each when it ends.
	}
	sum := 0
	for i := d.q.next; i < len(d.q.list); i++ {
		sum += d.q.list[i].len() - d.q.list[i].taken
	}
	if sum != len(d.m.waiting) {
		d.t.Fatalf("the queue holds %d bytes, %d wait", sum, len(d.m.waiting))
	}
}

// end closes with loans open or not, and counts what must have come back.
func (d *sendqDriver) end() {
	for len(d.m.lent) > 0 {
		d.giveBack()
	}
	d.q.drop()
	for _, done := range d.q.dones {
		done()
	}
	d.q.dones = d.q.dones[:0]
	if d.told != d.m.pushed {
		d.t.Fatalf("%d lenders, %d told", d.m.pushed, d.told)
	}
	for _, s := range d.shared {
		if s.Bytes() != nil {
			d.t.Fatal("a count was not given back")
		}
	}
	if !d.q.clean() || !d.q.empty() {
		d.t.Fatal("not clean behind drop")
	}
}
