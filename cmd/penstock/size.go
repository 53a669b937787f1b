package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// size is a number of bytes on the command line: plain, or with KiB, MiB, GiB.
type size int

// String returns s in the largest unit that it is a multiple of, and in bytes.
func (s size) String() string {
	for i, unit := range []string{"GiB", "MiB", "KiB"} {
		if shift := 30 - 10*i; s > 0 && s%(1<<shift) == 0 {
			return fmt.Sprintf("%d%s (%d bytes)", s>>shift, unit, int(s))
		}
	}
	return fmt.Sprintf("%d bytes", int(s))
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
	*s = size(n << shift)
	return nil
}
