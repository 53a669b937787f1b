package host

import (
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
)

// Core names the core that a processor is a thread of; "" where the kernel does not tell.
func Core(cpu int) string {
	return strings.TrimSpace(text(fmt.Sprintf("/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu)))
}

// Spread puts processors in an order in which the first are on cores of their own, as
// far as there are cores, and the second threads of these come behind.
func Spread(cpus []int, core func(int) string) []int {
	var first, second []int
	seen := map[string]bool{}
	for _, cpu := range cpus {
		name := core(cpu)
		if name != "" && seen[name] {
			second = append(second, cpu)
			continue
		}
		seen[name] = true
		first = append(first, cpu)
	}
	return append(first, second...)
}

// Quota returns to how many CPUs the cgroups of this process bound it, 0 for no bound.
// It reads the second version of cgroups, below root and as the file self says.
func Quota(root, self string) float64 {
	group, ok := "", false
	for line := range strings.Lines(text(self)) {
		if name, found := strings.CutPrefix(line, "0::"); found {
			group, ok = strings.TrimSpace(name), true
		}
	}
	least := math.Inf(1)
	for ok {
		if f := strings.Fields(text(filepath.Join(root, group, "cpu.max"))); len(f) == 2 {
			quota, err := strconv.ParseFloat(f[0], 64) // "max" is none
			period, err2 := strconv.ParseFloat(f[1], 64)
			if err == nil && err2 == nil && period > 0 {
				least = min(least, quota/period)
			}
		}
		if group == "/" || group == "." || group == "" {
			break
		}
		group = filepath.Dir(group)
	}
	if math.IsInf(least, 1) {
		return 0
	}
	return least
}

// tuning is what of the machine's settings moves figures.
func tuning() string {
	var all []string
	for _, s := range []struct{ name, file string }{
		{"clock", "/sys/devices/system/clocksource/clocksource0/current_clocksource"},
		{"governor", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"},
		{"boost", "/sys/devices/system/cpu/cpufreq/boost"},
		{"SMT", "/sys/devices/system/cpu/smt/control"},
		{"congestion control", "/proc/sys/net/ipv4/tcp_congestion_control"},
	} {
		if v := strings.TrimSpace(text(s.file)); v != "" {
			all = append(all, s.name+" "+v)
		}
	}
	return strings.Join(all, ", ")
}
