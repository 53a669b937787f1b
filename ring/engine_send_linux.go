//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"os"
	"syscall"
	"unsafe"

	"github.com/penstock-go/penstock/aio"
	"golang.org/x/sys/unix"
)

const (
	arenaSize = 128 << 10 // two thousand sends of two elements
	// sendBytesMax bounds one send, below what the kernel would cut silently.
	sendBytesMax = 1 << 30
	// optimisticMax is how many indices fit the batch field of the user data.
	optimisticMax = 1 << 12
	optimistic    = unix.MSG_DONTWAIT | unix.MSG_WAITALL | unix.MSG_NOSIGNAL
)

// msghdr and iovec are the structures of the same names with numbers for
// pointers: a Go pointer type here would make the collector look at what stale
// words of the arena point to.
type msghdr struct {
	name       uint64
	namelen    uint32
	_          uint32
	iov        uint64
	iovlen     uint64
	control    uint64
	controllen uint64
	flags      int32
	_          int32
}

type iovec struct{ base, len uint64 }

const messageMax = int(unsafe.Sizeof(msghdr{})) + engineMaxOut*int(unsafe.Sizeof(iovec{}))

// arena holds message headers off the heap until the kernel has copied them,
// which it does while it submits. The first place is for Try.
type arena struct {
	mem  []byte
	used int
}

func newArena() (arena, error) {
	mem, err := unix.Mmap(-1, 0, arenaSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
	if err != nil {
		return arena{}, os.NewSyscallError("ring: mmap of the message headers", err)
	}
	return arena{mem: mem, used: messageMax}, nil
}

func (a *arena) full() bool { return len(a.mem)-a.used < messageMax }

func (a *arena) reset() { a.used = messageMax }

// message lays out a header for out and returns it with the bytes it covers.
func (a *arena) message(out [][]byte) (*unix.Msghdr, int) {
	h, n := layout(a.mem[a.used:], out)
	a.used += int(unsafe.Sizeof(msghdr{})) + len(out)*int(unsafe.Sizeof(iovec{}))
	return h, n
}

// layout writes a header and its array to mem, which is in a mapping, at a
// multiple of eight since both sizes are, and has room for engineMaxOut elements.
func layout(mem []byte, out [][]byte) (*unix.Msghdr, int) {
	h := (*msghdr)(unsafe.Pointer(&mem[0]))
	first := unsafe.Pointer(&mem[unsafe.Sizeof(msghdr{})])
	iov := unsafe.Slice((*iovec)(first), engineMaxOut)
	total, used := 0, 0
	for _, b := range out {
		n := min(len(b), sendBytesMax-total)
		if n == 0 {
			break
		}
		iov[used] = iovec{base: address(b), len: uint64(n)}
		total += n
		used++
	}
	*h = msghdr{iov: uint64(uintptr(first)), iovlen: uint64(used)}
	return (*unix.Msghdr)(unsafe.Pointer(h)), total
}

// optimisticSends are those that are decided when they are submitted. The kernel
// answers only what it did not take whole, so silence is read as success, after
// the enter that consumed the entry and after all answers to it are in.
type optimisticSends struct {
	list      []optimisticSend
	concluded int // this many are decided
	told      int // this many of those are told
}

type optimisticSend struct {
	token aio.Token
	batch uint16
	seq   uint32 // the submission queue's count behind it
	size  int32
	res   int32 // size, unless the kernel says otherwise
}

// conclude decides the sends whose entries the kernel has consumed.
func (o *optimisticSends) conclude(consumed uint32) {
	for o.concluded < len(o.list) && int32(consumed-o.list[o.concluded].seq) >= 0 {
		o.concluded++
	}
}

// undecided reports whether sends were consumed and not concluded.
func (o *optimisticSends) undecided(consumed uint32) bool {
	return o.concluded < len(o.list) && int32(consumed-o.list[o.concluded].seq) >= 0
}

// answer notes what the kernel said about one.
func (o *optimisticSends) answer(c *CQE) {
	t, _, i := aio.Unpack(c.UserData)
	if int(i) < len(o.list) && o.list[i].token == t {
		o.list[i].res = c.Res
	}
}

// waiting reports whether decided sends are not told.
func (o *optimisticSends) waiting() bool { return o.told < o.concluded }

// reuse makes the indices free again when none is in use.
func (o *optimisticSends) reuse() {
	if o.told == len(o.list) {
		o.list, o.concluded, o.told = o.list[:0], 0, 0
	}
}

func (e *Engine) submitSend(op *aio.Op) {
	zeroCopy := op.Flags&aio.ZeroCopy != 0 && e.caps.ZeroCopy && !e.slots.At(op.Token.Slot).plain && zeroCopySocket(op.FD)
	isOptimistic := op.Flags&aio.PollFirst == 0 && !zeroCopy
	s := e.sendEntry()
	if s == nil {
		e.refuse(op.Token, aio.Send, op.Batch)
		return
	}
	size := e.prepSend(s, op, zeroCopy)
	if isOptimistic {
		s.OpFlags, s.Flags = optimistic, SQECQESkipSuccess
		s.UserData = op.Token.Pack(kindSendOpt, uint16(len(e.sends.list)))
		e.sends.list = append(e.sends.list, optimisticSend{
			token: op.Token, batch: op.Batch, seq: e.ring.sq.next, size: int32(size), res: int32(size),
		})
		e.prompt = e.prompt || op.Flags&aio.Prompt != 0
		return
	}
	if op.Flags&aio.PollFirst != 0 {
		s.Ioprio |= RecvsendPollFirst
	}
	s.UserData = op.Token.Pack(aio.Send, op.Batch)
	e.inflight++
	slot := e.slots.At(op.Token.Slot)
	slot.fd, slot.batch, slot.recalled = op.FD, op.Batch|unanswered, false // what a cancel needs to name it
}

// recall cancels the send with this user data. The kernel may not find one that waits:
// that to a peer which has half-closed it tries 128 times, since POLLRDHUP counts as an
// event of the socket, and has it block in a worker thread then. Between the tries no
// cancel finds it, so one in vain goes again until the send is answered.
func (e *Engine) recall(data uint64) {
	if s := e.entry(); s != nil {
		t, _, batch := aio.Unpack(data)
		s.PrepCancel(data, 0)
		s.UserData, s.Flags = t.Pack(kindRecall, batch), SQECQESkipSuccess
	}
}

// missRecall notes a cancel that has found nothing.
func (e *Engine) missRecall(c *CQE) {
	t, _, batch := aio.Unpack(c.UserData)
	if c.Res == -int32(unix.ENOENT) && e.slots.At(t.Slot).batch == batch|unanswered {
		e.missed = append(e.missed, t.Pack(aio.Send, batch))
	}
}

// recallMissed has those go again.
func (e *Engine) recallMissed() {
	missed := e.missed
	e.missed = nil
	for _, data := range missed {
		e.recall(data)
	}
	if e.missed == nil { // Else a flush has brought more.
		e.missed = missed[:0]
	}
}

// sendAnswered notes the first completion of a send. One without a copy on which the kernel
// has given up cannot be held, since its buffers are at home only later: the next can.
func (e *Engine) sendAnswered(c *CQE) {
	t, _, batch := aio.Unpack(c.UserData)
	if slot := e.slots.At(t.Slot); slot.batch == batch|unanswered {
		slot.batch, slot.plain = batch, c.More() && c.Res == -int32(unix.EAGAIN)
	}
}

// zeroCopySocket reports whether fd is of a family that can send without a copy.
// Others, such as AF_UNIX, refuse; one short call beside a send worth the flag
// is cheaper than to learn that from a failure.
func zeroCopySocket(fd int32) bool {
	var domain int32
	size := uint32(unsafe.Sizeof(domain))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_DOMAIN,
		uintptr(unsafe.Pointer(&domain)), uintptr(unsafe.Pointer(&size)), 0)
	return errno == 0 && (domain == unix.AF_INET || domain == unix.AF_INET6)
}

// sendEntry returns an entry, with room beside it for a message header and for
// one optimistic send more.
func (e *Engine) sendEntry() *SQE {
	for range flushAttempts {
		if !e.arena.full() && len(e.sends.list) < optimisticMax {
			if s := e.ring.SQE(); s != nil {
				return s
			}
		}
		e.flush()
	}
	return nil
}

// prepSend fills s with the plain or zero-copy send of op, and returns its bytes.
func (e *Engine) prepSend(s *SQE, op *aio.Op, zeroCopy bool) (size int) {
	if len(op.Out) == 1 {
		b := op.Out[0]
		b = b[:min(len(b), sendBytesMax)]
		if zeroCopy {
			s.PrepSendZC(op.FD, b, unix.MSG_NOSIGNAL, SendZCReportUsage)
		} else {
			s.PrepSend(op.FD, b, unix.MSG_NOSIGNAL)
		}
		return len(b)
	}
	msg, size := e.arena.message(op.Out)
	if zeroCopy {
		s.PrepSendmsgZC(op.FD, msg, unix.MSG_NOSIGNAL, SendZCReportUsage)
	} else {
		s.PrepSendmsg(op.FD, msg, unix.MSG_NOSIGNAL)
	}
	return size
}

// tellSends fills done with sends that were decided.
func (e *Engine) tellSends(done []aio.Completion) (n int) {
	o := &e.sends
	for ; n < len(done) && o.told < o.concluded; n++ {
		s := &o.list[o.told]
		done[n].Set(s.token, aio.Send, tookOf(s.res), true)
		done[n].Batch = s.batch
		o.told++
		if s.res == s.size {
			e.stats.Completed++ // the kernel was silent
		}
	}
	o.reuse()
	return n
}

// stashSends makes indices free when they run out between two Waits: what was
// decided moves to the answers.
func (e *Engine) stashSends() {
	o := &e.sends
	if len(o.list) < optimisticMax {
		return
	}
	for ; o.told < o.concluded; o.told++ {
		s := &o.list[o.told]
		e.answers.add(s.token, aio.Send, s.batch, s.res)
	}
	o.reuse()
}

// tookOf turns the kernel's result of a send into that of aio. A full socket is
// no failure, it took nothing; nor is an interruption, as by a stop of the
// process or a debugger.
func tookOf(res int32) int32 {
	if res == -int32(unix.EAGAIN) || res == -int32(unix.EINTR) {
		return 0
	}
	return res
}

// Try implements aio.Engine.
func (e *Engine) Try(op *aio.Op) int {
	const flags = unix.MSG_DONTWAIT | unix.MSG_NOSIGNAL
	for {
		var n uintptr
		var errno syscall.Errno
		if len(op.Out) == 1 {
			b := op.Out[0]
			// The call does not sleep, so the scheduler need not know of it.
			n, _, errno = unix.RawSyscall6(unix.SYS_SENDTO, uintptr(op.FD),
				uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(min(len(b), sendBytesMax)), flags, 0, 0)
		} else {
			msg, _ := layout(e.arena.mem, op.Out)
			n, _, errno = unix.RawSyscall(unix.SYS_SENDMSG, uintptr(op.FD), uintptr(unsafe.Pointer(msg)), flags)
		}
		switch errno {
		case 0:
			return int(n)
		case unix.EAGAIN:
			return 0
		case unix.EINTR:
			continue
		}
		return -int(errno)
	}
}
