// Package aio is the vocabulary between a loop and the engine that serves it:
// operations in, completions out. It holds no system call and no goroutine.
//
// One law holds for every operation and every engine. The first completion of
// an operation tells its result and ends its turn; the final one, which may be
// the same, says that nothing more will come for it and gives its bytes back.
// Plain and zero-copy sends, multishot receives and accepts, io_uring and epoll
// all speak this law, so that the code above has one path.
//
// The package is the seam of the house. It is public so that an engine can be
// tested from outside, and it is not stable before version 1.
package aio

import (
	"syscall"
	"time"

	"github.com/penstock-go/penstock/buf"
)

// Kind names an operation.
type Kind uint8

// The operations.
const (
	// Accept takes connections from the listening FD until it ends: each
	// completion has a descriptor (non-blocking, close-on-exec) in Res, the
	// final one may have a negative errno instead.
	Accept Kind = iota + 1
	// Recv receives until it ends, into small blocks, or once if Once or Bulk is
	// set, into a small block or large ones, or again with Multishot: each completion has its bytes in In. Res 0
	// is the peer's end of file. A completion with Final set may also carry
	// bytes: then the party re-arms by another Recv. Out of buffers is
	// -ENOBUFS and Final: the party re-arms, and the engine waits with it
	// until enough buffers are back.
	Recv
	// Send sends Out in order. Res is what the kernel took, from 0 to all of
	// it; less than all says that the socket is full, and the rest is sent by
	// another Send with PollFirst. One Send a token may be without its first
	// completion.
	Send
	// Cancel ends the operation Target of Token. It has no completion; the
	// operation ends by its own final one, with -ECANCELED or with whatever
	// overtook the cancel. Cancelling what is not there does nothing.
	Cancel
	// Close closes FD, when every other operation on it is home. It has no
	// completion.
	Close
	// Shutdown sends FIN behind what was sent on FD: shutdown(2) with SHUT_WR.
	// It is performed in Submit and has no completion.
	Shutdown
	// Reset resets the connection of FD and drops what the kernel has queued
	// for it, so that what zero-copy sends lend comes back. It is performed in
	// Submit and has no completion; other operations on FD end soon.
	Reset
	// Forget leaves FD to somebody else, open as it is, when every other operation
	// on it is home: nothing of the engine stays with it. It is performed in
	// Submit and has no completion.
	Forget
	// Poll waits until FD has one of Events, as poll(2) does. It has exactly one
	// completion, First and Final: Res is what there is of Events, with POLLERR,
	// POLLHUP and POLLRDHUP as they come, or a negative errno. It is
	// level-triggered: what is there already completes it at once, and a file
	// that knows no readiness, such as a regular one, is always ready. FD may be
	// anything that poll(2) takes, in any mode, and one Poll a token may be in
	// flight beside its Accept, Recv and Send: whether it then sees bytes that the
	// Recv takes is open. A descriptor is polled for one token at a time. Whoever
	// closes FD by other means than Close cancels the Poll before, and waits for
	// its completion.
	Poll
)

// String returns the verb of the man page.
func (k Kind) String() string {
	switch k {
	case Accept:
		return "accept"
	case Recv:
		return "recv"
	case Send:
		return "send"
	case Cancel:
		return "cancel"
	case Close:
		return "close"
	case Shutdown:
		return "shutdown"
	case Reset:
		return "reset"
	case Forget:
		return "forget"
	case Poll:
		return "poll"
	}
	return "none"
}

// Flags modify an Op.
type Flags uint8

// The flags. All but Bulk, Once, Wide and Multishot concern Send.
const (
	// PollFirst says that the socket was full a moment ago: the engine waits
	// for room before it tries.
	PollFirst Flags = 1 << iota
	// Prompt says that somebody waits for the completion, so it must not stay
	// with the engine until another event ends the wait.
	Prompt
	// ZeroCopy asks the kernel to send from the bytes themselves: the first
	// completion tells the result, a later final one gives the bytes back.
	// An engine without Caps.ZeroCopy ignores it.
	ZeroCopy
	// Bulk concerns Recv: much is expected, so the bytes may come in large
	// blocks, and what has come once ends the Recv: a completion for each block,
	// and the last is final. It is one block, so that a party that stops reading
	// has no more to keep, or up to WideBlocks with Wide; without the flag it is
	// what the engine had received before it saw the Cancel.
	Bulk
	// Once concerns Recv: the first completion is the final one, as with Bulk,
	// and the bytes come in a small block, or with Bulk as that says. A unix socket
	// is received from in no other way, since io_uring may lose the end of file of
	// one whose receive stays armed (liburing#1549), and since recv(2) stops behind
	// bytes that descriptors came with, which looks like an empty socket.
	Once
	// Wide concerns Recv with Bulk: it may bring up to WideBlocks at once.
	Wide
	// Multishot concerns Recv with Bulk alone: it may stay armed, as one without Bulk
	// does, and ends by itself whenever the engine likes: on epoll with the first block,
	// as nothing is gained by more. Behind its Cancel come no more bytes than
	// MultishotBlocks blocks hold.
	Multishot
)

const (
	// WideBlocks is how many blocks a Recv with Wide brings at the most.
	WideBlocks = 4
	// MultishotBlocks is how many blocks would hold what a Recv with Multishot brings
	// behind its Cancel at the most, in how many pieces whatever.
	MultishotBlocks = 2
)

// Token names the party that waits for an operation. A token whose generation
// has passed names nobody, so that a late completion reaches no stranger.
type Token struct {
	Slot uint32 // below 1<<SlotBits
	Gen  uint32 // below 1<<GenBits
}

// Widths of the fields that Pack puts into 64 bits.
const (
	SlotBits  = 26 // parties a loop
	GenBits   = 22 // uses of a slot before its numbers come again
	batchBits = 12
	kindBits  = 4

	// BatchMask keeps the bits of Op.Batch that come back in a Completion.
	BatchMask = 1<<batchBits - 1
)

// Pack returns the 64 bits that stand for an operation in the kernel: never a
// pointer, never a descriptor. batch is taken modulo 4096, which BatchMask does.
func (t Token) Pack(k Kind, batch uint16) uint64 {
	return uint64(t.Slot)<<(64-SlotBits) | uint64(t.Gen&(1<<GenBits-1))<<(batchBits+kindBits) |
		uint64(batch&BatchMask)<<kindBits | uint64(k)
}

// Unpack is the inverse of Pack.
func Unpack(data uint64) (t Token, k Kind, batch uint16) {
	t = Token{Slot: uint32(data >> (64 - SlotBits)), Gen: uint32(data>>(batchBits+kindBits)) & (1<<GenBits - 1)}
	return t, Kind(data & (1<<kindBits - 1)), uint16(data>>kindBits) & BatchMask
}

// Op is one request to the kernel.
//
// Ownership: the Op itself is lent to Submit until it returns. Out, the slice,
// belongs to the engine until the first completion; the bytes in it until the
// final one.
type Op struct {
	Token  Token
	Kind   Kind
	Target Kind // Cancel: what to cancel
	Flags  Flags
	Batch  uint16 // Send: comes back in each completion, modulo 4096
	FD     int32
	Out    [][]byte // Send: no element is empty, at most Caps.MaxOut of them
	Events uint32   // Poll: of POLLIN, POLLPRI, POLLOUT and POLLRDHUP
}

// Completion is one answer.
type Completion struct {
	Token  Token
	Kind   Kind
	First  bool // Res is a result; for Send also: its turn is over. Recv and Accept set it each time
	Final  bool // nothing more will come for this operation; its bytes are back
	Copied bool // Send: the kernel copied what it was asked to send without a copy
	Batch  uint16
	Res    int32   // bytes, a descriptor, events, or a negative errno
	In     buf.Buf // Recv: the right passes to whoever reads the Completion
}

// Set makes c the first answer to an operation of t, without bytes. It is for engines,
// and goes field by field: a literal would be built elsewhere, and copied in larger words
// than it was written in, for which the processor waits.
func (c *Completion) Set(t Token, kind Kind, res int32, final bool) {
	c.Token, c.Kind, c.Res = t, kind, res
	c.First, c.Final, c.Copied, c.Batch = true, final, false, 0
	c.In = buf.Buf{}
}

// Lost returns the last completion of an operation that was cancelled. first is for a
// Send: it has had none yet.
func Lost(t Token, kind Kind, batch uint16, first bool) Completion {
	return Completion{Token: t, Kind: kind, Batch: batch, First: first, Final: true, Res: -int32(syscall.ECANCELED)}
}

// Err returns the failure, or nil.
func (c *Completion) Err() error {
	if c.Res >= 0 {
		return nil
	}
	return syscall.Errno(-c.Res)
}

// Caps says what an engine can do beyond the contract: data, not methods.
type Caps struct {
	Engine    string // "uring", "epoll" or "fake"
	ZeroCopy  bool   // Send honours the flag, and Completion.Copied says when it did not help
	Immediate bool   // Submit performs a Send at once: a Try does the same, without a completion
	MaxOut    int    // elements of Op.Out
	Features  []Feature
}

// Feature is one thing a kernel may or may not have.
type Feature struct {
	Name   string // as in the man page, lower case: "multishot_recv"
	Have   bool
	Kernel string // the first release that has it
}

// Stats counts what an engine did since it was opened.
type Stats struct {
	Enters    uint64 // system calls that submit or wait
	Submitted uint64 // operations handed to the kernel by Submit; a Try is in neither
	Completed uint64 // answers read from the kernel
	Starved   uint64 // receives that found no buffer
	Overflows uint64 // times the completion queue was full
	Wakes     uint64 // waits that Wake ended
}

// Engine performs I/O for one loop.
//
// Thread: the goroutine that opened the engine, locked to its thread, calls
// every method but Wake.
type Engine interface {
	// Submit queues op, or performs it at once. It cannot fail: a failure
	// comes back as a Completion, from Wait, never from inside Submit.
	Submit(op *Op)
	// Try sends what the kernel takes of op right now, without waiting, and
	// returns the bytes taken (0 when the socket is full) or a negative errno.
	// No completion follows. The party has no other Send in flight.
	Try(op *Op) int
	// Wait hands what is queued to the kernel and fills done, waiting up to d
	// for the first completion; d < 0 waits without end, 0 not at all. It
	// returns early, perhaps with none, when Wake is called. Completions of
	// Send come before others of the same call.
	// A d above 0 is kept in mind: when something came before it was over, then of
	// the Waits without end that follow one ends with none, about when it is over or
	// before, unless another d above 0 takes its place. So whoever has said once how
	// long may go on without end, and looks at no clock until a Wait ends with none.
	Wait(done []Completion, d time.Duration) (n int, err error)
	// Wake makes the present or the next Wait return. Any goroutine may call it, also
	// behind Close, where it does nothing.
	Wake()
	// Caps returns the same each time.
	Caps() Caps
	// Stats returns the counters so far.
	Stats() Stats
	// Close gives back all the engine holds. Operations still in flight end
	// without a completion; the descriptors they name stay open, those whose
	// Close was submitted are closed.
	Close() error
}
