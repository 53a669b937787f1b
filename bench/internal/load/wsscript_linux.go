package load

import (
	"bytes"
	"compress/flate"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"

	packer "github.com/klauspost/compress/flate"

	"github.com/penstock-go/penstock/bench/internal/pattern"
)

// train returns what a client sends that says plain messages of one size, and what
// it is to hear from an echo, as streams, and the sizes of their frames. The payloads
// are a pattern, masked beforehand, so that to send and to check costs no more than
// without frames. A server must answer a message by one frame with the shortest head.
func train(all pattern.Stream, size int) (out, back pattern.Stream, outSize, backSize, frames int) {
	frames = 7 // Primes, for no count of messages on their way to divide them.
	for _, n := range []int{1021, 251, 127, 61, 31, 13} {
		if n*size <= 128<<10 {
			frames = n
			break
		}
	}
	var there, here []byte
	for i := range frames {
		p := payload(all, i, size)
		there = appendFrame(there, bitFin|opBinary, keyOf(i), p)
		here = appendFrame(here, bitFin|opBinary, 0, p)
	}
	return pattern.Repeat(nil, there), pattern.Repeat(nil, here), len(there) / frames, len(here) / frames, frames
}

// payload is the i-th of a train.
func payload(all pattern.Stream, i, size int) []byte { return all.At(int64(i)*int64(size), size) }

// docs is how many messages a script has; those of maxWindow bytes are more than
// enough, so that what a compressor can refer to is the same in each turn.
const docs = 64

const (
	maxBits   = 15
	maxWindow = 1 << maxBits
)

// script is what a client says that compresses: docs messages again and again. They
// are compressed once, by a compressor that knows those before. In the first turn it
// knows less, so that turn comes once and another ever after.
type script struct {
	size     int
	stream   pattern.Stream
	plain    []byte // both turns
	frames   []int  // how long those of both turns are
	takeover bool   // of the server: it may refer to messages before
	heard    [2 * docs]map[string]bool
	reader   io.ReadCloser
	got      []byte
}

func newInflater() io.ReadCloser { return flate.NewReader(strings.NewReader("")) }

// newScript makes one of JSON messages of that size; number makes scripts differ.
func newScript(size, number int, a answer) (*script, error) {
	s := &script{size: size, takeover: a.serverTakeover, reader: newInflater()}
	for i := range docs {
		s.plain = append(s.plain, document(size, number*docs+i)...)
	}
	s.plain = append(s.plain, s.plain...)
	var out bytes.Buffer
	w, err := packer.NewWriter(&out, 1)
	if err != nil {
		return nil, err
	}
	var wire []byte
	for i := range 2 * docs {
		out.Reset()
		var before []byte
		if a.clientTakeover { // What is referred to is within the window with the message itself.
			before = s.before(i, max(0, 1<<a.clientBits-size))
		}
		w.ResetDict(&out, before)
		if _, err := w.Write(s.doc(i)); err != nil {
			return nil, err
		}
		if err := w.Flush(); err != nil {
			return nil, err
		}
		was := len(wire)
		wire = appendFrame(wire, bitFin|bitRSV1|opText, keyOf(i), bytes.TrimSuffix(out.Bytes(), flushTail))
		s.frames = append(s.frames, len(wire)-was)
	}
	lead := 0
	for _, n := range s.frames[:docs] {
		lead += n
	}
	s.stream = pattern.Repeat(wire[:lead], wire[lead:])
	return s, nil
}

// placeOf is where in a script the n-th message is.
func placeOf(n int64) int {
	if n < docs {
		return int(n)
	}
	return docs + int(n%docs)
}

func (s *script) doc(i int) []byte { return s.plain[i*s.size : (i+1)*s.size] }

// before returns what went before the message at a place, at most so many bytes.
func (s *script) before(i, most int) []byte {
	end := i * s.size
	return s.plain[max(0, end-most):end]
}

// flushTail is what a flush ends with and a message leaves out (RFC 7692, 7.2.1).
var flushTail = []byte{0x00, 0x00, 0xff, 0xff}

// check sees that a message is the answer at a place. What has once come there, and
// was inflated and right, is known again by its compressed bytes: what they inflate
// to is decided by them and by the messages before, which are the same each time.
// So every byte is checked, and a server that compresses alike each time is cheap.
func (s *script) check(i int, first byte, packed []byte) error {
	if first != bitFin|bitRSV1|opText {
		return fmt.Errorf("a message that begins with %#02x and not %#02x, that of compressed text", first, bitFin|bitRSV1|opText)
	}
	if s.heard[i][string(packed)] {
		return nil
	}
	var before []byte
	if s.takeover {
		before = s.before(i, maxWindow)
	}
	if err := s.inflate(packed, before); err != nil {
		return err
	}
	if !bytes.Equal(s.got, s.doc(i)) {
		return errors.New("what came back is not what was sent")
	}
	const most = 256 // Bounds what a server of many minds costs.
	if s.heard[i] == nil || len(s.heard[i]) >= most {
		s.heard[i] = map[string]bool{}
	}
	s.heard[i][string(packed)] = true
	return nil
}

// inflate fills got with what a message inflates to, at most a byte more than it
// should be.
func (s *script) inflate(packed, before []byte) error {
	in := io.MultiReader(bytes.NewReader(packed), strings.NewReader("\x00\x00\xff\xff\x01\x00\x00\xff\xff"))
	if err := s.reader.(flate.Resetter).Reset(in, before); err != nil {
		return err
	}
	if s.got == nil {
		s.got = make([]byte, s.size+1)
	}
	n, err := io.ReadFull(s.reader, s.got[:s.size+1])
	s.got = s.got[:n]
	if errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) || err == nil {
		return nil
	}
	return fmt.Errorf("it cannot be inflated: %w", err)
}

// words are what documents are made of, beside numbers.
var words = strings.Fields("order trade quote market limit open filled partial cancelled buyer seller venue price amount balance " +
	"account transfer pending settled margin ledger report update snapshot delta stream session channel message user")

// document is JSON of exactly so many bytes, as a service would send it: the same
// names each time, and other values.
func document(size, number int) []byte {
	rng := rand.New(rand.NewPCG(uint64(number), 7692))
	word := func() string { return words[rng.IntN(len(words))] }
	var b strings.Builder
	fmt.Fprintf(&b, `{"id":%d,"type":"%s","time":%d,"user":{"name":"%s","id":%d},"items":[`, 1_000_000+number, word(), 1_700_000_000_000+rng.Int64N(1e9), word(), rng.IntN(1e6))
	const end = `],"note":""}`
	for first := true; ; first = false {
		item := fmt.Sprintf(`{"symbol":"%s","price":%s,"amount":%d,"state":"%s"}`, word(), strconv.FormatFloat(rng.Float64()*1000, 'f', 2, 64), rng.IntN(10_000), word())
		if !first {
			item = "," + item
		}
		if b.Len()+len(item)+len(end) > size {
			break
		}
		b.WriteString(item)
	}
	b.WriteString(end[:len(end)-2])
	for b.Len() < size-2 {
		note := word() + " "
		b.WriteString(note[:min(len(note), size-2-b.Len())])
	}
	b.WriteString(end[len(end)-2:])
	return []byte(b.String())
}

// packed is a client that compresses.
type packed struct {
	*script
	asked, answered int64
	frames          frames
}

// next returns how long the next message's frame is.
func (p *packed) next() int64 {
	n := p.script.frames[placeOf(p.asked)]
	p.asked++
	return int64(n)
}

// hear takes what has come, and returns how many messages were answered.
func (p *packed) hear(got []byte) (n int64, err error) {
	was := p.answered
	err = p.frames.feed(got, func(first byte, payload []byte) error {
		if p.answered == p.asked {
			return errors.New("a message came that nobody has asked for")
		}
		if err := p.check(placeOf(p.answered), first, payload); err != nil {
			return fmt.Errorf("message %d: %w", p.answered, err)
		}
		p.answered++
		return nil
	})
	return p.answered - was, err
}
