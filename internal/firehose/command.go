package firehose

import (
	"bytes"
	"errors"
	"math"
)

// Bounds of the protocol.
const (
	MaxLine  = 1 << 10  // bytes of a line, without its LF
	MaxSize  = 16 << 20 // bytes of a FLOOD message, without its head
	MaxCount = 1 << 32  // messages of a FLOOD: their number has 4 bytes
	MaxSeed  = 64       // letters and digits of a seed
	HeadSize = 8        // bytes before the <size> bytes of a FLOOD message
)

// verb is what a command asks for.
type verb uint8

const (
	none verb = iota
	send
	flood
	quit
)

// command is one line that was understood.
type command struct {
	verb  verb
	count int64 // send: bytes; flood: messages
	size  int   // flood: bytes of a message without its head
	seed  []byte
}

// What a line may be wrong in. The texts are answers: one line, below the
// reserve that a connection keeps for last words.
var (
	errLong    = errors.New("a line of more than 1024 bytes")
	errPartial = errors.New("the last line does not end in LF")
	errVerb    = errors.New("unknown command: it is SEND, FLOOD or QUIT")
	errSend    = errors.New("it is SEND <bytes> <seed>, one space between")
	errFlood   = errors.New("it is FLOOD <count> <size> <seed>, one space between")
	errQuit    = errors.New("it is QUIT alone")
	errBytes   = errors.New("<bytes> is a decimal number from 0 to 9223372036854775807")
	errCount   = errors.New("<count> is a decimal number from 0 to 4294967296")
	errSize    = errors.New("<size> is a decimal number from 0 to 16777216")
	errSeed    = errors.New("<seed> is 1 to 64 letters and digits")
)

// parse reads one line without its LF. The seed of the command lies in line.
func parse(line []byte) (command, error) {
	line = bytes.TrimSuffix(line, []byte{'\r'})
	if len(line) > MaxLine {
		return command{}, errLong
	}
	var words [5][]byte // One more than any command has, to see what is too many.
	n := 0
	for rest, more := line, true; more && n < len(words); n++ {
		words[n], rest, more = bytes.Cut(rest, []byte{' '})
	}
	switch string(words[0]) {
	case "SEND":
		return parseSend(words[1:n])
	case "FLOOD":
		return parseFlood(words[1:n])
	case "QUIT":
		if n != 1 {
			return command{}, errQuit
		}
		return command{verb: quit}, nil
	}
	return command{}, errVerb
}

func parseSend(args [][]byte) (command, error) {
	if len(args) != 2 {
		return command{}, errSend
	}
	count, ok := number(args[0], math.MaxInt64)
	if !ok {
		return command{}, errBytes
	}
	if !isSeed(args[1]) {
		return command{}, errSeed
	}
	return command{verb: send, count: count, seed: args[1]}, nil
}

func parseFlood(args [][]byte) (command, error) {
	if len(args) != 3 {
		return command{}, errFlood
	}
	count, ok := number(args[0], MaxCount)
	if !ok {
		return command{}, errCount
	}
	size, ok := number(args[1], MaxSize)
	if !ok {
		return command{}, errSize
	}
	if !isSeed(args[2]) {
		return command{}, errSeed
	}
	return command{verb: flood, count: count, size: int(size), seed: args[2]}, nil
}

// number reads digits, and nothing but digits, of a number up to limit.
func number(text []byte, limit int64) (n int64, ok bool) {
	for _, c := range text {
		d := int64(c) - '0'
		if d < 0 || d > 9 || n > (limit-d)/10 {
			return 0, false
		}
		n = n*10 + d
	}
	return n, len(text) > 0
}

func isSeed(text []byte) bool {
	for _, c := range text {
		if (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return len(text) >= 1 && len(text) <= MaxSeed
}
