package ws

import (
	"bytes"

	"github.com/klauspost/compress/flate"

	"github.com/penstock-go/penstock/conn"
)

// appender is an io.Writer that appends.
type appender struct{ data []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.data = append(a.data, p...)
	return len(p), nil
}

// deflater compresses the messages of a lane, one after another.
type deflater struct {
	level   int
	writers [maxBits + 1]*flate.Writer // by the bits of the window
	out     appender
}

func (l *lane) deflate() *deflater {
	if l.deflater == nil {
		l.deflater = &deflater{level: l.ep.cfg.Deflate.Level}
	}
	return l.deflater
}

// writer returns a new compressor for a window.
func newWriter(level int, bits uint8) *flate.Writer {
	var w *flate.Writer
	var err error
	if bits < maxBits {
		w, err = flate.NewWriterWindow(nil, 1<<bits)
	} else {
		w, err = flate.NewWriter(nil, level)
	}
	if err != nil {
		panic(err) // Deflate.check has seen to it.
	}
	return w
}

// append appends p to dst, compressed with what went before it, as the payload of
// a message (RFC 7692, 7.2.1).
//
// The compressors for smaller windows are slower, and to be shown what went before
// costs most of the time. So a message that is shorter than its window goes to the
// usual compressor, with no more of that than the window has beside it: no distance can
// be longer. For 1 KiB of JSON in a window of 4 KiB that is half the time.
func (d *deflater) append(dst, p, before []byte, bits uint8) []byte {
	if room := 1<<bits - len(p); room >= 0 {
		before, bits = before[max(0, len(before)-room):], maxBits
	}
	w := d.writers[bits]
	if w == nil {
		w = newWriter(d.level, bits)
		d.writers[bits] = w
	}
	d.out.data = dst
	w.ResetDict(&d.out, before)
	_, _ = w.Write(p) // An appender does not fail.
	_ = w.Flush()
	dst, d.out.data = d.out.data, nil
	return cutTail(dst)
}

// flushTail is what a flush ends with, and what is not sent.
var flushTail = []byte{0x00, 0x00, 0xff, 0xff}

func cutTail(p []byte) []byte { return bytes.TrimSuffix(p, flushTail) }

// sendDeflated is Send for a message that is compressed if that makes it shorter.
// It is admitted before the compressor sees it, and queued with certainty then:
// else the peer's window and ours would differ from there on.
func (c *Conn) sendDeflated(op Op, p []byte) conn.Status {
	if c.windows.sendTakeover { // The peer must see what the window has seen.
		c.conn.Keep(true)
		defer c.conn.Keep(false)
	}
	return c.conn.Encode(headerLen(len(p), c.lane.ep.client)+len(p), func(dst []byte) ([]byte, error) {
		return c.encode(dst, op, p), nil
	})
}

// packMore is by how much a short message may grow when it is compressed: by the headers
// of stored blocks and the end of a flush.
const packMore = 20

// encode appends a message to dst, which is empty, as a frame.
func (c *Conn) encode(dst []byte, op Op, p []byte) []byte {
	l, w := c.lane, c.windows
	client := l.ep.client
	at := headerLen(len(p), client)
	if size := at + len(p) + packMore; cap(dst) < size {
		dst = l.bytes(size)
	}
	dst = dst[:at]
	dst = l.deflate().append(dst, p, w.context(), w.sendBits)
	first := byte(op) | bitFin
	if len(dst)-at < len(p) {
		first |= bitRSV1
		if w.sendTakeover {
			w.sent.add(l, p, w.sendBits)
		}
	} else {
		dst = append(dst[:at], p...) // As it is; the window has not seen it.
	}
	return l.seal(dst, at, first)
}

// seal makes a frame of the payload that is in dst behind at bytes, which have room
// for its header; first is its first byte.
func (l *lane) seal(dst []byte, at int, first byte) []byte {
	client, size := l.ep.client, len(dst)-at
	if n := headerLen(size, client); n < at {
		dst = dst[:n+copy(dst[n:], dst[at:])]
		at = n
	}
	var key uint32
	if client {
		key = l.keys.next()
		mask(dst[at:], key)
	}
	putHeader(dst, first, size, client, key)
	return dst
}
