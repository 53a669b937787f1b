package buf_test

import "testing"

type owner struct{ bytes, times int }

func (o *owner) Released(n int) { o.bytes -= n; o.times++ }

// TestOwner holds that an owner hears of the release once, wherever the right has
// gone, and that the next holder of the block has none.
func TestOwner(t *testing.T) {
	p := newPool(t, small)
	defer p.Close()
	one, two := &owner{bytes: small.BlockSize}, &owner{bytes: small.BlockSize}
	b := p.Get()
	b.Own(nil)
	b.Own(one)
	moved := b.Take()
	b.Release()
	b.Own(two) // The zero Buf has no owner.
	if one.times != 0 {
		t.Fatal("told before the release")
	}
	moved.Own(two)
	if one.bytes != 0 || one.times != 1 || two.times != 0 {
		t.Errorf("another owner: %+v, %+v", *one, *two)
	}
	moved.Release()
	next := p.Get()
	next.Release()
	if one.times != 1 || two.bytes != 0 || two.times != 1 {
		t.Errorf("at the end: %+v, %+v", *one, *two)
	}
	if n := testing.AllocsPerRun(100, func() {
		b := p.Get()
		b.Own(one)
		b.Release()
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
