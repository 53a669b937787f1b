package main

import (
	"fmt"
	"os"
	"reflect"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/internal/testutil"
)

// noUringEnv makes this test binary refuse io_uring to itself, as the seccomp
// profiles of containers do, before it becomes the command. With brokenUring it does
// what none of them does: the ring can be had, and not entered.
const (
	noUringEnv  = "PENSTOCK_TEST_NO_URING"
	brokenUring = "enter"
)

func init() {
	value := os.Getenv(noUringEnv)
	if os.Getenv(mainEnv) == "" || value == "" {
		return
	}
	call, errno := uint32(unix.SYS_IO_URING_SETUP), unix.EPERM
	if value == brokenUring {
		call, errno = unix.SYS_IO_URING_ENTER, unix.EINVAL
	}
	if err := deny(call, errno); err != nil {
		panic(err)
	}
}

// deny installs a filter that answers a system call with errno.
func deny(call uint32, answer syscall.Errno) error {
	const load, jump, ret = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS, unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, unix.BPF_RET | unix.BPF_K
	filter := []unix.SockFilter{
		{Code: load, K: 0}, // the number of the system call
		{Code: jump, K: call, Jf: 1},
		{Code: ret, K: unix.SECCOMP_RET_ERRNO | uint32(answer)},
		{Code: ret, K: unix.SECCOMP_RET_ALLOW},
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	// Its address without package unsafe, which is kept out of programs: reflect
	// has moved it to the heap, where it stays until KeepAlive.
	program := &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER,
		unix.SECCOMP_FILTER_FLAG_TSYNC, reflect.ValueOf(program).Pointer())
	runtime.KeepAlive(program)
	if errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}

// TestWithoutUring checks what a sandbox without io_uring sees: a forced engine
// is refused in one line with cause and cure, and auto takes epoll and says why.
func TestWithoutUring(t *testing.T) {
	want := []string{"io_uring", "seccomp", "allow io_uring_setup"}
	has := func(what, text string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("%s: no %q in %q", what, w, text)
			}
		}
	}
	cmd := command("serve", "echo", "--engine", "uring", "--listen", "tcp://127.0.0.1:0")
	cmd.Env = append(cmd.Env, noUringEnv+"=1")
	code, stdout, stderr := result(t, cmd)
	if code != exitFailed || stdout != "" || strings.Count(stderr, "\n") != 1 {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	has("forced", stderr)

	cmd = command("probe")
	cmd.Env = append(cmd.Env, noUringEnv+"=1")
	if code, stdout, stderr = result(t, cmd); code != exitOK || stderr != "" {
		t.Errorf("exit code %d, stderr %q", code, stderr)
	}
	has("probe", stdout)
	if !regexp.MustCompile(`recv_multishot +no +6\.0`).MatchString(stdout) {
		t.Errorf("no line of a feature that is missing in:\n%s", stdout)
	}

	t.Setenv(noUringEnv, "1")
	s := serve(t, "echo", "auto")
	if !strings.Contains(s.lines[0], "engine=epoll") {
		t.Errorf("%q", s.lines[0])
	}
	c := s.ask("hello")
	_ = c.CloseWrite()
	same(t, all(t, c), []byte("hello"))
	_ = os.Unsetenv(noUringEnv)
	s.stop(syscall.SIGTERM)
	has("auto", s.stderr.String())
}

// TestBrokenUring holds that auto takes epoll whatever is wrong with io_uring, and says it.
func TestBrokenUring(t *testing.T) {
	testutil.SkipIfKernelOlder(t, "6.1", "io_uring", uring())
	t.Setenv(noUringEnv, brokenUring)
	s := serve(t, "echo", "auto")
	if !strings.Contains(s.lines[0], "engine=epoll") {
		t.Errorf("%q", s.lines[0])
	}
	_ = os.Unsetenv(noUringEnv)
	s.stop(syscall.SIGTERM)
	if text := s.stderr.String(); !strings.Contains(text, "io_uring_enter: invalid argument") {
		t.Errorf("stderr is %q", text)
	}
}
