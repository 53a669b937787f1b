package host

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// CPUs lists the processors that this process may use.
func CPUs() []int {
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

// Bind ties the calling thread, and what it starts, to these processors.
func Bind(cpus []int) error {
	var set unix.CPUSet
	for _, cpu := range cpus {
		set.Set(cpu)
	}
	return os.NewSyscallError("sched_setaffinity", unix.SchedSetaffinity(0, &set))
}

// ProcessClock returns the CPU time of all threads of a process, to the
// nanosecond and with those that run at this moment.
//
// Kernel: the clock's number is what clock_getcpuclockid(3) makes of a pid.
func ProcessClock(pid int) (time.Duration, error) {
	const scheduled = 2 // CPUCLOCK_SCHED
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &ts); err != nil {
		return 0, os.NewSyscallError("clock_gettime", err)
	}
	return time.Duration(ts.Nano()), nil
}

// SelfCPU returns the CPU time of this process and of its children that ended.
func SelfCPU() time.Duration {
	sum := time.Duration(0)
	for _, who := range []int{unix.RUSAGE_SELF, unix.RUSAGE_CHILDREN} {
		var u unix.Rusage
		if unix.Getrusage(who, &u) == nil {
			sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
		}
	}
	return sum
}

// Busy returns the CPU time that all programs of the machine have used, and
// what the hypervisor took, to 10 ms.
func Busy() time.Duration {
	const tick = 10 * time.Millisecond // USER_HZ is 100 wherever Go runs
	line, _, _ := strings.Cut(text("/proc/stat"), "\n")
	var busy time.Duration
	for i, field := range strings.Fields(line) {
		if n, err := strconv.Atoi(field); err == nil && i <= 8 && i != 4 && i != 5 { // neither idle nor iowait; guests are in user
			busy += time.Duration(n) * tick
		}
	}
	return busy
}

// Load returns the three load averages.
func Load() string {
	words := strings.Fields(text("/proc/loadavg") + " ? ? ?")
	return strings.Join(words[:3], " ")
}

// NullCall returns what a system call that does nothing costs, in ns: the best
// of several tries, since all that disturbs only adds.
func NullCall() float64 {
	const calls = 20_000
	best := math.Inf(1)
	for range 10 {
		start := time.Now()
		for range calls {
			unix.Getppid()
		}
		best = min(best, float64(time.Since(start))/calls)
	}
	return best
}

// RSS returns the memory that a process has in RAM, in bytes. The rollup is
// exact; the figure of status is behind by what each thread keeps back.
func RSS(pid int) (int64, error) {
	for _, name := range []string{"smaps_rollup", "status"} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, name))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			for _, key := range []string{"Rss:", "VmRSS:"} {
				if rest, ok := strings.CutPrefix(line, key); ok {
					return kilobytes(rest), nil
				}
			}
		}
	}
	return 0, fmt.Errorf("no resident size of process %d in /proc", pid)
}

// Waited returns how long a thread of this process was ready to run and had no CPU, 0
// where the kernel does not tell.
func Waited(thread int) time.Duration {
	words := strings.Fields(text(fmt.Sprintf("/proc/self/task/%d/schedstat", thread))) // time on a CPU, time waiting for one, in ns
	if len(words) < 2 {
		return 0
	}
	ns, _ := strconv.ParseInt(words[1], 10, 64)
	return time.Duration(ns)
}

// Threads returns the number of threads of a process, 0 when it is gone.
func Threads(pid int) int {
	entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	if err != nil {
		return 0
	}
	return len(entries)
}

// NoFile raises the soft limit on descriptors to the hard one, for this process
// and its children, and returns it.
func NoFile() int {
	var r syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r) != nil {
		return 1024
	}
	if r.Cur < r.Max {
		r.Cur = r.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r)
		_ = syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r)
	}
	return int(min(r.Cur, 1<<30))
}
