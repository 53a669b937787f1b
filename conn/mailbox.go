package conn

import (
	"encoding/binary"
	"slices"

	"github.com/penstock-go/penstock/buf"
)

// Bounds of a mailbox that bytes do not give.
const (
	maxDo   = 1 << 16 // functions, and messages without bytes, that wait
	maxLent = 1 << 16 // lenders that are to be told, their messages dropped or not
)

// keepData and keepItems bound the memory that an idle mailbox keeps: bytes, and
// items of 64 bytes each.
const (
	keepData  = 64 << 10
	keepItems = 1 << 10
)

// item is one thing in the mailbox of a connection, or a run of messages, which cost
// little more than their bytes however short they are.
type item struct {
	kind   itemKind
	how    how  // itemClose
	vital  bool // DropOldest leaves it
	framed bool // in the data, each message has its length before it; else they are a stream
	n      int  // itemSend: bytes that were admitted
	more   int  // of them, those that via adds to each message
	size   int  // bytes of the data
	shared *buf.Shared
	lent   *lent
	via    *Via // itemSend: makes a message of bytes of the data
	do     func(*Conn)
}

type itemKind uint8

const (
	itemSend itemKind = iota
	itemClose
	itemDo
	itemGone // dropped; who lent its bytes is still to be told
)

// lent is memory of the user's, and who is told when nobody reads it any more.
type lent struct {
	p    []byte
	done func()
}

// copied reports whether the item has bytes of the data.
func (i *item) copied() bool { return i.kind == itemSend && i.shared == nil && i.lent == nil }

// mail is what the loop takes out of a mailbox.
type mail struct {
	items   []item // and data: what has come, in order
	data    []byte
	dones   []func() // of lent bytes that were copied
	refused amount
	dropped amount
	slow    bool // something was pending when a message was refused
}

// mailbox is what has come through Refs and waits for the loop.
type mailbox struct {
	mail
	bytes    int  // of messages in items
	waiting  int  // functions in items, and messages without bytes
	closes   bool // a CloseVia is in items
	oldest   int  // in items: no message that can be dropped is before
	kept     int  // bytes of data that are of those before
	holes    int  // items that were dropped
	spare    []item
	spareBuf []byte
}

// put puts a message, whose bytes are p and the pieces of v, behind the rest. whole
// says that messages are not to become one stream.
func (m *mailbox) put(i item, p []byte, v [][]byte, whole bool) {
	if l := i.lent; l != nil && i.n <= tiny {
		p, i.lent = l.p, nil
		if l.done != nil {
			m.dones = append(m.dones, l.done)
		}
	}
	if i.copied() {
		i.vital = i.vital && whole
		was := len(m.data)
		if i.framed = whole || i.via != nil; i.framed {
			m.data = binary.AppendUvarint(m.data, uint64(i.n-i.more))
		}
		m.data = append(m.data, p...)
		for _, p := range v {
			m.data = append(m.data, p...)
		}
		i.size = len(m.data) - was
	}
	m.bytes += i.n
	if n := len(m.items); n > 0 && m.items[n-1].joins(&i) {
		m.items[n-1].n += i.n
		m.items[n-1].size += i.size
		return
	}
	m.items = append(m.items, i)
}

// joins reports whether the next item may become one with i.
func (i *item) joins(next *item) bool {
	return i.copied() && next.copied() && i.vital == next.vital && i.framed == next.framed && i.more == next.more && i.via == next.via
}

// firstMessage returns how long the first message of p is, where each has its length before
// it, and of how many bytes that is.
func firstMessage(p []byte) (n, header int) {
	v, header := binary.Uvarint(p)
	return int(v), header
}

// lenders returns how many lenders wait at the most.
func (m *mailbox) lenders() int { return len(m.items) - m.holes + len(m.dones) }

// drop drops the oldest message that may be dropped, and returns its bytes. All are
// whole.
func (m *mailbox) drop() (n int, ok bool) {
	for ; m.oldest < len(m.items); m.oldest++ {
		i := &m.items[m.oldest]
		if i.kind != itemSend || i.n == 0 || i.vital {
			m.kept += i.size
			continue
		}
		if n = i.n; i.copied() {
			n = m.cutFirst(i)
		}
		m.bytes -= n
		m.dropped.add(n)
		if i.n -= n; i.n == 0 {
			if i.shared != nil {
				i.shared.Release()
			}
			*i = item{kind: itemGone, lent: i.lent}
			m.closeHoles(i.lent == nil)
		}
		return n, true
	}
	return 0, false
}

// cutFirst takes the first message of i out of the data, and returns how many bytes
// were admitted for it.
func (m *mailbox) cutFirst(i *item) int {
	size, header := firstMessage(m.data[m.kept:])
	if all := header + size; m.kept == 0 {
		m.data = m.data[all:]
	} else {
		m.data = slices.Delete(m.data, m.kept, m.kept+all)
	}
	i.size -= header + size
	return size + i.more
}

// closeHoles moves the items together when most are gone, so that a mailbox
// whose loop is busy does not grow by what it drops.
func (m *mailbox) closeHoles(one bool) {
	if one {
		m.holes++
	}
	if m.holes < keepItems || m.holes < len(m.items)/2 {
		return
	}
	m.items = slices.DeleteFunc(m.items, func(i item) bool { return i.kind == itemGone && i.lent == nil })
	m.oldest, m.kept, m.holes = 0, 0, 0
}

// empty takes what has come. give hands the memory back for what comes.
func (m *mailbox) empty() mail {
	was := m.mail
	*m = mailbox{mail: mail{items: m.spare[:0], data: m.spareBuf[:0]}}
	return was
}
