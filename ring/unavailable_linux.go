//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const seccompCure = "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp profile (docker and podman: --security-opt seccomp=profile.json)"

// forbids reports whether errno says that this process may not call io_uring at all.
func forbids(errno syscall.Errno) bool {
	return errno == unix.EPERM || errno == unix.EACCES || errno == unix.ENOSYS
}

// refused explains why the kernel forbids op: by sysctl, by a seccomp filter, by
// a security module, or because it never heard of it.
func refused(op string, errno syscall.Errno) error {
	e := &UnavailableError{Op: op, Err: errno}
	disabled, filtered := readWord("/proc/sys/kernel/io_uring_disabled"), seccompFilters()
	switch {
	case errno == unix.EPERM && disabled == "2":
		e.Cause = "the sysctl kernel.io_uring_disabled is 2, which forbids it to all"
		e.Cure = "try 'sysctl -w kernel.io_uring_disabled=0'"
	case errno == unix.EPERM && disabled == "1" && !filtered:
		e.Cause = "the sysctl kernel.io_uring_disabled is 1, which forbids it to the unprivileged"
		e.Cure = "try 'sysctl -w kernel.io_uring_disabled=0', or join the group in kernel.io_uring_group"
	case filtered:
		e.Cause = "a seccomp filter, as containers have it, refuses the call"
		e.Cure = seccompCure
	case errno == unix.ENOSYS:
		e.Cause = "the kernel is older than 5.1, or built without CONFIG_IO_URING"
		e.Cure = "run Linux 6.1 or later with CONFIG_IO_URING=y"
	default:
		e.Cause = "a security module (SELinux, AppArmor) refuses the call"
		e.Cure = "allow io_uring in its policy"
	}
	return e
}

// memlockError says how much memory this process may lock, since the kernel
// counts rings against that limit for users without CAP_IPC_LOCK.
func memlockError(op string) error {
	limit := "unknown"
	var rl unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_MEMLOCK, &rl) == nil {
		if limit = fmt.Sprintf("%d bytes", rl.Cur); rl.Cur == ^uint64(0) {
			limit = "unlimited"
		}
	}
	return &UnavailableError{Op: op, Err: unix.ENOMEM,
		Cause: "the limit of locked memory, memlock, is " + limit + ", and this kernel counts rings against it",
		Cure:  "raise it to 1 MiB a ring or more (ulimit -l, or LimitMEMLOCK= in a systemd unit)"}
}

func readWord(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// seccompFilters reports whether a filter (mode 2) watches this thread.
func seccompFilters() bool {
	status, err := os.ReadFile("/proc/thread-self/status")
	if err != nil {
		status, _ = os.ReadFile("/proc/self/status")
	}
	for line := range bytes.Lines(status) {
		if mode, ok := bytes.CutPrefix(line, []byte("Seccomp:")); ok {
			return string(bytes.TrimSpace(mode)) == "2"
		}
	}
	return false
}
