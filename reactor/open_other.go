//go:build !linux

package reactor

import (
	"errors"
	"runtime"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
)

var errLinux = errors.New("reactor: penstock runs on Linux only, not on " + runtime.GOOS)

func choose(cfg Config) (opener, Info, error) {
	if cfg.NewEngine != nil {
		return cfg.NewEngine, Info{Engine: "custom", Reason: "Config.NewEngine"}, nil
	}
	return nil, Info{}, errLinux
}

func unavailable(error) bool { return false }

func openEpoll(_, _ *buf.Pool) (aio.Engine, error) { return nil, errLinux }

// Probe says what this host gives: nothing, outside Linux.
func Probe() Info { return Info{Reason: errLinux.Error(), CPUs: CPUs()} }

// CPUs returns the number of CPUs.
func CPUs() int { return runtime.NumCPU() }

func affinity() []int { return nil }

func pin(int) error { return errLinux }

func watchable(int) error { return errLinux }
