package reactor

import (
	"errors"
	"runtime"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/fallback"
	"github.com/penstock-go/penstock/ring"
)

// This is the one file that knows the engines by name.

// selfTest is what io_uring can really do here. It is found out once a process.
var selfTest = sync.OnceValues(func() (features []aio.Feature, err error) {
	done := make(chan struct{})
	go func() { // A ring belongs to the thread that made it: this one is thrown away.
		defer close(done)
		runtime.LockOSThread()
		features, err = ring.SelfTest(ring.Config{})
	}()
	<-done
	return features, err
})

// choose returns what opens the engines, and why it was chosen.
func choose(cfg Config) (opener, Info, error) {
	info := host()
	if cfg.NewEngine != nil {
		info.Engine, info.Reason = "custom", "Config.NewEngine"
		return cfg.NewEngine, info, nil
	}
	if cfg.Engine == Epoll {
		info.Engine, info.Reason = "epoll", "asked for"
		return openEpoll, info, nil
	}
	_, err := selfTest()
	switch {
	case err == nil && cfg.Engine == Uring:
		info.Engine, info.Reason = "uring", "asked for"
		return openUring, info, nil
	case err == nil:
		info.Engine, info.Reason = "uring", "io_uring passed its self-test"
		return openUring, info, nil
	case cfg.Engine == Uring || ranOut(err) && !unavailable(err):
		return nil, info, err
	}
	info.Engine, info.Reason = "epoll", err.Error()
	return openEpoll, info, nil
}

// unavailable reports whether err says that the host does not give io_uring.
func unavailable(err error) bool { return errors.Is(err, ring.ErrUnavailable) }

// ranOut reports whether err says that something was missing that epoll needs as well.
func ranOut(err error) bool {
	return errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ENOMEM)
}

func openUring(small, bulk *buf.Pool) (aio.Engine, error) {
	return ring.NewEngine(ring.EngineConfig{Pool: bulk, Small: small})
}

func openEpoll(small, bulk *buf.Pool) (aio.Engine, error) {
	return fallback.NewEngine(fallback.Config{Pool: bulk, Small: small})
}

// Probe says what this host gives and which engine Auto takes. It starts no loop.
func Probe() Info {
	_, info, err := choose(Config{})
	if err != nil {
		info.Reason = err.Error()
	}
	info.Features, _ = selfTest()
	return info
}

// host fills in what does not depend on the engine.
func host() Info {
	info := Info{CPUs: CPUs()}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		info.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) == nil {
		info.NoFile = limit.Cur
	}
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil {
		info.MemLock = limit.Cur
	}
	return info
}
