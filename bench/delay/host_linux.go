package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/penstock-go/penstock/bench/internal/host"
	"golang.org/x/sys/unix"
)

// threadCPU returns the CPU time of the calling thread.
func threadCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_THREAD, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// hostLine names kernel and load.
func hostLine() string {
	var name unix.Utsname
	_ = unix.Uname(&name)
	return fmt.Sprintf("Linux %s, load average %s", unix.ByteSliceToString(name.Release[:]), host.Load())
}

// quota is a cgroup of our own.
type quota struct{ dir string }

// newQuota makes a cgroup that may use so many CPUs, for periods of 100 ms.
func newQuota(cpus int) (*quota, error) {
	const period = 100_000 // µs
	name := "penstock-delay-" + strconv.Itoa(os.Getpid())
	var first error
	for _, form := range []struct {
		parent string
		files  map[string]string
	}{
		{"/sys/fs/cgroup/cpu", map[string]string{"cpu.cfs_period_us": fmt.Sprint(period), "cpu.cfs_quota_us": fmt.Sprint(cpus * period)}},
		{"/sys/fs/cgroup", map[string]string{"cpu.max": fmt.Sprint(cpus*period, " ", period)}},
	} {
		q := &quota{filepath.Join(form.parent, name)}
		err := os.Mkdir(q.dir, 0o755)
		for file, text := range form.files {
			if err == nil {
				err = os.WriteFile(filepath.Join(q.dir, file), []byte(text), 0)
			}
		}
		if err == nil {
			return q, nil
		}
		_ = os.Remove(q.dir)
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// add puts a process under the quota.
func (q *quota) add(pid int) error {
	return os.WriteFile(filepath.Join(q.dir, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0)
}

// remove removes the cgroup, once the last process has left it.
func (q *quota) remove() {
	for range 100 {
		if os.Remove(q.dir) == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}
