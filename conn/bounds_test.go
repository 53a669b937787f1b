package conn

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/penstock-go/penstock/buf"
)

// dropModel is a queue that drops its oldest messages, as plain as can be.
type dropModel struct {
	messages []dropMessage
	flying   int // bytes that the kernel reads
}

type dropMessage struct {
	bytes []byte // that the kernel has not taken
	begun bool
	kept  bool
}

func (m *dropModel) waiting() (all []byte) {
	for _, x := range m.messages {
		all = append(all, x.bytes...)
	}
	return all
}

// took takes n bytes.
func (m *dropModel) took(n int) {
	m.flying = 0
	for ; n > 0; m.messages = m.messages[1:] {
		x := &m.messages[0]
		k := min(n, len(x.bytes))
		x.bytes, x.begun = x.bytes[k:], true
		if n -= k; len(x.bytes) > 0 {
			return
		}
	}
}

// droppable returns the places of the messages that may be dropped, oldest first.
func (m *dropModel) droppable() (list []int) {
	at := 0
	for i, x := range m.messages {
		if at >= m.flying && !x.begun && !x.kept {
			list = append(list, i)
		}
		at += len(x.bytes)
	}
	return list
}

// TestDropModel drops whole messages from queues that are coalesced, half sent
// and squeezed, and compares each step with the model.
func TestDropModel(t *testing.T) {
	for seed := range uint64(120) {
		runDropModel(t, seed, 200)
	}
}

// FuzzDrop is TestDropModel for as long as one likes.
func FuzzDrop(f *testing.F) {
	f.Add(uint64(1), 100)
	f.Fuzz(func(t *testing.T, seed uint64, steps int) { runDropModel(t, seed, min(steps, 2000)) })
}

type dropDriver struct {
	t            *testing.T
	rng          *rand.Rand
	q            sendq
	b            *bounds
	m            dropModel
	small, large *buf.Pool
	next         byte
	out          [][]byte
	was          []byte // of out
	dones, told  int
}

func runDropModel(t *testing.T, seed uint64, steps int) {
	t.Helper()
	small, _ := buf.NewPool(buf.Config{BlockSize: 64, SlabBlocks: 64})
	large, _ := buf.NewPool(buf.Config{BlockSize: 512, SlabBlocks: 64})
	d := &dropDriver{t: t, rng: rand.New(rand.NewPCG(seed, 2)), b: &bounds{}, small: small, large: large}
	for range steps {
		d.step()
		if !bytes.Equal(d.m.waiting(), d.waiting()) {
			t.Fatalf("seed %d: the queue holds %d bytes, the model %d, or other ones", seed, len(d.waiting()), len(d.m.waiting()))
		}
		free := 0
		for _, i := range d.m.droppable() {
			free += len(d.m.messages[i].bytes)
		}
		if d.b.free != free {
			t.Fatalf("seed %d: %d bytes may be dropped, want %d", seed, d.b.free, free)
		}
		if !bytes.Equal(bytes.Join(d.out, nil), d.was) {
			t.Fatalf("seed %d: bytes that the kernel reads have changed", seed)
		}
	}
	d.q.drop()
	if n := len(d.q.dones); d.dones != n {
		t.Fatalf("seed %d: %d lenders, %d told", seed, d.dones, n)
	}
	if a, b := small.InUse(), large.InUse(); a != 0 || b != 0 {
		t.Fatalf("seed %d: %d small and %d large blocks leaked", seed, a, b)
	}
	small.Close()
	large.Close()
}

func (d *dropDriver) waiting() (all []byte) {
	for i := d.q.next; i < len(d.q.list); i++ {
		all = append(all, d.q.list[i].bytes()[d.q.list[i].taken:]...)
	}
	return all
}

// push queues a message, as Send, Write, SendBytes or WriteReserved would.
func (d *dropDriver) push() {
	p := make([]byte, 1+d.rng.IntN(d.rng.IntN(300)+1))
	for i := range p {
		d.next++
		p[i] = d.next
	}
	keep := d.rng.IntN(10) == 0
	d.m.messages = append(d.m.messages, dropMessage{bytes: bytes.Clone(p), kept: keep})
	d.b.keep(keep)
	d.b.add(len(p))
	switch d.rng.IntN(4) {
	case 0:
		d.dones++
		d.q.push(entry{ext: p, done: func() { d.told++ }})
	case 1:
		b := d.large.Get()
		b.Append(p)
		d.q.push(entry{block: b})
	default:
		for len(p) > 0 {
			if tail := d.q.room(); tail != nil && len(tail.Room()) > 0 {
				p = p[tail.Append(p):]
				continue
			}
			pool := d.small
			if len(p) > 64 {
				pool = d.large
			}
			d.q.push(entry{block: pool.Get()})
		}
	}
}

func (d *dropDriver) step() {
	switch k := d.rng.IntN(11); {
	case k < 5:
		d.push()
	case k < 7:
		if d.out != nil {
			d.took(d.rng.IntN(len(d.was) + 1))
		} else {
			d.send()
		}
	case k < 10:
		d.drop()
	case k == 10 && d.out == nil:
		from := d.q.squeeze(func(n int) buf.Buf {
			if n > 64 {
				return buf.Buf{}
			}
			return d.small.Get()
		})
		if d.rng.IntN(2) == 0 {
			d.q.pack(from, d.small)
		}
	}
}

// send hands a part of the queue to the kernel.
func (d *dropDriver) send() {
	if d.q.empty() {
		return
	}
	most, stuck := 1+d.rng.IntN(600), d.rng.IntN(2) == 0
	if stuck {
		most = d.b.first()
	}
	out, n, _ := d.q.gather(nil, 1+d.rng.IntN(8), most, 0)
	if stuck {
		out, n = firstBytes(out, n, most)
	}
	d.out, d.was = out, bytes.Join(out, nil)
	d.b.begin(n)
	d.m.flying = n
}

func (d *dropDriver) took(n int) {
	d.out, d.was = nil, nil
	d.q.take(n)
	d.b.take(n)
	d.m.took(n)
}

func (d *dropDriver) drop() {
	list := d.m.droppable()
	from, n, ok := d.b.drop()
	if ok != (len(list) > 0) {
		d.t.Fatalf("dropped: %v, the model has %d to drop", ok, len(list))
	}
	if !ok {
		return
	}
	i := list[0]
	if want := len(d.m.messages[i].bytes); n != want {
		d.t.Fatalf("dropped %d bytes, want %d", n, want)
	}
	d.m.messages = append(d.m.messages[:i:i], d.m.messages[i+1:]...)
	d.q.cut(from, n)
}
