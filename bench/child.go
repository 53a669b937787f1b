package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/bench/internal/host"
	"github.com/penstock-go/penstock/bench/internal/load"
	"github.com/penstock-go/penstock/bench/internal/subject"
)

const (
	// startWithin bounds the time until a server accepts.
	startWithin = 20 * time.Second
	// endWithin is how long a process may take to end once its input closes.
	endWithin = 5 * time.Second
)

// child is a process that this one has started. It ends when its input closes,
// so it does not outlive this process, however that ends.
type child struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	errors tail
	ended  bool
}

// tail keeps the end of what is written to it.
type tail struct{ text []byte }

func (t *tail) Write(p []byte) (int, error) {
	const most = 8 << 10
	t.text = append(t.text, p...)
	if n := len(t.text) - most; n > 0 {
		t.text = append(t.text[:0], t.text[n:]...)
	}
	return len(p), nil
}

// line returns the last line, which says most often what is wrong. What the
// runtime prints of a crash comes after the line that counts.
func (t *tail) line() string {
	lines := strings.Split(strings.TrimSpace(string(t.text)), "\n")
	for _, l := range lines {
		if strings.HasPrefix(l, "panic:") || strings.HasPrefix(l, "fatal error:") {
			return strings.TrimSpace(l)
		}
	}
	return strings.TrimSpace(lines[len(lines)-1])
}

// startChild starts a program that runs on these CPUs only, from its first
// thread on.
func startChild(ctx context.Context, cpus []int, path string, args ...string) (*child, error) {
	c := &child{cmd: exec.CommandContext(ctx, path, args...)}
	c.cmd.Env = append(os.Environ(), childEnv+"=1")
	c.cmd.Stderr = &c.errors
	c.cmd.WaitDelay = endWithin
	// A Ctrl-C at the terminal is for this process, which ends the others.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if c.in, err = c.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.out = bufio.NewReader(out)
	return c, host.Start(c.cmd, cpus)
}

// childEnv tells the binary of the tests that it is to be the program.
const childEnv = "PENSTOCK_BENCH_CHILD"

// end lets the process end, waits for it, and ends it by force if it does not.
func (c *child) end() {
	if c == nil || c.ended {
		return
	}
	c.ended = true
	_ = c.in.Close()
	timer := time.AfterFunc(endWithin, func() { _ = c.cmd.Process.Kill() })
	defer timer.Stop()
	_ = c.cmd.Wait()
}

// said returns what the process wrote as its last words, or what err says.
func (c *child) said(err error) error {
	c.end()
	if line := c.errors.line(); line != "" {
		return errors.New(line)
	}
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("it ended: %s", c.cmd.ProcessState)
	}
	return err
}

// server is a subject that accepts.
type server struct {
	*child
	addr string
}

// startServer starts a subject and waits until it accepts.
func startServer(ctx context.Context, cpus []int, path string, args ...string) (*server, error) {
	c, err := startChild(ctx, cpus, path, args...)
	if err != nil {
		return nil, err
	}
	timer := time.AfterFunc(startWithin, func() { _ = c.cmd.Process.Kill() })
	defer timer.Stop()
	line, err := c.out.ReadString('\n')
	if err != nil {
		return nil, c.said(err)
	}
	for _, word := range strings.Fields(line) {
		if addr, ok := strings.CutPrefix(word, "tcp://"); ok {
			return &server{c, addr}, nil
		}
	}
	c.end()
	return nil, fmt.Errorf("it said %q and not where it listens", strings.TrimSpace(line))
}

// stats asks a subject of this library for its counters. One that does not answer in time
// is ended by force.
func (s *server) stats(ctx context.Context) (*subject.Stats, error) {
	stop := context.AfterFunc(ctx, func() { _ = s.cmd.Process.Kill() })
	defer stop()
	if _, err := io.WriteString(s.in, "stats\n"); err != nil {
		return nil, s.said(err)
	}
	line, err := s.out.ReadBytes('\n')
	if err != nil {
		return nil, s.said(err)
	}
	st := &subject.Stats{}
	return st, json.Unmarshal(line, st)
}

// generate runs the generator in a process of its own. opened is called when
// its window begins.
func generate(ctx context.Context, cpus []int, spec load.Spec, opened func()) (*load.Result, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c, err := startChild(ctx, cpus, self, roleLoad)
	if err != nil {
		return nil, err
	}
	defer c.end()
	line, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	if _, err := c.in.Write(append(line, '\n')); err != nil {
		return nil, c.said(err)
	}
	for {
		line, err := c.out.ReadBytes('\n')
		if err != nil {
			return nil, fmt.Errorf("the generator: %w", c.said(err))
		}
		var e load.Event
		if err := json.Unmarshal(bytes.TrimSpace(line), &e); err != nil {
			return nil, err
		}
		switch {
		case e.Error != "":
			return nil, errors.New(e.Error)
		case e.Result != nil:
			return e.Result, nil
		case e.Window:
			opened()
		}
	}
}
