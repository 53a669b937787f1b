package conn_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// waitFor turns the loop until ok, which other goroutines bring about.
func (r *rig) waitFor(what string, ok func() bool) {
	r.T.Helper()
	for deadline := time.Now().Add(testutil.Timeout(20 * time.Second)); !ok(); {
		if time.Now().After(deadline) {
			r.T.Fatalf("%s: not in time", what)
		}
		r.Turn()
		time.Sleep(10 * time.Microsecond)
	}
}

// waiters starts goroutines that write n bytes each and wait for room, one behind
// the other, and returns where their answers go.
func (r *rig) waiters(ctx context.Context, count, n int) (answers chan error, done func() []int) {
	r.T.Helper()
	answers = make(chan error, count)
	var mu sync.Mutex
	var order []int
	ref := r.c.Ref()
	for i := range count {
		began := make(chan struct{})
		go func() {
			close(began)
			err := ref.WriteBlock(ctx, numbered(i, n))
			mu.Lock()
			order = append(order, i)
			mu.Unlock()
			answers <- err
		}()
		<-began
		r.waitFor("a waiter more", func() bool { return conn.Waiting(ref) == i+1 })
	}
	return answers, func() []int {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(order)
	}
}

// TestWriteBlock holds that goroutines wait for room, that each has its turn in
// the order of the calls, and that pending stays within the limit.
func TestWriteBlock(t *testing.T) {
	r := newRig(t, 64, marks(100, 0, 100), nil)
	r.stuff()
	_ = r.write(100)
	answers, done := r.waiters(t.Context(), 6, 60)
	if s := r.c.Ref().Write([]byte("x")); s != conn.Rejected {
		t.Errorf("who does not wait: %v", s)
	}
	r.Turns(20)
	if n := len(done()); n > 0 {
		t.Fatalf("%d went ahead without room", n)
	}
	for r.c.Pending() > 0 || len(answers) < 6 {
		if n := r.c.Pending(); n > 160-1 {
			t.Fatalf("%d bytes pending", n)
		}
		if n := r.peer.Waiting(); n > 0 {
			r.peer.Read(make([]byte, min(n, 16)))
		}
		r.Turn()
	}
	for range 6 {
		if err := <-answers; err != nil {
			t.Error(err)
		}
	}
	r.gone()
	if got := numbers(t, r.peer.Received()[164:]); !slices.Equal(got, []int{0, 1, 2, 3, 4, 5}) {
		t.Errorf("the peer got %v", got)
	}
}

// TestWriteBlockEnds holds what ends the wait: the close in each way, the context,
// a higher limit, and a budget that has room again.
func TestWriteBlockEnds(t *testing.T) {
	var cancel context.CancelFunc
	for what, tc := range map[string]struct {
		end  func(r *rig)
		want error
	}{
		"close":       {func(r *rig) { r.c.Close() }, conn.ErrClosed},
		"close write": {func(r *rig) { r.c.CloseWrite() }, conn.ErrClosed},
		"abort":       {func(r *rig) { r.c.Abort() }, conn.ErrClosed},
		"reset":       {func(r *rig) { r.peer.Reset() }, conn.ErrClosed},
		"ref":         {func(r *rig) { r.c.Ref().Close() }, conn.ErrClosed},
		"panic":       {func(r *rig) { r.c.Ref().Do(func(*conn.Conn) { panic("x") }) }, conn.ErrClosed},
		"context":     {func(*rig) { cancel() }, context.Canceled},
		"limit":       {func(r *rig) { _ = r.c.SetMarks(conn.Marks{High: 1000, Limit: 1000}) }, nil},
		"room":        {func(r *rig) { r.peer.AutoRead(true) }, nil},
	} {
		r := newRig(t, 64, marks(100, 0, 100), nil)
		r.stuff()
		_ = r.write(100)
		var ctx context.Context
		ctx, cancel = context.WithCancel(t.Context())
		answers, _ := r.waiters(ctx, 3, 8)
		before := r.c.Stats()
		tc.end(r)
		r.waitFor(what, func() bool { return len(answers) == 3 })
		for range 3 {
			if err := <-answers; !errors.Is(err, tc.want) || tc.want == nil && err != nil {
				t.Errorf("%s: %v", what, err)
			}
		}
		if tc.want == conn.ErrClosed {
			if s := r.c.Stats(); s.AfterClose != before.AfterClose+3 || s.LateBytes != before.LateBytes+24 {
				t.Errorf("%s: %+v", what, s)
			}
		}
		if n := conn.Waiting(r.c.Ref()); n != 0 {
			t.Errorf("%s: %d still wait", what, n)
		}
		cancel()
		r.gone()
	}
}

// TestWriteBlockInBudget has goroutines of two connections wait for a budget that a
// third has used up: both go on when it has room again.
func TestWriteBlockInBudget(t *testing.T) {
	p := newPurse(t, 1000, conn.BudgetReject, 3, marks(2000, 0, 2000))
	_ = p.all[2].write(1500)
	one, _ := p.all[0].waiters(t.Context(), 2, 100)
	two, _ := p.all[1].waiters(t.Context(), 2, 100)
	p.Turns(10)
	if len(one)+len(two) > 0 {
		t.Fatal("went ahead without a budget")
	}
	p.all[2].c.Abort()
	p.waitFor("room", func() bool { return len(one) == 2 && len(two) == 2 })
	for range 2 {
		if a, b := <-one, <-two; a != nil || b != nil {
			t.Errorf("%v, %v", a, b)
		}
	}
	p.Settle("close", p.all[2].isClosed)
	p.want(400)
	p.end()
}

// TestWriteBlockAnswers holds what needs no wait.
func TestWriteBlockAnswers(t *testing.T) {
	r := newRig(t, 64, marks(100, 0, 100), nil)
	r.stuff()
	ref := r.c.Ref()
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if err := ref.WriteBlock(over, []byte("x")); !errors.Is(err, context.Canceled) || ref.Pending() != 0 {
		t.Errorf("a context that is done: %v, %d pending", err, ref.Pending())
	}
	for _, n := range []int{0, 50, 5000} {
		if err := ref.WriteBlock(t.Context(), make([]byte, n)); err != nil {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if err := ref.WriteBlock(t.Context(), nil); err != nil {
		t.Errorf("nothing, to a full queue: %v", err)
	}
	r.c.Abort()
	if err := ref.WriteBlock(t.Context(), []byte("x")); !errors.Is(err, conn.ErrClosed) {
		t.Errorf("after the end: %v", err)
	}
	r.Settle("close", r.isClosed)
	if err := ref.WriteBlock(t.Context(), []byte("x")); !errors.Is(err, conn.ErrClosed) {
		t.Errorf("to one that has gone: %v", err)
	}
	r.Finish()
}

// TestPolicyBlock holds that with Block every way through a Ref waits, and that
// the loop is refused.
func TestPolicyBlock(t *testing.T) {
	for _, m := range carriers {
		cfg := marks(100, 0, 100)
		cfg.SlowPeer = conn.Block
		r := newRig(t, 64, cfg, nil)
		r.stuff()
		_ = r.write(100)
		if !m.ref {
			if s := m.send(r.c, numbered(0, 8)); s != conn.Rejected {
				t.Errorf("%s: %v", m.name, s)
			}
			r.gone()
			continue
		}
		ref, answer := r.c.Ref(), make(chan conn.Status, 1)
		go func() { answer <- m.send(r.c, numbered(0, 8)) }() // Only the gate of c is touched.
		r.waitFor("wait", func() bool { return conn.Waiting(ref) == 1 })
		r.peer.AutoRead(true)
		r.waitFor("room", func() bool { return len(answer) == 1 })
		if s := <-answer; s > conn.Full {
			t.Errorf("%s: %v", m.name, s)
		}
		r.gone()
		if got := numbers(t, r.peer.Received()[164:]); len(got) != 1 {
			t.Errorf("%s: the peer got %v", m.name, got)
		}
	}
}

// TestLoopDoesNotWait holds that a loop that would wait is told so, its own and
// another: it would wait for itself.
func TestLoopDoesNotWait(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		opens := make(chan *conn.Conn, 1)
		l := listen(t, g, &conn.Funcs{Open: func(c *conn.Conn) { opens <- c }},
			conn.Config{HighWater: 1000, SlowPeer: conn.Block, SendBuffer: 4096})
		peer := dial(t, l)
		defer peer.Close()
		c := <-opens
		refs := make(chan conn.Ref, 1)
		if !g.Loop(c.Loop().ID()).Post(func(*reactor.Loop) { refs <- c.Ref() }) {
			t.Fatal("the loop has ended")
		}
		ref := <-refs
		if err := ref.WriteBlock(t.Context(), make([]byte, 8<<20)); err != nil {
			t.Fatal(err)
		}
		for i := range 2 {
			type answer struct {
				err    error
				status conn.Status
			}
			answers := make(chan answer, 1)
			g.Loop(i).Post(func(*reactor.Loop) {
				answers <- answer{ref.WriteBlock(context.Background(), []byte("x")), ref.Write([]byte("x"))}
			})
			select {
			case a := <-answers:
				if !errors.Is(a.err, conn.ErrWouldBlock) || a.status != conn.Rejected {
					t.Errorf("loop %d: %v, %v", i, a.err, a.status)
				}
			case <-time.After(testutil.Timeout(10 * time.Second)):
				t.Fatalf("loop %d waits", i)
			}
		}
	})
}

// TestZeroRef holds that a Ref that names nobody answers so, and does no harm.
func TestZeroRef(t *testing.T) {
	var ref conn.Ref
	shared := buf.NewShared([]byte("x"))
	for name, s := range map[string]conn.Status{
		"Write": ref.Write([]byte("x")), "Writev": ref.Writev([][]byte{{1}}), "SendShared": ref.SendShared(shared),
		"SendBytes": ref.SendBytes([]byte("x"), func() { t.Error("told") }),
	} {
		if s != conn.Closed {
			t.Errorf("%s: %v", name, s)
		}
	}
	if shared.Release(); shared.Bytes() != nil {
		t.Error("a count was kept")
	}
	if err := ref.WriteBlock(t.Context(), nil); !errors.Is(err, conn.ErrClosed) {
		t.Error(err)
	}
	ref.Close()
	ref.CloseWrite()
	ref.Abort()
	messages, bytes := ref.AfterClose()
	if ref.Do(func(*conn.Conn) { t.Error("ran") }) || ref.ID() != 0 || ref.Pending() != 0 || messages+bytes != 0 {
		t.Error("the zero Ref names somebody")
	}
}

// TestRefEnds holds the three ways to end a connection through a Ref, their order
// with the rest, that the harder one wins, and that none fills the mailbox.
func TestRefEnds(t *testing.T) {
	for what, tc := range map[string]struct {
		end   func(ref conn.Ref)
		reset bool
	}{
		"close":              {func(ref conn.Ref) { ref.Close() }, false},
		"close write":        {func(ref conn.Ref) { ref.CloseWrite() }, false},
		"close write, close": {func(ref conn.Ref) { ref.CloseWrite(); ref.Close(); ref.CloseWrite() }, false},
		"abort":              {func(ref conn.Ref) { ref.Abort() }, true},
		"close, abort":       {func(ref conn.Ref) { ref.Close(); ref.Abort(); ref.Close() }, true},
		"a hundred thousand": {func(ref conn.Ref) {
			for range 100000 {
				ref.CloseWrite()
				ref.Close()
				ref.Abort()
			}
		}, true},
		"abort behind the close": {func(ref conn.Ref) { ref.Do(func(c *conn.Conn) { c.Close() }); ref.Abort() }, true},
	} {
		r := newRig(t, 1<<20, marks(1000, 0, 1000), nil)
		ref := r.c.Ref()
		ref.Write([]byte("before"))
		tc.end(ref)
		if s := ref.Write([]byte("behind")); s != conn.Closed {
			t.Errorf("%s: a write behind it: %v", what, s)
		}
		if n := conn.Mail(ref); n > 4 {
			t.Errorf("%s: %d things in the mailbox", what, n)
		}
		r.Turns(5)
		if !tc.reset {
			r.peer.CloseWrite()
		}
		r.Settle("close", r.isClosed)
		if r.peer.WasReset() != tc.reset || !tc.reset && string(r.peer.ReadAll()) != "before" {
			t.Errorf("%s: reset: %v", what, r.peer.WasReset())
		}
		if messages, bytes := ref.AfterClose(); messages != 1 || bytes != 6 {
			t.Errorf("%s: %d messages of %d bytes after the close", what, messages, bytes)
		}
		r.Finish()
	}
}

// TestFlood has eight goroutines write to one connection in every way while it
// closes: nothing reaches the connections that take its slot, nothing is left, and
// every byte was sent, lost, dropped, rejected or too late. It is defect 1 of gnet
// too (peers 1d): what was queued for a connection that has gone goes with it.
func TestFlood(t *testing.T) {
	for _, policy := range []conn.Policy{conn.Reject, conn.DropOldest, conn.Block} {
		looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
			for range 5 {
				flood(t, g, policy)
			}
		})
	}
}

func flood(t *testing.T, g *reactor.Group, policy conn.Policy) {
	b := conn.NewBudget(64<<10, conn.BudgetReject)
	refs, ends := make(chan conn.Ref, 16), make(chan conn.Stats, 16)
	l := listen(t, g, &conn.Funcs{
		Open:  func(c *conn.Conn) { refs <- c.Ref() },
		Close: func(c *conn.Conn, _ error) { ends <- c.Stats() },
	}, conn.Config{HighWater: 8 << 10, SlowPeer: policy, SendBuffer: 8 << 10, Budget: b})
	defer l.Close()
	peer := dial(t, l)
	defer peer.Close()
	ref := <-refs
	var answers [4]atomic.Int64 // bytes by Status
	var late, told, lends atomic.Int64
	var stop atomic.Bool
	var wg sync.WaitGroup
	shared := buf.NewShared(make([]byte, 700))
	for w := range 8 {
		wg.Go(func() {
			p := make([]byte, 100+w)
			for i := w; !stop.Load(); i++ {
				s, n := conn.Closed, len(p)
				switch i % 4 {
				case 0:
					s = ref.Write(p)
				case 1:
					s, n = ref.SendShared(shared), shared.Len()
				case 2:
					if s = ref.SendBytes(p, func() { told.Add(1) }); s <= conn.Full {
						lends.Add(1)
					}
				case 3:
					if err := ref.WriteBlock(context.Background(), p); err == nil {
						s = conn.Queued
					}
				}
				if answers[s].Add(int64(n)); s == conn.Closed {
					late.Add(1)
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	go func() { // The peer reads for a while.
		p := make([]byte, 64<<10)
		for range 50 {
			if _, err := peer.Read(p); err != nil {
				return
			}
		}
	}()
	time.Sleep(2 * time.Millisecond)
	ref.Abort()
	s := <-ends
	heirs := make([]chan int, 4)
	for i := range heirs { // They get the slot.
		heir := dial(t, l)
		heirs[i] = make(chan int)
		go func() {
			_ = heir.CloseWrite()
			n, _ := heir.Read(make([]byte, 10))
			_ = heir.Close()
			heirs[i] <- n
		}()
	}
	for _, heir := range heirs {
		if n := <-heir; n != 0 {
			t.Errorf("%d bytes reached another connection", n)
		}
	}
	stop.Store(true)
	wg.Wait()
	if shared.Release(); shared.Bytes() != nil {
		t.Error("a count was not given back")
	}
	taken := uint64(answers[conn.Queued].Load() + answers[conn.Full].Load())
	messages, bytes := ref.AfterClose()
	if taken != s.BytesOut+s.LostBytes+s.DroppedBytes || uint64(answers[conn.Rejected].Load()) != s.RejectedBytes {
		t.Errorf("policy %d: taken %d and rejected %d bytes; %+v", policy, taken, answers[conn.Rejected].Load(), s)
	}
	if int64(messages) != late.Load() || int64(bytes) != answers[conn.Closed].Load() {
		t.Errorf("policy %d: %d messages of %d bytes were too late; counted are %d of %d", policy, late.Load(), answers[conn.Closed].Load(), messages, bytes)
	}
	if told.Load() != lends.Load() {
		t.Errorf("policy %d: %d lends and %d dones", policy, lends.Load(), told.Load())
	}
	testutil.Eventually(t, 5*time.Second, "the budget", func() bool { return b.Stats().Total == 0 })
}
