package aiotest

import (
	"slices"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
)

// Wait implements aio.Engine. It never blocks.
func (f *Fake) Wait(done []aio.Completion, d time.Duration) (n int, err error) {
	f.alive()
	if len(done) == 0 {
		broken("wait with room for no completion")
	}
	f.stats.Enters++
	if f.rung && d < 0 {
		f.rung = false
		return 0, nil
	}
	woken := f.woken.Swap(false)
	if woken {
		f.stats.Wakes++
	}
	f.misfortune()
	f.order = append(f.order[:0], f.ops...)
	f.rng.Shuffle(len(f.order), func(i, j int) { f.order[i], f.order[j] = f.order[j], f.order[i] })
	// Prompt sends first: whoever waits for them must not find the slice full.
	for _, prompt := range []bool{true, false} {
		for _, o := range f.order {
			if o.Kind == aio.Send && (o.Flags&aio.Prompt != 0) == prompt {
				n += f.deliverSend(o, done[n:])
			}
		}
	}
	for _, o := range f.order {
		switch o.Kind {
		case aio.Recv:
			n += f.deliverRecv(o, done[n:])
		case aio.Accept:
			n += f.deliverAccept(o, done[n:])
		case aio.Poll:
			n += f.deliverPoll(o, done[n:])
		}
	}
	f.ops = slices.DeleteFunc(f.ops, func(o *op) bool { return o.ended })
	clear(f.order)
	f.stats.Completed += uint64(n)
	f.rung = f.rung && d == 0 || d > 0 && n > 0 // There is no clock here, so d may be over.
	if n == 0 && d != 0 && !woken && f.cfg.OnIdle != nil {
		f.cfg.OnIdle(d)
	}
	return n, nil
}

// misfortune resets connections that nobody has closed.
func (f *Fake) misfortune() {
	if f.cfg.Reset == 0 {
		return
	}
	for _, s := range f.socks {
		if s.peer != nil && !s.closed && f.chance(f.cfg.Reset) {
			s.peer.Reset()
		}
	}
}

// held reports whether o stays silent in this Wait.
func (o *op) held() bool {
	if o.hold == 0 {
		return false
	}
	o.hold--
	return true
}

func (o *op) completion(res int32, first, final bool) aio.Completion {
	o.ended = final
	return aio.Completion{Token: o.Token, Kind: o.Kind, Batch: o.Batch, First: first, Final: final, Res: res}
}

// deliverSend performs o when it is time, and tells its first and its final completion.
func (f *Fake) deliverSend(o *op, done []aio.Completion) (n int) {
	if !o.performed && !f.perform(o) {
		return 0
	}
	if len(done) == 0 || o.held() {
		return 0
	}
	f.checkLent(o)
	if !o.told {
		f.checkSlice(o)
		o.told = true
		lend := f.lends(o)
		done[0] = o.completion(o.result, true, !lend)
		if o.Flags&aio.ZeroCopy != 0 && f.cfg.ZeroCopy {
			done[0].Copied = !lend && o.result > 0
		}
		if lend && f.chance(f.cfg.LateFinal) {
			o.hold = f.rng.IntN(16)
		}
		return 1
	}
	done[0] = o.completion(0, false, true)
	done[0].Copied = f.chance(f.cfg.Copied)
	return 1
}

// lends reports whether a final completion follows the first one of o. The
// kernel may send one for a failure too, and none for what it copied.
func (f *Fake) lends(o *op) bool {
	switch {
	case !f.cfg.ZeroCopy || o.Flags&aio.ZeroCopy == 0:
		return false
	case o.result <= 0:
		return f.chance(f.cfg.LateFinal)
	}
	return !f.chance(f.cfg.Copied / 4)
}

// perform hands the bytes of o to the peer and settles its result; false says
// that it still waits for room.
func (f *Fake) perform(o *op) bool {
	prompt, poll := o.Flags&aio.Prompt != 0, o.Flags&aio.PollFirst != 0
	switch {
	case o.cancelled && !(f.chance(f.cfg.CancelRace) && o.sock.writable()):
		if o.held() {
			return false
		}
		o.result = -int32(syscall.ECANCELED)
	case poll && !o.sock.writable():
		return false
	case poll && !o.polled && !prompt && f.chance(f.cfg.LateSend):
		o.polled = true
		o.hold = 1 + f.rng.IntN(4)
		return false
	case poll && o.held():
		return false
	default:
		f.checkLent(o)
		o.result = f.push(o.sock, o.lent, o.size, !poll)
		if !poll && !prompt && f.chance(f.cfg.LateSend) {
			o.hold = 1 + f.rng.IntN(4)
		}
	}
	o.performed = true
	return true
}

// push moves what fits, or a random part of it, from out to the peer.
func (f *Fake) push(s *socket, out [][]byte, size int, mayBlock bool) int32 {
	if errno := s.sendError(f); errno != 0 {
		return -int32(errno)
	}
	if f.chance(f.cfg.NoMemory) {
		return -int32(syscall.ENOMEM)
	}
	if s.peer.closed {
		// The first segment to a peer that is gone is taken, and answered by a RST.
		s.peer.Reset()
		return int32(size)
	}
	n := min(size, s.room())
	switch {
	case n == 0 || mayBlock && f.chance(f.cfg.WouldBlock):
		return 0
	case f.chance(f.cfg.ShortSend):
		n = 1 + f.rng.IntN(n)
	}
	left := n
	for _, p := range out {
		p = p[:min(left, len(p))]
		left -= len(p)
		s.peer.in = append(s.peer.in, p...)
	}
	s.peer.arrived()
	return int32(n)
}

// checkLent panics when bytes that the engine still reads have changed.
func (f *Fake) checkLent(o *op) {
	if f.checksum(o.lent) != o.sum {
		broken("bytes of a send of %+v, batch %d, changed while they were lent", o.Token, o.Batch)
	}
}

// checkSlice panics when Op.Out, the slice, changed before the first completion.
func (f *Fake) checkSlice(o *op) {
	for i, p := range o.Out {
		if len(p) != len(o.lent[i]) || &p[0] != &o.lent[i][0] {
			broken("element %d of Op.Out of %+v changed before the first completion", i, o.Token)
		}
	}
}

// deliverRecv tells at most four completions of o.
func (f *Fake) deliverRecv(o *op, done []aio.Completion) (n int) {
	cancelled := o.cancelled && !o.held()
	for n < min(4, len(done)) && !o.ended {
		overtaken := cancelled && len(o.sock.in) > 0 && f.chance(f.cfg.CancelRace)
		switch {
		case cancelled && !overtaken:
			done[n] = o.completion(-int32(syscall.ECANCELED), true, true)
		case !o.sock.readable() || !cancelled && f.chance(f.cfg.LateRecv):
			return n
		case f.chance(f.cfg.NoMemory):
			done[n] = o.completion(-int32(syscall.ENOMEM), true, true)
		case len(o.sock.in) == 0:
			done[n] = o.completion(o.sock.recvEnd(), true, true)
		case !o.sock.starved && f.chance(f.cfg.NoBuffers):
			f.stats.Starved++
			done[n] = o.completion(-int32(syscall.ENOBUFS), true, true)
		case !f.recvSome(o, &done[n]):
			return n
		}
		n++
	}
	return n
}

// recvSome moves bytes of the peer into a block. It returns false when there is
// no block and the party knows.
func (f *Fake) recvSome(o *op, c *aio.Completion) bool {
	s := o.sock
	b := f.poolOf(o).Get()
	if b.IsZero() {
		if s.starved {
			return false
		}
		s.starved = true
		f.stats.Starved++
		*c = o.completion(-int32(syscall.ENOBUFS), true, true)
		return true
	}
	s.starved = false
	n := min(len(s.in), b.Cap())
	if f.chance(f.cfg.SplitRecv) {
		n = 1 + f.rng.IntN(n)
	}
	b.Append(s.in[:n])
	s.in = s.in[n:]
	*c = o.completion(int32(n), true, f.endsWith(o, &b) || f.chance(f.cfg.FinalRecv))
	c.In = b.Take()
	return true
}

// endsWith reports whether o ends with this block: the only one it may bring, the
// last one, or one that was not filled.
func (f *Fake) endsWith(o *op, b *buf.Buf) bool {
	o.blocks++
	if o.Flags&aio.Multishot != 0 { // As on io_uring: what passes the limit is the last.
		o.bytes += b.Len()
		return o.bytes > (aio.MultishotBlocks-1)*b.Cap()
	}
	if o.Flags&aio.Wide != 0 {
		return len(b.Room()) > 0 || len(o.sock.in) == 0 || o.blocks == aio.WideBlocks
	}
	return o.Flags&(aio.Once|aio.Bulk) != 0
}

// deliverAccept tells at most four completions of o.
func (f *Fake) deliverAccept(o *op, done []aio.Completion) (n int) {
	cancelled := o.cancelled && !o.held()
	l := o.sock.listener
	for n < min(4, len(done)) && !o.ended {
		overtaken := cancelled && len(l.queue) > 0 && f.chance(f.cfg.CancelRace)
		switch {
		case cancelled && !overtaken:
			done[n] = o.completion(-int32(syscall.ECANCELED), true, true)
		case len(l.queue) == 0 || !cancelled && f.chance(f.cfg.LateRecv):
			return n
		case f.chance(f.cfg.AcceptError):
			done[n] = o.completion(-int32(acceptErrors[f.rng.IntN(len(acceptErrors))]), true, true)
		default:
			p := l.queue[0]
			l.queue = l.queue[1:]
			f.attach(p)
			done[n] = o.completion(p.sock.fd, true, f.chance(f.cfg.FinalAccept))
		}
		n++
	}
	return n
}

// deliverPoll tells the one completion of o. What it says is true at that moment.
func (f *Fake) deliverPoll(o *op, done []aio.Completion) int {
	if len(done) == 0 {
		return 0
	}
	cancelled := o.cancelled && !o.held()
	events := o.sock.events(o.Events)
	switch {
	case cancelled && !(events != 0 && f.chance(f.cfg.CancelRace)):
		done[0] = o.completion(-int32(syscall.ECANCELED), true, true)
	case events == 0 || !cancelled && f.chance(f.cfg.LateRecv):
		return 0
	case f.chance(f.cfg.NoMemory):
		done[0] = o.completion(-int32(syscall.ENOMEM), true, true)
	default:
		done[0] = o.completion(events, true, true)
	}
	return 1
}

// acceptErrors are failures of accept4(2) after which the listener lives on.
var acceptErrors = [...]syscall.Errno{
	syscall.EMFILE, syscall.ENFILE, syscall.ECONNABORTED, syscall.ENOBUFS, syscall.ENOMEM,
}
