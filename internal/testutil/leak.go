package testutil

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// leakGrace is how long goroutines and descriptors may take to go away after
// the last test: a goroutine that was told to stop needs a moment to do it.
const leakGrace = 3 * time.Second

// Main runs the tests of a package and ends the process. When they passed, it
// compares the goroutines and the file descriptors with those before the first
// test, and fails with a list of what is left after a short grace. Use it as
//
//	func TestMain(m *testing.M) { testutil.Main(m) }
func Main(m *testing.M) {
	primePoller()
	base := takeSnapshot()
	code := m.Run()
	// A failed test may leave anything behind, and a fuzzing process keeps the
	// pipes to its workers: in both cases a list would only hide the cause.
	if code == 0 && !fuzzing() {
		if left := base.leaks(Timeout(leakGrace)); len(left) > 0 {
			fmt.Fprintf(os.Stderr, "FAIL: the tests passed, and left behind:\n%s\n", strings.Join(left, "\n"))
			code = 1
		}
	}
	os.Exit(code)
}

func fuzzing() bool {
	for _, name := range []string{"test.fuzz", "test.fuzzworker"} {
		if f := flag.Lookup(name); f != nil && f.Value.String() != "" && f.Value.String() != "false" {
			return true
		}
	}
	return false
}

// primePoller makes the runtime open the descriptors of its network poller,
// which it does at the first use and keeps for ever, before they are counted.
func primePoller() {
	if r, w, err := os.Pipe(); err == nil {
		_ = r.Close()
		_ = w.Close()
	}
}

// snapshot is what the process held at one moment.
type snapshot struct {
	goroutines map[string]string // stack by "goroutine N"
	fds        map[int]string    // what it is open on, by number
}

func takeSnapshot() snapshot {
	return snapshot{goroutines: goroutines(), fds: descriptors()}
}

// leaks lists what the process holds and did not hold at s, one entry each,
// waiting up to grace for it to go.
func (s snapshot) leaks(grace time.Duration) []string {
	for deadline := time.Now().Add(grace); ; time.Sleep(5 * time.Millisecond) {
		left := s.added(takeSnapshot())
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
	}
}

// added lists what now has and s has not.
func (s snapshot) added(now snapshot) []string {
	var list []string
	for id, stack := range now.goroutines {
		if _, had := s.goroutines[id]; !had {
			list = append(list, stack)
		}
	}
	for fd, target := range now.fds {
		// A number that was closed and opened again on something else is a leak too.
		if had := s.fds[fd]; had != target {
			list = append(list, fmt.Sprintf("file descriptor %d: %s", fd, target))
		}
	}
	slices.Sort(list)
	return list
}

// goroutines returns the stacks of all goroutines but the caller's and those
// that the runtime and package testing keep for themselves.
func goroutines() map[string]string {
	text := make([]byte, 64<<10)
	for {
		if n := runtime.Stack(text, true); n < len(text) {
			text = text[:n]
			break
		}
		text = make([]byte, 2*len(text))
	}
	all := make(map[string]string)
	for i, stack := range strings.Split(string(text), "\n\n") {
		if i == 0 || ownedByGo(stack) { // the first is the caller's
			continue
		}
		id, _, _ := strings.Cut(stack, " [") // "goroutine 7 [running]:"
		all[id] = strings.TrimSpace(stack)
	}
	return all
}

// ownedByGo reports whether a goroutine lives as long as the process by design.
func ownedByGo(stack string) bool {
	for _, mark := range []string{
		"os/signal.signal_recv", "os/signal.loop", // started by the first signal.Notify
		"testing.runTests(", "testing.(*M).", "testing.(*T).Run(", "testing.(*F).Fuzz(", // wait for a test
		"runtime.ReadTrace",     // -test.trace
		"runtime/pprof.profile", // -test.cpuprofile
	} {
		if strings.Contains(stack, mark) {
			return true
		}
	}
	return false
}

// descriptors returns the open descriptors of the process with what they refer
// to, and nothing on systems that do not tell.
func descriptors() map[int]string {
	const dir = "/proc/self/fd"
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	all := make(map[int]string)
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		// The descriptor of the listing itself is closed by now, so that its
		// link cannot be read.
		if target, err := os.Readlink(filepath.Join(dir, e.Name())); err == nil {
			all[fd] = target
		}
	}
	return all
}
