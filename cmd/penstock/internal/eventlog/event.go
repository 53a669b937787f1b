package eventlog

import (
	"encoding/json"
	"strconv"
	"time"

	"github.com/penstock-go/penstock/conn"
)

// kind is the name of an event.
type kind uint8

const (
	opened kind = iota
	full
	drain
	reject
	eof
	closed
)

var names = [...]string{"open", "full", "drain", "reject", "eof", "close"}

// event is what a loop leaves behind: numbers, and no text but constants, so
// that the loop neither formats nor allocates.
type event struct {
	at     int64 // ns since 1970
	conn   uint64
	kind   kind
	loop   int32     // opened
	n      [7]uint64 // full, drain: pending; reject: pending, size; closed: see Closed
	remote conn.Addr // opened
	local  conn.Addr // opened
	reason string    // closed: one of conn.Reason's names
}

// Closed is what there is to say of a connection that has ended.
type Closed struct {
	Reason                       string // a constant: it is kept, and printed as it is
	BytesIn, BytesOut, LostBytes uint64
	Full, Drain, Rejected        uint64 // how often
	PendingMax                   uint64 // bytes
}

// appendTo appends the event as one line of JSON.
func (e *event) appendTo(b []byte, t *stamp) []byte {
	b = t.appendTo(b, e.at)
	b = append(b, `,"event":"`...)
	b = append(b, names[e.kind]...)
	b = append(b, `","conn":`...)
	b = strconv.AppendUint(b, e.conn, 10)
	switch e.kind {
	case opened:
		b = appendAddr(append(b, `,"remote":`...), e.remote)
		b = appendAddr(append(b, `,"local":`...), e.local)
		b = appendField(b, "loop", uint64(e.loop))
	case full, drain:
		b = appendField(b, "pending", e.n[0])
	case reject:
		b = appendField(b, "pending", e.n[0])
		b = appendField(b, "size", e.n[1])
	case closed:
		b = append(b, `,"reason":"`...)
		b = append(b, e.reason...)
		b = append(b, '"')
		for i, name := range [...]string{"bytes_in", "bytes_out", "lost_bytes", "full", "drain", "rejected", "pending_max"} {
			b = appendField(b, name, e.n[i])
		}
	}
	return append(b, '}', '\n')
}

// appendAddr appends an address as a string of JSON. The name of a unix socket
// may have any byte in it but zero.
func appendAddr(b []byte, a conn.Addr) []byte {
	if a.Name != "" {
		if quoted, err := json.Marshal(a.Name); err == nil {
			return append(b, quoted...)
		}
	}
	return append(a.AppendTo(append(b, '"')), '"')
}

// appendDropped appends the line that stands for events that nobody will read.
func appendDropped(b []byte, t *stamp, at int64, count uint64) []byte {
	b = append(t.appendTo(b, at), `,"event":"dropped"`...)
	return append(appendField(b, "count", count), '}', '\n')
}

// stamp opens the object of a line with its time: RFC 3339, always with nine
// digits behind the point, so that lines sort as text. It keeps the text of the
// last second, since formatting a time costs more than the rest of a line.
type stamp struct {
	second int64
	text   []byte
}

func (t *stamp) appendTo(b []byte, at int64) []byte {
	second, ns := at/1e9, at%1e9
	if second != t.second || t.text == nil {
		t.second = second
		t.text = time.Unix(second, 0).UTC().AppendFormat(t.text[:0], `{"time":"2006-01-02T15:04:05.`)
	}
	b = append(b, t.text...)
	var digits [9]byte
	for i := len(digits) - 1; i >= 0; i-- {
		digits[i] = byte('0' + ns%10)
		ns /= 10
	}
	return append(append(b, digits[:]...), 'Z', '"')
}

func appendField(b []byte, name string, value uint64) []byte {
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return strconv.AppendUint(b, value, 10)
}
