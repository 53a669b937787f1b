package conn

import (
	"log/slog"
	"testing"
	"time"

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
		a := &acceptor{fd: int(fd)}
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
