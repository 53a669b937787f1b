package host

import (
	"os/exec"
	"runtime"
)

// Start starts a program that runs on these processors only, from its first thread on;
// with none, on those of this process.
func Start(cmd *exec.Cmd, cpus []int) error {
	runtime.LockOSThread() // A process inherits the processors of the thread that starts it.
	defer runtime.UnlockOSThread()
	if len(cpus) > 0 {
		all := CPUs()
		if err := Bind(cpus); err != nil {
			return err
		}
		defer func() { _ = Bind(all) }()
	}
	return cmd.Start()
}
