package buf_test

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/internal/invariants"
)

// small is a slab of eight blocks.
var small = buf.Config{BlockSize: 1024, SlabBlocks: 8}

const slabBytes = 8 * 1024

func newPool(t testing.TB, cfg buf.Config) *buf.Pool {
	t.Helper()
	p, err := buf.NewPool(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// get takes n blocks and writes their number into each.
func get(t testing.TB, p *buf.Pool, n int) []buf.Buf {
	t.Helper()
	var bs []buf.Buf
	for i := range n {
		b := p.Get()
		if b.IsZero() {
			t.Fatalf("no block after %d of %d", i, n)
		}
		b.Append([]byte{byte(i), byte(i >> 8)})
		bs = append(bs, b)
	}
	return bs
}

func release(bs []buf.Buf) {
	for i := range bs {
		bs[i].Release()
	}
}

// mustPanic runs f and expects a panic with text in it.
func mustPanic(t *testing.T, text string, f func()) {
	t.Helper()
	defer func() {
		t.Helper()
		r := recover()
		s, _ := r.(string)
		if v, ok := r.(invariants.Violation); ok {
			s = string(v)
		}
		if r == nil || !strings.Contains(s, text) {
			t.Errorf("panic %v, want one with %q", r, text)
		}
	}()
	f()
}

func TestConfig(t *testing.T) {
	page := syscall.Getpagesize()
	tests := []struct {
		name string
		cfg  buf.Config
		ok   bool
	}{
		{"zero", buf.Config{}, true},
		{"one page", buf.Config{BlockSize: page}, true},
		{"part of a page", buf.Config{BlockSize: page / 4, SlabBlocks: 4}, true},
		{"three pages", buf.Config{BlockSize: 3 * page, SlabBlocks: 2}, true},
		{"odd size", buf.Config{BlockSize: page + 1}, false},
		{"slab of half a page", buf.Config{BlockSize: page / 4, SlabBlocks: 2}, false},
		{"three blocks a slab", buf.Config{SlabBlocks: 3}, false},
		{"negative size", buf.Config{BlockSize: -1}, false},
		{"negative slab", buf.Config{SlabBlocks: -8}, false},
		{"negative limit", buf.Config{MaxBytes: -1}, false},
		{"huge", buf.Config{BlockSize: 1<<30 + page}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := buf.NewPool(tt.cfg)
			if (err == nil) != tt.ok || (p == nil) != (err != nil) {
				t.Fatalf("NewPool: %v, %v; want ok %v", p, err, tt.ok)
			}
			if p != nil && p.Mapped() != 0 {
				t.Errorf("a new pool maps %d bytes", p.Mapped())
			}
		})
	}
}

func TestPoolGrows(t *testing.T) {
	p := newPool(t, small)
	bs := get(t, p, 20)
	if p.Mapped() != 3*slabBytes || p.InUse() != 20 {
		t.Errorf("mapped %d, in use %d; want three slabs and 20", p.Mapped(), p.InUse())
	}
	for i := range bs {
		if got := bs[i].Bytes(); !bytes.Equal(got, []byte{byte(i), 0}) {
			t.Errorf("block %d holds %v: two rights to one block", i, got)
		}
	}
	release(bs)
	if p.InUse() != 0 {
		t.Errorf("in use %d after all were released", p.InUse())
	}
	bs = get(t, p, 24)
	if p.Mapped() != 3*slabBytes {
		t.Errorf("mapped %d: the pool grew although blocks were free", p.Mapped())
	}
	release(bs)
	p.Close()
	if p.Mapped() != 0 {
		t.Errorf("mapped %d after Close", p.Mapped())
	}
}

func TestPoolTrim(t *testing.T) {
	p := newPool(t, small)
	defer p.Close()
	bs := get(t, p, 32)
	release(bs[5:])
	if n := p.Trim(); n != 0 {
		t.Errorf("Trim gave %d bytes of a burst that is not over", n)
	}
	if n := p.Trim(); n != 3*slabBytes || p.Mapped() != slabBytes {
		t.Errorf("Trim gave %d bytes, %d are mapped; want all slabs but the one in use", n, p.Mapped())
	}
	for i := range bs[:5] {
		if got := bs[i].Bytes(); got[0] != byte(i) {
			t.Errorf("block %d was lost by Trim", i)
		}
	}
	more := get(t, p, 27) // maps the same places again
	if p.Mapped() != 4*slabBytes {
		t.Errorf("mapped %d after growing again", p.Mapped())
	}
	release(more)
	release(bs[:5])
	p.Trim()
	if n := p.Trim(); n == 0 || p.Mapped() != 0 {
		t.Errorf("Trim gave %d bytes, %d are mapped; want none left", n, p.Mapped())
	}
}

// TestTrimKeepsHoles trims a slab below one that is in use, and fills the hole.
func TestTrimKeepsHoles(t *testing.T) {
	p := newPool(t, small)
	defer p.Close()
	bs := get(t, p, 16)
	release(bs[:8])
	p.Trim()
	if n := p.Trim(); n != slabBytes {
		t.Fatalf("Trim gave %d bytes, want the lower slab", n)
	}
	if bs[8].Bytes()[0] != 8 {
		t.Error("the upper slab moved")
	}
	again := get(t, p, 8)
	if p.Mapped() != 2*slabBytes {
		t.Errorf("mapped %d, want the hole filled", p.Mapped())
	}
	release(again)
	release(bs[8:])
}

// TestGenerationsSurviveTrim releases a right from before an unmapping a second time.
func TestGenerationsSurviveTrim(t *testing.T) {
	p := newPool(t, small)
	defer p.Close()
	b := p.Get()
	stale := b
	b.Release()
	p.Trim()
	p.Trim()
	if p.Mapped() != 0 {
		t.Fatal("nothing was trimmed")
	}
	held := get(t, p, 8) // the same place and the same block
	mustPanic(t, "released twice", stale.Release)
	release(held)
}

func TestPoolLimit(t *testing.T) {
	cfg := small
	cfg.MaxBytes = slabBytes + 1 // rounded up to a whole slab
	p := newPool(t, cfg)
	defer p.Close()
	bs := get(t, p, 16)
	for range 3 {
		if b := p.Get(); !b.IsZero() {
			t.Fatal("a block past the limit")
		}
	}
	bs[3].Release()
	b := p.Get()
	if b.IsZero() {
		t.Fatal("no block although one came back")
	}
	bs[3] = b
	release(bs)
	p.Trim()
	p.Trim()
	bs = get(t, p, 16) // what was given back counts no more
	release(bs)
}

func TestBufRange(t *testing.T) {
	p := newPool(t, small)
	defer p.Close()
	b := p.Get()
	defer b.Release()
	if b.Len() != 0 || b.Cap() != 1024 || len(b.Room()) != 1024 {
		t.Fatalf("a new block: len %d, cap %d, room %d", b.Len(), b.Cap(), len(b.Room()))
	}
	copy(b.Room(), "hello world")
	b.Extend(11)
	b.Advance(6)
	if got := string(b.Bytes()); got != "world" {
		t.Errorf("range %q, want %q", got, "world")
	}
	if n := b.Append(make([]byte, 2000)); n != 1024-11 || len(b.Room()) != 0 {
		t.Errorf("Append took %d bytes, room %d is left", n, len(b.Room()))
	}
	if got := cap(b.Bytes()); got != b.Len() {
		t.Errorf("capacity %d of a range of %d: an append would reach the room", got, b.Len())
	}
	mustPanic(t, "Extend", func() { b.Extend(1) })
	mustPanic(t, "Extend", func() { b.Extend(-1) })
	mustPanic(t, "Advance", func() { b.Advance(b.Len() + 1) })
	mustPanic(t, "Advance", func() { b.Advance(-1) })
	mustPanic(t, "Truncate", func() { b.Truncate(b.Len() + 1) })
	mustPanic(t, "Truncate", func() { b.Truncate(-1) })
	if b.Truncate(3); string(b.Bytes()) != "wor" || len(b.Room()) != 1024-9 {
		t.Errorf("range %q with room for %d after Truncate", b.Bytes(), len(b.Room()))
	}
}

func TestZeroBuf(t *testing.T) {
	var b buf.Buf
	if !b.IsZero() || b.Len() != 0 || b.Cap() != 0 || b.Bytes() != nil || b.Room() != nil || b.Append([]byte("x")) != 0 {
		t.Error("the zero Buf holds something")
	}
	b.Advance(0)
	b.Release() // does nothing
	mustPanic(t, "Extend", func() { b.Extend(1) })
}

func TestTake(t *testing.T) {
	p := newPool(t, small)
	defer p.Close()
	b := p.Get()
	b.Append([]byte("x"))
	c := b.Take()
	if !b.IsZero() || c.Len() != 1 {
		t.Error("Take left the right behind, or lost it")
	}
	b.Release()
	if p.InUse() != 1 {
		t.Error("the release of what was left behind gave the block away")
	}
	c.Release()
}

func TestDoubleRelease(t *testing.T) {
	p := newPool(t, small)
	defer p.Close()
	b := p.Get()
	copied := b
	b.Release()
	mustPanic(t, "released twice", copied.Release)
	// Also when somebody else has the block now.
	copied2 := p.Get()
	stale := copied2
	copied2.Release()
	other := p.Get()
	mustPanic(t, "released twice", stale.Release)
	other.Release()
}

func TestCloseWithBlockHeld(t *testing.T) {
	p := newPool(t, small)
	b := p.Get()
	mustPanic(t, "still held", p.Close)
	b.Release()
	p.Close()
}

// TestStaleUse holds what builds with invariants add: a use after release
// panics, and the block is poisoned.
func TestStaleUse(t *testing.T) {
	p := newPool(t, small)
	defer p.Close()
	b := p.Get()
	b.Append([]byte("secret"))
	stale, bytesOf := b, b.Bytes()
	b.Release()
	if !invariants.Enabled {
		if string(bytesOf) != "secret" {
			t.Error("a build without invariants wrote to a released block")
		}
		return
	}
	for i, c := range bytesOf {
		if c != buf.Poison {
			t.Fatalf("byte %d of a released block is %#x, want the poison %#x", i, c, buf.Poison)
		}
	}
	mustPanic(t, "after the right to it was given up", func() { stale.Bytes() })
	mustPanic(t, "after the right to it was given up", func() { stale.Room() })
	mustPanic(t, "after the right to it was given up", func() { stale.Append([]byte("x")) })
}

// TestPoolModel runs random steps against a list of what every block must hold.
func TestPoolModel(t *testing.T) {
	for seed := range uint64(50) {
		runModel(t, seed, 2000)
	}
}

func FuzzPool(f *testing.F) {
	f.Add(uint64(1), 500)
	f.Fuzz(func(t *testing.T, seed uint64, steps int) { runModel(t, seed, min(steps, 5000)) })
}

func runModel(t *testing.T, seed uint64, steps int) {
	t.Helper()
	type held struct {
		b    buf.Buf
		want []byte
	}
	rng := rand.New(rand.NewPCG(seed, 0))
	cfg := buf.Config{BlockSize: 1024, SlabBlocks: 4 << rng.IntN(3)}
	slab := cfg.BlockSize * cfg.SlabBlocks
	cfg.MaxBytes = slab * rng.IntN(6)
	p := newPool(t, cfg)
	var all []held
	for range steps {
		switch k := rng.IntN(16); {
		case k < 7:
			b := p.Get()
			full := cfg.MaxBytes > 0 && len(all) == cfg.MaxBytes/cfg.BlockSize
			if b.IsZero() != full {
				t.Fatalf("seed %d: Get with %d blocks held gave none: %v", seed, len(all), b.IsZero())
			}
			if b.IsZero() {
				continue
			}
			want := make([]byte, rng.IntN(cfg.BlockSize))
			for i := range want {
				want[i] = byte(rng.Uint32())
			}
			b.Append(want)
			all = append(all, held{b, want})
		case k < 13 && len(all) > 0:
			i := rng.IntN(len(all))
			h := all[i]
			all[i] = all[len(all)-1]
			all = all[:len(all)-1]
			if !bytes.Equal(h.b.Bytes(), h.want) {
				t.Fatalf("seed %d: a block changed while it was held", seed)
			}
			h.b.Release()
		case k < 15 && len(all) > 0:
			h := &all[rng.IntN(len(all))]
			n := rng.IntN(h.b.Len() + 1)
			h.b.Advance(n)
			h.want = h.want[n:]
		case k == 15:
			before := p.Mapped()
			if n := p.Trim(); before-p.Mapped() != n || n%slab != 0 {
				t.Fatalf("seed %d: Trim gave %d bytes of %d, %d are left", seed, n, before, p.Mapped())
			}
		}
		if p.InUse() != len(all) || p.Mapped() < len(all)*cfg.BlockSize || cfg.MaxBytes > 0 && p.Mapped() > cfg.MaxBytes {
			t.Fatalf("seed %d: %d held, in use %d, mapped %d of at most %d", seed, len(all), p.InUse(), p.Mapped(), cfg.MaxBytes)
		}
	}
	for i := range all {
		if !bytes.Equal(all[i].b.Bytes(), all[i].want) {
			t.Fatalf("seed %d: a block changed while it was held", seed)
		}
		all[i].b.Release()
	}
	p.Close()
}

func TestAllocs(t *testing.T) {
	p := newPool(t, small)
	defer p.Close()
	data := []byte("some bytes")
	use := func() {
		b, c := p.Get(), p.Get()
		b.Append(data)
		b.Advance(2)
		d := b.Take()
		d.Release()
		c.Release()
	}
	use()
	if n := testing.AllocsPerRun(100, use); n != 0 {
		t.Errorf("a block taken and released allocates %v times, want 0", n)
	}
	s := buf.NewShared(data)
	defer s.Release()
	if n := testing.AllocsPerRun(100, func() { s.Retain().Release() }); n != 0 {
		t.Errorf("a count of a Shared allocates %v times, want 0", n)
	}
}

func TestShared(t *testing.T) {
	src := []byte("payload")
	s := buf.NewShared(src)
	src[0] = 'X'
	if string(s.Bytes()) != "payload" || s.Len() != 7 {
		t.Errorf("shared %q", s.Bytes())
	}
	s.Release()
	if s.Len() != 0 {
		t.Error("the payload outlives the last count")
	}
	mustPanic(t, "nobody held", func() { s.Retain() })
	again := buf.NewShared(nil)
	if again.Len() != 0 {
		t.Error("an empty Shared has bytes")
	}
	again.Release()
	mustPanic(t, "released twice", again.Release)
}

// TestSharedCounts gives and takes counts on many goroutines; the race detector watches.
func TestSharedCounts(t *testing.T) {
	const goroutines, rounds = 8, 2000
	s := buf.NewShared(bytes.Repeat([]byte{7}, 100))
	var wg sync.WaitGroup
	for range goroutines {
		s.Retain()
		wg.Go(func() {
			for range rounds {
				s.Retain()
				if s.Bytes()[99] != 7 {
					t.Error("the payload changed")
				}
				s.Release()
			}
			s.Release()
		})
	}
	wg.Wait()
	if s.Len() != 100 {
		t.Fatal("the payload went although a count is left")
	}
	s.Release()
	if s.Len() != 0 {
		t.Error("a count was lost on the way")
	}
}

// TestSharedForgotten drops Shareds with their pins in place: the collector must not crash.
func TestSharedForgotten(t *testing.T) {
	for range 100 {
		_ = buf.NewShared(make([]byte, 1000))
	}
	runtime.GC()
	runtime.GC() // finalizers of the first run have begun by the second
}

func BenchmarkGetRelease(b *testing.B) {
	p := newPool(b, buf.Config{})
	defer p.Close()
	for b.Loop() {
		x := p.Get()
		x.Release()
	}
}
