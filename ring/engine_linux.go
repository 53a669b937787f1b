//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"errors"
	"fmt"
	"math/bits"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/internal/sys"
	"github.com/penstock-go/penstock/internal/table"
	"golang.org/x/sys/unix"
)

// Kinds of our own, beside those of aio, in the four bits that user data has for them.
const (
	kindRecvWide aio.Kind = aio.Poll + 1 + iota // the batch is an index into wideRecvs.list
	kindSendOpt                                 // the batch is an index into optimisticSends.list
	kindRecall                                  // the cancel of a send that is not optimistic, whose batch it has
	kindRoom                                    // the poll of a send that is held
	kindWake
	kindAlarm

	// kindIgnore is in the user data of an entry that nobody has set: a cancel, a close
	// and the like, which have no completion and are answered only when they fail.
	kindIgnore aio.Kind = 0
)

const _ = 1<<4 - 1 - kindAlarm // It does not compile when they are too many.

const (
	engineMaxOut = 64 // elements of Op.Out
	// flushAttempts bounds how often Submit tries to make room. A kernel that
	// takes nothing that often has no memory, and the operation fails instead.
	flushAttempts = 16
)

// engineNeeds is what an Engine cannot do without.
const engineNeeds = featNoDrop | featSubmitStable | featFastPoll | featCQESkip |
	featAcceptMultishot | featBufferRing | featRecvMultishot

// Engine is io_uring behind [aio.Engine].
//
// Small sends are optimistic: they are decided while they are submitted, and
// the kernel says nothing when all was taken, so that a send neither ends the
// wait nor costs an answer. Received bytes arrive in blocks of the pools, through
// a ring of provided buffers for each, or several blocks at once.
//
// Thread: that of aio.Engine; the kernel enforces it.
type Engine struct {
	ring  *Ring
	caps  aio.Caps
	stats aio.Stats
	wake  waker
	recv  [recvGroups]recvBuffers
	wide  wideRecvs
	limit uint32 // of receives with aio.Multishot; 0: the kernel has none, and they are as if without
	sends optimisticSends
	polls polls
	alarm alarm
	arena arena // message headers of sends that are not submitted yet

	rooms  rooms
	served []uint64 // user data of multishot polls that have told what they were for
	missed []uint64 // user data of sends that a cancel has not found

	slots table.Table[slot] // by Token.Slot

	inflight int  // operations that owe a final completion
	lent     int  // those of them that owe only the notification of a zero-copy send
	prompt   bool // a send that is not submitted yet must not wait for an event
	woken    bool // this Wait has seen a wake
	rung     bool // the alarm has, and no Wait has ended for it
	overflow bool // the kernel had to keep completions, and still does
	err      error

	answers answers
}

// slot is what the engine remembers of a party, in twelve bytes.
type slot struct {
	fd    int32  // of its last send that was not optimistic
	batch uint16 // of that send, and whether it is unanswered
	fed   bool   // it received bytes since it starved last
	group uint8  // of its last receive
	empty bool   // which emptied the socket

	recalled bool // the send is to be cancelled
	plain    bool // the next is to be one with a copy: see sendAnswered
}

// unanswered is set in slot.batch until the first completion of that send.
const unanswered = aio.BatchMask + 1

var _ aio.Engine = (*Engine)(nil)

func (c EngineConfig) check() (EngineConfig, error) {
	if c.Pool == nil {
		return c, errors.New("ring: an engine needs a pool")
	}
	if c.Small == nil {
		c.Small = c.Pool
	}
	if c.Entries == 0 {
		c.Entries = DefaultEngineEntries
	}
	if c.RecvBuffers == 0 {
		c.RecvBuffers = DefaultRecvBuffers
	}
	if c.RecvBuffers < 1 || c.RecvBuffers > maxBufRing || bits.OnesCount(uint(c.RecvBuffers)) != 1 {
		return c, fmt.Errorf("ring: %d receive buffers are no power of two up to %d", c.RecvBuffers, maxBufRing)
	}
	return c, nil
}

// NewEngine opens an engine on the calling thread, which then owns it.
//
// Errors: as of New; an *UnavailableError also when the kernel lacks what the
// engine cannot do without (see the package documentation).
func NewEngine(cfg EngineConfig) (*Engine, error) {
	cfg, err := cfg.check()
	if err != nil {
		return nil, err
	}
	e := &Engine{wake: waker{fd: -1}, alarm: alarm{began: time.Now()}}
	if err := e.open(cfg); err != nil {
		return nil, errors.Join(err, e.shut())
	}
	return e, nil
}

func (e *Engine) open(cfg EngineConfig) (err error) {
	if err = e.openRing(cfg); err != nil {
		return err
	}
	if e.arena, err = newArena(); err != nil {
		return err
	}
	e.wide.pool = cfg.Pool
	if err := e.wake.open(); err != nil {
		return err
	}
	e.ring.enters = 0 // those of the probe
	e.setCaps()
	e.armWake()
	return nil
}

// openRing makes the ring and its buffer rings, as long as locked memory lets them be.
func (e *Engine) openRing(cfg EngineConfig) (err error) {
	rc := Config{Entries: cfg.Entries, CQEntries: cfg.CQEntries, Hide: cfg.Hide}
	for last := false; ; {
		if e.ring, err = New(rc); err != nil {
			e.ring = nil
			return err
		}
		if lacks := engineNeeds &^ e.ring.have; lacks != 0 {
			return missing(lacks)
		}
		if err = e.recv[small].open(e.ring, small, cfg.Small, smallFirst, cfg); err == nil && cfg.Small != cfg.Pool {
			err = e.recv[bulk].open(e.ring, bulk, cfg.Pool, bulkFirst, cfg)
		}
		if last || !errors.Is(err, unix.ENOMEM) {
			return err
		}
		// The ring itself may have used up the locked memory: a smaller one leaves
		// some for the buffer rings. Or it is on its way back from rings that were closed.
		n := uint32(e.ring.Entries())
		e.recv[small].close()
		_ = e.ring.Close()
		rc.Entries, rc.CQEntries = max(n/2, min(n, MinEntries)), 0
		if last = n <= MinEntries; last {
			time.Sleep(memlockWaitLast)
		}
	}
}

func (e *Engine) setCaps() {
	have := e.ring.have
	// Where nobody is told of copies, nobody can stop paying for both.
	const zc = featSendZC | featSendmsgZC | featSendZCReportUsage
	if have&featRecvMultishotLimit != 0 {
		e.limit = uint32((aio.MultishotBlocks-1)*e.wide.pool.BlockSize() + 1) // The last block may be full.
	}
	e.caps = aio.Caps{Engine: "uring", ZeroCopy: have&zc == zc, MaxOut: engineMaxOut, Features: have.list()}
}

// Caps implements aio.Engine.
func (e *Engine) Caps() aio.Caps { return e.caps }

// Stats implements aio.Engine. Completed counts optimistic sends too, for which
// the kernel's silence is the answer.
func (e *Engine) Stats() aio.Stats {
	s := e.stats
	if e.ring != nil {
		s.Enters = e.ring.enters
	}
	return s
}

// Wake implements aio.Engine.
//
// Thread: any, also during and after Close.
func (e *Engine) Wake() { e.wake.wake() }

// Submit implements aio.Engine. An entry is queued and leaves with the next
// Wait, or earlier when the submission queue is full.
func (e *Engine) Submit(op *aio.Op) {
	switch op.Kind {
	case aio.Send:
		e.submitSend(op)
	case aio.Recv:
		e.submitRecv(op)
	case aio.Accept:
		s := e.entry()
		if s == nil {
			e.refuse(op.Token, op.Kind, 0)
			return
		}
		s.PrepAcceptMultishot(op.FD, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		s.UserData = op.Token.Pack(aio.Accept, 0)
		e.inflight++
	case aio.Poll:
		e.submitPoll(op)
	case aio.Cancel:
		e.submitCancel(op)
	case aio.Close:
		s := e.entry()
		if s == nil {
			_ = unix.Close(int(op.FD))
			return
		}
		s.PrepClose(op.FD)
		s.Flags = SQECQESkipSuccess
	case aio.Shutdown: // A system call: the ring would give it to a worker thread.
		_ = unix.Shutdown(int(op.FD), unix.SHUT_WR)
	case aio.Reset:
		_ = sys.Reset(int(op.FD))
	case aio.Forget: // The ring knows descriptors only by the operations in flight.
	}
}

// submitCancel looks at no result but that of recall: it differs between kernels, and
// the operation's own final completion tells all.
func (e *Engine) submitCancel(op *aio.Op) {
	batch := uint16(0)
	switch op.Target {
	case aio.Recv:
		batch = uint16(e.slots.At(op.Token.Slot).group)
		if batch == several {
			e.cancelWide(op.Token)
			return
		}
		if e.recv[batch].unstarve(op.Token) {
			e.answers.add(op.Token, aio.Recv, batch, -int32(unix.ECANCELED))
			return
		}
	case aio.Send:
		if e.cancelHeld(op.Token) {
			return
		}
		e.slots.At(op.Token.Slot).recalled = true
		// At most one send of a party is without its first completion, and
		// optimistic ones never are when a cancel could find them.
		e.recall(op.Token.Pack(aio.Send, e.slots.At(op.Token.Slot).batch&aio.BatchMask))
		return
	case aio.Poll:
		batch = e.cancelPoll(op.Token)
	}
	e.cancelData(op.Token.Pack(op.Target, batch))
}

// cancelData cancels what has this user data.
func (e *Engine) cancelData(data uint64) {
	if s := e.entry(); s != nil {
		s.PrepCancel(data, 0)
		s.Flags = SQECQESkipSuccess
	}
}

// entry returns the next free entry, after a flush if it must be, or nil.
func (e *Engine) entry() *SQE {
	for range flushAttempts {
		if s := e.ring.SQE(); s != nil {
			return s
		}
		e.flush()
	}
	return nil
}

// flush submits without waiting. What it learns is kept for the next Wait.
func (e *Engine) flush() {
	e.enter(false, 0)
	if e.ring.Pending() > 0 {
		// The kernel takes nothing while it cannot put answers anywhere.
		e.spill()
	}
	e.stashSends()
}

// refuse fails an operation that the kernel will never see.
func (e *Engine) refuse(t aio.Token, k aio.Kind, batch uint16) {
	e.answers.add(t, k, batch, -int32(unix.ENOMEM))
}
