package reactor

import (
	"errors"
	"log/slog"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/internal/testutil"
)

// owed is a party that ends when all that it has with the engine is home, and closes
// its socket then.
type owed struct {
	sink
	loop     *Loop
	token    aio.Token
	fd, peer int
	armed    bool
	finals   int
	stopping bool
	reason   any
}

func (o *owed) Complete(l *Loop, c *aio.Completion) {
	if c.Final {
		o.armed = false
		o.finals++
	}
	if c.Res != -int32(syscall.ECANCELED) {
		panic(c.Err())
	}
	o.leave()
}

func (o *owed) leave() {
	if o.stopping && !o.armed {
		o.loop.Submit(&aio.Op{Token: o.token, Kind: aio.Close, FD: int32(o.fd)})
		o.loop.Detach(o.token)
	}
}

func (o *owed) Stop(l *Loop, hard bool) {
	if !o.stopping {
		o.stopping = true
		l.Submit(&aio.Op{Token: o.token, Kind: aio.Reset, FD: int32(o.fd)})
		o.leave()
	}
}

func (o *owed) Panicked(_ *Loop, value any) { o.reason = value }

func (o *owed) InFlight(list []aio.Completion) []aio.Completion {
	if o.armed {
		list = append(list, aio.Lost(o.token, aio.Recv, 0, true))
	}
	return list
}

// attachOwed puts parties on l, each with a receive in flight.
func attachOwed(l *Loop, n int) (all []*owed) {
	for range n {
		fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			panic(err)
		}
		o := &owed{loop: l, fd: fds[0], peer: fds[1], armed: true}
		o.token = l.Attach(o)
		l.Submit(&aio.Op{Token: o.token, Kind: aio.Recv, FD: int32(o.fd)})
		all = append(all, o)
	}
	return all
}

// TestFailedLoopIsSalvaged: when the engine fails, and when a handler ends the
// goroutine, each operation in flight has its final completion once, each party is
// stopped, what was posted is run, and descriptors and blocks are back.
func TestFailedLoopIsSalvaged(t *testing.T) {
	for engine, open := range map[string]opener{"uring": openUring, "epoll": openEpoll} {
		for _, exits := range []bool{false, true} {
			t.Run(engine, func(t *testing.T) {
				var first *failing
				g, err := Start(Config{Loops: 2, Logger: slog.New(slog.DiscardHandler), NewEngine: func(small, bulk *buf.Pool) (aio.Engine, error) {
					e, err := open(small, bulk)
					if err == nil && first == nil {
						first = &failing{Engine: e}
						return first, nil
					}
					return e, err
				}})
				if engine == "uring" {
					testutil.SkipIfKernelOlder(t, "6.1", "io_uring", err)
				}
				if err != nil {
					t.Fatal(err)
				}
				salvage(t, g, first, exits)
			})
		}
	}
}

func salvage(t *testing.T, g *Group, first *failing, exits bool) {
	var all []*owed
	attached := make(chan struct{})
	g.Loop(0).Post(func(l *Loop) {
		all = attachOwed(l, 2*batch+1)
		close(attached)
	})
	<-attached
	posted := false
	var small, bulk *buf.Pool
	g.Loop(0).Post(func(l *Loop) {
		small, bulk = l.small, l.bulk
		l.Post(func(*Loop) { posted = true })
		if l.As(all[0]); exits {
			runtime.Goexit()
		}
		first.fails = true
	})
	<-g.Done()
	want := errBroken
	if exits {
		want = errGoexit
	}
	if err := g.Close(); !errors.Is(err, want) {
		t.Errorf("Close = %v, want %v", err, want)
	}
	if !posted {
		t.Error("what was posted was not run")
	}
	for i, o := range all {
		if o.finals != 1 || !o.stopping || o.armed {
			t.Fatalf("party %d: %d finals, stopping %v", i, o.finals, o.stopping)
		}
		if n, err := unix.Read(o.peer, make([]byte, 1)); n != 0 || err != nil && err != unix.ECONNRESET {
			t.Fatalf("the peer of party %d reads %d, %v", i, n, err)
		}
		_ = unix.Close(o.peer)
	}
	if why := all[0].reason; exits != (why == errGoexit) {
		t.Errorf("the one that failed was told %v", why)
	}
	if n := small.InUse() + bulk.InUse(); n != 0 {
		t.Errorf("%d blocks are not home", n)
	}
}
