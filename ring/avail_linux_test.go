//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/ring"
	"golang.org/x/sys/unix"
)

// childRole is the variable that makes the test binary one of these children.
const childRole = "PENSTOCK_RING_CHILD"

// child does what its role says and prints what New, SelfTest and NewEngine say.
// Roles: "seccomp NR ERRNO" and "memlock BYTES" and "nofile".
func child(role string) {
	runtime.LockOSThread()
	f := strings.Fields(role)
	number := func(i int) int { n, _ := strconv.Atoi(f[i]); return n }
	switch f[0] {
	case "seccomp":
		denySyscall(uint32(number(1)), uint32(number(2)))
	case "memlock":
		n := uint64(number(1))
		check(unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: n, Max: n}))
		check(syscall.Setgroups(nil))
		check(syscall.Setgid(65534))
		check(syscall.Setuid(65534))
	case "nofile":
		check(unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: 3}))
	}
	r, err := ring.New(ring.Config{Entries: 1024})
	say("New", err)
	if err == nil {
		fmt.Println("entries", r.Entries())
		check(r.Close())
	}
	_, err = ring.SelfTest(ring.Config{})
	say("SelfTest", err)
	pool, err := buf.NewPool(buf.Config{})
	check(err)
	e, err := ring.NewEngine(ring.EngineConfig{Pool: pool})
	for range 5 { // Each finds the memory of the one before on its way back.
		if err == nil {
			check(e.Close())
			e, err = ring.NewEngine(ring.EngineConfig{Pool: pool})
		}
	}
	say("NewEngine", err)
	if err == nil {
		check(e.Close())
	}
}

func check(err error) {
	if err != nil {
		fmt.Println("child:", err)
		os.Exit(1)
	}
}

func say(what string, err error) {
	var u *ring.UnavailableError
	switch {
	case err == nil:
		fmt.Println(what, "ok")
	case errors.As(err, &u) && errors.Is(err, ring.ErrUnavailable):
		fmt.Println(what, "unavailable:", err)
	default:
		fmt.Println(what, "failed:", err)
	}
}

// denySyscall installs a filter on all threads that fails one call.
func denySyscall(nr, errno uint32) {
	prog := []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, K: 0}, // seccomp_data.nr
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, Jf: 1, K: nr},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | errno},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	}
	fprog := unix.SockFprog{Len: uint16(len(prog)), Filter: &prog[0]}
	check(unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, unix.SECCOMP_FILTER_FLAG_TSYNC, uintptr(unsafe.Pointer(&fprog)))
	if e != 0 {
		check(e)
	}
}

// runChild returns the lines of a child by their first word.
func runChild(t *testing.T, role string) map[string]string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe", "-test.run=^$")
	cmd.Env = append(os.Environ(), childRole+"="+role)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("child %q: %v\n%s", role, err, out)
	}
	said := map[string]string{}
	for line := range strings.Lines(string(out)) {
		key, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		said[key] = rest
	}
	return said
}

func TestSeccompIsUnavailability(t *testing.T) {
	for _, call := range []struct {
		name string
		nr   int
	}{
		{"io_uring_setup", unix.SYS_IO_URING_SETUP},
		{"io_uring_register", unix.SYS_IO_URING_REGISTER},
		{"io_uring_enter", unix.SYS_IO_URING_ENTER},
	} {
		for _, errno := range []syscall.Errno{unix.EPERM, unix.ENOSYS} {
			t.Run(fmt.Sprintf("%s/%d", call.name, errno), func(t *testing.T) {
				said := runChild(t, fmt.Sprintf("seccomp %d %d", call.nr, int(errno)))
				for _, what := range []string{"New", "SelfTest", "NewEngine"} {
					for _, part := range []string{"unavailable:", "io_uring", call.name, "seccomp", errno.Error()} {
						if !strings.Contains(said[what], part) {
							t.Errorf("%s says %q, which lacks %q", what, said[what], part)
						}
					}
				}
			})
		}
	}
}

// A kernel that charges rings against RLIMIT_MEMLOCK makes them smaller, or
// refuses them in words; any other does not care.
func TestLockedMemory(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to become a user with a limit: run the tests as root")
	}
	t.Run("64 KiB", func(t *testing.T) {
		said := runChild(t, "memlock 65536")
		t.Log(said)
		n, _ := strconv.Atoi(said["entries"])
		if said["New"] != "ok" || n < ring.MinEntries {
			t.Errorf("New: %s, %d entries", said["New"], n)
		}
		if said["NewEngine"] != "ok" {
			t.Errorf("NewEngine: %s", said["NewEngine"])
		}
	})
	t.Run("nothing", func(t *testing.T) {
		said := runChild(t, "memlock 0")
		t.Log(said)
		for _, what := range []string{"New", "SelfTest", "NewEngine"} {
			if said[what] == "ok" {
				continue // this kernel does not charge
			}
			for _, part := range []string{"unavailable:", "io_uring", "memlock", "is 0 bytes", "ulimit -l"} {
				if !strings.Contains(said[what], part) {
					t.Errorf("%s says %q, which lacks %q", what, said[what], part)
				}
			}
		}
	})
}

func TestNoDescriptorIsNoUnavailability(t *testing.T) {
	said := runChild(t, "nofile")
	if s := said["New"]; !strings.Contains(s, "failed:") || !strings.Contains(s, "ulimit -n") {
		t.Errorf("New says %q, want a plain failure with the cure", s)
	}
}

func TestPeeling(t *testing.T) {
	const (
		all, coop, single, deferred = ring.SetupSubmitAll, ring.SetupCoopTaskrun, ring.SetupSingleIssuer, ring.SetupDeferTaskrun
		every                       = all | coop | single | deferred
	)
	for _, c := range []struct {
		hide []string
		want uint32
	}{
		{nil, all | single | deferred},
		{[]string{"defer_taskrun"}, all | single | coop},
		{[]string{"single_issuer"}, all | coop},
		{[]string{"single_issuer", "coop_taskrun"}, all},
		{[]string{"submit_all"}, 0},
	} {
		t.Run(strings.Join(c.hide, ","), func(t *testing.T) {
			r := newRing(t, ring.Config{Hide: c.hide})
			if got := r.SetupFlags() & every; got != c.want {
				t.Errorf("flags %#x, want %#x", got, c.want)
			}
			for _, name := range c.hide {
				if r.Have(name) {
					t.Errorf("%s is hidden and there", name)
				}
			}
			if _, err := r.Enter(0, 0); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestMissingFeatureIsUnavailability(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for name, kernel := range map[string]string{
		"ext_arg": "5.11", "cqe_skip": "5.17", "buffer_ring": "5.19", "accept_multishot": "5.19", "recv_multishot": "6.0",
	} {
		pool, err := buf.NewPool(buf.Config{})
		must(t, err)
		_, err = ring.NewEngine(ring.EngineConfig{Pool: pool, Hide: []string{name}})
		if !errors.Is(err, ring.ErrUnavailable) || !strings.Contains(err.Error(), name) || !strings.Contains(err.Error(), kernel) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	if _, err := ring.New(ring.Config{Hide: []string{"warp_drive"}}); err == nil || errors.Is(err, ring.ErrUnavailable) {
		t.Errorf("an unknown feature: %v", err)
	}
}

// TestSelfTestMemory holds that a self-test leaves no garbage of the size of what it
// sends, which a program that waits for its first collection would keep.
func TestSelfTestMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if _, err := ring.SelfTest(ring.Config{}); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("%d bytes of the Go heap", n)
	}
}

func TestSelfTest(t *testing.T) {
	features, err := ring.SelfTest(ring.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range features {
		t.Logf("%-22s %-5s %v", f.Name, f.Kernel, f.Have)
	}
	if _, err := ring.SelfTest(ring.Config{Hide: []string{"defer_taskrun", "single_issuer", "coop_taskrun", "submit_all"}}); err != nil {
		t.Error("as on an older kernel:", err)
	}
}
