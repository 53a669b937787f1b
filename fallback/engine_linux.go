package fallback

import (
	"fmt"
	"sync"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/internal/invariants"
	"github.com/penstock-go/penstock/internal/sys"
	"github.com/penstock-go/penstock/internal/table"
)

// maxOut is how many elements one sendmsg(2) gets. The kernel's own limit is 1024.
const maxOut = 256

// What marks the events of the eventfd and of the timerfd: no token packs to it, since
// no kind is 15.
const (
	wakeData  = ^uint64(0)
	alarmData = wakeData &^ (1 << 63)
)

// Engine is an aio.Engine on epoll(7).
//
// Thread: that of the loop, locked; Wake may be called from anywhere, also
// beside and after Close.
type Engine struct {
	cfg    Config
	epfd   int
	shm    *shared // memory the kernel reads and writes
	mem    []byte  // the mapping behind shm and events
	events []unix.EpollEvent
	stats  aio.Stats

	slots table.Table[slot] // by Token.Slot
	ready queue[uint32]     // slots that are armed and perhaps readable, by turns
	waits []waitingSend     // sends without room; slot.wait is an index
	free  []uint32          // of waits

	sends   queue[sendDone] // sends that were performed and not told
	prompt  int             // of sends: those for which a Wait must not sleep
	others  queue[finalDone]
	out     [][]byte // what a running sendmsg(2) reads
	skipped int      // Waits in a row that did not look at epoll

	alarm alarm

	starved   []uint32 // slots whose re-armed Recv waits for blocks
	starvedAt int      // blocks in use when the last one was missing

	woken  atomic.Bool // a wake is on its way and was not seen yet
	wakeMu sync.Mutex  // guards wakefd against Close
	wakefd int         // -1 after Close
}

var _ aio.Engine = (*Engine)(nil)

// shared is what system calls other than epoll_wait get pointers to. It is
// mapped, so it holds addresses as numbers, not Go pointers.
type shared struct {
	iov [maxOut]iovec
	hdr msghdr
}

// iovec is struct iovec.
type iovec struct{ base, len uintptr }

// msghdr is struct msghdr; the padding of 64-bit systems falls in by itself.
type msghdr struct {
	name       uintptr
	namelen    uint32
	iov        uintptr
	iovlen     uintptr
	control    uintptr
	controllen uintptr
	flags      int32
}

// streamEvents are the events of a connection. Urgent data is among them because
// recv(2) stops in front of it, and then has not emptied the socket.
const streamEvents = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLPRI

// flags of a slot.
const (
	registered  uint16 = 1 << iota // fd is in the epoll set with the token of this slot
	recvArmed                      // a Recv is in flight
	recvOnce                       // and ends with its first completion
	recvBulk                       // and so, in a large block
	recvWide                       // or in several
	recvLocal                      // and so, from a unix socket
	acceptArmed                    // an Accept is in flight
	readable                       // an edge said so, and nothing has emptied the socket since
	writable                       // the same for room
	hangup                         // an end of file, an error or an urgent byte is behind the bytes
	queued                         // the slot is in Engine.ready
	hungry                         // Recv was told -ENOBUFS and nothing has come since
	waiting                        // the slot is in Engine.starved
	pollOnly                       // fd is in the epoll set for one Poll at a time, not registered
)

// slot is what the engine knows about the party with that number.
type slot struct {
	gen   uint32
	fd    int32
	wait  uint32 // index of its waiting send, plus one
	flags uint16
	poll  uint16 // what ends its Poll, or 0 without one
}

func (s *slot) has(all uint16) bool { return s.flags&all == all }

// owner is whose slot s is, the one at this place.
func (s *slot) owner(at uint32) aio.Token { return aio.Token{Slot: at, Gen: s.gen} }

// sendDone is a completion of Send in few bytes.
type sendDone struct {
	token  aio.Token
	res    int32
	batch  uint16
	prompt bool
}

// finalDone is a final completion that carries no bytes.
type finalDone struct {
	token aio.Token
	res   int32
	kind  aio.Kind
}

// NewEngine opens an engine. The errors are those of epoll_create1(2),
// eventfd(2), epoll_ctl(2) and mmap(2).
func NewEngine(cfg Config) (_ *Engine, err error) {
	cfg, err = cfg.check()
	if err != nil {
		return nil, err
	}
	e := &Engine{cfg: cfg, epfd: -1, wakefd: -1, alarm: alarm{fd: -1}}
	defer func() {
		if err != nil {
			_ = e.Close()
		}
	}()
	if e.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("create epoll descriptor: %w", err)
	}
	if e.wakefd, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return nil, fmt.Errorf("create eventfd: %w", err)
	}
	// Edge-triggered, the eventfd needs no read: every write is an edge of its
	// own, and its counter lasts for 2^64 of them.
	if err = e.control(unix.EPOLL_CTL_ADD, int32(e.wakefd), unix.EPOLLIN|unix.EPOLLET, wakeData); err != nil {
		return nil, fmt.Errorf("watch eventfd: %w", err)
	}
	e.openAlarm()
	size := int(unsafe.Sizeof(shared{})) + cfg.Events*int(unsafe.Sizeof(unix.EpollEvent{}))
	e.mem, err = unix.Mmap(-1, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return nil, fmt.Errorf("map memory for epoll: %w", err)
	}
	// A mapping begins at a page, and both types fit into it one behind the other.
	e.shm = (*shared)(unsafe.Pointer(&e.mem[0]))
	e.events = unsafe.Slice((*unix.EpollEvent)(unsafe.Pointer(&e.mem[unsafe.Sizeof(shared{})])), cfg.Events)
	e.shm.hdr.iov = uintptr(unsafe.Pointer(&e.shm.iov)) // mapped memory: the number stays right
	return e, nil
}

// Caps implements aio.Engine.
func (e *Engine) Caps() aio.Caps { return aio.Caps{Engine: "epoll", Immediate: true, MaxOut: maxOut} }

// Stats implements aio.Engine. Enters counts epoll_wait(2) alone.
func (e *Engine) Stats() aio.Stats { return e.stats }

// Submit implements aio.Engine. A Send is performed at once.
func (e *Engine) Submit(op *aio.Op) {
	e.stats.Submitted++
	switch op.Kind {
	case aio.Send:
		e.send(op)
	case aio.Recv:
		s := e.slot(op.Token)
		s.flags &^= recvOnce | recvBulk | recvWide | recvLocal
		s.flags |= recvFlags(op.Flags)
		e.arm(op, recvArmed, streamEvents)
	case aio.Accept:
		e.arm(op, acceptArmed, unix.EPOLLIN)
	case aio.Poll:
		e.pollFD(op)
	case aio.Cancel:
		e.cancel(op)
	case aio.Close:
		e.closeFD(op)
	case aio.Shutdown:
		_ = unix.Shutdown(int(op.FD), unix.SHUT_WR)
	case aio.Reset:
		_ = sys.Reset(int(op.FD))
	case aio.Forget:
		e.forget(op)
	default:
		invariants.Broken("fallback: submit of kind %d", op.Kind)
	}
}

// Wake implements aio.Engine.
func (e *Engine) Wake() {
	// The flag falls in the Wait that sees the event. Whoever finds it up has a
	// Wait ahead that returns, so one write serves all.
	if e.woken.Swap(true) {
		return
	}
	e.wakeMu.Lock()
	defer e.wakeMu.Unlock()
	if e.wakefd >= 0 {
		_ = sys.EventfdWrite(e.wakefd, 1)
	}
}

// Close implements aio.Engine.
func (e *Engine) Close() error {
	e.wakeMu.Lock()
	defer e.wakeMu.Unlock()
	for _, fd := range []int{e.epfd, e.wakefd, e.alarm.fd} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
	e.epfd, e.wakefd, e.alarm.fd = -1, -1, -1
	mem := e.mem
	e.mem, e.shm, e.events = nil, nil, nil
	if mem == nil {
		return nil
	}
	return unix.Munmap(mem)
}

// slot returns the entry of tok, cleared when the last user was another one.
func (e *Engine) slot(tok aio.Token) *slot {
	s := e.slots.At(tok.Slot)
	if s.gen != tok.Gen {
		e.clear(s)
		s.gen = tok.Gen
	}
	return s
}

// clear forgets all of s but the lists it is in.
func (e *Engine) clear(s *slot) {
	if s.wait != 0 {
		e.freeWait(s)
	}
	s.fd, s.poll = 0, 0
	s.flags &= queued | waiting
}

// arm starts a Recv or an Accept.
func (e *Engine) arm(op *aio.Op, armed uint16, events uint32) {
	s := e.slot(op.Token)
	if s.has(armed) {
		invariants.Broken("fallback: %v while another one of %+v is in flight", op.Kind, op.Token)
	}
	if errno := e.register(s, op, events); errno != 0 {
		e.others.push(finalDone{token: op.Token, kind: op.Kind, res: -int32(errno)})
		return
	}
	s.flags |= armed
	switch {
	case s.has(hungry):
		e.starve(s, op.Token.Slot)
	case s.has(readable):
		// An edge that came while nobody was armed comes no second time.
		e.enqueue(s, op.Token.Slot)
	}
}

// register puts the descriptor of op into the epoll set, once.
func (e *Engine) register(s *slot, op *aio.Op, events uint32) unix.Errno {
	if s.has(registered) && s.fd == op.FD {
		return 0
	}
	if op.Kind == aio.Accept {
		// accept4(2) has no flag against waiting when somebody else was faster.
		if err := unix.SetNonblock(int(op.FD), true); err != nil {
			return err.(unix.Errno)
		}
	}
	data := op.Token.Pack(0, 0)
	err := e.control(unix.EPOLL_CTL_ADD, op.FD, events|unix.EPOLLET, data)
	if err == unix.EEXIST {
		// Registered for a party that has passed the descriptor on; a change
		// reports what is ready now, as the first registration does.
		err = e.control(unix.EPOLL_CTL_MOD, op.FD, events|unix.EPOLLET, data)
	}
	if err != nil {
		return err.(unix.Errno)
	}
	s.fd = op.FD
	s.flags |= registered
	s.flags &^= readable | writable | hangup | pollOnly
	return 0
}

// control is epoll_ctl(2) with 64 bits of data.
func (e *Engine) control(op int, fd int32, events uint32, data uint64) error {
	ev := unix.EpollEvent{Events: events, Fd: int32(uint32(data)), Pad: int32(uint32(data >> 32))}
	return unix.EpollCtl(e.epfd, op, int(fd), &ev)
}

// enqueue gives s a turn.
func (e *Engine) enqueue(s *slot, at uint32) {
	if !s.has(queued) {
		s.flags |= queued
		e.ready.push(at)
	}
}

// cancel ends what op names, at once. A token that has passed names nothing.
func (e *Engine) cancel(op *aio.Op) {
	s := e.slots.Find(op.Token.Slot)
	switch {
	case s == nil || s.gen != op.Token.Gen:
	case op.Target == aio.Send && s.wait != 0:
		batch := e.waits[s.wait-1].batch
		e.freeWait(s)
		e.pushSend(sendDone{token: op.Token, batch: batch, res: -int32(unix.ECANCELED), prompt: true})
	case op.Target == aio.Recv && s.has(recvArmed):
		s.flags &^= recvArmed
		e.others.push(finalDone{token: op.Token, kind: aio.Recv, res: -int32(unix.ECANCELED)})
	case op.Target == aio.Accept && s.has(acceptArmed):
		s.flags &^= acceptArmed
		e.others.push(finalDone{token: op.Token, kind: aio.Accept, res: -int32(unix.ECANCELED)})
	case op.Target == aio.Poll && s.poll != 0:
		e.endPoll(s, op.Token, -int32(unix.ECANCELED))
	}
}

// closeFD closes the descriptor; the epoll set forgets it by itself.
func (e *Engine) closeFD(op *aio.Op) {
	e.clear(e.quiet(op))
	_ = unix.Close(int(op.FD))
}

// forget takes the descriptor out of the epoll set. Left in, it would wake the
// loop for whoever has it then, and could not be taken out once its number is
// another file's.
func (e *Engine) forget(op *aio.Op) {
	s := e.quiet(op)
	if s.flags&(registered|pollOnly) != 0 {
		_ = unix.EpollCtl(e.epfd, unix.EPOLL_CTL_DEL, int(op.FD), nil)
	}
	e.clear(s)
}

// quiet returns the slot of op, of which nothing may be in flight.
func (e *Engine) quiet(op *aio.Op) *slot {
	s := e.slot(op.Token)
	if s.wait != 0 || s.poll != 0 || s.flags&(recvArmed|acceptArmed) != 0 {
		invariants.Broken("fallback: %v of descriptor %d of %+v with an operation in flight", op.Kind, op.FD, op.Token)
	}
	return s
}
