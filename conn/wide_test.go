package conn_test

import (
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// mostAtOnce is what a receive of several blocks brings at the most, mostBehind what one
// that stays armed brings behind its cancel.
const (
	mostAtOnce = aio.WideBlocks * reactor.BulkBlock
	mostBehind = aio.MultishotBlocks * reactor.BulkBlock
)

// TestWide holds when a receive may bring several blocks: while the peer fills
// them, and only if so much fits into whatever may stop reading.
func TestWide(t *testing.T) {
	plenty := marks(1<<20, 0, 1<<20)
	tight := marks(mostAtOnce-1, 0, 1<<20)
	kept := plenty
	kept.RecvLimit = mostAtOnce - 1
	short := plenty
	short.Budget = conn.NewBudget(2*mostAtOnce-1, conn.BudgetReject)
	ample := plenty
	ample.Budget = conn.NewBudget(2*mostAtOnce, conn.BudgetReject)
	for _, tc := range []struct {
		name  string
		cfg   conn.Config
		with  func(c *conn.Conn)
		piece int
		want  bool
	}{
		{"much", plenty, nil, 1 << 20, true},
		{"blocks", plenty, nil, reactor.BulkBlock, true},
		{"less than a block", plenty, nil, reactor.BulkBlock - 1, false},
		{"marks", tight, nil, 1 << 20, false},
		{"RecvLimit", kept, nil, 1 << 20, false},
		{"little budget", short, nil, 1 << 20, false},
		{"budget", ample, nil, 1 << 20, true},
		{"bridge", plenty, func(c *conn.Conn) { _, _ = c.NetConn() }, 1 << 20, false},
	} {
		t.Run(name("%s", tc.name), func(t *testing.T) {
			r := newRig(t, 1<<20, tc.cfg, nil)
			wide := false
			r.calls.onRecv = func(op *aio.Op) { wide = wide || op.Flags&aio.Wide != 0 }
			if tc.with != nil {
				r.do(tc.with)
			}
			for range 4 {
				r.peer.Feed(make([]byte, tc.piece))
				r.Turns(8)
			}
			if wide != tc.want {
				t.Errorf("wide receives: %v, want %v", wide, tc.want)
			}
			r.c.Abort()
			r.Settle("close", r.isClosed)
			r.Finish()
		})
	}
}

// TestWideUntilFull holds that an echo whose peer stops reading keeps no more than one
// block behind its queue, however much a receive had brought before.
func TestWideUntilFull(t *testing.T) {
	const high = 5 * reactor.BulkBlock
	cfg := marks(high, 0, high)
	cfg.PauseOnFull = true
	r := newRig(t, 2*mostAtOnce, cfg, func(r *rig) {
		r.onData = func(c *conn.Conn, in *buf.Buf) { c.Send(in) }
	})
	wide := 0
	r.calls.onRecv = func(op *aio.Op) {
		if op.Flags&aio.Wide != 0 {
			if wide++; r.c.Pending()+mostAtOnce > high {
				t.Errorf("a wide receive with %d bytes pending", r.c.Pending())
			}
		}
	}
	r.peer.Feed(make([]byte, 4<<20))
	r.Turns(50)
	if wide == 0 || !r.c.ReadPaused() {
		t.Errorf("%d wide receives, paused: %v", wide, r.c.ReadPaused())
	}
	if n := r.Bulk.InUse(); n > high/reactor.BulkBlock+2 {
		t.Errorf("%d large blocks are held with marks of %d", n, high/reactor.BulkBlock)
	}
	r.peer.AutoRead(true)
	r.Settle("the echo", func() bool { return len(r.peer.Received()) == 4<<20 })
	r.gone()
}

// TestWideNoLonger holds that a receive of several blocks that waits is taken back
// when the queue has no room for them any more.
func TestWideNoLonger(t *testing.T) {
	const high = 8 * reactor.BulkBlock
	cfg := marks(high, 0, high)
	cfg.PauseOnFull = true
	r := newRig(t, 1<<20, cfg, nil)
	wide := false
	r.calls.onRecv = func(op *aio.Op) { wide = op.Flags&aio.Wide != 0 }
	r.peer.Feed(make([]byte, 1<<20))
	r.Turns(30)
	if !wide {
		t.Error("no wide receive waits")
	}
	r.stuff()
	r.do(func(*conn.Conn) { _ = r.write(high - 1) })
	r.Turns(3)
	if wide {
		t.Error("a wide receive waits beside a queue that is all but full")
	}
	r.gone()
}

// TestWidePause holds that who pauses in OnData is received from block by block then, so
// that it has one block to keep each time but the first.
func TestWidePause(t *testing.T) {
	r := newRig(t, 1<<20, marks(1<<20, 0, 1<<20), nil)
	r.peer.Feed(make([]byte, 1<<20))
	r.Turns(30)
	r.onData = func(c *conn.Conn, _ *buf.Buf) { c.PauseRead() }
	wide := false
	for i := range 10 {
		r.peer.Feed(make([]byte, 1<<20))
		r.Turns(8)
		if i == 0 { // The receive that waited was for several.
			r.calls.onRecv = func(op *aio.Op) { wide = wide || op.Flags&aio.Wide != 0 }
		}
		for r.Bulk.InUse() > 1 && i == 0 {
			r.do(func(c *conn.Conn) { c.ResumeRead() })
			r.Turns(2)
		}
		if n := r.Bulk.InUse(); n > 1 {
			t.Errorf("%d blocks are kept in pause %d", n, i)
		}
		r.do(func(c *conn.Conn) { c.ResumeRead() })
	}
	if wide {
		t.Error("a receive for several blocks behind a pause")
	}
	r.c.Abort()
	r.Settle("close", r.isClosed)
	r.Finish()
}

// TestMultishot holds when a receive of much stays armed: behind enough receives
// without a pause, and only if so much fits into whatever may stop reading.
func TestMultishot(t *testing.T) {
	plenty := marks(1<<20, 0, 1<<20)
	kept := plenty
	kept.RecvLimit = mostAtOnce - 1
	short := plenty
	short.Budget = conn.NewBudget(2*mostAtOnce-1, conn.BudgetReject)
	pause := func(r *rig) {
		r.onData = func(c *conn.Conn, _ *buf.Buf) { c.PauseRead() }
	}
	bridge := func(r *rig) { r.do(func(c *conn.Conn) { _, _ = c.NetConn() }) }
	for _, tc := range []struct {
		name  string
		cfg   conn.Config
		with  func(*rig)
		piece int
		want  bool
	}{
		{"much", plenty, nil, reactor.SmallBlock, true},
		{"little", plenty, nil, reactor.SmallBlock - 1, false},
		{"marks", marks(mostAtOnce-1, 0, 1<<20), nil, reactor.SmallBlock, false},
		{"RecvLimit", kept, nil, reactor.SmallBlock, false},
		{"little budget", short, nil, reactor.SmallBlock, false},
		{"pauses", plenty, pause, reactor.SmallBlock, false},
		{"bridge", plenty, bridge, reactor.SmallBlock, false},
	} {
		t.Run(name("%s", tc.name), func(t *testing.T) {
			r := newRig(t, 1<<20, tc.cfg, nil)
			if tc.with != nil {
				tc.with(r)
			}
			armed := false
			r.calls.onRecv = func(op *aio.Op) { armed = armed || op.Flags&aio.Multishot != 0 }
			for range 40 {
				r.peer.Feed(make([]byte, tc.piece))
				r.Turns(4)
				r.do(func(c *conn.Conn) { c.ResumeRead() })
			}
			if armed != tc.want {
				t.Errorf("a receive that stays armed: %v, want %v", armed, tc.want)
			}
			r.c.Abort()
			r.Settle("close", r.isClosed)
			r.Finish()
		})
	}
}

// TestMultishotRarely holds that a receive that stays armed is not taken back at each
// message when the answers leave no room for it.
func TestMultishotRarely(t *testing.T) {
	heard := 0
	answer := make([]byte, mostAtOnce-mostBehind+1)
	r := newRig(t, 1<<20, marks(mostAtOnce, 0, 1<<20), func(r *rig) {
		r.onData = func(c *conn.Conn, _ *buf.Buf) {
			if heard++; heard%2 == 0 {
				_, _ = c.Write(answer)
			}
		}
	})
	armed := 0
	r.calls.onRecv = func(op *aio.Op) {
		if op.Flags&aio.Multishot != 0 {
			armed++
		}
	}
	r.peer.AutoRead(true)
	const messages = 100
	for range messages {
		r.peer.Feed(make([]byte, 2*reactor.SmallBlock))
		r.Turns(6)
	}
	if armed == 0 || armed > messages/4 {
		t.Errorf("%d times armed to stay so in %d messages", armed, messages)
	}
	r.gone()
}

// TestMultishotNoLonger holds that a receive of much that stays armed is taken back when
// the peer sends little, when it fills blocks, and when the queue has no room for much.
func TestMultishotNoLonger(t *testing.T) {
	const high = 8 * reactor.BulkBlock
	for _, tc := range []struct {
		name string
		then func(*rig)
		want aio.Flags
	}{
		{"little", func(r *rig) {
			for range 10 {
				r.peer.Feed(make([]byte, 1))
				r.Turns(4)
			}
		}, 0},
		{"full blocks", func(r *rig) {
			for range 4 {
				r.peer.Feed(make([]byte, reactor.BulkBlock))
				r.Turns(4)
			}
		}, aio.Bulk | aio.Wide},
		{"a queue all but full", func(r *rig) {
			r.stuff()
			r.do(func(*conn.Conn) { _ = r.write(high - 1) })
			r.Turns(4)
		}, aio.Bulk},
	} {
		t.Run(name("%s", tc.name), func(t *testing.T) {
			cfg := marks(high, 0, high)
			cfg.PauseOnFull = true
			r := newRig(t, 1<<20, cfg, nil)
			how := aio.Flags(0)
			r.calls.onRecv = func(op *aio.Op) { how = op.Flags }
			for range 20 {
				r.peer.Feed(make([]byte, reactor.SmallBlock))
				r.Turns(4)
			}
			if how != aio.Bulk|aio.Multishot {
				t.Errorf("received with flags %#x", how)
			}
			if tc.then(r); how != tc.want {
				t.Errorf("received with flags %#x behind that, want %#x", how, tc.want)
			}
			r.gone()
		})
	}
}

// TestWidePipe holds that a Pipe receives no more at once than fits the far queue, nor by
// a receive that stays armed.
func TestWidePipe(t *testing.T) {
	for _, tc := range []struct {
		high, piece int
		flag        aio.Flags
		want        bool
	}{
		{2 * mostAtOnce, mostAtOnce, aio.Wide, true},
		{mostAtOnce - 1, mostAtOnce, aio.Wide, false},
		{2 * mostAtOnce, reactor.SmallBlock, aio.Multishot, true},
		{mostAtOnce - 1, reactor.SmallBlock, aio.Multishot, false},
	} {
		a := newRig(t, 1<<20, marks(1<<20, 0, 1<<20), nil)
		cfg := marks(tc.high, 0, tc.high)
		cfg.CloseTimeout = time.Hour
		b := a.second(cfg, nil)
		b.peer.AutoRead(true)
		seen := false
		a.calls.onRecv = func(op *aio.Op) { seen = seen || op.Flags&tc.flag != 0 }
		a.do(func(c *conn.Conn) {
			if _, err := conn.Pipe(c, b.c, conn.PipeConfig{}); err != nil {
				t.Fatal(err)
			}
		})
		const pieces = 20
		for range pieces {
			a.peer.Feed(make([]byte, tc.piece))
			a.Turns(4)
		}
		a.Settle("all bytes", func() bool { return len(b.peer.Received()) == pieces*tc.piece })
		if seen != tc.want {
			t.Errorf("receives with flag %#x of %d bytes into a queue of %d: %v, want %v", tc.flag, tc.piece, tc.high, seen, tc.want)
		}
		a.c.Abort()
		b.c.Abort()
		a.Settle("close", func() bool { return a.isClosed() && b.isClosed() })
		a.Finish()
	}
}
