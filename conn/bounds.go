package conn

import "encoding/binary"

// bounds knows where the messages of a queue begin and end, so that whole ones can
// be dropped: with DropOldest, and with Reconnect.Keep. nil notes nothing, since a
// stream has no need of it.
//
// A message is begun when the kernel has taken a byte of it, or reads it now.
type bounds struct {
	lens []byte // uvarints of length<<1 and whether to keep it, oldest first
	head int    // in lens: the first message with bytes that the kernel has not taken
	fly  int    // in lens: the first message that is not begun
	part int    // bytes of the message at head that the kernel has taken
	back int    // bytes of the queue that belong to messages before fly
	free int    // bytes of messages from fly on that may be dropped

	vital bool // what is added is to be kept
}

// reset forgets all messages, and keeps the memory if it is little.
func (b *bounds) reset() *bounds {
	if b != nil {
		*b = bounds{lens: b.lens[:0], vital: b.vital}
		if cap(b.lens) > spareLens {
			b.lens = nil
		}
	}
	return b
}

// spareLens is how many bytes of lengths a queue keeps for later.
const spareLens = 1 << 10

// add notes a message of n bytes at the end.
func (b *bounds) add(n int) {
	if b == nil || n == 0 {
		return
	}
	if b.head > 64 && b.head > len(b.lens)/2 {
		b.lens = b.lens[:copy(b.lens, b.lens[b.head:])]
		b.fly -= b.head
		b.head = 0
	}
	v := uint64(n) << 1
	if b.vital {
		v |= 1
	} else {
		b.free += n
	}
	b.lens = binary.AppendUvarint(b.lens, v)
}

// keep says whether messages that are added now are never to be dropped, and
// returns what was so before.
func (b *bounds) keep(vital bool) (was bool) {
	if b != nil {
		was, b.vital = b.vital, vital
	}
	return was
}

// torn returns how many bytes are left of a message of which the kernel has taken
// a part: 0 when the next byte begins a message.
func (b *bounds) torn() int {
	if b.part == 0 {
		return 0
	}
	return b.first()
}

// at returns the message at place i of lens.
func (b *bounds) at(i int) (n int, keep bool, size int) {
	v, size := binary.Uvarint(b.lens[i:])
	return int(v >> 1), v&1 != 0, size
}

// first returns how many bytes of the oldest message wait.
func (b *bounds) first() int {
	n, _, _ := b.at(b.head)
	return n - b.part
}

// begin notes that the kernel reads the first n bytes of the queue.
func (b *bounds) begin(n int) {
	if b == nil {
		return
	}
	for b.back < n {
		size, keep, next := b.at(b.fly)
		b.fly += next
		b.back += size
		if !keep {
			b.free -= size
		}
	}
}

// take notes that the kernel has taken n bytes and reads nothing now. What it
// take nothing of is not begun any more.
func (b *bounds) take(n int) {
	if b == nil {
		return
	}
	b.rewind()
	for b.part += n; b.head < len(b.lens); {
		size, keep, next := b.at(b.head)
		if b.part < size {
			break
		}
		b.part -= size
		b.head += next
		if !keep {
			b.free -= size
		}
	}
	if b.fly = b.head; b.part > 0 {
		b.begin(1)
		b.back -= b.part
	}
	if b.head == len(b.lens) {
		b.lens, b.head, b.fly = b.lens[:0], 0, 0
	}
}

// rewind makes every message one that is not begun.
func (b *bounds) rewind() {
	for i := b.head; i < b.fly; {
		size, keep, next := b.at(i)
		if i += next; !keep {
			b.free += size
		}
	}
	b.fly, b.back = b.head, 0
}

// drop forgets the oldest message that is not begun and not to be kept, and
// returns where in the queue it begins and how long it is.
func (b *bounds) drop() (from, n int, ok bool) {
	from = b.back
	for i := b.fly; i < len(b.lens); {
		size, keep, next := b.at(i)
		if !keep {
			copy(b.lens[b.head+next:], b.lens[b.head:i]) // What is before is less than what is behind.
			b.head += next
			b.fly += next
			b.free -= size
			return from, size, true
		}
		from += size
		i += next
	}
	return 0, 0, false
}
