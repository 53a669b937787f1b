package fallback

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/aio"
)

// recv receives one block from s. It returns false when there was nothing to tell.
func (e *Engine) recv(s *slot, at uint32, c *aio.Completion) bool {
	once := s.has(recvOnce)
	pool := e.cfg.Small
	if s.has(recvBulk) {
		pool = e.cfg.Pool
	}
	b := pool.Get()
	if b.IsZero() {
		return e.recvStarved(s, at, c)
	}
	room := b.Room()
	n, errno := recvfrom(s.fd, room)
	if errno == 0 && n > 0 {
		s.flags &^= hungry
		// A block that was not filled has emptied the socket, and the next byte
		// is an edge. An end of file that was announced is no further edge, and
		// neither are bytes behind an urgent one.
		switch more := n == len(room) || s.has(hangup); {
		case !more:
			s.flags &^= readable
		case !once:
			e.enqueue(s, at)
		}
		if once {
			s.flags &^= recvArmed
		}
		b.Extend(n)
		*c = aio.Completion{Token: aio.Token{Slot: at, Gen: s.gen}, Kind: aio.Recv, First: true, Final: once, Res: int32(n), In: b}
		return true
	}
	b.Release()
	if errno == unix.EAGAIN {
		s.flags &^= readable
		return false
	}
	// The end, or an error: it stays readable, so that a Recv after it ends too.
	s.flags &^= recvArmed
	*c = aio.Completion{
		Token: aio.Token{Slot: at, Gen: s.gen}, Kind: aio.Recv,
		First: true, Final: true, Res: -int32(errno),
	}
	return true
}

// recvStarved ends a Recv that found no block, or lets it wait on when its party
// was told already.
func (e *Engine) recvStarved(s *slot, at uint32, c *aio.Completion) bool {
	e.starvedAt = e.blocksInUse()
	if s.has(hungry) {
		e.starve(s, at)
		return false
	}
	e.stats.Starved++
	s.flags |= hungry
	s.flags &^= recvArmed
	*c = aio.Completion{
		Token: aio.Token{Slot: at, Gen: s.gen}, Kind: aio.Recv,
		First: true, Final: true, Res: -int32(unix.ENOBUFS),
	}
	return true
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
	if len(e.starved) == 0 {
		return
	}
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
