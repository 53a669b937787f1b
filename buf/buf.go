package buf

import "github.com/penstock-go/penstock/internal/invariants"

// Buf is the right to one block of a [Pool], and the range of it that is filled.
//
// Ownership: one holder at a time. A Buf is a value, but copying it does not
// copy the right: pass *Buf, or move with Take. A function that takes *Buf may
// move the right out of it, and then leaves the zero Buf behind.
//
// Thread: the loop of its pool. Bytes that must travel are copied.
type Buf struct {
	pool     *Pool
	id       id // one field, not two: the compiler keeps up to four in registers
	from, to uint32
}

// id names a block of a pool, and the right to it that counts now.
type id struct{ index, gen uint32 }

// IsZero reports whether b holds no right.
func (b *Buf) IsZero() bool { return b.pool == nil }

// Len returns the number of filled bytes.
func (b *Buf) Len() int { return int(b.to - b.from) }

// Cap returns the length of the whole block, 0 for the zero Buf.
func (b *Buf) Cap() int {
	if b.pool == nil {
		return 0
	}
	return b.pool.cfg.BlockSize
}

// Bytes returns the filled range, nil for the zero Buf. It is valid as long as
// b holds the right, and may be written to.
func (b *Buf) Bytes() []byte {
	if b.pool == nil {
		return nil
	}
	return b.block()[b.from:b.to:b.to]
}

// Room returns the bytes behind the filled range. What is written there
// becomes part of the range by Extend.
func (b *Buf) Room() []byte {
	if b.pool == nil {
		return nil
	}
	return b.block()[b.to:]
}

// Extend adds n bytes of Room to the filled range.
func (b *Buf) Extend(n int) {
	if n < 0 || n > b.Cap()-int(b.to) {
		panic("buf: Extend past the end of the block")
	}
	b.to += uint32(n)
}

// Append copies what fits of data behind the filled range and returns how much did.
func (b *Buf) Append(data []byte) int {
	n := copy(b.Room(), data)
	b.to += uint32(n)
	return n
}

// Advance drops n bytes from the front of the filled range.
func (b *Buf) Advance(n int) {
	if n < 0 || n > b.Len() {
		panic("buf: Advance past the filled range")
	}
	b.from += uint32(n)
}

// Truncate drops all but the first n bytes of the filled range.
func (b *Buf) Truncate(n int) {
	if n < 0 || n > b.Len() {
		panic("buf: Truncate past the filled range")
	}
	b.to = b.from + uint32(n)
}

// Take moves the right out of b, which becomes zero.
func (b *Buf) Take() Buf {
	t := *b
	*b = Buf{}
	return t
}

// Release ends the right; b becomes zero. Releasing the zero Buf does nothing.
func (b *Buf) Release() {
	if b.pool != nil { // So short that it is no call: the loop releases what is mostly empty.
		b.release()
	}
}

func (b *Buf) release() {
	t := b.Take()
	t.pool.put(t.id)
}

// Owner hears of the end of blocks, whoever holds them then.
type Owner interface {
	// Released says that one block of so many bytes is back in its pool. It runs
	// inside Release.
	Released(bytes int)
}

// Own has o told when the block is released. That stays with the block when the
// right to it moves on. A block has one owner: who was it before is told now, as if
// the block had been released. With nil it has none, as the zero Buf always.
func (b *Buf) Own(o Owner) {
	if b.pool == nil {
		return
	}
	s, i := b.pool.place(b.id.index)
	if s.own == nil {
		if o == nil {
			return
		}
		s.own = make([]Owner, b.pool.cfg.SlabBlocks)
	}
	was := s.own[i]
	if s.own[i] = o; was != nil {
		was.Released(b.Cap())
	}
}

func (b *Buf) block() []byte {
	if invariants.Enabled {
		if s, i := b.pool.place(b.id.index); s.gen[i] != b.id.gen {
			panic("buf: a block was used after the right to it was given up")
		}
	}
	return b.pool.block(b.id.index)
}

// Of reports whether b is the right to a block of p.
func (b *Buf) Of(p *Pool) bool { return b.pool == p }
