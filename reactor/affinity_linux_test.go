package reactor

import (
	"math"
	"runtime"
	"testing"
)

func TestCgroupQuota(t *testing.T) {
	for _, c := range []struct {
		name, groups string
		files        map[string]string
		want         float64
	}{
		{"none", "0::/\n", nil, math.Inf(1)},
		{"v2", "0::/a/b\n", map[string]string{"/a/b/cpu.max": "150000 100000\n"}, 1.5},
		{"v2 unlimited", "0::/a\n", map[string]string{"/a/cpu.max": "max 100000\n"}, math.Inf(1)},
		{"v2 parent", "0::/a/b\n", map[string]string{"/a/b/cpu.max": "max 100000", "/a/cpu.max": "50000 100000"}, 0.5},
		{"v1", "5:cpu,cpuacct:/x\n3:memory:/y\n", map[string]string{"/cpu/x/cpu.cfs_quota_us": "200000\n", "/cpu/x/cpu.cfs_period_us": "100000\n"}, 2},
		{"v1 unlimited", "5:cpu:/x\n", map[string]string{"/cpu/x/cpu.cfs_quota_us": "-1\n", "/cpu/x/cpu.cfs_period_us": "100000\n"}, math.Inf(1)},
		{"garbage", "what\n", map[string]string{"/cpu.max": "1 1"}, math.Inf(1)},
	} {
		if got := cgroupQuota(c.groups, func(name string) string { return c.files[name] }); got != c.want {
			t.Errorf("%s: %v CPUs, want %v", c.name, got, c.want)
		}
	}
	for _, c := range []struct {
		n     int
		quota float64
		want  int
	}{{4, math.Inf(1), 4}, {4, 1.5, 2}, {4, 0.1, 1}, {2, 8, 2}, {0, math.Inf(1), 1}} {
		if got := atMost(c.n, c.quota); got != c.want {
			t.Errorf("atMost(%d, %v) = %d, want %d", c.n, c.quota, got, c.want)
		}
	}
	if n := CPUs(); n < 1 || n > runtime.NumCPU() {
		t.Errorf("CPUs() = %d of %d", n, runtime.NumCPU())
	}
}
