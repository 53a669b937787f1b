package aiotest

import (
	"runtime"
	"testing"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
)

// Block size and most blocks of the pool that TestEngine gives to an engine.
const (
	blockSize = 4 << 10
	mostBytes = 16 << 20
	// fewBytes is the pool of the cases about running out.
	fewBytes = 16 * blockSize
)

// conformanceCase is one thing that every engine must do.
type conformanceCase struct {
	name string
	run  func(r *rig)
	few  bool // with a pool of fewBytes
	tcp  bool // not on socket pairs, which know no reset
	wide bool // also with receives of several blocks, at once and one behind the other
}

var conformance = []conformanceCase{
	{name: "order of bytes", run: caseOrder, wide: true},
	{name: "short send and its rest", run: caseShortSend},
	{name: "most elements", run: caseMaxOut},
	{name: "one byte a send", run: caseOneByte},
	{name: "zero copy", run: caseZeroCopy},
	{name: "prompt send", run: casePrompt},
	{name: "try", run: caseTry},
	{name: "immediate send", run: caseImmediate},
	{name: "cancel of a send", run: caseCancelSend},
	{name: "send after the peer went", run: caseSendToNobody},
	{name: "bytes before the end of file", run: caseEOF, wide: true},
	{name: "one block at a time", run: caseRecvOnce},
	{name: "some blocks at a time", run: caseRecvWide},
	{name: "one block behind the other", run: caseRecvMultishot, tcp: true},
	{name: "half-close", run: caseHalfClose, wide: true},
	{name: "reset", run: caseReset, tcp: true, wide: true},
	{name: "pause loses nothing", run: casePause, wide: true},
	{name: "cancel of nothing", run: caseCancelNothing, wide: true},
	{name: "out of buffers", run: caseOutOfBuffers, few: true, wide: true},
	{name: "starved among many", run: caseStarvedMany, few: true, wide: true},
	{name: "starved behind the idle", run: caseStarvedIdle, few: true, wide: true},
	{name: "fair", run: caseFair, wide: true},
	{name: "done of length one", run: caseDoneOne, wide: true},
	{name: "many at once", run: caseMany, wide: true},
	{name: "wake", run: caseWake},
	{name: "many wakes", run: caseManyWakes},
	{name: "timeout", run: caseTimeout},
	{name: "ends of waits", run: caseWaitEnds},
	{name: "an end that is kept in mind", run: caseWaitKept},
	{name: "close with operations in flight", run: caseCloseInFlight, wide: true},
	{name: "close of the engine", run: caseCloseEngine, wide: true},
	{name: "forget", run: caseForget, wide: true},
	{name: "a slot used again", run: caseSlotAgain, wide: true},
	{name: "accept", run: caseAccept},
	{name: "accept without descriptors", run: caseAcceptNoFD},
	{name: "cancel of accept", run: caseCancelAccept},
	{name: "poll", run: casePoll},
	{name: "poll of a half-closed connection", run: casePollHalfClosed},
	{name: "poll beside a receive and a send", run: casePollBeside, wide: true},
	{name: "cancel of a poll", run: casePollCancel},
	{name: "poll of a dead connection", run: casePollReset, tcp: true},
	{name: "poll of a listener", run: casePollListener},
	{name: "poll of other descriptors", run: casePollOthers},
	{name: "poll of a connect", run: casePollConnect},
	{name: "close of the engine under polls", run: casePollClose},
	{name: "script", run: caseScript},
	{name: "script with few blocks", run: caseScript, few: true},
}

// TestEngine runs the conformance suite. It calls open for every case, on a
// goroutine locked to its thread, and closes what open returned. A [Fake] is
// run on its own sockets, every other engine on socket pairs and on TCP over
// loopback.
//
// Ownership: the pool that open is given stays the suite's.
func TestEngine(t *testing.T, open func(tb testing.TB, pool *buf.Pool) aio.Engine) {
	nets := networks()
	if isFake(t, open) {
		nets = []network{fakeNet{}}
	}
	for _, n := range nets {
		for _, c := range conformance {
			if c.tcp && n.name() == "unix" {
				continue
			}
			t.Run(n.name()+"/"+c.name, func(t *testing.T) { runCase(t, c, n, 0, open) })
			if c.wide {
				t.Run(n.name()+"/"+c.name+", wide", func(t *testing.T) { runCase(t, c, n, aio.Bulk|aio.Wide, open) })
			}
			if c.wide && n.name() != "unix" {
				t.Run(n.name()+"/"+c.name+", multishot", func(t *testing.T) { runCase(t, c, n, aio.Bulk|aio.Multishot, open) })
			}
		}
	}
}

func isFake(t *testing.T, open func(tb testing.TB, pool *buf.Pool) aio.Engine) (is bool) {
	t.Helper()
	withEngine(t, mostBytes, open, func(e aio.Engine, _ *buf.Pool) {
		_, is = e.(*Fake)
		if err := e.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	return is
}

func runCase(t *testing.T, c conformanceCase, n network, asks aio.Flags, open func(tb testing.TB, pool *buf.Pool) aio.Engine) {
	limit := mostBytes
	if c.few {
		limit = fewBytes
	}
	withEngine(t, limit, open, func(e aio.Engine, pool *buf.Pool) {
		if f, ok := e.(*Fake); ok {
			n = fakeNet{f}
		}
		r := newRig(t, e, pool, n)
		r.asks = asks
		c.run(r)
		r.end()
	})
}

// withEngine calls f on a locked thread. After a failed case the pool is left
// alone: what is wrong with it was reported, and somebody may still write to it.
func withEngine(t *testing.T, limit int, open func(tb testing.TB, pool *buf.Pool) aio.Engine, f func(aio.Engine, *buf.Pool)) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pool, err := buf.NewPool(buf.Config{BlockSize: blockSize, SlabBlocks: 16, MaxBytes: limit})
	if err != nil {
		t.Fatal(err)
	}
	f(open(t, pool), pool)
	if !t.Failed() {
		pool.Close()
	}
}
