package main

import (
	"errors"
	"testing"
)

func TestMemberRefuses(t *testing.T) {
	for _, in := range [][]byte{
		[]byte("X"),
		[]byte("P\xff\xff\xff\xff."),
		[]byte("P\x00\x00\x00\x01.X"),
	} {
		m := new(member)
		if err := m.feed(in, func() {}, func([]byte) {}); !errors.Is(err, errFrame) {
			t.Errorf("%q: %v", in, err)
		}
	}
}
