package testutil

import (
	"fmt"

	"golang.org/x/sys/unix"
)

func thisHost() host {
	h := host{denied: uringDenied(), privileged: mayLockMemory()}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		h.release = unix.ByteSliceToString(name.Release[:])
	}
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &limit) == nil {
		h.memlock = limit.Cur
	}
	return h
}

// mayLockMemory reports whether the process has CAP_IPC_LOCK, which lifts the
// limit of locked memory. Root of a container often has not.
func mayLockMemory() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var sets [2]unix.CapUserData // version 3 fills two
	return unix.Capget(&header, &sets[0]) == nil && sets[0].Effective&(1<<unix.CAP_IPC_LOCK) != 0
}

// Denied says why this host lets no program use io_uring, or nil: for a package
// of which every test needs it.
func Denied() error { return uringDenied() }

// uringDenied calls the three system calls of io_uring with arguments that a
// kernel refuses for their own sake (EFAULT, EBADF, EINVAL). Any other answer
// is that of a sandbox, of the sysctl, or of a kernel without io_uring. It asks
// apart from package ring, so that a defect there does not decide its own case.
func uringDenied() error {
	const badFD = ^uintptr(0)
	for _, call := range []struct {
		name string
		errn unix.Errno
	}{
		{"io_uring_setup", refusal(unix.SYS_IO_URING_SETUP, 1, 0)},
		{"io_uring_enter", refusal(unix.SYS_IO_URING_ENTER, badFD, 0)},
		{"io_uring_register", refusal(unix.SYS_IO_URING_REGISTER, badFD, badFD)},
	} {
		switch call.errn {
		case unix.ENOSYS, unix.EPERM, unix.EACCES:
			return fmt.Errorf("%s: %w", call.name, call.errn)
		}
	}
	return nil
}

func refusal(call, a, b uintptr) unix.Errno {
	_, _, errn := unix.Syscall6(call, a, b, 0, 0, 0, 0)
	return errn
}
