// Package host knows the machine under a load test: its processors, its clocks
// of other processes, and what a reader must know to believe a figure.
package host

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/penstock-go/penstock/reactor"
)

// Environment is what is printed beside every figure.
type Environment struct {
	CPU         string            `json:"cpu"`
	CPUs        int               `json:"cpus"` // that this process may use
	Virtual     bool              `json:"virtual"`
	Memory      int64             `json:"memory_bytes"`
	Kernel      string            `json:"kernel"`
	Isolation   bool              `json:"page_table_isolation"`
	NullCall    float64           `json:"null_system_call_ns"`
	Mitigations map[string]string `json:"mitigations"` // those in force
	Go          string            `json:"go"`
	Arch        string            `json:"arch"`
	Commit      string            `json:"commit"`
	Flags       string            `json:"flags"`
	Engine      string            `json:"engine"` // that Auto takes, and why
	Features    map[string]bool   `json:"features"`
	Tuning      string            `json:"tuning,omitempty"`      // settings of the machine
	Quota       float64           `json:"cgroup_cpus,omitempty"` // that cgroups allow; 0: no bound
	NoFile      int               `json:"nofile"`
	LoadBefore  string            `json:"load_before"`
	LoadAfter   string            `json:"load_after"`
	Foreign     float64           `json:"foreign_cpus"` // used by others during the run
}

// Read looks at the machine. root is the repository of the sources, "" when it is not known. It takes some 50 ms.
func Read(ctx context.Context, root string) Environment {
	info := reactor.Probe()
	e := Environment{
		CPUs: len(CPUs()), Kernel: info.Kernel, Go: runtime.Version(), Arch: runtime.GOARCH,
		Commit: commit(ctx, root), Flags: flags(), NoFile: NoFile(), LoadBefore: Load(),
		Engine: strings.Trim(info.Engine+": "+info.Reason, ": "), Features: map[string]bool{},
		NullCall: NullCall(), Tuning: tuning(), Quota: Quota("/sys/fs/cgroup", "/proc/self/cgroup"),
	}
	for _, f := range info.Features {
		e.Features[f.Name] = f.Have
	}
	e.CPU, e.Virtual, e.Isolation = cpuInfo(text("/proc/cpuinfo"))
	e.Memory = memory(text("/proc/meminfo"))
	e.Mitigations = mitigations("/sys/devices/system/cpu/vulnerabilities")
	return e
}

// Kind names the machine for a file's name: its processor in a few letters.
func (e Environment) Kind() string {
	var words []string
	for _, word := range strings.FieldsFunc(strings.ToLower(e.CPU), func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < '0' || r > '9')
	}) {
		if !slices.Contains([]string{"r", "tm", "cpu", "processor", "core"}, word) && len(words) < 3 {
			words = append(words, word)
		}
	}
	if len(words) == 0 {
		words = []string{e.Arch}
	}
	return strings.Join(words, "-")
}

func text(name string) string {
	b, err := os.ReadFile(name)
	if err != nil {
		return ""
	}
	return string(b)
}

// cpuInfo reads /proc/cpuinfo of the first processor.
func cpuInfo(info string) (model string, virtual, isolation bool) {
	for line := range strings.Lines(info) {
		key, value, _ := strings.Cut(line, ":")
		words := strings.Fields(value)
		switch strings.TrimSpace(key) {
		case "model name", "Model", "CPU part":
			if model == "" {
				model = strings.TrimSpace(value)
			}
		case "flags", "Features":
			return model, slices.Contains(words, "hypervisor"), slices.Contains(words, "pti")
		}
	}
	return model, false, false
}

func memory(info string) int64 {
	for line := range strings.Lines(info) {
		if rest, ok := strings.CutPrefix(line, "MemTotal:"); ok {
			return kilobytes(rest)
		}
	}
	return 0
}

// kilobytes reads "  123 kB" as a number of bytes.
func kilobytes(s string) int64 {
	n := int64(0)
	for _, c := range strings.TrimSpace(s) {
		if c < '0' || c > '9' {
			break
		}
		n = 10*n + int64(c-'0')
	}
	return n << 10
}

// mitigations lists what the kernel does against faults of the processor.
func mitigations(dir string) map[string]string {
	all := map[string]string{}
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		return all
	}
	for _, f := range files {
		if state := strings.TrimSpace(text(f)); strings.HasPrefix(state, "Mitigation") || strings.HasPrefix(state, "Vulnerable") {
			all[filepath.Base(f)] = state
		}
	}
	return all
}

// commit names the sources, "-dirty" when they are changed.
func commit(ctx context.Context, root string) string {
	if root == "" { // Git would name the commit of whatever it stands in.
		return "unknown"
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, "git", "-C", root, "describe", "--always", "--dirty", "--abbrev=12").Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimSpace(string(out))
}

// flags are the settings of the build that change what it does.
func flags() string {
	var all []string
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if slices.Contains([]string{"GOAMD64", "GOARM64", "-tags", "-race", "-gcflags", "-ldflags", "-pgo", "GOEXPERIMENT"}, s.Key) {
				all = append(all, s.Key+"="+s.Value)
			}
		}
	}
	for _, name := range []string{"GOGC", "GOMEMLIMIT", "GODEBUG", "GOMAXPROCS"} {
		if v, ok := os.LookupEnv(name); ok {
			all = append(all, name+"="+v)
		}
	}
	return strings.Join(all, " ")
}
