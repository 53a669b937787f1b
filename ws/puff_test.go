package ws_test

import (
	"errors"
	"fmt"
)

// puff inflates a raw stream by the letter of RFC 1951, behind what went before,
// and fails at a distance beyond the window: a decompressor of the library's, with
// a window of its own, would not notice.
func puff(in, before []byte, bits int) (out []byte, err error) {
	d := &puffer{in: in, out: append([]byte(nil), before...), window: 1 << bits}
	from := len(d.out)
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("puff: %v", r)
		}
	}()
	for d.at < len(d.in)*8 {
		final := d.bits(1)
		switch d.bits(2) {
		case 0:
			d.stored()
		case 1:
			d.codes(fixedLit, fixedDist)
		case 2:
			d.dynamic()
		default:
			return nil, errors.New("puff: block of type 3")
		}
		if final == 1 {
			d.at = (d.at + 7) &^ 7
		}
	}
	return d.out[from:], nil
}

type puffer struct {
	in, out []byte
	at      int // bits
	window  int
}

func (d *puffer) bits(n int) (v int) {
	for i := range n {
		v |= int(d.in[d.at>>3]>>(d.at&7)&1) << i
		d.at++
	}
	return v
}

func (d *puffer) stored() {
	d.at = (d.at + 7) &^ 7
	n, not := d.bits(16), d.bits(16)
	if n != not^0xffff {
		panic("length of a stored block")
	}
	d.out = append(d.out, d.in[d.at/8:d.at/8+n]...)
	d.at += 8 * n
}

// huffman is count of codes by length, and symbols in the order of their codes.
type huffman struct{ count, symbol []int }

func newHuffman(lengths []int) huffman {
	h := huffman{count: make([]int, 16)}
	for n := 1; n < 16; n++ {
		for s, l := range lengths {
			if l == n {
				h.count[n]++
				h.symbol = append(h.symbol, s)
			}
		}
	}
	return h
}

func (d *puffer) decode(h huffman) int {
	code, first, index := 0, 0, 0
	for n := 1; n < 16; n++ {
		code |= d.bits(1)
		if c := h.count[n]; code-c < first {
			return h.symbol[index+code-first]
		} else {
			index, first = index+c, (first+c)<<1
			code <<= 1
		}
	}
	panic("no such code")
}

var (
	lenBase   = []int{3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258}
	lenExtra  = []int{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0}
	distBase  = []int{1, 2, 3, 4, 5, 7, 9, 13, 17, 25, 33, 49, 65, 97, 129, 193, 257, 385, 513, 769, 1025, 1537, 2049, 3073, 4097, 6145, 8193, 12289, 16385, 24577}
	distExtra = []int{0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13}

	fixedLit, fixedDist = func() (huffman, huffman) {
		lit, dist := make([]int, 288), make([]int, 30)
		for i := range lit {
			switch {
			case i < 144, i >= 280:
				lit[i] = 8
			case i < 256:
				lit[i] = 9
			default:
				lit[i] = 7
			}
		}
		for i := range dist {
			dist[i] = 5
		}
		return newHuffman(lit), newHuffman(dist)
	}()
)

func (d *puffer) codes(lit, dist huffman) {
	for {
		s := d.decode(lit)
		switch {
		case s < 256:
			d.out = append(d.out, byte(s))
			continue
		case s == 256:
			return
		}
		n := lenBase[s-257] + d.bits(lenExtra[s-257])
		s = d.decode(dist)
		back := distBase[s] + d.bits(distExtra[s])
		if back > len(d.out) || back > d.window {
			panic(fmt.Sprintf("distance of %d, window of %d", back, d.window))
		}
		for range n {
			d.out = append(d.out, d.out[len(d.out)-back])
		}
	}
}

func (d *puffer) dynamic() {
	nlit, ndist, ncode := d.bits(5)+257, d.bits(5)+1, d.bits(4)+4
	lengths := make([]int, 19)
	for _, i := range []int{16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15}[:ncode] {
		lengths[i] = d.bits(3)
	}
	h := newHuffman(lengths)
	lengths = nil
	for len(lengths) < nlit+ndist {
		s, n := d.decode(h), 1
		switch s {
		case 16:
			s, n = lengths[len(lengths)-1], 3+d.bits(2)
		case 17:
			s, n = 0, 3+d.bits(3)
		case 18:
			s, n = 0, 11+d.bits(7)
		}
		for range n {
			lengths = append(lengths, s)
		}
	}
	d.codes(newHuffman(lengths[:nlit]), newHuffman(lengths[nlit:nlit+ndist]))
}
