//go:build linux && (amd64 || arm64 || loong64 || ppc64le || riscv64)

package ring

// Ring returns the ring under the engine.
func (e *Engine) Ring() *Ring { return e.ring }

// Settle decides the sends that were submitted, as behind an enter of which the kernel
// has left nothing.
func (e *Engine) Settle() {
	e.settle()
	e.prompt = false
}

// OfferedBuffers returns how many blocks the kernel has.
func (e *Engine) OfferedBuffers() int { return e.recv[small].offered() }

// SetupFlags returns the flags the kernel accepted.
func (r *Ring) SetupFlags() uint32 { return r.flags }

// EnterFlags returns the flags of every call to enter.
func (r *Ring) EnterFlags() uintptr { return r.enterFlags }

// Flags of enter, for tests of what is passed.
const (
	EnterRegisteredRing = enterRegisteredRing
	EnterNoIowait       = enterNoIowait
)

// Setup flags, for tests of peeling.
const (
	SetupSubmitAll    = setupSubmitAll
	SetupCoopTaskrun  = setupCoopTaskrun
	SetupSingleIssuer = setupSingleIssuer
	SetupDeferTaskrun = setupDeferTaskrun
)
