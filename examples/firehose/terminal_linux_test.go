package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/internal/testutil"
)

// pty returns both ends of a new pseudo terminal; see ptmx(4).
func pty(t *testing.T) (user, program *os.File) {
	t.Helper()
	user, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = user.Close() })
	n, err := unix.IoctlGetInt(int(user.Fd()), unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(int(user.Fd()), unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(int(user.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100})
	}
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return user, program
}

// screen is what a terminal has been sent.
type screen struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *screen) has(text string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Contains(s.text.String(), text)
}

// TestTerminal presses keys, and checks that the terminal is as it was after
// the end, whatever ended it.
func TestTerminal(t *testing.T) {
	for name, end := range map[string]func(cmd *exec.Cmd, user io.Writer){
		"q":       func(_ *exec.Cmd, user io.Writer) { _, _ = io.WriteString(user, "q") },
		"SIGTERM": func(cmd *exec.Cmd, _ io.Writer) { _ = cmd.Process.Signal(syscall.SIGTERM) },
		"SIGQUIT": func(cmd *exec.Cmd, _ io.Writer) { _ = cmd.Process.Signal(syscall.SIGQUIT) },
	} {
		t.Run(name, func(t *testing.T) {
			user, program := pty(t)
			before, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
			if err != nil {
				t.Fatal(err)
			}
			cmd := example("-listen", "127.0.0.1:0", "-rate", "1048576")
			cmd.Stdin, cmd.Stdout, cmd.Stderr = program, program, program
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer time.AfterFunc(testutil.Timeout(30*time.Second), func() { _ = cmd.Process.Kill() }).Stop()
			s := &screen{}
			go func() { _, _ = io.Copy(s, user) }() // To the end of the terminal.
			expect := func(text string) {
				t.Helper()
				testutil.Eventually(t, 20*time.Second, text, func() bool { return s.has(text) })
			}
			expect("reader: 1.0 MiB/s")
			_, _ = io.WriteString(user, "+")
			expect("reader: 2.0 MiB/s")
			_, _ = io.WriteString(user, " ")
			expect("reader: paused")
			expect("FULL, waiting for the drain")
			_, _ = io.WriteString(user, " \x1b[B")
			expect("reader: 1.0 MiB/s")
			end(cmd, user)
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
			expect("\x1b[?25h")
			expect("SHA-256 ok")
			after, err := unix.IoctlGetTermios(int(program.Fd()), unix.TCGETS)
			if err != nil || *after != *before {
				t.Errorf("the terminal was %+v and is %+v: %v", before, after, err)
			}
		})
	}
}
