package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// size is a number of bytes on the command line: plain, or with KiB, MiB, GiB.
type size struct {
	bytes int
	text  string // as it was typed
}

// String returns s as it was typed, and in bytes.
func (s size) String() string {
	if plain := strconv.Itoa(s.bytes); s.text == plain {
		return plain + " bytes"
	}
	return fmt.Sprintf("%s (%d bytes)", s.text, s.bytes)
}

// UnmarshalText reads a size.
func (s *size) UnmarshalText(text []byte) error {
	digits, shift := string(text), 0
	for i, unit := range []string{"KiB", "MiB", "GiB"} {
		if rest, ok := strings.CutSuffix(digits, unit); ok {
			digits, shift = rest, 10*(i+1)
			break
		}
	}
	// ParseUint takes no sign, and in base 10 no underscores.
	n, err := strconv.ParseUint(digits, 10, 64)
	if err != nil || n > math.MaxInt>>shift {
		return fmt.Errorf("%q is not a size: it is a number of bytes, or one with KiB, MiB or GiB behind it", text)
	}
	*s = size{int(n << shift), string(text)}
	return nil
}

// number is a number on the command line, in decimal digits. Its flag refuses one below 0.
type number int

// UnmarshalText reads a number.
func (n *number) UnmarshalText(text []byte) error {
	v, err := strconv.Atoi(string(text))
	if err != nil || text[0] == '+' {
		return fmt.Errorf("%q is not a number in decimal digits", text)
	}
	*n = number(v)
	return nil
}
