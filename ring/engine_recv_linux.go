//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"slices"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"golang.org/x/sys/unix"
)

// How many blocks an engine offers before the first starvation. The kernel uses
// them in turn, so each is touched sooner or later.
const (
	smallFirst = 64
	bulkFirst  = 16
)

// The two groups of blocks, by their number in the kernel.
const (
	small      = iota // for receives that stay armed
	bulk              // for those of much
	recvGroups        // how many there are
	several           // in their place for wide receives, which have none
)

// recvBuffers are the blocks that wait in the kernel for data, and the receives
// that wait for blocks.
type recvBuffers struct {
	group  uint16
	used   bool // somebody has received from this group
	ring   *BufRing
	pool   *buf.Pool
	held   []buf.Buf // by id: what the kernel may write to
	free   []uint16  // ids without a block
	target int       // blocks to offer; doubles up to len(held)
	dry    bool      // the pool had no block when it was asked last

	grow     bool // the next refill may raise the target
	starving bool // a receive found no block, and half of them are not back yet
	starved  []starvedRecv
	hungry   int // the first of starved, which got nothing since they starved before
}

type starvedRecv struct {
	token aio.Token
	fd    int32
	how   aio.Flags
}

func (r *recvBuffers) open(ring *Ring, group uint16, pool *buf.Pool, first int, cfg EngineConfig) (err error) {
	if r.ring, err = ring.NewBufRing(group, cfg.RecvBuffers); err != nil {
		r.ring = nil
		return err
	}
	r.group, r.pool = group, pool
	r.held = make([]buf.Buf, cfg.RecvBuffers)
	r.free = make([]uint16, cfg.RecvBuffers)
	for i := range r.free {
		r.free[i] = uint16(len(r.free) - 1 - i)
	}
	r.target = min(first, cfg.RecvBuffers)
	return nil
}

// offered returns how many blocks the kernel has.
func (r *recvBuffers) offered() int { return len(r.held) - len(r.free) }

// refill offers blocks up to the target, with one store to the shared tail.
func (r *recvBuffers) refill() {
	if !r.used {
		return
	}
	if r.grow {
		r.grow = false
		if !r.dry { // a ring that the pool cannot fill is long enough
			r.target = min(2*r.target, len(r.held))
		}
	}
	n := r.target - r.offered()
	if n <= 0 {
		return
	}
	r.dry = false
	before := r.offered()
	for ; n > 0; n-- {
		b := r.pool.Get()
		if b.IsZero() {
			r.dry = true
			break
		}
		id := r.free[len(r.free)-1]
		r.free = r.free[:len(r.free)-1]
		r.ring.Add(b.Room(), id)
		r.held[id] = b
	}
	if r.offered() > before {
		r.ring.Commit()
	}
}

// take moves the block with this id out of the kernel's hands.
func (r *recvBuffers) take(id uint16) buf.Buf {
	r.free = append(r.free, id)
	return r.held[id].Take()
}

// starve notes that a receive found no block. The ring grows, once a turn; when
// the pool cannot fill it, receives are armed as blocks come back.
func (r *recvBuffers) starve() {
	r.starving, r.grow = true, true
}

// ready returns how many starved receives may be armed now. Half of the ring
// is enough for all of them. While the pool is dry that may never come, so then
// each block lets one more try.
func (r *recvBuffers) ready() int {
	if !r.starving {
		return 0
	}
	if r.offered() >= (r.target+1)/2 {
		r.starving = false
		return len(r.starved)
	}
	return min(len(r.starved), r.offered())
}

// unfed reports whether a starved receive may have its try: those that had theirs may
// have nothing to receive, and leave the blocks to the others.
func (r *recvBuffers) unfed() bool {
	return r.starving && len(r.starved) > 0 && r.offered() > 0
}

// queue puts a receive on the list of the starved. Those that got nothing since
// they were on it go first, so that a peer that never stops sending cannot use
// up every ring before the others have their turn.
func (r *recvBuffers) queue(s starvedRecv, fed bool) {
	if fed {
		r.starved = append(r.starved, s)
		return
	}
	r.starved = slices.Insert(r.starved, r.hungry, s)
	r.hungry++
}

// unstarve takes a starved receive off the list, and reports whether it was there.
func (r *recvBuffers) unstarve(t aio.Token) bool {
	i := slices.IndexFunc(r.starved, func(s starvedRecv) bool { return s.token == t })
	if i < 0 {
		return false
	}
	r.starved = slices.Delete(r.starved, i, i+1)
	if i < r.hungry {
		r.hungry--
	}
	return true
}

// close gives all blocks back, when the kernel no longer writes to them.
func (r *recvBuffers) close() error {
	if r.ring == nil {
		return nil
	}
	err := r.ring.Close()
	r.ring = nil
	for i := range r.held {
		r.held[i].Release()
	}
	return err
}

// submitRecv arms a receive, or lets it wait for blocks.
func (e *Engine) submitRecv(op *aio.Op) {
	r := &e.recv[small]
	if op.Flags&aio.Bulk != 0 {
		r = e.large()
		if op.Flags&aio.Wide != 0 && !r.starving && e.submitWide(op) {
			return
		}
	}
	e.awaitRecv(op.Token, op.FD, r, op.Flags)
}

// large returns the blocks for receives with aio.Bulk. Blocks of one pool are all in one
// group: what waits in the kernel for receives of one kind is lost to the other.
func (e *Engine) large() *recvBuffers {
	if e.recv[bulk].ring == nil {
		return &e.recv[small]
	}
	return &e.recv[bulk]
}

// awaitRecv arms a receive that waits for bytes, and before that for blocks.
func (e *Engine) awaitRecv(t aio.Token, fd int32, r *recvBuffers, how aio.Flags) {
	slot := e.slots.At(t.Slot)
	slot.group = uint8(r.group)
	r.used = true
	if r.starving {
		r.queue(starvedRecv{t, fd, how}, slot.fed)
		slot.fed = false
		return
	}
	e.armRecv(t, fd, r.group, how)
}

func (e *Engine) armRecv(t aio.Token, fd int32, group uint16, how aio.Flags) {
	s := e.entry()
	if s == nil {
		e.refuse(t, aio.Recv, group)
		return
	}
	switch {
	case how&(aio.Bulk|aio.Once) == 0:
		s.PrepRecvMultishot(fd, group, 0)
	case how&aio.Multishot != 0 && e.limit > 0:
		s.PrepRecvMultishot(fd, group, 0)
		s.LimitRecv(e.limit)
	default:
		s.PrepRecv(fd, nil, 0)
		s.Flags |= SQEBufferSelect
		s.BufIndex = group
	}
	if how&(aio.Bulk|aio.Once) != 0 && e.slots.At(t.Slot).empty { // To try before there is something would be in vain.
		s.Ioprio |= RecvsendPollFirst
	}
	s.UserData = t.Pack(aio.Recv, group)
	e.inflight++
}

// refill offers blocks of both kinds.
func (e *Engine) refill() {
	e.recv[small].refill()
	e.recv[bulk].refill()
}

// armStarved arms the receives that may be, in the order in which they came.
func (e *Engine) armStarved() {
	for i := range e.recv {
		r := &e.recv[i]
		n := r.ready()
		if n == 0 {
			continue
		}
		for _, s := range r.starved[:n] {
			e.armRecv(s.token, s.fd, r.group, s.how)
		}
		r.starved = slices.Delete(r.starved, 0, n)
		r.hungry = max(0, r.hungry-n)
	}
}

// completeRecv tells one answer to a receive; its batch is the group.
func (e *Engine) completeRecv(done *aio.Completion, c *CQE) {
	r := &e.recv[done.Batch]
	done.Batch = 0
	if c.Res == -int32(unix.ENOBUFS) {
		e.stats.Starved++
		r.starve()
	}
	id, ok := c.BufferID()
	if !ok {
		return
	}
	b := r.take(id)
	if c.Res <= 0 { // an end of file may use up a block too
		b.Release()
		return
	}
	b.Extend(int(c.Res))
	done.In = b
	slot := e.slots.At(done.Token.Slot)
	slot.fed, slot.empty = true, !c.SockNonempty()
}
