package host

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestProcessClock burns some CPU time and sees it on the clock.
func TestProcessClock(t *testing.T) {
	const burn = 20 * time.Millisecond
	before, err := ProcessClock(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	selfBefore, x := SelfCPU(), uint64(1)
	for SelfCPU()-selfBefore < burn {
		for range 100_000 {
			x = x*6364136223846793005 + 1
		}
	}
	runtime.KeepAlive(x)
	after, err := ProcessClock(os.Getpid())
	if d := after - before; err != nil || d < burn*9/10 {
		t.Errorf("%v, %v, want %v or more", d, err, burn)
	}
	if _, err := ProcessClock(1<<22 + 1); err == nil {
		t.Error("a process that is not there has a clock")
	}
}

// TestWaited has two threads share a CPU: one of them waits at any time.
func TestWaited(t *testing.T) {
	const burn = 50 * time.Millisecond
	waited := make(chan time.Duration)
	for range 2 {
		go func() {
			runtime.LockOSThread() // Never unlocked: the thread ends with the goroutine.
			if err := Bind(CPUs()[:1]); err != nil {
				t.Error(err)
			}
			before := Waited(unix.Gettid())
			for start := time.Now(); time.Since(start) < burn; {
			}
			waited <- Waited(unix.Gettid()) - before
		}()
	}
	if sum := <-waited + <-waited; sum < burn/4 {
		t.Errorf("two threads on one CPU for %v, and they waited %v", burn, sum)
	}
	if Waited(1<<22+1) != 0 {
		t.Error("a thread that is not there has waited")
	}
}

func TestRSS(t *testing.T) {
	before, err := RSS(os.Getpid())
	if err != nil || before < 1<<20 {
		t.Fatalf("%d bytes, %v", before, err)
	}
	const more = 32 << 20
	b := make([]byte, more)
	for i := 0; i < more; i += 1 << 10 {
		b[i] = 1
	}
	after, err := RSS(os.Getpid())
	runtime.KeepAlive(b)
	if err != nil || after-before < more*3/4 {
		t.Errorf("%d bytes more, %v, want about %d", after-before, err, more)
	}
}

func TestRead(t *testing.T) {
	e := Read(t.Context(), ".")
	if e.CPUs < 1 || e.Kernel == "" || e.NullCall <= 0 || e.Memory <= 0 || e.LoadBefore == "" || e.Kind() == "" {
		t.Errorf("%+v", e)
	}
	if n := len(CPUs()); n != e.CPUs || Threads(os.Getpid()) < 1 || NoFile() < 3 {
		t.Errorf("%d CPUs, %d threads", n, Threads(os.Getpid()))
	}
}

// TestCommit names no commit of a repository that happens to be around.
func TestCommit(t *testing.T) {
	if got := commit(t.Context(), ""); got != "unknown" {
		t.Errorf("sources that are not known are of %q", got)
	}
}

func TestTexts(t *testing.T) {
	model, virtual, isolation := cpuInfo("processor\t: 0\nmodel name\t: A (TM) B-7 CPU @ 3GHz\nflags\t\t: fpu hypervisor pti\nprocessor\t: 1\n")
	if model != "A (TM) B-7 CPU @ 3GHz" || !virtual || !isolation {
		t.Errorf("%q, %v, %v", model, virtual, isolation)
	}
	if k := (Environment{CPU: model}).Kind(); k != "a-b-7" {
		t.Errorf("kind %q", k)
	}
	if k := (Environment{Arch: "riscv64"}).Kind(); k != "riscv64" {
		t.Errorf("kind %q", k)
	}
	if n := memory("MemTotal:       12 kB\nMemFree: 3 kB\n"); n != 12<<10 {
		t.Errorf("memory of %d", n)
	}
	dir := t.TempDir()
	for name, state := range map[string]string{"a": "Not affected\n", "b": "Mitigation: PTI\n", "c": "Vulnerable\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(state), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m := mitigations(dir)
	if len(m) != 2 || m["b"] != "Mitigation: PTI" || m["c"] != "Vulnerable" {
		t.Errorf("%v", m)
	}
}

func TestBind(t *testing.T) {
	runtime.LockOSThread() // Never unlocked: the thread ends with the test.
	all := CPUs()
	if err := Bind(all[:1]); err != nil {
		t.Fatal(err)
	}
	if got := CPUs(); !slices.Equal(got, all[:1]) {
		t.Errorf("bound to %v, may use %v", all[:1], got)
	}
}

// TestStart has a program run on one processor, and this thread where it was.
func TestStart(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	all := CPUs()
	last := all[len(all)-1]
	var out bytes.Buffer
	cmd := exec.Command("sh", "-c", "grep Cpus_allowed_list /proc/self/status")
	cmd.Stdout = &out
	if err := errors.Join(Start(cmd, []int{last}), cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	if words := strings.Fields(out.String()); len(words) != 2 || words[1] != strconv.Itoa(last) {
		t.Errorf("bound to %d, it says %q", last, out.String())
	}
	if now := CPUs(); !slices.Equal(now, all) {
		t.Errorf("this thread may use %v now, before %v", now, all)
	}
}
