package firehose

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/conn"
)

func TestParse(t *testing.T) {
	seed := strings.Repeat("aZ09", 16)
	for _, tc := range []struct {
		line  string
		verb  verb
		count int64
		size  int
		seed  string
		err   error
	}{
		{line: "SEND 0 a", verb: send, seed: "a"},
		{line: "SEND 10 abc\r", verb: send, count: 10, seed: "abc"},
		{line: "SEND 0010 1", verb: send, count: 10, seed: "1"},
		{line: "SEND 9223372036854775807 " + seed, verb: send, count: math.MaxInt64, seed: seed},
		{line: "SEND 9223372036854775808 a", err: errBytes},
		{line: "SEND 92233720368547758070 a", err: errBytes},
		{line: "SEND 18446744073709551617 a", err: errBytes}, // 1 modulo 2^64
		{line: "SEND -1 a", err: errBytes},
		{line: "SEND +1 a", err: errBytes},
		{line: "SEND 0x1 a", err: errBytes},
		{line: "SEND  1 a", err: errSend},
		{line: "SEND 1", err: errSend},
		{line: "SEND 1 a ", err: errSend},
		{line: "SEND 1 a b c d e f", err: errSend},
		{line: "SEND 1 ", err: errSeed},
		{line: "SEND 1 " + seed + "a", err: errSeed},
		{line: "SEND 1 a.b", err: errSeed},
		{line: "SEND 1 \xff", err: errSeed},
		{line: "FLOOD 4294967296 16777216 a", verb: flood, count: 1 << 32, size: 16 << 20, seed: "a"},
		{line: "FLOOD 0 0 a", verb: flood, seed: "a"},
		{line: "FLOOD 4294967297 0 a", err: errCount},
		{line: "FLOOD 1 16777217 a", err: errSize},
		{line: "FLOOD 1 1", err: errFlood},
		{line: "FLOOD 1 1 a a", err: errFlood},
		{line: "FLOOD 1 1 %", err: errSeed},
		{line: "QUIT", verb: quit},
		{line: "QUIT\r", verb: quit},
		{line: "QUIT\r\r", err: errVerb},
		{line: "QUIT ", err: errQuit},
		{line: "", err: errVerb},
		{line: "send 1 a", err: errVerb},
		{line: strings.Repeat("x", MaxLine), err: errVerb},
		{line: strings.Repeat("x", MaxLine) + "\r", err: errVerb},
		{line: strings.Repeat("x", MaxLine+1), err: errLong},
	} {
		got, err := parse([]byte(tc.line))
		if err != tc.err || got.verb != tc.verb || got.count != tc.count || got.size != tc.size || string(got.seed) != tc.seed {
			t.Errorf("%q: %+v, %v", tc.line, got, err)
		}
	}
}

func TestAnswersFitTheReserve(t *testing.T) {
	for _, err := range []error{errLong, errPartial, errVerb, errSend, errFlood, errQuit, errBytes, errCount, errSize, errSeed} {
		if n := len("ERR " + err.Error() + "\n"); n > conn.Reserve || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q has %d bytes", err, n)
		}
	}
}

// FuzzParse checks that what is accepted means what it says: written down
// again it is the same line, but for zeros in front.
func FuzzParse(f *testing.F) {
	for _, line := range []string{"SEND 1 a", "FLOOD 1 2 b", "QUIT", "SEND 9223372036854775808 a\r", "FLOOD  1 2 b"} {
		f.Add([]byte(line))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		c, err := parse(line)
		if (err == nil) != (c.verb != none) {
			t.Fatalf("%q: %+v, %v", line, c, err)
		}
		var again string
		switch c.verb {
		case none:
			return
		case send:
			again = fmt.Sprintf("SEND %d %s", c.count, c.seed)
		case flood:
			again = fmt.Sprintf("FLOOD %d %d %s", c.count, c.size, c.seed)
		case quit:
			again = "QUIT"
		}
		words := bytes.Split(bytes.TrimSuffix(line, []byte{'\r'}), []byte{' '})
		for i := 1; i < len(words)-1; i++ {
			if words[i] = bytes.TrimLeft(words[i], "0"); len(words[i]) == 0 {
				words[i] = []byte{'0'}
			}
		}
		if got := string(bytes.Join(words, []byte{' '})); got != again {
			t.Fatalf("%q is read as %q", line, again)
		}
	})
}
