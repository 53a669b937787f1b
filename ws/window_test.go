package ws

import (
	"bytes"
	"math/rand/v2"
	"testing"

	"github.com/penstock-go/penstock/buf"
)

// TestWindow holds that a window is the end of what was added, and that the last one
// leaves no memory behind.
func TestWindow(t *testing.T) {
	l := &lane{}
	rng := rand.New(rand.NewPCG(1, 2))
	for bits := uint8(minBits); bits <= maxBits; bits++ {
		var w, other window
		other.add(l, []byte("other"), bits)
		var all []byte
		for range 200 {
			p := make([]byte, rng.IntN(2<<rng.IntN(int(bits))))
			for i := range p {
				p[i] = byte(rng.Int())
			}
			if !w.add(l, p, bits) {
				t.Fatal("no memory")
			}
			all = append(all, p...)
			if got := w.block.Bytes(); !bytes.Equal(got, all[max(0, len(all)-1<<bits):]) {
				t.Fatalf("%d bits: after %d bytes the window has %d others", bits, len(all), len(got))
			}
		}
		if w.forget(); len(w.block.Bytes()) != 0 || !w.add(l, []byte("again"), bits) || string(w.block.Bytes()) != "again" {
			t.Fatalf("%d bits: %q after a new beginning", bits, w.block.Bytes())
		}
		l.stock.put(&w, bits)
		if pool := l.stock[bits].pool; pool.InUse() != 1 || string(other.block.Bytes()) != "other" {
			t.Fatalf("%d bits: %d in use beside %q", bits, pool.InUse(), other.block.Bytes())
		}
		if l.stock.put(&other, bits); l.stock[bits].pool.Mapped() != 0 {
			t.Fatalf("%d bits: %d bytes left behind", bits, l.stock[bits].pool.Mapped())
		}
	}
}

// TestWindowCrowd holds that a crowd's windows go back to the system while some are
// left.
func TestWindowCrowd(t *testing.T) {
	l := &lane{}
	crowd := make([]window, 1000)
	for i := range crowd {
		crowd[i].add(l, []byte("x"), 12)
	}
	for i := range crowd[1:] {
		l.stock.put(&crowd[i+1], 12)
	}
	if n := l.stock[12].pool.Mapped(); n > 2*slabBytes {
		t.Errorf("%d bytes are mapped for one window", n)
	}
	l.stock.put(&crowd[0], 12)
}

// TestWindowWithoutMemory holds that a window which cannot be had is empty.
func TestWindowWithoutMemory(t *testing.T) {
	l := &lane{}
	pool, err := buf.NewPool(buf.Config{BlockSize: 4096, SlabBlocks: 1, MaxBytes: 4096})
	if err != nil {
		t.Fatal(err)
	}
	l.stock[12].pool = pool
	var a, b window
	if !a.add(l, []byte("a"), 12) || b.add(l, []byte("b"), 12) || len(b.block.Bytes()) != 0 {
		t.Errorf("%q and %q", a.block.Bytes(), b.block.Bytes())
	}
	l.stock.put(&b, 12)
	l.stock.put(&a, 12)
}

// TestPlainWindows holds that connections without takeover share what was agreed.
func TestPlainWindows(t *testing.T) {
	l := &lane{}
	a, b := agreed{on: true, sendBits: 15, recvBits: 15}, agreed{on: true, sendBits: 9, recvBits: 15}
	ofA, ofB := l.windows(a), l.windows(b)
	if l.windows(a) != ofA || l.windows(b) != ofB || ofA == ofB || ofB.agreed != b {
		t.Error("what was agreed is not shared as it should")
	}
	a.recvTakeover = true
	if ofA = l.windows(a); l.windows(a) == ofA {
		t.Error("a window is shared")
	}
}

// Windows returns how many windows the connections of c's lane hold.
func (c *Conn) Windows() (n int) {
	for i := range c.lane.stock {
		if p := c.lane.stock[i].pool; p != nil {
			n += p.InUse()
		}
	}
	return n
}

// Shares reports whether two connections keep what they agreed on in one place.
func (c *Conn) Shares(other *Conn) bool { return c.windows != nil && c.windows == other.windows }
