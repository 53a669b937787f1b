package looptest

import (
	"flag"
	"fmt"
	"runtime/debug"
	"testing"

	"github.com/penstock-go/penstock/internal/invariants"
)

var (
	seed  = flag.Uint64("sim.seed", 0, "replay the simulation of this one seed")
	seeds = flag.Uint64("sim.seeds", 0, "how many seeds to simulate; 0: as many as each test has, at most 300 with -short, 60 with the race detector")
)

// Replaying reports whether one seed alone is simulated, so that what many show
// together is not to be seen.
func Replaying() bool { return *seed != 0 }

// Seeds runs fn for each of so many seeds, and names the one that fails. It runs beside other simulations, behind all tests that measure.
func Seeds(t *testing.T, n uint64, fn func(t *testing.T, seed uint64)) {
	t.Helper()
	if Replaying() {
		fn(t, *seed)
		return
	}
	t.Parallel()
	switch {
	case *seeds > 0:
		n = *seeds
	case invariants.Enabled:
		n = min(n, 60)
	case testing.Short():
		n = min(n, 300)
	}
	for i := range n {
		ok := t.Run(fmt.Sprintf("seed=%d", i+1), func(t *testing.T) {
			defer func() {
				if v := recover(); v != nil {
					t.Fatalf("panic: %v\n%s", v, debug.Stack())
				}
			}()
			fn(t, i+1)
		})
		if !ok {
			t.Fatalf("replay: -run '^%s$' -sim.seed=%d", t.Name(), i+1)
		}
	}
}
