//go:build !linux || !(amd64 || arm64 || loong64 || ppc64le || riscv64)

package ring

import (
	"runtime"

	"github.com/penstock-go/penstock/aio"
)

func unsupported() error {
	return &UnavailableError{
		Op:    "io_uring",
		Cause: "this build is for " + runtime.GOOS + "/" + runtime.GOARCH,
		Cure:  "build for Linux on a 64-bit machine with little-endian bytes",
	}
}

// Ring does not exist on this system.
type Ring struct{}

// New returns an *UnavailableError on this system.
func New(Config) (*Ring, error) { return nil, unsupported() }

// SelfTest returns an *UnavailableError on this system.
func SelfTest(Config) ([]aio.Feature, error) { return nil, unsupported() }

// Engine does not exist on this system; no value of it is ever handed out.
type Engine struct{ aio.Engine }

// NewEngine returns an *UnavailableError on this system.
func NewEngine(EngineConfig) (*Engine, error) { return nil, unsupported() }
