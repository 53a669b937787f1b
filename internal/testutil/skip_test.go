package testutil

import (
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
)

func TestJudge(t *testing.T) {
	wrap := func(e syscall.Errno) error { return fmt.Errorf("io_uring_setup: %w", e) }
	for _, tc := range []struct {
		name string
		err  error
		host host
		skip bool
		want string
	}{
		{"old kernel", wrap(syscall.EINVAL), host{release: "5.10.0-30-amd64"}, true, "needs Linux 6.1"},
		{"old kernel, no errno", fmt.Errorf("no such opcode: %w", errors.ErrUnsupported), host{release: "5.19.17"}, true, "needs Linux 6.1"},
		{"the documented kernel", wrap(syscall.EINVAL), host{release: "6.1.192-cloud"}, false, "documented to bring it"},
		{"new kernel", wrap(syscall.EINVAL), host{release: "6.18.44"}, false, "documented to bring it"},
		{"two digits are not a fraction", wrap(syscall.EINVAL), host{release: "6.10-rc1"}, false, "documented to bring it"},
		{"next major", wrap(syscall.EINVAL), host{release: "7.0"}, false, "documented to bring it"},
		{"seccomp", wrap(syscall.EPERM), host{release: "6.18.44", denied: syscall.EPERM}, true, "denies io_uring"},
		{"not compiled in", wrap(syscall.ENOSYS), host{release: "6.18.44", denied: syscall.ENOSYS}, true, "denies io_uring"},
		{"ring says EPERM, the host does not", wrap(syscall.EPERM), host{release: "6.18.44"}, false, "permitted"},
		{"another failure on a host that denies", wrap(syscall.EMFILE), host{release: "5.4.0", denied: syscall.EPERM}, false, "a failure"},
		{"another failure on an old kernel", wrap(syscall.EMFILE), host{release: "5.4.0"}, false, "a failure"},
		{"locked memory", wrap(syscall.ENOMEM), host{release: "6.18.44", memlock: 65536}, true, "65536 bytes"},
		{"no memory and no limit", wrap(syscall.ENOMEM), host{release: "6.18.44", privileged: true}, false, "not bound"},
		{"unreadable release", wrap(syscall.EINVAL), host{release: "penguin"}, false, "no two numbers"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			skip, text := judge("6.1", "multishot_recv", tc.err, tc.host)
			if skip != tc.skip || !strings.Contains(text, tc.want) {
				t.Errorf("skip %v, %q; want %v and %q", skip, text, tc.skip, tc.want)
			}
			if !strings.Contains(text, "multishot_recv") {
				t.Errorf("%q does not name the feature", text)
			}
		})
	}
}

// recorder is a test that notes how it was ended.
type recorder struct {
	testing.TB
	skipped, failed bool
}

func (r *recorder) Helper()      {}
func (r *recorder) Skip(...any)  { r.skipped = true; panic(r) }
func (r *recorder) Fatal(...any) { r.failed = true; panic(r) }

func TestSkipIfKernelOlder(t *testing.T) {
	run := func(min string, err error) *recorder {
		r := &recorder{TB: t}
		func() {
			defer func() { _ = recover() }()
			SkipIfKernelOlder(r, min, "a feature", err)
		}()
		return r
	}
	if r := run("6.1", nil); r.skipped || r.failed {
		t.Errorf("a feature that is there: %+v", r)
	}
	if r := run("99.0", syscall.EINVAL); !r.skipped {
		t.Errorf("a feature of the far future: %+v", r)
	}
	if r := run("6.1", errors.New("broken")); !r.failed {
		t.Errorf("a failure: %+v", r)
	}
	// The outcome on a kernel that has it depends on whether this host denies io_uring.
	if r := run("2.6", syscall.EINVAL); r.failed == (thisHost().denied != nil) {
		t.Errorf("a feature of the far past: %+v, host %+v", r, thisHost())
	}
}
