package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/bench/internal/report"
	"github.com/penstock-go/penstock/bench/internal/scenario"
	"github.com/penstock-go/penstock/bench/internal/subject"
)

// candidate is a subject and how to start it.
type candidate struct {
	report.Subject
	path      string // "" for a server that runs already
	args      []string
	protocols []string
}

// runs reports whether a candidate takes part in a scenario.
func (c *candidate) runs(s scenario.Scenario) bool {
	return c.Error == "" && slices.Contains(c.protocols, s.Protocol) && (c.Own || !s.Own)
}

// wanted reports whether there is a scenario that a candidate could take part in.
func (c *candidate) wanted(list []scenario.Scenario) bool {
	return slices.ContainsFunc(list, func(s scenario.Scenario) bool { return slices.Contains(c.protocols, s.Protocol) && (c.Own || !s.Own) })
}

// moduleName is how the repository is known again.
const moduleName = "module github.com/penstock-go/penstock\n"

// findRoot returns the folder of the repository that holds dir.
func findRoot(dir string) (string, error) {
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), moduleName) {
			return dir, nil
		}
		up := filepath.Dir(dir)
		if up == dir {
			return "", errors.New("this needs the repository: run it from inside")
		}
		dir = up
	}
}

// ours lists the subjects of this library: each engine, and the first twice.
func (b *bench) ours() ([]*candidate, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	how := "this library, one handler with all hooks, high-water mark of 1 MiB, PauseOnFull, counters read once a second, GOMAXPROCS = loops + 2, engine "
	var list []*candidate
	engines := strings.Split(b.engines, ",")
	for i, engine := range engines {
		if engine != "uring" && engine != "epoll" {
			return nil, fmt.Errorf("-engines: %q is neither uring nor epoll", engine)
		}
		if slices.Contains(engines[:i], engine) {
			return nil, fmt.Errorf("-engines: %q is there twice; what differs between the same twice is measured anyway", engine)
		}
		list = append(list, &candidate{Subject: report.Subject{Name: engine, How: how + engine, Base: engines[0], Own: true},
			path: self, args: []string{roleSubject, "--engine", engine}, protocols: subject.Protocols()})
	}
	return list, nil
}

// again adds the second of the A/A pair, behind all others so that the two are
// as far apart as any pair.
func again(list []*candidate) []*candidate {
	i := slices.IndexFunc(list, func(c *candidate) bool { return c.Error == "" })
	if i < 0 {
		return list
	}
	twin := *list[i]
	twin.Again, twin.Name, twin.How = twin.Name, twin.Name+" again", "the same once more: the A/A pair"
	return append(list, &twin)
}

// try starts a candidate once, so that what cannot run is known before.
func (b *bench) try(ctx context.Context, c *candidate) {
	if c.path == "" || c.Error != "" {
		return
	}
	s, err := startServer(ctx, b.cpus, c.path, append(slices.Clone(c.args), "--protocol", c.protocols[0], "--listen", "127.0.0.1:0", "--loops", "1")...)
	if err != nil {
		c.Error = err.Error()
		return
	}
	s.end()
}

// peers builds bench/compare into a folder, which is this run's own so that no
// other run changes what is measured, and asks it what it has.
func (b *bench) peers(ctx context.Context, dir string) ([]*candidate, error) {
	program := filepath.Join(dir, "compare")
	if out, err := goBuild(ctx, filepath.Join(b.root, "bench", "compare"), dir, "-tags="+peerTags, "-o", program, "."); err != nil {
		return nil, fmt.Errorf("the peers of bench/compare do not build: %s", wrong(out, err))
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	out, err := command(ctx, program, "--list").Output()
	if err != nil {
		return nil, fmt.Errorf("bench/compare does not say what it has: %w", err)
	}
	var list []*candidate
	for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
		var p struct {
			Name, How, Error string
			Protocols        []string
		}
		if err := json.Unmarshal(lines.Bytes(), &p); err != nil {
			return nil, fmt.Errorf("bench/compare said %q: %w", lines.Text(), err)
		}
		list = append(list, &candidate{Subject: report.Subject{Name: p.Name, How: p.How, Error: p.Error},
			path: program, args: []string{"--peer", p.Name}, protocols: p.Protocols})
	}
	return list, nil
}

// peerTags are the build tags that peers ask for in their documentation.
const peerTags = "poll_opt"

// command is a program that starts others, like go. When ctx ends, all of them are told
// so, as by a Ctrl-C: killed alone, it would leave its compilers behind.
func command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) }
	cmd.WaitDelay = endWithin
	return cmd
}

// goBuild builds what is in a folder. Interrupted, go leaves things in its temporary folder,
// which is here one that this run takes away.
func goBuild(ctx context.Context, in, temporary string, args ...string) ([]byte, error) {
	build := command(ctx, "go", append([]string{"build"}, args...)...)
	build.Dir = in
	build.Env = append(build.Environ(), "GOTMPDIR="+temporary)
	return build.CombinedOutput()
}

// wrong returns the first line of what a tool like go or git printed that says what
// is wrong, or the error. What go prints last is advice, and before it names packages.
func wrong(out []byte, err error) string {
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if line != "" && !strings.HasPrefix(line, "# ") && !strings.HasPrefix(line, "go: downloading ") {
			return line
		}
	}
	return err.Error()
}
