package conn

import "github.com/penstock-go/penstock/buf"

// entry is one piece of the queue: bytes on their way from queued, over taken
// by the kernel, to given back.
type entry struct {
	block  buf.Buf     // the bytes, when they are in a block of ours
	ext    []byte      // the bytes, when they are not
	shared *buf.Shared // counted for as long as the entry lives
	done   func()      // told when the bytes in ext are no longer needed
	of     *stream     // whose bytes these are; nil for a message
	taken  int         // bytes the kernel has taken
	loans  int         // zero-copy sends that still read from here
}

func (e *entry) bytes() []byte {
	if e.ext != nil {
		return e.ext
	}
	return e.block.Bytes()
}

func (e *entry) len() int {
	if e.ext != nil {
		return len(e.ext)
	}
	return e.block.Len()
}

// sendq is the bytes of one connection, in order. It does no I/O and counts
// nothing but itself.
//
// Entries are given back in order, those before head; next is the first that
// the kernel has not wholly taken.
type sendq struct {
	list       []entry
	head, next int
	base       uint64   // number of list[0], for loans
	squeezed   uint64   // pieces below this number need no squeeze any more
	dones      []func() // of entries that were given back; the owner runs them
	told       int      // dones before this one were handed out
}

// empty reports whether the kernel has taken everything.
func (q *sendq) empty() bool { return q.next == len(q.list) }

// clean reports whether nothing is held at all.
func (q *sendq) clean() bool { return q.head == len(q.list) && len(q.dones) == 0 }

func (q *sendq) push(e entry) {
	if q.head > 32 && q.head > len(q.list)/2 {
		q.slide()
	}
	q.list = append(q.list, e)
}

// append moves what waits in from to the end, which leaves it empty.
func (q *sendq) append(from *sendq) {
	for i := from.next; i < len(from.list); i++ {
		q.push(from.list[i])
	}
	clear(from.list)
	*from = sendq{}
}

// slide moves what is left to the front, so that a queue that never empties
// does not grow for ever.
func (q *sendq) slide() {
	n := copy(q.list, q.list[q.head:])
	clear(q.list[n:])
	q.list = q.list[:n]
	q.base += uint64(q.head)
	q.next -= q.head
	q.head = 0
}

// room returns the block that small bytes may join: the last one, if it is
// ours and not wholly taken. Bytes before its end may be with the kernel;
// those behind are nobody's.
func (q *sendq) room() *buf.Buf {
	if q.next == len(q.list) {
		return nil
	}
	if e := &q.list[len(q.list)-1]; e.ext == nil && e.of == nil {
		return &e.block
	}
	return nil
}

// gather appends to out what is to be sent next, up to most pieces and about
// limit bytes, and returns the bytes in it. Pieces of at least zc bytes (if zc
// is positive) and shorter ones are never mixed; large says which these are.
func (q *sendq) gather(out [][]byte, most, limit, zc int) (_ [][]byte, n int, large bool) {
	for i := q.next; i < len(q.list) && len(out) < most && n < limit; i++ {
		e := &q.list[i]
		p := e.bytes()[e.taken:]
		if is := zc > 0 && len(p) >= zc; len(out) == 0 {
			large = is
		} else if is != large {
			break
		}
		out = append(out, p)
		n += len(p)
	}
	return out, n, large
}

// lend notes that a zero-copy send reads the next n pieces, and returns their
// numbers, for giveBack.
func (q *sendq) lend(n int) (from, to uint64) {
	for i := q.next; i < q.next+n; i++ {
		q.list[i].loans++
	}
	from = q.base + uint64(q.next)
	return from, from + uint64(n)
}

// giveBack ends the loan of the pieces from to to.
func (q *sendq) giveBack(from, to uint64) {
	for ; from < to; from++ {
		q.list[from-q.base].loans--
	}
	q.sweep()
}

// take notes that the kernel has taken n more bytes, and returns how many of
// them were of streams.
func (q *sendq) take(n int) (streamed int) {
	for n > 0 {
		e := &q.list[q.next]
		k := min(n, e.len()-e.taken)
		e.taken += k
		if e.of != nil {
			streamed += k
			q.takeOf(e.of, k)
		}
		if n -= k; e.taken == e.len() {
			q.next++
		}
	}
	q.sweep()
	return streamed
}

// takeOf notes that n of the bytes taken are of s.
func (q *sendq) takeOf(s *stream, n int) {
	s.sent += int64(n)
	if s.ended && s.sent == s.read {
		q.dones = append(q.dones, s.tell)
	}
}

// sweep gives back, in order, what is taken and no longer lent.
func (q *sendq) sweep() {
	for q.head < q.next && q.list[q.head].loans == 0 {
		q.release(&q.list[q.head])
		q.head++
	}
	if q.head == len(q.list) {
		q.base += uint64(q.head)
		q.list, q.head, q.next = q.list[:0], 0, 0
	}
}

func (q *sendq) release(e *entry) {
	e.block.Release()
	if e.shared != nil {
		e.shared.Release()
	}
	if e.done != nil {
		q.dones = append(q.dones, e.done)
	}
	*e = entry{}
}

// nextDone returns the oldest of dones, which must not be empty.
func (q *sendq) nextDone() func() {
	done := q.dones[q.told]
	q.dones[q.told] = nil
	if q.told++; q.told == len(q.dones) {
		q.dones, q.told = q.dones[:0], 0
		if cap(q.dones) > spareList {
			q.dones = nil // A burst is over.
		}
	}
	return done
}

// waiting returns the bytes that the kernel has not taken.
func (q *sendq) waiting() (n int) {
	for i := q.next; i < len(q.list); i++ {
		n += q.list[i].len() - q.list[i].taken
	}
	return n
}

// drop gives everything back, sent or not. No loan may be open.
func (q *sendq) drop() {
	for ; q.head < len(q.list); q.head++ {
		q.release(&q.list[q.head])
	}
	q.base += uint64(q.head)
	q.list, q.head, q.next = q.list[:0], 0, 0
}

// squeeze moves the bytes of sparse blocks that wait into as few blocks as
// hold them, so that a connection that is stuck costs about what it has
// pending: of two neighbours, more than one half is filled. into returns a
// block with room for n bytes, or the zero Buf. It returns the place from which on
// it has looked.
func (q *sendq) squeeze(into func(n int) buf.Buf) (from int) {
	var tail *buf.Buf // of the entry before, if it has a block
	var of *stream    // and the stream that it belongs to
	from = q.next
	if q.squeezed > q.base+uint64(from) { // The last of them may have got room since.
		from = int(q.squeezed-q.base) - 1
	}
	kept := from // Lent entries come first, so none of them gets another number.
	for i := from; i < len(q.list); i++ {
		e := &q.list[i]
		if e.ext == nil && e.loans == 0 {
			rest := e.bytes()[e.taken:]
			if tail != nil && e.of == of && len(rest) <= len(tail.Room()) {
				tail.Append(rest)
				e.block.Release()
				continue
			}
			e.shrink(rest, into)
		}
		if i != kept {
			q.list[kept] = *e
		}
		if tail, of = nil, e.of; e.ext == nil {
			tail = &q.list[kept].block
		}
		kept++
	}
	clear(q.list[kept:])
	q.list = q.list[:kept]
	q.squeezed = q.base + uint64(kept)
	return from
}

// shrink moves rest, what is left of e, to a smaller block if there is one.
func (e *entry) shrink(rest []byte, into func(n int) buf.Buf) {
	if 4*len(rest) > e.block.Cap() {
		return
	}
	b := into(len(rest))
	if b.IsZero() || b.Cap() >= e.block.Cap() {
		b.Release()
		return
	}
	b.Append(rest)
	e.block.Release()
	e.block, e.taken = b, 0
}
