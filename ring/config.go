package ring

import "github.com/penstock-go/penstock/buf"

// Sizes of a ring, in entries.
const (
	DefaultEntries = 256
	MinEntries     = 64 // New goes down to this when locked memory is short
)

// Config shapes a [Ring]. The zero value works.
type Config struct {
	// Entries is the length of the submission queue. Default 256, at most
	// 32768; the kernel rounds up to a power of two. Under a tight
	// RLIMIT_MEMLOCK the ring may get fewer, down to the smaller of this and
	// MinEntries. Cost: about 150 bytes each, with the default CQEntries.
	Entries uint32
	// CQEntries is the length of the completion queue. Default 4 x Entries, at
	// least Entries and at most 131072; the kernel rounds up to a power of two.
	CQEntries uint32
	// Hide names features to behave without, as if the kernel were older. It
	// is there for tests; an unknown name is an error.
	Hide []string
}

// Defaults of [EngineConfig].
const (
	DefaultEngineEntries = 1024
	DefaultRecvBuffers   = 512
)

// EngineConfig shapes an [Engine]. Only Pool must be set.
type EngineConfig struct {
	// Pool is where received bytes go when much is expected (aio.Bulk); it
	// belongs to the same loop, and must outlive the engine. Its block is the
	// most one receive brings.
	Pool *buf.Pool
	// Small is the same for all other receives. Default Pool.
	Small *buf.Pool
	// Entries is the length of the submission queue. Default 1024, and
	// otherwise as in Config.
	Entries uint32
	// CQEntries is the length of the completion queue. Default 4 x Entries.
	CQEntries uint32
	// RecvBuffers is the most blocks of each pool that wait in the kernel for
	// data. Default 512, a power of two up to 32768. The engine begins with 64
	// of Small and, once they are asked for, 16 of Pool, and doubles when
	// receives starve, so that a quiet loop touches little memory.
	RecvBuffers int
	// Hide is as in Config.
	Hide []string
}
