package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/bench/internal/report"
	"github.com/penstock-go/penstock/bench/internal/scenario"
	"github.com/penstock-go/penstock/internal/testutil"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" { // The tests start this binary as server and as generator.
		os.Exit(start(os.Args[1:]))
	}
	testutil.Main(m)
}

// TestReadme holds the table of README.md against the raw figures that it is
// generated from.
func TestReadme(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	name, ok := report.ReadmeSource(string(readme))
	if !ok {
		return // There is no table, so there is nothing in it that could be wrong.
	}
	r, err := report.Read(filepath.Join("..", name))
	if err != nil {
		t.Fatal(err)
	}
	if want, err := r.Readme(string(readme), name); err != nil || want != string(readme) {
		t.Errorf("README.md is not what %s gives (%v): run go run ./bench -readme %s", name, err, name)
	}
}

// TestUpdateReadme has -readme write what TestReadme then finds right.
func TestUpdateReadme(t *testing.T) {
	root := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":    moduleName,
		"README.md": "# A\n\n<!-- bench:begin -->\n<!-- bench:end -->\n",
	} {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := &report.Report{Version: report.Version}
	names, err := r.Write(filepath.Join(root, "bench", "results"), "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := updateReadme(root, names[0]); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(root, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	name, ok := report.ReadmeSource(string(text))
	if !ok || name != "bench/results/x.json" {
		t.Fatalf("generated from %q\n%s", name, text)
	}
	if want, err := r.Readme(string(text), name); err != nil || want != string(text) {
		t.Errorf("a second time it is different: %v", err)
	}
	elsewhere, err := r.Write(t.TempDir(), "x")
	if err != nil {
		t.Fatal(err)
	}
	if err := updateReadme(root, elsewhere[0]); err == nil {
		t.Error("figures from outside the repository were taken")
	}
}

func TestUsage(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"-run", "nothing like it"}, "matches none of"},
		{[]string{"-run", "("}, "-run"},
		{[]string{"-moon"}, "-moon"},
		{[]string{"echo"}, `unexpected "echo"`},
		{[]string{"-rounds", "0"}, "-rounds"},
		{[]string{"-for", "-1s"}, "-for"},
		{[]string{"-target", "127.0.0.1:1"}, "not tcp://"},
		{[]string{"-target", "tcp://127.0.0.1:1", "-compare"}, "measured alone"},
		{[]string{"-pid", "1"}, "-target"},
		{[]string{"-target", "tcp://127.0.0.1:1", "-pid", "4194305", "-run", "echo-64-c1$"}, "no process 4194305"},
		{[]string{"-engines", "kqueue"}, "kqueue"},
		{[]string{"-engines", "epoll,epoll"}, "twice"},
		{[]string{"-name", "a/b"}, "-name"},
		{[]string{"-against", "", "-list"}, "-against: nothing is named"},
		{[]string{"-run", "echo-64-c1$", "-out", "main.go"}, "the report cannot be kept"},
		{[]string{"-readme", "no-such-file.json"}, "no-such-file"},
		{[]string{"-against", "no-such-revision", "-run", "echo-64-c1$"}, `git knows no revision "no-such-revision"`},
		{[]string{"-against", "--all", "-run", "echo-64-c1$"}, `git knows no revision "--all"`},
	} {
		var out, errs bytes.Buffer
		if code := tool(tc.args, &out, &errs); code == 0 || !strings.Contains(errs.String(), tc.want) {
			t.Errorf("%q: exit %d, %q, want %q", tc.args, code, &errs, tc.want)
		}
		if strings.Contains(errs.String(), "goroutine ") {
			t.Errorf("%q: a stack trace: %s", tc.args, &errs)
		}
	}
}

func TestUnreachable(t *testing.T) {
	target := "tcp://" + testutil.Refusing(t, "127.0.0.1")
	var errs bytes.Buffer
	if code := tool([]string{"-target", target, "-run", "echo"}, io.Discard, &errs); code != 1 || !strings.Contains(errs.String(), "cannot reach "+target) {
		t.Errorf("exit %d, %q", code, &errs)
	}
}

// measure runs the tool over a moment of some scenarios.
func measure(t *testing.T, ctx context.Context, args ...string) (out, errs string, r *report.Report, err error) {
	t.Helper()
	dir := t.TempDir()
	var o, e bytes.Buffer
	opts, err := parse(append(args, "-out", dir, "-for", "1s", "-rounds", "1"), &e)
	if err != nil {
		t.Fatal(err)
	}
	err = opts.do(ctx, &o, &e)
	r, readErr := report.Read(filepath.Join(dir, "report.json"))
	if readErr != nil && err == nil {
		t.Fatal(readErr)
	}
	return o.String(), e.String(), r, err
}

// TestRun measures one scenario for real. Its figures belong to the machine and
// are not looked at.
func TestRun(t *testing.T) {
	out, errs, r, err := measure(t, t.Context(), "-run", "^echo-64-c1$", "-engines", "epoll,uring")
	if err != nil {
		t.Fatalf("%v\n%s", err, errs)
	}
	var names []string
	for _, run := range r.Runs {
		names = append(names, run.Subject)
		if run.Result == nil || run.Result.Checked == 0 || run.Stats == nil {
			t.Errorf("%+v, %s", run, run.Error)
		}
	}
	want := []string{"epoll", "uring", "epoll again"}
	if r.Subjects[1].Error != "" { // A host without io_uring: TestProtocols judges whether it may be.
		want = []string{"epoll", "epoll again"}
	}
	if !slices.Equal(names, want) {
		t.Errorf("%q were run, want %q", names, want)
	}
	if !strings.Contains(out, "echo-64-c1") || !strings.Contains(errs, "100 %") {
		t.Errorf("%s%s", out, errs)
	}
}

// TestKeep writes elsewhere what its folder does not take any more.
func TestKeep(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	gone := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(gone, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	b := &bench{options: &options{out: gone, name: "x"}, report: &report.Report{Version: report.Version}}
	names, err := b.keep()
	if err == nil || len(names) != 2 || !strings.Contains(err.Error(), filepath.Dir(names[0])) {
		t.Fatalf("%q, %v", names, err)
	}
	if _, err := report.Read(names[0]); err != nil {
		t.Error(err)
	}
}

// TestUnread keeps the report when nobody reads the text, or ever did.
func TestUnread(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	r, gone, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Close()
	for what, out := range map[string]*os.File{"a full disk": full, "a reader that is gone": gone} {
		dir := t.TempDir()
		cmd := exec.Command(self, "-run", "^echo-64-c1$", "-engines", "epoll", "-for", "1s", "-rounds", "1", "-out", dir)
		cmd.Env = append(os.Environ(), childEnv+"=1")
		var errs bytes.Buffer
		cmd.Stdout, cmd.Stderr = out, &errs
		if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(errs.String(), "kept in "+dir) {
			t.Errorf("%s: %v, %s", what, err, &errs)
		}
		if _, err := report.Read(filepath.Join(dir, "report.json")); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		_ = out.Close()
	}
}

// TestMute is told of a server that takes all and answers nothing.
func TestMute(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	target := "tcp://" + l.Addr().String()
	var errs bytes.Buffer
	if code := tool([]string{"-target", target, "-run", "echo", "-out", t.TempDir()}, io.Discard, &errs); code != 1 || !strings.Contains(errs.String(), target+" does not echo") {
		t.Errorf("exit %d, %q", code, &errs)
	}
}

// watcher calls fn once a text was written to it.
type watcher struct {
	bytes.Buffer
	text string
	fn   func()
}

func (w *watcher) Write(p []byte) (int, error) {
	n, err := w.Buffer.Write(p)
	if strings.Contains(w.String(), w.text) {
		w.fn()
	}
	return n, err
}

// TestInterrupted ends a run in its middle: what was measured is reported, as partial.
func TestInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	opts, err := parse([]string{"-run", "^echo-64-c1$|^echo-1k-c64$", "-rounds", "1", "-for", "1s", "-out", t.TempDir(), "-engines", "epoll"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	errs := &watcher{text: " s  echo-64-c1\n", fn: cancel}
	if err := opts.do(ctx, &out, errs); err == nil || !strings.Contains(err.Error(), "interrupted") {
		t.Fatalf("%v\n%s", err, errs)
	}
	if !strings.Contains(out.String(), "partial: it was interrupted") || strings.Contains(out.String(), "echo-1k-c64  ") {
		t.Errorf("%s", &out)
	}
}

// TestHangup has the terminal go away before anything was measured.
func TestHangup(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	heard := make(chan os.Signal, 1) // What is heard here is not ignored there, also under nohup.
	signal.Notify(heard, syscall.SIGHUP)
	defer signal.Stop(heard)
	cmd := exec.Command(self, "-run", "^idle-10k$", "-engines", "epoll", "-for", "1s", "-out", t.TempDir())
	cmd.Env = append(os.Environ(), childEnv+"=1")
	var once sync.Once // A second one would end it at once.
	errs := &watcher{text: "about ", fn: func() { once.Do(func() { _ = cmd.Process.Signal(syscall.SIGHUP) }) }}
	cmd.Stderr = struct{ io.Writer }{errs} // Without the ReadFrom of its buffer.
	if err := cmd.Run(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(errs.String(), "bench: "+errNothing.Error()) {
		t.Errorf("%v: %s", err, errs)
	}
}

// TestTarget measures a server that this tool has not started.
func TestTarget(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s, err := startServer(t.Context(), nil, self, roleSubject, "--engine", "epoll")
	if err != nil {
		t.Fatal(err)
	}
	defer s.end()
	out, errs, r, err := measure(t, t.Context(), "-target", "tcp://"+s.addr, "-run", "^echo-64-c1$|open-25|slow")
	if err != nil {
		t.Fatalf("%v\n%s", err, errs)
	}
	if len(r.Runs) != 4 || strings.Contains(out, "CPU time of the server") {
		t.Errorf("%d runs\n%s", len(r.Runs), out)
	}
}

// TestChildEnds sees that no server outlives the one who started it.
func TestChildEnds(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s, err := startServer(t.Context(), nil, self, roleSubject, "--engine", "auto")
	if err != nil {
		t.Fatal(err)
	}
	s.end()
	if !s.cmd.ProcessState.Success() {
		t.Errorf("it ended by %s, and not because its input closed", s.cmd.ProcessState)
	}
	if _, err := startServer(t.Context(), nil, self, roleSubject, "--protocol", "morse"); err == nil || !strings.Contains(err.Error(), "morse") {
		t.Errorf("%v, want what it said", err)
	}
	if _, err := startServer(t.Context(), nil, filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a program that is not there was started")
	}
}

func TestPlan(t *testing.T) {
	list := scenario.Usual(scenario.All(20_000))
	three := func(scenario.Scenario) int { return 3 }
	p := newPlan(list, three, 3*time.Minute, 5)
	if p.window < leastWindow || p.rounds < 3 || p.total > 3*time.Minute+time.Second || p.total < 2*time.Minute {
		t.Errorf("%+v", p)
	}
	if q := newPlan(list, three, time.Second, 5); q.rounds != 3 || q.window != leastWindow {
		t.Errorf("in a second: %+v", q)
	}
	if q := newPlan(list, three, 10*time.Hour, 5); q.rounds != 5 || q.window != mostWindow {
		t.Errorf("in ten hours: %+v", q)
	}
	if p.spare <= 0 || p.spare > p.total/4 {
		t.Errorf("%v for what is disturbed, of %v", p.spare, p.total)
	}
	if p.warm < p.window/3-time.Millisecond || p.warm < leastWarm {
		t.Errorf("%v of warm-up before %v", p.warm, p.window)
	}
	steps := 0
	for _, s := range list {
		steps += 3 * len(s.Variants) * p.of(s)
	}
	if p.steps != steps {
		t.Errorf("%d steps, want %d", p.steps, steps)
	}
}

// TestWanted sees that a run of some scenarios starts no peer that has none of them.
func TestWanted(t *testing.T) {
	tcp, ws := &candidate{protocols: []string{"echo", "fanout"}}, &candidate{protocols: []string{"ws"}}
	for expression, want := range map[string][2]bool{"": {true, true}, "^ws-echo": {false, true}, "^echo": {true, false}, "goroutine-delay": {false, false}} {
		some, err := scenario.Select(scenario.All(20_000), expression)
		if err != nil {
			t.Fatal(err)
		}
		if got := [2]bool{tcp.wanted(some), ws.wanted(some)}; got != want {
			t.Errorf("-run %q: %v, want %v", expression, got, want)
		}
	}
}

// TestPlace keeps the generator off the server's cores where there are others.
func TestPlace(t *testing.T) {
	core := func(cpu int) string { return []string{"a", "b", "a", "b"}[cpu] }
	for _, tc := range []struct {
		cpus              []int
		loops             int
		server, generator []int
	}{
		{[]int{0, 1, 2, 3}, 1, []int{0}, []int{1, 3}},
		{[]int{0, 1, 2, 3}, 2, []int{0, 1}, []int{2, 3}}, // There is no other core.
		{[]int{0, 2}, 1, []int{0}, []int{2}},
		{[]int{0, 1}, 1, []int{0}, []int{1}},
		{[]int{0}, 1, []int{0}, []int{0}},
	} {
		server, generator := place(tc.cpus, tc.loops, core)
		if !slices.Equal(server, tc.server) || !slices.Equal(generator, tc.generator) {
			t.Errorf("%d loops on %v: %v and %v, want %v and %v", tc.loops, tc.cpus, server, generator, tc.server, tc.generator)
		}
	}
}

func TestCapacity(t *testing.T) {
	rates := map[string][]float64{"uring": {90, 100, 110}, "epoll": {50}, "net": {10}}
	if got := capacity("uring", rates); got != 100 {
		t.Errorf("without gnet %v", got)
	}
	rates["gnet-1"], rates["gnet-2"] = []float64{20}, []float64{70}
	if got := capacity("uring", rates); got != 70 {
		t.Errorf("with a slower gnet %v", got)
	}
	rates["gnet-2"] = []float64{170}
	if got := capacity("uring", rates); got != 100 {
		t.Errorf("with a faster gnet %v", got)
	}
	if got := capacity("uring", nil); got != 0 {
		t.Errorf("of nothing %v", got)
	}
}

func TestTail(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "",
		"a\nb\n":                             "b",
		"x\npanic: y\n\ngoroutine 1 [z]:\n ": "panic: y",
	} {
		var l tail
		if _, err := io.WriteString(&l, text); err != nil || l.line() != want {
			t.Errorf("%q: %q, want %q", text, l.line(), want)
		}
	}
	var l tail
	for range 1000 {
		_, _ = io.WriteString(&l, strings.Repeat("x", 100)+"\n")
	}
	if len(l.text) > 8<<10 {
		t.Errorf("it keeps %d bytes", len(l.text))
	}
}

// TestCommand interrupts a program and what that has started: none goes on, and the
// program can take its files away.
func TestCommand(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	made := filepath.Join(t.TempDir(), "made")
	// What is started says that it runs: between fork and exec it would be a shell that takes the signal for its own.
	cmd := command(ctx, "sh", "-c", `trap 'rm "$0"; exit 1' INT; touch "$0"; sh -c 'echo; exec sleep 60'; exit 1`, made)
	cmd.Stdout = struct{ io.Writer }{&watcher{text: "\n", fn: cancel}} // Run waits until nobody can write here.
	start := time.Now()
	if err := cmd.Run(); err == nil || time.Since(start) > endWithin {
		t.Errorf("%v, and something went on for %v", err, time.Since(start))
	}
	if _, err := os.Stat(made); !errors.Is(err, os.ErrNotExist) {
		t.Error("its file is left")
	}
}

func TestWrong(t *testing.T) {
	for out, want := range map[string]string{
		"": "exit status 1",
		"go: downloading x v1\n# example.org/x\n./a.go:3: undefined: y\n./b.go:1: z\n": "./a.go:3: undefined: y",
		"a.go:3:2: no required module provides package b; to add it:\n\tgo get b\n":    "a.go:3:2: no required module provides package b; to add it:",
	} {
		if got := wrong([]byte(out), errors.New("exit status 1")); got != want {
			t.Errorf("%q: %q, want %q", out, got, want)
		}
	}
}

func TestFindRoot(t *testing.T) {
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	root, err := findRoot(filepath.Join(dir, "internal", "load"))
	if err != nil || root != filepath.Dir(dir) {
		t.Errorf("%q, %v", root, err)
	}
	if _, err := findRoot(t.TempDir()); err == nil {
		t.Error("found where it is not")
	}
}
