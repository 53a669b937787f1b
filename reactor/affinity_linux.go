package reactor

import (
	"fmt"
	"math"
	"os"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// CPUs returns how many CPUs this process may use: those of its affinity, or
// fewer where a cgroup quota gives less, rounded up, at least 1.
func CPUs() int {
	n := max(1, len(affinity()))
	groups, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return n
	}
	quota := cgroupQuota(string(groups), func(name string) string {
		b, _ := os.ReadFile("/sys/fs/cgroup" + name)
		return string(b)
	})
	return atMost(n, quota)
}

// atMost returns n, or quota rounded up if that is less; at least 1.
func atMost(n int, quota float64) int {
	if q := math.Ceil(quota); q < float64(n) { // Not so for +Inf, which no int holds.
		n = int(q)
	}
	return max(1, n)
}

// affinity returns the CPUs that the calling thread may run on.
func affinity() []int {
	set := unix.NewCPUSet(1024)
	for { // EINVAL: the kernel can name more CPUs.
		err := unix.SchedGetaffinityDynamic(0, set)
		if err == nil {
			break
		}
		if err != unix.EINVAL || len(set) > 1<<14 {
			return nil
		}
		set = append(set, set...)
	}
	var cpus []int
	for cpu, count := 0, set.Count(); len(cpus) < count; cpu++ {
		if set.IsSet(cpu) {
			cpus = append(cpus, cpu)
		}
	}
	return cpus
}

// pin ties the calling thread to one CPU.
func pin(cpu int) error {
	set := unix.NewCPUSet(cpu + 1)
	set.Set(cpu)
	if err := unix.SchedSetaffinityDynamic(0, set); err != nil {
		return fmt.Errorf("reactor: pin to CPU %d: %w", cpu, err)
	}
	return nil
}

// cgroupQuota returns the CPUs that the quotas of all groups above this
// process leave, +Inf without one. groups is /proc/self/cgroup; read returns a
// file below /sys/fs/cgroup, or "". Kernel: cpu.max is cgroup v2, cpu.cfs_* v1.
func cgroupQuota(groups string, read func(name string) string) float64 {
	quota := math.Inf(1)
	for line := range strings.Lines(groups) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) != 3 {
			continue
		}
		v1 := false
		for _, controller := range strings.Split(fields[1], ",") {
			v1 = v1 || controller == "cpu"
		}
		if !v1 && fields[1] != "" {
			continue
		}
		for dir := path.Clean("/" + fields[2]); ; dir = path.Dir(dir) {
			if v1 {
				quota = min(quota, ratio(read("/cpu"+path.Join(dir, "/cpu.cfs_quota_us")), read("/cpu"+path.Join(dir, "/cpu.cfs_period_us"))))
			} else if most, period, ok := strings.Cut(strings.TrimSpace(read(path.Join(dir, "/cpu.max"))), " "); ok {
				quota = min(quota, ratio(most, period))
			}
			if dir == "/" {
				break
			}
		}
	}
	return quota
}

// ratio returns quota/period, +Inf when they are no limit.
func ratio(quota, period string) float64 {
	q, err1 := strconv.ParseFloat(strings.TrimSpace(quota), 64)
	p, err2 := strconv.ParseFloat(strings.TrimSpace(period), 64)
	if err1 != nil || err2 != nil || q <= 0 || p <= 0 {
		return math.Inf(1)
	}
	return q / p
}
