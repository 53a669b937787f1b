package aio_test

import (
	"errors"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/penstock-go/penstock/aio"
)

// TestPack holds that what fits into the fields comes back, and that two
// different operations never get the same 64 bits.
func TestPack(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	type key struct {
		t     aio.Token
		k     aio.Kind
		batch uint16
	}
	seen := map[uint64]key{}
	edge := func(bits int) uint32 {
		top := uint32(1)<<bits - 1
		return []uint32{0, 1, top, top - 1, top >> 1, rng.Uint32() & top}[rng.IntN(6)]
	}
	for range 100_000 {
		in := key{
			t:     aio.Token{Slot: edge(aio.SlotBits), Gen: edge(aio.GenBits)},
			k:     aio.Kind(rng.IntN(int(aio.Poll) + 1)),
			batch: uint16(edge(12)),
		}
		data := in.t.Pack(in.k, in.batch)
		if tok, k, batch := aio.Unpack(data); tok != in.t || k != in.k || batch != in.batch {
			t.Fatalf("%+v came back as %+v, %v, %d", in, tok, k, batch)
		}
		if other, ok := seen[data]; ok && other != in {
			t.Fatalf("%+v and %+v are both %#x", in, other, data)
		}
		seen[data] = in
	}
}

// TestPackModulo holds that batch and generation are taken modulo their widths
// and never reach into other fields.
func TestPackModulo(t *testing.T) {
	tok := aio.Token{Slot: 5, Gen: 7 + 1<<aio.GenBits}
	got, k, batch := aio.Unpack(tok.Pack(aio.Send, 4096+9))
	if got != (aio.Token{Slot: 5, Gen: 7}) || k != aio.Send || batch != 9 {
		t.Errorf("came back as %+v, %v, %d", got, k, batch)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(uint64(0))
	f.Add(^uint64(0))
	f.Fuzz(func(t *testing.T, data uint64) {
		tok, k, batch := aio.Unpack(data)
		if got := tok.Pack(k, batch); got != data {
			t.Errorf("%#x became %#x", data, got)
		}
	})
}

func TestKindString(t *testing.T) {
	want := map[aio.Kind]string{
		0: "none", aio.Accept: "accept", aio.Recv: "recv", aio.Send: "send",
		aio.Cancel: "cancel", aio.Close: "close", aio.Shutdown: "shutdown", aio.Reset: "reset",
		aio.Forget: "forget", aio.Poll: "poll", 99: "none",
	}
	for k, name := range want {
		if k.String() != name {
			t.Errorf("kind %d is %q, want %q", uint8(k), k, name)
		}
	}
}

func TestCompletionErr(t *testing.T) {
	for _, res := range []int32{0, 1, 1 << 30} {
		if err := (&aio.Completion{Res: res}).Err(); err != nil {
			t.Errorf("result %d is the error %v", res, err)
		}
	}
	c := aio.Completion{Res: -int32(syscall.ECANCELED)}
	if err := c.Err(); !errors.Is(err, syscall.ECANCELED) {
		t.Errorf("result %d is %v, want ECANCELED", c.Res, err)
	}
}
