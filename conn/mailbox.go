package conn

import (
	"slices"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/reactor"
)

// Bounds of a mailbox that bytes do not give.
const (
	maxDo   = 1 << 16 // functions, and messages without bytes, that wait
	maxMail = 1 << 16 // messages, where they are kept apart
)

// keepData and keepItems bound the memory that an idle mailbox keeps: bytes, and
// messages of 48 bytes each.
const (
	keepData  = 64 << 10
	keepItems = 1 << 10
)

// item is one thing in the mailbox of a connection.
type item struct {
	kind   itemKind
	how    how  // itemClose
	vital  bool // DropOldest leaves it
	n      int  // itemSend: bytes of shared, of lent, or the next ones of the data and more
	more   int  // bytes that via adds
	shared *buf.Shared
	lent   *lent
	via    func(*Conn, []byte) // itemSend: makes a message of the next bytes of the data
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

// copied reports whether the item is bytes of the data.
func (i *item) copied() bool { return i.kind == itemSend && i.shared == nil && i.lent == nil }

// mail is what the loop takes out of a mailbox.
type mail struct {
	items   []item // and data: what has come, in order
	data    []byte
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

// put puts i behind the rest. merge allows messages to become one: to the peer
// they are a stream, and they cost no more than their bytes then.
func (m *mailbox) put(i item, merge bool) {
	m.bytes += i.n
	if n := len(m.items); merge && n > 0 && i.copied() && i.via == nil && m.items[n-1].copied() && m.items[n-1].via == nil {
		m.items[n-1].n += i.n
		return
	}
	m.items = append(m.items, i)
}

// drop drops the oldest message, which none was merged with, and returns its bytes.
func (m *mailbox) drop() (n int, ok bool) {
	for ; m.oldest < len(m.items); m.oldest++ {
		i := &m.items[m.oldest]
		if i.kind != itemSend || i.n == 0 || i.vital {
			if i.copied() {
				m.kept += i.n - i.more
			}
			continue
		}
		n = i.n
		switch size := n - i.more; {
		case !i.copied():
		case m.kept == 0:
			m.data = m.data[size:]
		default:
			m.data = slices.Delete(m.data, m.kept, m.kept+size)
		}
		if i.shared != nil {
			i.shared.Release()
		}
		*i = item{kind: itemGone, lent: i.lent}
		m.bytes -= n
		m.dropped.add(n)
		m.closeHoles(i.lent == nil)
		return n, true
	}
	return 0, false
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

// deliver empties the mailbox on the loop.
func (g *gate) deliver(l *reactor.Loop) {
	c, ok := l.Lookup(g.token).(*Conn)
	if !ok || c.id != g.id {
		return // It has closed, and released what was here.
	}
	l.As(c)
	m := g.collect()
	defer g.give(c, m.items, m.data)
	c.count(&m) // Here, since a function among them may panic.
	c.touch()
	last, data := 0, m.data
	for i := range m.items {
		it := m.items[i]
		m.items[i] = item{}
		switch it.kind {
		case itemSend:
			var p []byte
			if it.copied() {
				size := it.n - it.more
				p, data = data[:size], data[size:]
			}
			if it.n > 0 {
				last = it.n
			}
			c.mailed(it, p)
		case itemGone:
			c.tellLater(it.lent)
		case itemClose:
			c.asked(it.how)
		case itemDo:
			it.do(c)
		}
	}
	c.mailDone(&m, last)
}

func (g *gate) collect() mail {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.posted = false
	return g.box.empty()
}

// give ends the reading of a mailbox; its memory serves again.
func (g *gate) give(c *Conn, items []item, data []byte) {
	for i := range items { // Those not reached: a function before them has panicked.
		if s := items[i].shared; s != nil {
			s.Release()
		}
		c.tellLater(items[i].lent)
	}
	clear(items)
	g.mu.Lock()
	defer g.mu.Unlock()
	bytes, messages := keepData, keepItems
	if g.budget != nil { // It counts what is pending, not what is kept for later.
		bytes, messages = keepData/32, keepItems/32
	}
	if !g.closed && cap(data) <= bytes && cap(items) <= messages {
		g.box.spare, g.box.spareBuf = items, data
	}
}
