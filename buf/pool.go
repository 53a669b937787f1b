package buf

import (
	"fmt"
	"math/bits"
	"syscall"

	"github.com/penstock-go/penstock/internal/invariants"
)

// Poison is what a released block is filled with in builds with invariants.
const Poison = 0xDB

// Defaults of [Config].
const (
	DefaultBlockSize  = 64 << 10
	DefaultSlabBlocks = 64
)

// Config shapes a [Pool]. The zero value is blocks of 64 KiB in slabs of 4 MiB,
// without a limit.
type Config struct {
	// BlockSize is the length of one block in bytes. Default 64 KiB.
	// It must be a multiple of the page size or divide it.
	BlockSize int
	// SlabBlocks is how many blocks are mapped at once. Default 64, a power of two.
	SlabBlocks int
	// MaxBytes bounds what the pool maps, in bytes, rounded up to a whole slab.
	// Default 0: no bound but the address space. At the bound Get returns the zero Buf.
	MaxBytes int
}

func (c Config) check() (Config, error) {
	if c.BlockSize == 0 {
		c.BlockSize = DefaultBlockSize
	}
	if c.SlabBlocks == 0 {
		c.SlabBlocks = DefaultSlabBlocks
	}
	switch page := syscall.Getpagesize(); {
	case c.BlockSize < 0 || c.BlockSize > 1<<30 || (c.BlockSize%page != 0 && page%c.BlockSize != 0):
		return c, fmt.Errorf("buf: block size %d is neither a multiple nor a divisor of the page size %d", c.BlockSize, page)
	case c.SlabBlocks < 0 || bits.OnesCount(uint(c.SlabBlocks)) != 1:
		return c, fmt.Errorf("buf: %d blocks a slab is not a power of two", c.SlabBlocks)
	case c.BlockSize*c.SlabBlocks%page != 0:
		return c, fmt.Errorf("buf: a slab of %d x %d bytes is not a whole number of pages", c.SlabBlocks, c.BlockSize)
	case c.MaxBytes < 0:
		return c, fmt.Errorf("buf: negative limit of %d bytes", c.MaxBytes)
	}
	return c, nil
}

// Pool is one loop's memory in one size: equal blocks, cut from slabs that are
// mapped when they are needed and given back to the system by Trim.
//
// Thread: a Pool belongs to one loop. No method may be called elsewhere.
type Pool struct {
	cfg    Config
	shift  uint // log2 of the blocks in a slab
	slabs  []slab
	low    int // no slab below this one has a free block
	mapped int // slabs with memory
	inUse  int
	peak   int  // most blocks in use since the last Trim
	active bool // the last Trim kept what the peak needed, or a Get came after it
}

// slab is one mapping. mem is nil once it was given back; its place is reused.
type slab struct {
	mem  []byte
	gen  []uint32 // by block: raised at each release; outlives the mapping
	own  []Owner  // by block; nil until somebody owns one
	free []uint32 // indices within the slab, the last released first
}

// NewPool returns an empty pool; the first Get maps the first slab.
func NewPool(cfg Config) (*Pool, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	return &Pool{cfg: cfg, shift: uint(bits.TrailingZeros(uint(cfg.SlabBlocks)))}, nil
}

// BlockSize returns the length of every block in bytes.
func (p *Pool) BlockSize() int { return p.cfg.BlockSize }

// InUse returns the number of blocks that somebody holds.
func (p *Pool) InUse() int { return p.inUse }

// Mapped returns the bytes of address space the pool holds now. What is
// resident is less: a page that was never touched costs nothing.
func (p *Pool) Mapped() int {
	return p.mapped * p.cfg.SlabBlocks * p.cfg.BlockSize
}

// Get hands out one empty block, or the zero Buf when the limit is reached or
// the system has no memory left.
func (p *Pool) Get() Buf {
	for ; p.low < len(p.slabs); p.low++ {
		if s := &p.slabs[p.low]; len(s.free) > 0 {
			return p.take(p.low, s)
		}
	}
	if !p.grow() {
		return Buf{}
	}
	return p.take(p.low, &p.slabs[p.low])
}

func (p *Pool) take(at int, s *slab) Buf {
	i := s.free[len(s.free)-1]
	s.free = s.free[:len(s.free)-1]
	p.inUse++
	p.active = true
	p.peak = max(p.peak, p.inUse)
	return Buf{pool: p, id: id{uint32(at)<<p.shift | i, s.gen[i]}}
}

// grow maps one slab, at the lowest place without one, and points low at it.
func (p *Pool) grow() bool {
	size := p.cfg.BlockSize * p.cfg.SlabBlocks
	if p.cfg.MaxBytes > 0 && p.Mapped() >= p.cfg.MaxBytes {
		return false
	}
	mem, err := mapSlab(size)
	if err != nil {
		return false
	}
	at := 0
	for at < len(p.slabs) && p.slabs[at].mem != nil {
		at++
	}
	if at == len(p.slabs) {
		p.slabs = append(p.slabs, slab{
			gen:  make([]uint32, p.cfg.SlabBlocks),
			free: make([]uint32, 0, p.cfg.SlabBlocks),
		})
	}
	s := &p.slabs[at]
	s.mem = mem
	p.mapped++
	for i := p.cfg.SlabBlocks - 1; i >= 0; i-- {
		s.free = append(s.free, uint32(i))
	}
	p.low = at
	return true
}

func (p *Pool) put(b id) {
	s, i := p.place(b.index)
	if s.gen[i] != b.gen {
		panic("buf: a block was released twice")
	}
	s.gen[i]++
	if invariants.Enabled {
		poison(p.block(b.index))
	}
	s.free = append(s.free, i)
	p.inUse--
	p.low = min(p.low, int(b.index>>p.shift))
	if s.own != nil && s.own[i] != nil {
		o := s.own[i]
		s.own[i] = nil
		o.Released(p.cfg.BlockSize)
	}
}

func poison(b []byte) {
	for i := range b {
		b[i] = Poison
	}
}

// place returns the slab of a block, and which of its blocks it is.
func (p *Pool) place(index uint32) (s *slab, i uint32) {
	return &p.slabs[index>>p.shift], index & uint32(p.cfg.SlabBlocks-1)
}

func (p *Pool) block(index uint32) []byte {
	s, i := p.place(index)
	lo := int(i) * p.cfg.BlockSize
	return s.mem[lo : lo+p.cfg.BlockSize : lo+p.cfg.BlockSize]
}

// Idle reports whether a Trim would now, or after another second of the same,
// give something back. It is false for ever on a pool that nobody uses.
func (p *Pool) Idle() bool {
	return p.active && p.mapped*p.cfg.SlabBlocks-p.inUse >= p.cfg.SlabBlocks
}

// Trim gives slabs without a block in use back to the system, as far as the
// rest still covers the most blocks that were in use since the last Trim, and
// returns the bytes given back. A loop calls it now and then, so that memory
// of a burst goes away and that of the usual load stays.
func (p *Pool) Trim() int {
	keep, given := p.peak, 0
	p.active = p.peak > p.inUse
	p.peak = p.inUse
	capacity := p.mapped * p.cfg.SlabBlocks
	for at := len(p.slabs) - 1; at >= 0 && capacity-p.cfg.SlabBlocks >= keep; at-- {
		if s := &p.slabs[at]; s.mem != nil && len(s.free) == p.cfg.SlabBlocks {
			capacity -= p.cfg.SlabBlocks
			given += p.unmap(s)
		}
	}
	return given
}

// Close gives all memory back. It panics when a block is still held, since
// the holder would write to an address that is no longer ours.
func (p *Pool) Close() {
	if p.inUse != 0 {
		invariants.Broken("%d blocks of %d bytes still held at the end of their pool", p.inUse, p.cfg.BlockSize)
	}
	for at := range p.slabs {
		if s := &p.slabs[at]; s.mem != nil {
			p.unmap(s)
		}
	}
}

func (p *Pool) unmap(s *slab) int {
	n := len(s.mem)
	p.mapped--
	unmapSlab(s.mem)
	s.mem, s.free = nil, s.free[:0]
	return n
}
