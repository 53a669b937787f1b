package testutil

import (
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) { Main(m) }

// leakEnv tells a copy of this test binary what to leave behind.
const leakEnv = "PENSTOCK_TEST_LEAK"

var leaked *os.File // keeps the descriptor from being closed by the collector

// TestLeaveBehind does nothing but in a child of TestMainFailsOnLeaks.
func TestLeaveBehind(t *testing.T) {
	switch os.Getenv(leakEnv) {
	case "fd":
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		leaked = f
	case "goroutine":
		go leakedGoroutine(make(chan int))
	case "slow":
		go time.Sleep(200 * time.Millisecond)
	case "failure":
		leaked, _ = os.Open(os.DevNull)
		t.Error("failed on purpose")
	}
}

func leakedGoroutine(never chan int) { <-never }

func TestMainFailsOnLeaks(t *testing.T) {
	for _, tc := range []struct {
		leave, want string
		ok          bool
	}{
		{leave: "nothing", ok: true},
		{leave: "slow", ok: true},
		{leave: "fd", want: os.DevNull},
		{leave: "goroutine", want: "leakedGoroutine"},
		{leave: "failure", want: "failed on purpose"},
	} {
		t.Run(tc.leave, func(t *testing.T) {
			cmd := exec.Command(os.Args[0], "-test.run=^TestLeaveBehind$", "-test.count=1")
			cmd.Env = append(os.Environ(), leakEnv+"="+tc.leave)
			out, err := cmd.CombinedOutput()
			if (err == nil) != tc.ok {
				t.Errorf("exit: %v\n%s", err, out)
			}
			if !strings.Contains(string(out), tc.want) {
				t.Errorf("the output does not name %q:\n%s", tc.want, out)
			}
			if tc.leave == "failure" && strings.Contains(string(out), "left behind") {
				t.Errorf("a failed test was also blamed for leaks:\n%s", out)
			}
		})
	}
}

func TestSnapshotSeesReusedNumber(t *testing.T) {
	was := snapshot{fds: map[int]string{3: "socket:[1]", 4: "pipe:[2]"}}
	now := snapshot{fds: map[int]string{3: "socket:[9]", 4: "pipe:[2]"}}
	got := was.added(now)
	if len(got) != 1 || !strings.Contains(got[0], "descriptor 3: socket:[9]") {
		t.Errorf("got %q", got)
	}
}

func TestEventually(t *testing.T) {
	n := 0
	Eventually(t, time.Second, "counting to three", func() bool { n++; return n == 3 })
	if n != 3 {
		t.Errorf("asked %d times", n)
	}
}

func TestTimeoutFactor(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"": time.Second, "2.5": 2500 * time.Millisecond, "-1": time.Second, "fast": time.Second,
	} {
		t.Setenv("PENSTOCK_TEST_FACTOR", value)
		if got := Timeout(time.Second); got != want {
			t.Errorf("factor %q: got %v, want %v", value, got, want)
		}
	}
}
