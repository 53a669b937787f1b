package fallback

import (
	"errors"
	"fmt"

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

const eventsMax = 1 << 20

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
	// Events is how many descriptors one epoll_wait(2) can report. Default 256, at
	// most 1048576.
	Events int
}

func (c Config) check() (Config, error) {
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
		return c, errors.New("fallback: an engine needs a pool")
	case c.Batch < 0 || c.BatchBytes < 0:
		return c, fmt.Errorf("fallback: a batch of %d completions or %d bytes", c.Batch, c.BatchBytes)
	case c.Events < 0 || c.Events > eventsMax:
		return c, fmt.Errorf("fallback: %d events at once: it is from 1 to %d", c.Events, eventsMax)
	}
	return c, nil
}
