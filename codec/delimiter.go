package codec

import (
	"bytes"
	"errors"
)

// Delimiter is messages that end with these bytes, of which a message has none in
// it: Delimiter("\x00"), say. It must not be empty.
type Delimiter string

// Split implements Codec.
func (d Delimiter) Split(data []byte, seen int) (int, error) {
	for at := max(0, seen-len(d)+1); ; at++ { // The delimiter may have begun in what was seen.
		i := bytes.IndexByte(data[at:], d[0])
		if at += i; i < 0 || len(data)-at < len(d) {
			return 0, nil
		}
		if string(data[at:at+len(d)]) == string(d) {
			return at + len(d), nil
		}
	}
}

// Decode implements Codec.
func (d Delimiter) Decode(packet []byte) ([]byte, error) {
	return packet[:len(packet)-len(d)], nil
}

// Append implements Codec. It fails with ErrDelimiter when the message would end
// before its end.
func (d Delimiter) Append(dst, m []byte) ([]byte, error) {
	from := len(dst)
	dst = append(append(dst, m...), d...)
	if n, _ := d.Split(dst[from:], 0); n != len(dst)-from {
		return nil, ErrDelimiter
	}
	return dst, nil
}

// Size implements Sizer.
func (d Delimiter) Size(m []byte) int { return len(m) + len(d) }

// Check reports whether d can be used.
func (d Delimiter) Check() error {
	if d == "" {
		return errors.New("codec: empty delimiter")
	}
	return nil
}
