package conn

import (
	"slices"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/reactor"
)

// What a policy or a budget takes from the middle of a queue, and how a queue that
// is stuck is packed.

// cut removes a message of n bytes that no send reads: of the messages that wait,
// streams left out, its bytes begin at place at. Nothing is lent.
func (q *sendq) cut(at, n int) {
	i := q.next
	for ; q.list[i].of != nil || at >= q.list[i].rest(); i++ {
		if q.list[i].of == nil {
			at -= q.list[i].rest()
		}
	}
	if at > 0 { // The front of this one stays, and perhaps its end.
		e := &q.list[i]
		p := e.bytes()[e.taken+at:]
		k := min(n, len(p))
		copy(p, p[k:])
		e.block.Truncate(e.len() - k)
		n -= k
		i++
	}
	first := i
	for n > 0 {
		e := &q.list[i]
		rest := e.rest()
		if rest > n {
			e.taken += n
			break
		}
		n -= rest
		q.release(e)
		i++
	}
	q.lift(first, i)
}

// rest returns how many bytes of the entry wait.
func (e *entry) rest() int { return e.len() - e.taken }

// lift takes the empty places from first to end out of the list. What is before
// them moves up, as it is less than what is behind. Nothing is lent.
func (q *sendq) lift(first, end int) {
	n := end - first
	copy(q.list[q.head+n:end], q.list[q.head:first])
	clear(q.list[q.head : q.head+n])
	q.head += n
	q.next += n
	q.sweep()
}

// cut removes a message from the queue, or from what waits behind streams.
func (o *outbound) cut(at, n int) {
	q := &o.q
	for _, s := range o.streams {
		w := q.messages(q.waiting())
		if at < w {
			break
		}
		at -= w
		q = &s.behind
	}
	if q.cut(at, n); q != &o.q { // A lender behind a stream is told as soon as any other.
		o.q.dones = append(o.q.dones, q.dones...)
		q.dones = nil
	}
}

// messages returns how many of the next n bytes are of messages, and not of
// streams.
func (q *sendq) messages(n int) (of int) {
	for i := q.next; n > 0; i++ {
		k := min(n, q.list[i].rest())
		if n -= k; q.list[i].of == nil {
			of += k
		}
	}
	return of
}

// shed gives back the pieces from place i on, but for those that are lent, and
// returns how many bytes of them were waiting.
func (q *sendq) shed(i int) (n int) {
	for i < len(q.list) && q.list[i].loans > 0 {
		i++
	}
	for j := i; j < len(q.list); j++ {
		n += q.list[j].rest()
		q.release(&q.list[j])
	}
	q.list = q.list[:min(i, len(q.list))]
	q.squeezed = min(q.squeezed, q.base+uint64(len(q.list)))
	return n
}

// pack moves the bytes of large blocks that are not nearly full into blocks of
// small: the first piece that waits, and those from place from on. What is stuck
// then costs its bytes, and less than two small blocks. Each byte is moved once.
func (q *sendq) pack(from int, small *buf.Pool) {
	if from > q.next && q.next < len(q.list) {
		from += q.packAt(q.next, small)
	}
	for i := from; i < len(q.list); {
		i += 1 + q.packAt(i, small)
	}
	q.squeezed = q.base + uint64(len(q.list))
}

// packAt is pack for one place, and returns how many places it became more.
func (q *sendq) packAt(i int, small *buf.Pool) int {
	e, size := &q.list[i], small.BlockSize()
	if e.ext != nil || e.loans > 0 || e.block.Cap() <= size || e.block.Cap()-e.rest() < size {
		return 0
	}
	var fresh [32]entry
	n := 0
	for rest := e.bytes()[e.taken:]; len(rest) > 0; n++ {
		b := small.Get()
		if b.IsZero() || n == len(fresh) {
			for j := range n {
				fresh[j].block.Release()
			}
			b.Release()
			return 0
		}
		rest = rest[b.Append(rest):]
		fresh[n] = entry{block: b, of: e.of}
	}
	e.block.Release()
	q.list = slices.Replace(q.list, i, i+1, fresh[:n]...)
	return n - 1
}

// window is about how much the next send may have. What is with the kernel of a
// connection that is stuck can neither be dropped nor given back, so where a policy
// may ask for that it is little: when the socket has room again, the rest follows.
func (c *Conn) window() int {
	o, b := c.out, c.host.cfg.Budget
	switch {
	case !o.stuck:
	case c.host.cfg.SlowPeer == DropOldest && o.q.list[o.q.next].of == nil:
		return o.bounds.first()
	case b != nil && b.policy == BudgetClose:
		return reactor.SmallBlock
	}
	return sendBytes
}

// firstBytes cuts out, which has n bytes, down to most.
func firstBytes(out [][]byte, n, most int) ([][]byte, int) {
	if n <= most {
		return out, n
	}
	last := &out[len(out)-1] // gather stops at the piece that passes most.
	*last = (*last)[:len(*last)-(n-most)]
	return out, most
}

// squeeze packs what waits in a queue that the kernel does not take: with a budget
// so that it costs little more than its bytes.
func (c *Conn) squeeze(q *sendq) {
	if from := q.squeeze(c.smallBlock); c.host.cfg.Budget != nil {
		q.pack(from, c.loop.Small())
	}
}

// isPacked reports whether new bytes are to be packed at once.
func (c *Conn) isPacked() bool { return c.out.stuck && c.host.cfg.Budget != nil }
