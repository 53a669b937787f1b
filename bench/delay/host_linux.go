package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// myCPUs lists the CPUs that the process may use.
func myCPUs() []int {
	var set unix.CPUSet
	var cpus []int
	if unix.SchedGetaffinity(0, &set) == nil {
		for cpu := 0; len(cpus) < set.Count(); cpu++ {
			if set.IsSet(cpu) {
				cpus = append(cpus, cpu)
			}
		}
	}
	return cpus
}

// bind ties the calling thread, and the processes it starts, to these CPUs.
func bind(cpus []int) error {
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	return os.NewSyscallError("sched_setaffinity", unix.SchedSetaffinity(0, &set))
}

// threadCPU returns the CPU time of the calling thread.
func threadCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_THREAD, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// selfCPU returns the CPU time of this process.
func selfCPU() time.Duration {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// hostBusy returns the CPU time that all programs of the host have used, to
// about 10 ms, with what the hypervisor took.
func hostBusy() time.Duration {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every architecture that Go has
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	var busy time.Duration
	for i, field := range strings.Fields(line) {
		n, err := strconv.Atoi(field)
		if err == nil && i <= 8 && i != 4 && i != 5 { // neither idle nor iowait; guests are in user
			busy += time.Duration(n) * tick
		}
	}
	return busy
}

// hostLine names kernel and load.
func hostLine() string {
	var name unix.Utsname
	_ = unix.Uname(&name)
	load, _ := os.ReadFile("/proc/loadavg")
	words := strings.Fields(string(load) + " ? ? ?")
	return fmt.Sprintf("Linux %s, load average %s", unix.ByteSliceToString(name.Release[:]), strings.Join(words[:3], " "))
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
