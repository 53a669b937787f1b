//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/ring"
	"golang.org/x/sys/unix"
)

// Enter says that it does not wait for a disk where the kernel knows the word,
// beside the other flags that every call has.
func TestNoIowaitFlag(t *testing.T) {
	for _, c := range []struct {
		name string
		hide []string
		want bool
	}{
		{"all", nil, true},
		{"no registered ring", []string{"register_ring_fds"}, true},
		{"hidden", []string{"no_iowait"}, false},
		{"both hidden", []string{"no_iowait", "register_ring_fds"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newRing(t, ring.Config{Hide: c.hide})
			if c.want {
				skipIfCounted(t, r)
			}
			if got := r.EnterFlags()&ring.EnterNoIowait != 0; got != c.want || r.Have("no_iowait") != c.want {
				t.Errorf("flag passed: %v, feature there: %v, want %v", got, r.Have("no_iowait"), c.want)
			}
			registered := r.Have("register_ring_fds")
			if got := r.EnterFlags()&ring.EnterRegisteredRing != 0; got != registered {
				t.Errorf("by a registered index: %v, want %v", got, registered)
			}
		})
	}
}

// The kernel counts threads that wait in a ring as blocked on a disk, unless they
// say otherwise. So many idle loops show in the number of those.
func TestIdleIsNotIowait(t *testing.T) {
	skipIfCounted(t, newRing(t, ring.Config{}))
	const threads = 16
	for _, c := range []struct {
		name string
		hide []string
		ok   func(more int) bool
	}{
		{"with the flag", nil, func(more int) bool { return more < threads/2 }},
		{"without", []string{"no_iowait"}, func(more int) bool { return more > threads/2 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := blocked(t)
			wake := idle(t, threads, c.hide)
			defer wake()
			more := blocked(t) - before
			// The number is the host's, so others move it too.
			for end := time.Now().Add(testutil.Timeout(patience)); !c.ok(more); more = blocked(t) - before {
				if time.Now().After(end) {
					t.Fatalf("%d more threads are blocked on a disk while %d wait in a ring", more, threads)
				}
			}
		})
	}
}

// skipIfCounted ends a test of the flag on a kernel that does not know it.
func skipIfCounted(t *testing.T, r *ring.Ring) {
	t.Helper()
	var err error
	if !r.Have("no_iowait") {
		err = errors.ErrUnsupported
	}
	testutil.SkipIfKernelOlder(t, "6.15", "no_iowait", err)
}

// blocked returns the least of some looks at the number of blocked threads.
func blocked(t *testing.T) int {
	t.Helper()
	least := 1 << 30
	for range 10 {
		text, err := os.ReadFile("/proc/stat")
		must(t, err)
		_, rest, _ := strings.Cut(string(text), "\nprocs_blocked ")
		line, _, _ := strings.Cut(rest, "\n")
		n, err := strconv.Atoi(line)
		must(t, err)
		least = min(least, n)
		time.Sleep(time.Millisecond)
	}
	return least
}

// idle returns when so many threads wait, each in a ring of its own.
func idle(t *testing.T, threads int, hide []string) (wake func()) {
	t.Helper()
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	must(t, err)
	var all sync.WaitGroup
	tids := make(chan int, threads)
	for range threads {
		all.Go(func() {
			runtime.LockOSThread()
			defer runtime.UnlockOSThread()
			r, err := ring.New(ring.Config{Entries: 8, Hide: hide})
			if err != nil {
				t.Error(err)
				tids <- 0
				return
			}
			defer r.Close()
			r.SQE().PrepPollAdd(int32(event), unix.POLLIN)
			tids <- unix.Gettid()
			if _, err := r.Enter(1, -1); err != nil || r.Ready() != 1 {
				t.Errorf("%d answers, %v", r.Ready(), err)
			}
		})
	}
	wake = func() {
		_, err := unix.Write(event, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		must(t, err)
		all.Wait()
		must(t, unix.Close(event))
	}
	for range threads {
		tid := <-tids
		for end := time.Now().Add(testutil.Timeout(patience)); tid != 0 && !waits(tid); time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				wake()
				t.Fatal("a thread does not come to its wait")
			}
		}
	}
	return wake
}

// waits reports whether a thread sleeps in io_uring_enter(2).
func waits(tid int) bool {
	call, _ := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/syscall", tid))
	number, _, _ := strings.Cut(string(call), " ")
	return number == strconv.Itoa(unix.SYS_IO_URING_ENTER)
}
