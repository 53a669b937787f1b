package main

import (
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// TestWrongUsage checks that a wrong command line is refused with exit code 2
// and one line that names what is wrong, and nothing on stdout.
func TestWrongUsage(t *testing.T) {
	for _, tc := range []struct{ line, want string }{
		{"", "command"},
		{"bogus", "bogus"},
		{"help bogus", "bogus"},
		{"help serve bogus", "bogus"},
		{"serve", "kind"},
		{"serve bogus", "bogus"},
		{"serve echo echo", "echo"},
		{"serve echo --bogus", "--bogus"},
		{"probe --bogus", "--bogus"},
		{"version 1", "1"},
		{"serve echo --events", "--events: a value is missing"},
		{"serve echo --events=", "--events"},
		{"serve echo --events --pin", "--pin"},
		{"serve echo --events --loops=1", "--loops=1"},
		{"serve echo --idle-timeout", "--idle-timeout: a value is missing"},
		{"serve echo --loops", "--loops: a value is missing"},
		{"serve echo --loops 0x2", "0x2"},
		{"serve echo --max-conns 1_0", "1_0"},
		{"serve ws-echo --max-message 0", "--max-message: 0 bytes"},
		{"serve ws-echo --listen udp://127.0.0.1:0", "ws-echo is not for datagrams"},
		{"serve echo --slow-peer=bogus", "bogus"},
		{"serve echo --slow-peer=", "--slow-peer"},
		{"serve echo --slow-peer drop-oldest", "drop-oldest"},
		{"serve echo --send-memory 1MB", "1MB"},
		{"serve echo --send-memory=-1", "-1"},
		{"serve echo --max-conns=-1", "-1"},
		{"serve echo --max-conns -1", "-1 is below 0"},
		{"serve echo --loops -1", "-1 is not a number"},
		{"serve echo --high-water -5", `"-5" is not a size`},
		{"serve echo --idle-timeout -1s", "-1s is below 0"},
		{"serve echo --max-conns many", "many"},
		{"serve echo --idle-timeout=-1s", "-1s"},
		{"serve echo --idle-timeout 5", "5"},
		{"serve firehose --listen udp://127.0.0.1:0", "udp://127.0.0.1:0"},
		{"serve firehose --listen tcp://127.0.0.1:0 --listen udp://127.0.0.1:0", "datagrams"},
		{"serve echo --listen udp://127.0.0.1", "udp://127.0.0.1"},
		{"serve echo --listen udp://127.0.0.1:65536", "65536"},
		{"serve echo --listen unix://", "unix://"},
		{"serve echo --listen unix://@", "unix://@"},
		{"serve echo --listen unix://relative/path", "unix://relative/path"},
		{"serve echo --listen unix:/x", "unix:/x"},
		{"serve echo --listen unix:///" + strings.Repeat("x", 107), "108 bytes"},
		{"serve echo --listen unix://@" + strings.Repeat("x", 107), "108 bytes"},
		{"serve echo --listen unix:///a\x01b", "control character"},
		{"serve ws-echo --max-message 1MB", "--max-message"},
		{"serve echo --listen 127.0.0.1:8484", "127.0.0.1:8484"},
		{"serve echo --listen http://127.0.0.1:80", "http://127.0.0.1:80"},
		{"serve echo --listen tcp://127.0.0.1", "tcp://127.0.0.1"},
		{"serve echo --listen tcp://127.0.0.1:", "tcp://127.0.0.1:"},
		{"serve echo --listen tcp://127.0.0.1:http", "http"},
		{"serve echo --listen tcp://127.0.0.1:65536", "65536"},
		{"serve echo --listen tcp://127.0.0.1:-1", "-1"},
		{"serve echo --listen tcp://256.0.0.1:80", "256.0.0.1"},
		{"serve echo --listen tcp://::1:80", "::1:80"},
		{"serve echo --listen tcp://[::1:80", "[::1:80"},
		{"serve echo --listen tcp://a/b:80", "a/b"},
		{"serve echo --listen=", "scheme"},
		{"serve echo --engine bogus", "bogus"},
		{"serve echo --engine=", "--engine"},
		{"serve echo --loops=-1", "-1"},
		{"serve echo --loops=+2", "+2"},
		{"serve echo --max-conns=+3", "+3"},
		{"serve echo --loops 1025", "1025"},
		{"serve echo --loops two", "two"},
		{"serve echo --high-water 0", "--high-water"},
		{"serve echo --high-water 1MB", "1MB"},
		{"serve echo --high-water=-1", "-1"},
		{"serve echo --high-water 1.5MiB", "1.5MiB"},
		{"serve echo --high-water 1kib", "1kib"},
		{"serve echo --high-water KiB", "KiB"},
		{"serve echo --high-water 8589934592GiB", "8589934592GiB"},
		{"serve echo --high-water 99999999999999999999", "99999999999999999999"},
		{"serve echo --low-water 1MiB", "1048576"},
		{"serve echo --low-water 2MiB", "2MiB"},
		{"serve echo --high-water 4MiB --send-limit 2097153", "2097153"},
		{"serve echo --low-water 4097 --high-water 4KiB", "4097"},
		{"serve echo --high-water 4KiB --send-limit 4095", "4095"},
		{"serve echo --send-limit 0", "--send-limit"},
		{"serve echo --close-timeout 5", "5"},
		{"serve echo --close-timeout 0s", "--close-timeout"},
		{"serve echo --close-timeout=-1s", "-1s"},
		{"serve echo --drain-timeout=-1s", "-1s"},
		{"serve echo --drain-timeout soon", "soon"},
	} {
		t.Run(tc.line, func(t *testing.T) {
			code, stdout, stderr := result(t, command(strings.Fields(tc.line)...))
			if code != exitUsage || stdout != "" {
				t.Errorf("exit code %d, stdout %q", code, stdout)
			}
			if strings.Count(stderr, "\n") != 1 || !strings.HasSuffix(stderr, "\n") || !strings.Contains(stderr, tc.want) {
				t.Errorf("stderr is not one line that has %q: %q", tc.want, stderr)
			}
		})
	}
}

// TestHelp checks that every flag is described, wherever help is asked for.
func TestHelp(t *testing.T) {
	flags := []string{
		"--listen=ADDR", "tcp://127.0.0.1:8484", "--engine=", "Default auto", "--loops=", "--pin", "--high-water=SIZE", "Default 1MiB",
		"--low-water=SIZE", "--send-limit=SIZE", "same as --high-water", "--send-memory=SIZE", "--slow-peer=", "--max-message=SIZE", "10MiB",
		"--max-conns=", "--idle-timeout=DURATION", "--close-timeout=DURATION", "Default 10s", "--drain-timeout=DURATION", "--events=FILE",
		"echo", "discard", "firehose", "ws-echo", "GOMAXPROCS", "permessage-deflate",
	}
	program := append([]string{"serve", "probe", "version", "help", "--json"}, flags...)
	for line, want := range map[string][]string{
		"help": program, "--help": program, "-h": program, "help help": nil, "help --help": program,
		"help serve": flags, "serve --help": flags, "serve echo --help": flags, "serve -h": flags,
		"help probe": {"--json", "kernel", "nofile"}, "probe --help": {"--json"}, "help version": nil,
	} {
		t.Run(line, func(t *testing.T) {
			code, stdout, stderr := result(t, command(strings.Fields(line)...))
			text := strings.Join(strings.Fields(stdout), " ") // It is wrapped somewhere.
			if code != exitOK || stderr != "" || !strings.HasPrefix(text, "Usage: penstock") {
				t.Errorf("exit code %d, stderr %q, stdout %q", code, stderr, stdout)
			}
			for _, w := range want {
				if !strings.Contains(text, w) {
					t.Errorf("no %q in:\n%s", w, stdout)
				}
			}
		})
	}
}

// TestHelpUnwritten holds that a disk that is full is no wrong command line.
func TestHelpUnwritten(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("this host has no /dev/full")
	}
	defer full.Close()
	for _, line := range []string{"help", "serve --help", "probe", "version"} {
		cmd := command(strings.Fields(line)...)
		cmd.Stdout = full
		if err := cmd.Run(); cmd.ProcessState.ExitCode() != exitFailed {
			t.Errorf("%s: %v", line, err)
		}
	}
}

func TestVersion(t *testing.T) {
	code, stdout, stderr := result(t, command("version"))
	if code != exitOK || stderr != "" || strings.Count(stdout, "\n") != 1 || !strings.HasPrefix(stdout, "penstock ") {
		t.Errorf("exit code %d, stderr %q, stdout %q", code, stderr, stdout)
	}
}

func TestProbe(t *testing.T) {
	code, stdout, stderr := result(t, command("probe", "--json"))
	if code != exitOK || stderr != "" {
		t.Fatalf("exit code %d, stderr %q", code, stderr)
	}
	var p struct {
		Kernel, Engine, Reason string
		Features               map[string]bool
		CPUs                   int
		NoFile                 uint64
		MemLock                *uint64
	}
	d := json.NewDecoder(strings.NewReader(stdout))
	d.DisallowUnknownFields()
	if err := d.Decode(&p); err != nil {
		t.Fatalf("%v in %s", err, stdout)
	}
	engine := "uring"
	if uring() != nil {
		engine = "epoll"
	}
	release, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		t.Fatal(err)
	}
	if p.Kernel != strings.TrimSpace(string(release)) || p.Engine != engine || p.Reason == "" || p.CPUs < 1 || p.NoFile == 0 || p.Features == nil {
		t.Errorf("%s", stdout)
	}
	code, stdout, stderr = result(t, command("probe"))
	if code != exitOK || stderr != "" {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	for _, want := range []string{p.Kernel, p.Engine, p.Reason, "nofile", "memlock", "cpus"} {
		if !strings.Contains(stdout, want) {
			t.Errorf("no %q in:\n%s", want, stdout)
		}
	}
	for name := range p.Features {
		if !strings.Contains(stdout, name) {
			t.Errorf("no %q in:\n%s", name, stdout)
		}
	}
}
