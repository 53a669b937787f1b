package fallback

import (
	"errors"

	"github.com/penstock-go/penstock/buf"
)

// ErrNotSupported says that this system has no epoll.
var ErrNotSupported = errors.New("fallback: epoll needs Linux")

// Defaults of [Config].
const (
	DefaultBatch      = 32
	DefaultBatchBytes = 32 << 10
	DefaultEvents     = 256
)

// Config shapes an [Engine].
type Config struct {
	// Pool is where received bytes go when much is expected (aio.Bulk). Required.
	//
	// Ownership: it stays the caller's, who closes it after the engine.
	Pool *buf.Pool
	// Small is the same for all other receives. Default Pool.
	Small *buf.Pool
	// Batch is the most completions of Recv and Accept that one Wait tells, so
	// that their bytes are still in the cache when they are handled. Default 32. The
	// blocks of the last receive come whole (aio.WideBlocks).
	Batch int
	// BatchBytes ends the batch of a Wait when that many bytes were received.
	// The last receive comes whole, which may be 256 KiB. Default 32 KiB, so that what
	// was received has gone out again before it leaves the cache.
	BatchBytes int
	// Events is how many descriptors one epoll_wait(2) can report. Default 256.
	Events int
}

func (c Config) withDefaults() (Config, error) {
	if c.Batch == 0 {
		c.Batch = DefaultBatch
	}
	if c.BatchBytes == 0 {
		c.BatchBytes = DefaultBatchBytes
	}
	if c.Events == 0 {
		c.Events = DefaultEvents
	}
	if c.Small == nil {
		c.Small = c.Pool
	}
	switch {
	case c.Pool == nil:
		return c, errors.New("fallback: no pool")
	case c.Batch < 0 || c.BatchBytes < 0 || c.Events < 0 || c.Events > 1<<20:
		return c, errors.New("fallback: a limit is negative or absurd")
	}
	return c, nil
}
