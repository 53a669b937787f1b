package conn

import (
	"log/slog"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/reactor"
)

// TestAcceptGoesOn holds that a listener arms again when a kernel ends an
// accept, be it with a connection or with an error, and misses nobody.
func TestAcceptGoesOn(t *testing.T) {
	for _, faults := range []aiotest.Config{{FinalAccept: 1}, {AcceptError: 0.5}, {FinalAccept: 0.5, AcceptError: 0.3}} {
		small, _ := buf.NewPool(buf.Config{BlockSize: reactor.SmallBlock})
		bulk, _ := buf.NewPool(buf.Config{})
		fake := aiotest.NewFake(1, small, faults)
		now := time.Duration(0)
		l := reactor.NewLoop(reactor.LoopConfig{Engine: fake, Small: small, Bulk: bulk,
			Clock: func() time.Duration { return now }, Logger: slog.New(slog.DiscardHandler)})
		cfg, err := Config{}.Check()
		if err != nil {
			t.Fatal(err)
		}
		fd, far := fake.Listen()
		opened := 0
		a := &acceptor{listener: &Listener{}, fd: int(fd)}
		a.start(l, cfg, newHooks(&Funcs{Open: func(*Conn) { opened++ }}))
		const most = 20
		for range most {
			far.Dial()
		}
		for range 20 * most { // Each step of the back-off has passed by the next turn.
			if err := l.Turn(0); err != nil {
				t.Fatal(err)
			}
			now += backoffMost
		}
		if opened != most || a.accepted.Load() != most {
			t.Errorf("%+v: %d connections of %d were served, %d counted", faults, opened, most, a.accepted.Load())
		}
	}
}

// TestLimitWakes gives a place back between the moment at which a loop sees none
// and that at which it waits for one: it is granted all the same.
func TestLimitWakes(t *testing.T) {
	small, _ := buf.NewPool(buf.Config{BlockSize: reactor.SmallBlock})
	loop := reactor.NewLoop(reactor.LoopConfig{Engine: aiotest.NewFake(1, small, aiotest.Config{}), Small: small, Bulk: small})
	l, err := NewConnLimit(1)
	if err != nil {
		t.Fatal(err)
	}
	a := &acceptor{listener: &Listener{limit: l}, remote: loop.Remote(), loop: loop}
	if !l.take(a) {
		t.Fatal("no place at first")
	}
	l.mu.Lock()
	took := make(chan bool)
	go func() { took <- l.take(a) }()
	time.Sleep(20 * time.Millisecond) // It has seen no place by now, or it gets the one below at once.
	l.give()
	l.mu.Unlock()
	if !<-took && (l.waiting.Load() != 0 || l.Used() != 1) {
		t.Errorf("%d wait, %d places of 1 are used", l.waiting.Load(), l.Used())
	}
}

// receives is an engine that notes how it is asked to receive.
type receives struct {
	aio.Engine
	flags []aio.Flags
}

func (r *receives) Submit(op *aio.Op) {
	if op.Kind == aio.Recv {
		r.flags = append(r.flags, op.Flags)
	}
	r.Engine.Submit(op)
}

// TestUnixReceivesOnce holds that no receive of a unix socket stays armed: small
// blocks one at a time while little comes, and large ones while much does:
// what the kernels that lose the end of file of others show at times only.
func TestUnixReceivesOnce(t *testing.T) {
	small, _ := buf.NewPool(buf.Config{BlockSize: reactor.SmallBlock})
	bulk, _ := buf.NewPool(buf.Config{BlockSize: reactor.BulkBlock})
	fake := aiotest.NewFake(1, small, aiotest.Config{Bulk: bulk})
	e := &receives{Engine: fake}
	loop := reactor.NewLoop(reactor.LoopConfig{Engine: e, Small: small, Bulk: bulk})
	cfg, err := Config{}.Check()
	if err != nil {
		t.Fatal(err)
	}
	ended := false
	h := newHost(loop, cfg, newHooks(&Funcs{Close: func(*Conn, error) { ended = true }}))
	h.unix = true
	fd, peer := fake.Open()
	h.open(int(fd), nil, nil)
	turns := func(n int) {
		for range n {
			if err := loop.Turn(0); err != nil {
				t.Fatal(err)
			}
		}
	}
	turns(5)
	for _, n := range []int{10, 10, 100_000, 50_000, 50_000, 50_000, 10, 10, 10, 10, 10, 10, 10, 10, 10, 10} {
		peer.Feed(make([]byte, n))
		turns(20)
	}
	peer.Close()
	turns(20)
	last := aio.Flags(0)
	changes := 0
	for i, f := range e.flags {
		if f&aio.Once == 0 || f&aio.Multishot != 0 {
			t.Errorf("receive %d has flags %b", i, f)
		}
		if f &= aio.Once | aio.Bulk; f != last {
			last = f
			changes++
		}
	}
	if len(e.flags) < 15 || changes != 3 || !ended {
		t.Errorf("%d receives, %d changes of kind, ended: %v", len(e.flags), changes, ended)
	}
}
