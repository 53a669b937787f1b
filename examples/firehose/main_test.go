package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// mainEnv makes this test binary be the example.
const mainEnv = "PENSTOCK_TEST_AS_EXAMPLE"

func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" {
		main()
		os.Exit(0)
	}
	testutil.Main(m)
}

func example(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	// The race detector would have each process wait a second before it exits.
	cmd.Env = append(os.Environ(), mainEnv+"=1", "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	return cmd
}

var done = regexp.MustCompile(`\ndone: engine (\w+), .* sent and read, SHA-256 ok; (\d+) fulls, (\d+) drains, equal; `)

// TestLines runs without a terminal, for a while and to a signal.
func TestLines(t *testing.T) {
	for _, engine := range []string{"uring", "epoll"} {
		t.Run(engine, func(t *testing.T) {
			if engine == "uring" {
				g, err := reactor.Start(reactor.Config{Loops: 1, Engine: reactor.Uring})
				testutil.SkipIfKernelOlder(t, "6.1", "io_uring", err)
				if err := g.Close(); err != nil {
					t.Fatal(err)
				}
			}
			cmd := example("-listen", "127.0.0.1:0", "-engine", engine, "-for", "2500ms", "-rate", "500000", "-high", "65536", "-low", "1000")
			if engine == "epoll" {
				cmd = example("-listen", "127.0.0.1:0", "-engine", engine, "-rate", "0")
			}
			var out, errs bytes.Buffer
			cmd.Stdout, cmd.Stderr = &out, &errs
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			if engine == "epoll" {
				defer time.AfterFunc(testutil.Timeout(2500*time.Millisecond), func() { _ = cmd.Process.Signal(syscall.SIGTERM) }).Stop()
			}
			defer time.AfterFunc(testutil.Timeout(30*time.Second), func() { _ = cmd.Process.Kill() }).Stop()
			if err := cmd.Wait(); err != nil || errs.Len() > 0 {
				t.Fatalf("%v: %s", err, &errs)
			}
			m := done.FindStringSubmatch(out.String())
			if m == nil || m[1] != engine || m[2] == "0" || m[2] != m[3] {
				t.Errorf("not what it should end with:\n%s", &out)
			}
			if n := strings.Count(out.String(), "\n"); n < 2 || !strings.Contains(out.String(), "  queue ") {
				t.Errorf("%d lines:\n%s", n, &out)
			}
		})
	}
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out, err := example("-engine", "epoll", "-listen", l.Addr().String()).CombinedOutput()
	if err == nil || bytes.Count(out, []byte{'\n'}) != 1 || !bytes.Contains(out, []byte("is taken: ")) || !bytes.Contains(out, []byte("-listen")) {
		t.Errorf("%v: %s", err, out)
	}
}

func TestDecode(t *testing.T) {
	got := decode([]byte("+x-\x1b[A\x1bOB\x1b[Z \x1b[C\x1b[D=_q\x1b"))
	want := []key{keyFaster, keySlower, keyFaster, keySlower, keyPause, keyFaster, keySlower, keyFaster, keySlower, keyQuit}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestBytesText(t *testing.T) {
	for n, want := range map[float64]string{
		0: "0 B", 999: "999 B", 1000: "1.0 KiB", 1 << 20: "1.0 MiB", 150 << 20: "150 MiB", 1 << 40: "1.00 TiB",
	} {
		if got := bytesText(n); got != want {
			t.Errorf("%v: got %q, want %q", n, got, want)
		}
	}
}
