package reactor

import "github.com/penstock-go/penstock/aio"

// Info says what a group runs on, or what a host gives.
type Info struct {
	Engine   string        // "uring" or "epoll"; "" when the host gives neither
	Reason   string        // why this engine, in one line; names the cure when it is not io_uring
	Loops    int           // 0 in the answer of Probe
	Kernel   string        // release, as uname -r prints it; never decided upon
	CPUs     int           // that this process may use
	NoFile   uint64        // limit on descriptors (RLIMIT_NOFILE, soft)
	MemLock  uint64        // limit on locked memory in bytes (RLIMIT_MEMLOCK, soft)
	Features []aio.Feature // of io_uring, in use or missing; none on a platform that the ring is not written for
}
