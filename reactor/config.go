package reactor

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
)

// EngineKind names an engine in a Config.
type EngineKind uint8

// The engines.
const (
	// Auto takes io_uring where the host gives it, else epoll.
	Auto EngineKind = iota
	// Uring takes io_uring or fails.
	Uring
	// Epoll takes epoll.
	Epoll
)

// ParseEngine returns the engine of that name: auto, uring or epoll.
func ParseEngine(name string) (EngineKind, error) {
	for k := Auto; k <= Epoll; k++ {
		if k.String() == name {
			return k, nil
		}
	}
	return Auto, fmt.Errorf("reactor: unknown engine %q: it is auto, uring or epoll", name)
}

// String returns the name of the engine.
func (k EngineKind) String() string {
	switch k {
	case Auto:
		return "auto"
	case Uring:
		return "uring"
	case Epoll:
		return "epoll"
	}
	return "unknown"
}

// Sizes of the two pools of a loop.
const (
	SmallBlock = 4 << 10
	BulkBlock  = 64 << 10
)

// Config shapes a Group. The zero value works.
type Config struct {
	// Loops is the number of loops. Default 0: one for each CPU that this
	// process may use, by its affinity and its cgroup quota.
	Loops int
	// Pin ties each loop's thread to one of those CPUs.
	Pin bool
	// Engine is the engine to use. Default Auto.
	Engine EngineKind
	// Logger hears of the engine that was chosen, of warnings at the start and
	// of handlers that panic. Default slog.Default().
	Logger *slog.Logger
	// PoolBytes bounds the memory of each loop's two pools together, in bytes:
	// what is received and not yet handled, and what is queued by copy. At the
	// bound receiving waits and sends by copy are refused. Default 0: no bound
	// but the connections' own. At least 16 MiB. The pools grow by slabs of 256 KiB
	// and 4 MiB, and the last of each may be begun below the bound.
	PoolBytes int
	// Spin is how long a loop that has nothing to do looks again and again
	// before it sleeps. It shortens the answer to a message that comes in that
	// time by the wake of a thread, some microseconds, and costs a CPU for as
	// long: a loop whose messages come within Spin of one another never sleeps.
	// Default 0: it sleeps at once. At most 10 ms; 30 to 50 µs is usual.
	Spin time.Duration
	// Workers is how many goroutines of the group may be busy with Loop.Work, and
	// so with conn.Conn.Go, at once. What comes beyond waits for its turn. Default
	// 64. Such work blocks as a rule: when it computes, see GOMAXPROCS.
	Workers int
	// OnStart runs once on each loop before Start returns, and so before anything
	// can listen or connect there: the place for what a loop has of its own, such
	// as its periodic timers, its watches, its share of a cache. It runs on one
	// loop after the other, in the order of their IDs. If it returns an error, or
	// panics, Start ends the loops that run already and returns that error; the
	// loop's own OnStop and OnEnd do not run then.
	OnStart func(l *Loop) error
	// OnStop runs once on each loop when Shutdown or Close asks it to end, before
	// its listeners and connections hear of it, so a last word can be sent. It
	// does not run on a loop that fails.
	OnStop func(l *Loop)
	// OnEnd runs once on each loop, last: the last OnClose has returned, and no
	// post, timer, watch or deferred function runs any more. It is there to give
	// back what OnStart has opened, also when the loop fails.
	OnEnd func(l *Loop)
	// NewEngine makes the engine of a loop instead of Engine; for tests.
	NewEngine func(small, bulk *buf.Pool) (aio.Engine, error)
}

// minPoolBytes holds a receive ring and something to send.
const minPoolBytes = 16 << 20

func (c Config) check() (Config, error) {
	switch {
	case c.Loops < 0 || c.Loops > 1024:
		return c, fmt.Errorf("reactor: %d loops: it is from 0, one a CPU, to 1024", c.Loops)
	case c.Engine > Epoll:
		return c, fmt.Errorf("reactor: unknown engine %d", c.Engine)
	case c.Spin < 0 || c.Spin > 10*time.Millisecond:
		return c, fmt.Errorf("reactor: a spin of %v: it is from 0 to 10ms", c.Spin)
	case c.Workers < 0:
		return c, fmt.Errorf("reactor: %d workers: it is from 0, which stands for %d", c.Workers, DefaultWorkers)
	case c.PoolBytes != 0 && c.PoolBytes < minPoolBytes:
		return c, fmt.Errorf("reactor: a pool of %d bytes is below the least of %d", c.PoolBytes, minPoolBytes)
	}
	if c.Loops == 0 {
		c.Loops = CPUs()
	}
	if c.Workers == 0 {
		c.Workers = DefaultWorkers
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// pools makes the two pools of a loop.
func (c Config) pools() (small, bulk *buf.Pool, err error) {
	small, err = buf.NewPool(buf.Config{BlockSize: SmallBlock, SlabBlocks: 64, MaxBytes: c.PoolBytes / 4})
	if err != nil {
		return nil, nil, err
	}
	bulk, err = buf.NewPool(buf.Config{BlockSize: BulkBlock, SlabBlocks: 64, MaxBytes: c.PoolBytes / 4 * 3})
	return small, bulk, err
}
