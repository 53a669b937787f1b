package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// mainEnv makes this test binary be the command: what is tested is a process,
// with its signals, limits and exit codes, built as the tests are.
const mainEnv = "PENSTOCK_TEST_AS_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" {
		main()
	}
	testutil.Main(m)
}

// command returns the command line as a process to start.
func command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	// The race detector would have each process wait a second before it exits.
	cmd.Env = append(os.Environ(), mainEnv+"=1", "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	return cmd
}

// result runs a command line to its end.
func result(t *testing.T, cmd *exec.Cmd) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer time.AfterFunc(testutil.Timeout(20*time.Second), func() { _ = cmd.Process.Kill() }).Stop()
	_ = cmd.Wait()
	return cmd.ProcessState.ExitCode(), out.String(), errs.String()
}

// uring is why this host gives no io_uring, or nil.
var uring = sync.OnceValue(func() error {
	g, err := reactor.Start(reactor.Config{Loops: 1, Engine: reactor.Uring})
	if err == nil {
		err = g.Close()
	}
	return err
})

// onEngines runs a test on both engines.
func onEngines(t *testing.T, test func(t *testing.T, engine string)) {
	t.Run("uring", func(t *testing.T) {
		testutil.SkipIfKernelOlder(t, "6.1", "io_uring", uring())
		test(t, "uring")
	})
	t.Run("epoll", func(t *testing.T) { test(t, "epoll") })
}

// process is a running penstock serve.
type process struct {
	t      *testing.T
	cmd    *exec.Cmd
	addrs  []string // HOST:PORT of the listeners, or the name
	nets   []string // tcp, udp or unix
	lines  []string // what stdout said when it was ready
	stderr bytes.Buffer
	events string // the file
	high   int
	low    int
	memory bool // there is --send-memory: messages are refused below the marks
}

var listening = regexp.MustCompile(`^listening on (?:(tcp|udp)://(\S+:[1-9][0-9]*)|(unix)://(\S+)) engine=(uring|epoll) loops=([0-9]+)$`)

// serve starts a server with two loops, on a free port unless args say else,
// and waits until it listens. Events go to a file unless args have some.
func serve(t *testing.T, kind, engine string, args ...string) *process {
	t.Helper()
	s := &process{t: t, high: 1 << 20}
	given := strings.Join(args, " ") + " "
	if !strings.Contains(given, "--listen") {
		args = append(args, "--listen", "tcp://127.0.0.1:0")
	}
	if !strings.Contains(given, "--events") {
		s.events = filepath.Join(t.TempDir(), "events")
		args = append(args, "--events", s.events)
	}
	s.memory = strings.Contains(given, "--send-memory")
	for name, mark := range map[string]*int{"high": &s.high, "low": &s.low} {
		if m := regexp.MustCompile(name + `-water (\d+) `).FindStringSubmatch(given); m != nil {
			_, _ = fmt.Sscan(m[1], mark)
		}
	}
	s.start(command(append([]string{"serve", kind, "--engine", engine, "--loops", "2"}, args...)...), strings.Count(given, "--listen"))
	return s
}

// start starts cmd and waits for as many lines as it has listeners.
func (s *process) start(cmd *exec.Cmd, listeners int) {
	s.t.Helper()
	if !s.tryStart(cmd, listeners) {
		s.t.Fatalf("it ended (%v) before it listened, after %q:\n%s", cmd.ProcessState, s.lines, &s.stderr)
	}
}

// tryStart is start, and reports whether it listens; if not, it has ended.
func (s *process) tryStart(cmd *exec.Cmd, listeners int) bool {
	s.t.Helper()
	s.cmd = cmd
	cmd.Stderr = &s.stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	kill := time.AfterFunc(testutil.Timeout(20*time.Second), func() { _ = cmd.Process.Kill() })
	defer kill.Stop()
	lines := bufio.NewScanner(out)
	for len(s.lines) < max(1, listeners) {
		if !lines.Scan() {
			_ = cmd.Wait()
			return false
		}
		s.lines = append(s.lines, lines.Text())
		m := listening.FindStringSubmatch(lines.Text())
		if m == nil {
			s.t.Fatalf("not a line of a listener: %q", lines.Text())
		}
		s.nets = append(s.nets, m[1]+m[3])
		s.addrs = append(s.addrs, m[2]+m[4])
	}
	return true
}

// dial connects to the first listener, with a deadline on all that follows.
func (s *process) dial() *net.TCPConn {
	s.t.Helper()
	return s.dialBy(&net.Dialer{})
}

func (s *process) dialBy(d *net.Dialer) *net.TCPConn {
	s.t.Helper()
	c, err := d.Dial("tcp", s.addrs[0])
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(testutil.Timeout(60 * time.Second))); err != nil {
		s.t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// ask sends what a client says.
func (s *process) ask(format string, args ...any) *net.TCPConn {
	s.t.Helper()
	c := s.dial()
	if _, err := fmt.Fprintf(c, format, args...); err != nil {
		s.t.Fatal(err)
	}
	return c
}

// rest waits until the server has nothing more to do than to wait.
func (s *process) rest() {
	s.t.Helper()
	idle, before := 0, ""
	testutil.Eventually(s.t, 30*time.Second, "a server at rest", func() bool {
		time.Sleep(20 * time.Millisecond)
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
		if err != nil {
			s.t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		now := strings.Join(strings.Fields(rest)[11:13], " ") // utime, stime: see proc_pid_stat(5)
		if idle++; now != before {
			idle, before = 0, now
		}
		return idle >= 8
	})
}

// summary is the last line on stderr.
type summary struct{ served, open, lost int }

var lastLine = regexp.MustCompile(`(?:^|\n)stopped: served=(\d+) open=(\d+) lost_bytes=(\d+)\n$`)

// stop sends a signal and waits for the end.
func (s *process) stop(sig syscall.Signal) summary {
	s.t.Helper()
	code, sum := s.signal(sig)
	if code != 0 {
		s.t.Errorf("exit code %d:\n%s", code, &s.stderr)
	}
	return sum
}

func (s *process) signal(signals ...syscall.Signal) (code int, sum summary) {
	s.t.Helper()
	for i, sig := range signals {
		if i > 0 {
			time.Sleep(50 * time.Millisecond) // Two at once would be one.
		}
		_ = s.cmd.Process.Signal(sig)
	}
	return s.wait()
}

func (s *process) wait() (code int, sum summary) {
	s.t.Helper()
	kill := time.AfterFunc(testutil.Timeout(30*time.Second), func() { _ = s.cmd.Process.Kill() })
	defer kill.Stop()
	_ = s.cmd.Wait()
	m := lastLine.FindStringSubmatch(s.stderr.String())
	if m == nil {
		s.t.Fatalf("%v, and stderr does not end in the summary:\n%s", s.cmd.ProcessState, &s.stderr)
	}
	_, _ = fmt.Sscan(m[1]+" "+m[2]+" "+m[3], &sum.served, &sum.open, &sum.lost)
	return s.cmd.ProcessState.ExitCode(), sum
}

// record is any event.
type record struct {
	Time                             time.Time
	Event, Remote, Local, Reason     string
	Conn, Pending, Size, Loop, Count int
	BytesIn                          int `json:"bytes_in"`
	BytesOut                         int `json:"bytes_out"`
	LostBytes                        int `json:"lost_bytes"`
	Full, Drain, Rejected            int
	PendingMax                       int `json:"pending_max"`
}

// records reads the events and checks what holds for any run: the order of a
// connection's events, its counts, and the marks. It returns them by
// connection, in the order of the IDs.
func (s *process) records() [][]record {
	s.t.Helper()
	text, err := os.ReadFile(s.events)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.check(text)
}

func (s *process) check(text []byte) [][]record {
	s.t.Helper()
	byID := map[int][]record{}
	highest := 0
	for line := range bytes.Lines(text) {
		var r record
		d := json.NewDecoder(bytes.NewReader(line))
		d.DisallowUnknownFields()
		if err := d.Decode(&r); err != nil {
			s.t.Fatalf("event %q: %v", line, err)
		}
		if r.Event == "dropped" {
			s.t.Errorf("%d events were dropped", r.Count)
			continue
		}
		byID[r.Conn] = append(byID[r.Conn], r)
		highest = max(highest, r.Conn)
	}
	all := make([][]record, 0, len(byID))
	for id := 1; id <= highest; id++ {
		if len(byID[id]) == 0 {
			s.t.Errorf("no event of connection %d of %d", id, highest)
			continue
		}
		s.life(byID[id])
		all = append(all, byID[id])
	}
	return all
}

// life checks one connection's events.
func (s *process) life(all []record) {
	s.t.Helper()
	first, last := all[0], all[len(all)-1]
	if first.Event != "open" || first.Remote == "" || first.Local == "" || first.Loop > 1 {
		s.t.Errorf("the first event is %+v", first)
	}
	if last.Event != "close" {
		s.t.Errorf("the last event is %+v", last)
	}
	count := map[string]int{}
	full := false
	for i, r := range all {
		count[r.Event]++
		switch {
		case i > 0 && r.Time.Before(all[i-1].Time):
			s.t.Errorf("%+v is earlier than the event before it", r)
		case r.Event == "full" && (full || r.Pending < s.high), r.Event == "drain" && (!full || r.Pending > s.low):
			s.t.Errorf("%+v with full %v, marks %d and %d", r, full, s.high, s.low)
		case r.Event == "reject" && (r.Pending < s.high && !s.memory || r.Size == 0):
			s.t.Errorf("%+v below the limit", r)
		}
		if r.Event == "full" || r.Event == "drain" {
			full = r.Event == "full"
		}
		if r.Pending > last.PendingMax {
			s.t.Errorf("%+v, above the most of %d", r, last.PendingMax)
		}
	}
	if count["open"] != 1 || count["close"] != 1 || count["eof"] > 1 ||
		count["full"] != last.Full || count["drain"] != last.Drain || count["reject"] != last.Rejected {
		s.t.Errorf("events %v, but %+v", count, last)
	}
	clean := last.Reason == "local" || last.Reason == "eof" || last.Reason == "protocol_error"
	if clean && (last.Full != last.Drain || last.LostBytes != 0) {
		s.t.Errorf("a clean end with %+v", last)
	}
}

// ends stops the server and returns the close events.
func (s *process) ends() []record {
	s.t.Helper()
	s.stop(syscall.SIGTERM)
	var all []record
	for _, life := range s.records() {
		all = append(all, life[len(life)-1])
	}
	return all
}

// stream is what SEND answers, written down once more from the protocol.
func stream(n int, seed string) []byte {
	b := make([]byte, 0, n+sha256.Size)
	text := []byte(seed + ":")
	for k := int64(0); len(b) < n; k++ {
		sum := sha256.Sum256(strconv.AppendInt(text, k, 10))
		b = append(b, sum[:]...)
	}
	return b[:n]
}

// all reads to the end of file, in large pieces: those that ReadAll begins with are so
// small that a slow reader would open no window for a while.
func all(t *testing.T, r io.Reader) []byte {
	t.Helper()
	b, err := io.ReadAll(bufio.NewReaderSize(r, 64<<10))
	if err != nil {
		t.Fatalf("after %d bytes: %v", len(b), err)
	}
	return b
}

// same compares long texts without printing them.
func same(t *testing.T, got, want []byte) {
	t.Helper()
	if bytes.Equal(got, want) {
		return
	}
	at := 0
	for at < len(got) && at < len(want) && got[at] == want[at] {
		at++
	}
	t.Fatalf("%d bytes, want %d; the first that differs is %d", len(got), len(want), at)
}
