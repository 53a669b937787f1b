package looptest

import (
	"cmp"
	"log/slog"
	"runtime"
	"testing"

	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// Main is [testutil.Main] for tests that run loops: one that waits keeps its P, so some
// are left to the tests.
func Main(m *testing.M) {
	runtime.GOMAXPROCS(max(8, runtime.GOMAXPROCS(0)))
	testutil.Main(m)
}

// Engines runs a test on each real engine. The default is one loop.
func Engines(t *testing.T, cfg reactor.Config, test func(t *testing.T, g *reactor.Group)) {
	t.Helper()
	cfg.Loops = max(1, cfg.Loops)
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	for _, kind := range []reactor.EngineKind{reactor.Uring, reactor.Epoll} {
		t.Run(kind.String(), func(t *testing.T) {
			cfg.Engine = kind
			g, err := reactor.Start(cfg)
			if kind == reactor.Uring {
				testutil.SkipIfKernelOlder(t, "6.1", "io_uring", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() {
				if err := g.Close(); err != nil {
					t.Error(err)
				}
			}()
			test(t, g)
		})
	}
}
