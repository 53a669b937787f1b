package codec_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/codec"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/invariants"
	"github.com/penstock-go/penstock/internal/testutil"
)

// kinds are the codecs of the fuzz target, by number.
var kinds = []codec.Codec[[]byte]{
	codec.Line{}, codec.Line{CRLF: true}, codec.Delimiter("\n"), codec.Delimiter("aab"), codec.Frame32{},
	codec.LengthField{Width: 1, Strip: true}, codec.LengthField{Width: 2, LittleEndian: true, Adjust: -2, Strip: true},
	codec.LengthField{Offset: 2, Width: 1, Adjust: 3}, codec.LengthField{Width: 8, Strip: true}, Decimal{},
}

// plainly is how a stream is to be taken apart, with all of it there: the messages
// up to the end, and why it ends.
func plainly(cd codec.Codec[[]byte], data []byte, limit int) (messages []string, end error) {
	for len(data) > 0 {
		n, err := cd.Split(data[:min(len(data), limit)], 0)
		switch {
		case err != nil:
			return messages, err
		case n > limit || n == 0 && len(data) >= limit:
			return messages, codec.ErrTooLong
		case n == 0 || n > len(data):
			return messages, io.ErrUnexpectedEOF
		}
		m, err := cd.Decode(data[:n])
		if err != nil {
			return messages, err
		}
		messages, data = append(messages, string(m)), data[n:]
	}
	return messages, io.EOF
}

// hearer takes the messages of one run.
type hearer struct {
	conn.NopHandler
	got []string
	err error
}

func (h *hearer) OnMessage(_ *conn.Conn, m []byte) { h.got = append(h.got, string(m)) }
func (h *hearer) OnClose(_ *conn.Conn, err error)  { h.err = err }

// inPieces is how a connection takes data apart that comes cut at these places.
func (w *world) inPieces(cd codec.Codec[[]byte], data []byte, cuts []int, limit int) (messages []string, end error) {
	h := &hearer{}
	p, err := codec.New(cd, h, codec.Config{Limit: limit, Burst: 5})
	if err != nil {
		w.T.Fatal(err)
	}
	cfg, _ := conn.Config{}.Check()
	fd, peer := w.Fake.Open()
	c := conn.New(w.Loop, int(fd), p, cfg)
	from := 0
	for _, to := range append(cuts, len(data)) {
		peer.Feed(data[from:to])
		from = to
		w.Turn()
	}
	peer.AutoRead(true)
	peer.CloseWrite()
	w.Settle("close", func() bool { return h.err != nil })
	_ = c
	return h.got, h.err
}

func (w *world) compare(cd codec.Codec[[]byte], data []byte, cuts []int, limit int) {
	w.T.Helper()
	want, wantEnd := plainly(cd, data, limit)
	got, end := w.inPieces(cd, data, cuts, limit)
	if !slices.Equal(got, want) {
		w.T.Fatalf("%T%+v, limit %d: %q cut at %v: got %q, want %q", cd, cd, limit, data, cuts, got, want)
	}
	for _, is := range []error{codec.ErrTooLong, codec.ErrLength, io.ErrUnexpectedEOF, io.EOF} {
		if errors.Is(end, is) != errors.Is(wantEnd, is) {
			w.T.Fatalf("%T%+v, limit %d: %q cut at %v: ended with %v, want %v", cd, cd, limit, data, cuts, end, wantEnd)
		}
	}
}

// TestEverySplit cuts short streams at every set of places, and long ones at every
// two: the messages are the same, and so is the end.
func TestEverySplit(t *testing.T) {
	w := newWorld(t)
	for _, tc := range []struct {
		kind int
		data string
	}{
		{0, "a\r\n\nb\nc"}, {0, "aaaaaa\nb\n"}, {2, "a\n\nbbb"}, {3, "aaaabaab"}, {4, "\x00\x00\x00\x05a\x00\x00\x00"}, {4, "\x00\x00\x00\x03ab"},
		{5, "\x02ab\x00\x01ca"}, {6, "\x03\x00a\x02\x00\x02\x00"}, {7, "ab\x00xyzcd"}, {8, "\x00\x00\x00\x00\x00\x00\x00\x01a"},
	} {
		data := []byte(tc.data)
		for set := range 1 << (len(data) - 1) {
			var cuts []int
			for i := range len(data) - 1 {
				if set>>i&1 > 0 {
					cuts = append(cuts, i+1)
				}
			}
			w.compare(kinds[tc.kind], data, cuts, 7)
		}
	}
	for kind, cd := range kinds {
		data := stream(cd, rand.New(rand.NewPCG(1, uint64(kind))), 6, 30)
		for a := 1; a < len(data); a++ {
			for b := a + 1; b < len(data); b += 1 + len(data)/8 {
				w.compare(cd, data, []int{a, b}, 40)
			}
		}
	}
	w.Finish()
}

// stream is n messages of up to most bytes.
func stream(cd codec.Codec[[]byte], rng *rand.Rand, n, most int) (data []byte) {
	for range n {
		m := make([]byte, 3+rng.IntN(most))
		for i := range m {
			m[i] = 'a' + byte(rng.IntN(3))
		}
		if with, err := cd.Append(data, m); err == nil {
			data = with
		}
	}
	return data
}

// FuzzSplits holds that the messages of a stream, and its end, do not depend on how
// it comes in pieces.
func FuzzSplits(f *testing.F) {
	for kind, cd := range kinds {
		rng := rand.New(rand.NewPCG(2, uint64(kind)))
		f.Add(byte(kind), stream(cd, rng, 4, 20), uint64(kind), uint16(64))
		f.Add(byte(kind), append(stream(cd, rng, 3, 6000), 0, 0, 0, 2), uint64(7), uint16(5000))
	}
	f.Fuzz(func(t *testing.T, kind byte, data []byte, seed uint64, limit uint16) {
		if len(data) > 32<<10 {
			return
		}
		rng := rand.New(rand.NewPCG(seed, 3))
		var cuts []int
		for at := 0; at < len(data) && len(cuts) < 200; {
			at += 1 + rng.IntN(1+rng.IntN(len(data)))
			if at < len(data) {
				cuts = append(cuts, at)
			}
		}
		w := newWorldOf(t, seed)
		w.compare(kinds[int(kind)%len(kinds)], data, cuts, 1+int(limit))
		w.Finish()
	})
}

// FuzzRoundTrip holds that what is sent is what is received, or is refused.
func FuzzRoundTrip(f *testing.F) {
	for kind := range kinds {
		f.Add(byte(kind), []byte("hello"), []byte("a\r"))
		f.Add(byte(kind), []byte{}, []byte("aaabb\n"))
		f.Add(byte(kind), bytes.Repeat([]byte("x"), 300), binary.BigEndian.AppendUint64(nil, 1<<63))
	}
	f.Fuzz(func(t *testing.T, kind byte, first, second []byte) {
		cd := kinds[int(kind)%len(kinds)]
		var data []byte
		var want []string
		for _, m := range [][]byte{first, second} {
			with, err := cd.Append(data, m)
			if err != nil {
				continue
			}
			if s, ok := cd.(codec.Sizer[[]byte]); ok && s.Size(m) < len(with)-len(data) {
				t.Fatalf("%T%+v: %d bytes of %d sized at %d", cd, cd, len(with)-len(data), len(m), s.Size(m))
			}
			data, want = with, append(want, string(m))
		}
		got, end := plainly(cd, data, 1<<30)
		if f, keeps := cd.(codec.LengthField); keeps && !f.Strip { // The length is written into the message.
			for i := range got {
				got[i] = got[i][:f.Offset] + want[i][f.Offset:f.Offset+f.Width] + got[i][f.Offset+f.Width:]
			}
		}
		if !slices.Equal(got, want) || end != io.EOF {
			t.Fatalf("%T%+v: sent %q as %q, received %q, %v", cd, cd, want, data, got, end)
		}
	})
}

// work counts the bytes that Split looks at.
type work struct {
	codec.Line
	looked int
}

func (w *work) Split(data []byte, seen int) (int, error) {
	n, err := w.Line.Split(data, seen)
	if w.looked += n - seen; n == 0 {
		w.looked += len(data)
	}
	return n, err
}

// TestLinear feeds a long line byte by byte, and short ones of which every one is
// cut: what is looked at and allocated grows with the bytes, not with their square.
func TestLinear(t *testing.T) {
	size := 10 << 20
	if testing.Short() {
		size = 1 << 20
	}
	if invariants.Enabled {
		size = 16 << 10 // Each block is filled with poison when it is released.
	}
	w := newWorld(t)
	wk := &work{}
	h := &hearer{}
	p, err := codec.New[[]byte](wk, h, codec.Config{Limit: size + 1, Burst: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	cfg, _ := conn.Config{}.Check()
	fd, peer := w.Fake.Open()
	c := conn.New(w.Loop, int(fd), p, cfg)
	var b buf.Buf
	feed := func(pool *buf.Pool, p string) {
		b = pool.Get()
		copy(b.Room(), p)
		b.Extend(len(p))
		c.Handler().OnData(c, &b)
		b.Release()
	}
	_, before := testutil.Allocated()
	for range size {
		feed(w.Small, "x")
	}
	feed(w.Small, "\n")
	_, after := testutil.Allocated()
	if n := after - before; len(h.got) != 1 || wk.looked > size+1 || n > 100 {
		t.Errorf("%d messages; looked at %d bytes of %d, %d allocations", len(h.got), wk.looked, size, n)
	}
	wk.looked = 0
	short := strings.Repeat("0123456789\n", 5957) // One block, which ends inside a line.
	for range 100 {
		feed(w.Bulk, short[:len(short)-5])
		feed(w.Bulk, short[len(short)-5:])
	}
	if most := 100 * (len(short) + 1000); len(h.got) != 1+100*5957 || wk.looked > most {
		t.Errorf("%d messages; looked at %d bytes of %d", len(h.got), wk.looked, 100*len(short))
	}
	c.Close()
	peer.AutoRead(true)
	peer.CloseWrite()
	w.Settle("close", func() bool { return w.Fake.OpenFDs() == 0 })
	w.Finish()
}
