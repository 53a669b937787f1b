package fallback

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
)

// recvFlags returns the flags of a slot for a Recv.
func recvFlags(how aio.Flags) (flags uint16) {
	if how&aio.Bulk != 0 {
		flags = recvOnce | recvBulk
		if how&aio.Wide != 0 {
			flags |= recvWide
		}
	}
	if how&aio.Once != 0 {
		flags |= recvOnce | recvLocal
	}
	return flags
}

// recv receives from s, one block or more, and returns how many completions there
// are to tell.
func (e *Engine) recv(s *slot, at uint32, done []aio.Completion) int {
	pool := e.cfg.Small
	if s.has(recvBulk) {
		pool = e.cfg.Pool
	}
	switch {
	case s.has(recvWide):
		return e.recvMany(s, at, pool, done[:min(aio.WideBlocks, len(done))])
	case s.has(recvLocal):
		return e.recvMany(s, at, pool, done[:1])
	}
	b := pool.Get()
	if b.IsZero() {
		return e.recvStarved(s, at, &done[0])
	}
	room := b.Room()
	n, errno := recvfrom(s.fd, room)
	if n == 0 {
		b.Release()
		return s.recvEnded(at, errno, &done[0])
	}
	b.Extend(n)
	done[0].Set(s.owner(at), aio.Recv, int32(n), e.received(s, at, n == len(room)))
	done[0].In = b
	return 1
}

// recvMany receives up to len(done) blocks by one call: less to do for the peer's
// socket and this one than with a call for each.
func (e *Engine) recvMany(s *slot, at uint32, pool *buf.Pool, done []aio.Completion) (used int) {
	room, blocks := 0, 0
	for ; blocks < len(done); blocks++ {
		b := pool.Get()
		if b.IsZero() {
			break
		}
		p := b.Room()
		e.shm.iov[blocks] = iovec{uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p))}
		room += len(p)
		done[blocks].In = b
	}
	if blocks == 0 {
		return e.recvStarved(s, at, &done[0])
	}
	e.shm.hdr.iovlen = uintptr(blocks)
	n, errno := e.recvmsg(s.fd)
	left := n
	for i := range done[:blocks] {
		if left == 0 {
			done[i].In.Release()
			continue
		}
		b := done[i].In.Take()
		k := min(left, b.Cap())
		left -= k
		b.Extend(k)
		done[i].Set(s.owner(at), aio.Recv, int32(k), false)
		done[i].In = b
		used++
	}
	if n == 0 {
		return s.recvEnded(at, errno, &done[0])
	}
	// A unix socket stops behind bytes that descriptors came with, which are dropped here.
	stopped := e.shm.hdr.flags&unix.MSG_CTRUNC != 0
	done[used-1].Final = e.received(s, at, n == room || stopped)
	return used
}

// received notes that bytes came, and whether there may be more: they took all the room
// there was, or something else stopped the receive. It reports whether this was its end.
func (e *Engine) received(s *slot, at uint32, more bool) (final bool) {
	s.flags &^= hungry
	// What was not filled has emptied the socket, and the next byte is an edge. An
	// end of file that was announced is no further edge, and neither are bytes
	// behind an urgent one.
	if !more && !s.has(hangup) {
		s.flags &^= readable
	}
	if s.has(recvOnce) {
		s.flags &^= recvArmed
		return true
	}
	if s.has(readable) {
		e.enqueue(s, at)
	}
	return false
}

// recvEnded settles a receive that has brought nothing.
func (s *slot) recvEnded(at uint32, errno syscall.Errno, c *aio.Completion) int {
	if errno == unix.EAGAIN {
		s.flags &^= readable
		return 0
	}
	// The end, or an error: it stays readable, so that a Recv after it ends too.
	s.flags &^= recvArmed
	c.Set(s.owner(at), aio.Recv, -int32(errno), true)
	return 1
}

// recvStarved ends a Recv that found no block, or lets it wait on when its party
// was told already.
func (e *Engine) recvStarved(s *slot, at uint32, c *aio.Completion) int {
	e.starvedAt = e.blocksInUse()
	if s.has(hungry) {
		e.starve(s, at)
		return 0
	}
	e.stats.Starved++
	s.flags |= hungry
	s.flags &^= recvArmed
	c.Set(s.owner(at), aio.Recv, -int32(unix.ENOBUFS), true)
	return 1
}

// starve makes s wait for blocks.
func (e *Engine) starve(s *slot, at uint32) {
	if !s.has(waiting) {
		s.flags |= waiting
		e.starved = append(e.starved, at)
	}
}

// feedStarved gives all who wait a turn when at least n blocks, or half of those
// that were in use, came back since one was missing. A Wait asks for half a batch
// while it is busy, so that one block is not fought for by all, and for one block
// before it sleeps, because no more may ever come.
func (e *Engine) feedStarved(n int) {
	n = max(1, min(n, e.starvedAt/2))
	if e.starvedAt > 0 && e.blocksInUse() > e.starvedAt-n {
		return
	}
	e.feedAll()
}

// blocksInUse returns the blocks of both pools that somebody holds.
func (e *Engine) blocksInUse() int {
	n := e.cfg.Pool.InUse()
	if e.cfg.Small != e.cfg.Pool {
		n += e.cfg.Small.InUse()
	}
	return n
}

// feedAll gives all who wait for blocks a turn.
func (e *Engine) feedAll() {
	for _, at := range e.starved {
		s := e.slots.At(at)
		s.flags &^= waiting
		if s.has(recvArmed | readable) {
			e.enqueue(s, at)
		}
	}
	e.starved = e.starved[:0]
}

// recvmsg receives into the array in shm without waiting.
func (e *Engine) recvmsg(fd int32) (int, syscall.Errno) {
	for {
		// The header, the array and the blocks are mapped memory.
		n, _, errno := syscall.RawSyscall(unix.SYS_RECVMSG, uintptr(fd), uintptr(unsafe.Pointer(&e.shm.hdr)), unix.MSG_DONTWAIT)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// recvfrom is recv(2) without waiting.
func recvfrom(fd int32, b []byte) (int, syscall.Errno) {
	for {
		// b is a block of the pool, mapped memory.
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, uintptr(fd),
			uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}
