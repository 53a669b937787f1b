package codec

import "bytes"

// Line is text in lines: a message ends with LF, or with CR LF, and has neither
// in it. An empty line is an empty message.
type Line struct {
	// CRLF ends the lines that are sent with CR LF. Default: LF alone, but behind
	// a message that ends with CR, which would else lose it.
	CRLF bool
}

// Split implements Codec.
func (Line) Split(data []byte, seen int) (int, error) {
	if i := bytes.IndexByte(data[seen:], '\n'); i >= 0 {
		return seen + i + 1, nil
	}
	return 0, nil
}

// Decode implements Codec.
func (Line) Decode(packet []byte) ([]byte, error) {
	line := packet[:len(packet)-1]
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line, nil
}

// Append implements Codec. It fails with ErrDelimiter when m contains LF.
func (l Line) Append(dst, m []byte) ([]byte, error) {
	if bytes.IndexByte(m, '\n') >= 0 {
		return nil, ErrDelimiter
	}
	dst = append(dst, m...)
	if l.CRLF || bytes.HasSuffix(m, []byte{'\r'}) {
		dst = append(dst, '\r')
	}
	return append(dst, '\n'), nil
}

// Size implements Sizer.
func (Line) Size(m []byte) int { return len(m) + 2 }
