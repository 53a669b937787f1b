package testutil

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// SkipIfKernelOlder ends a test that needs a feature of io_uring when err says
// that the feature cannot be had. It does nothing when err is nil.
//
// It skips in three cases: the running kernel is older than since ("6.1"), the
// release that is documented to bring the feature; or the host denies io_uring
// to this process (seccomp, sysctl, no io_uring in the kernel); or the process
// met its limit of locked memory. In every other case the test fails, so that a
// skip cannot hide a defect of ours: a new kernel that permits io_uring and yet
// seems to lack the feature is one.
//
// err must wrap an errno or [errors.ErrUnsupported] to count as unavailability.
func SkipIfKernelOlder(t testing.TB, since, feature string, err error) {
	t.Helper()
	if err == nil {
		return
	}
	skip, text := judge(since, feature, err, thisHost())
	if skip {
		t.Skip(text)
	}
	t.Fatal(text)
}

// host is what the answer to "may this be skipped" depends on.
type host struct {
	release    string // of the kernel, as uname(2) has it
	denied     error  // why no io_uring call is let through, nil when all are
	memlock    uint64 // RLIMIT_MEMLOCK in bytes
	privileged bool   // not bound by memlock
}

// judge decides whether a missing feature is a skip or a failure, and why.
func judge(since, feature string, err error, h host) (skip bool, text string) {
	switch {
	case !unavailable(err):
		return false, fmt.Sprintf("%s: %v, which is no lack of the host but a failure", feature, err)
	case h.denied != nil:
		return true, fmt.Sprintf("%s: this host denies io_uring (%v): look for a seccomp profile or "+
			"'sysctl kernel.io_uring_disabled': %v", feature, h.denied, err)
	case errors.Is(err, syscall.ENOMEM):
		if h.privileged {
			return false, fmt.Sprintf("%s: %v, and this process is not bound by the limit of locked memory", feature, err)
		}
		return true, fmt.Sprintf("%s: the limit of locked memory is %d bytes, raise it with 'ulimit -l': %v",
			feature, h.memlock, err)
	}
	older, perr := olderThan(h.release, since)
	switch {
	case perr != nil:
		return false, fmt.Sprintf("%s: %v", feature, perr)
	case older:
		return true, fmt.Sprintf("%s: needs Linux %s, this is %s: %v", feature, since, h.release, err)
	}
	return false, fmt.Sprintf("%s: missing on Linux %s, though %s is documented to bring it and io_uring is permitted: %v",
		feature, h.release, since, err)
}

// unavailable reports whether err is what a kernel or a sandbox answers that
// does not offer something.
func unavailable(err error) bool {
	for _, is := range []error{
		errors.ErrUnsupported,         // includes ENOSYS, ENOTSUP and EOPNOTSUPP
		syscall.EPERM, syscall.EACCES, // sysctl, seccomp
		syscall.EINVAL, // a flag or an opcode of the future
		syscall.ENOMEM, // rings charged to RLIMIT_MEMLOCK
	} {
		if errors.Is(err, is) {
			return true
		}
	}
	return false
}

// olderThan reports whether a kernel release such as "6.18.44-cloud-amd64" is
// older than since, such as "6.1".
func olderThan(release, since string) (bool, error) {
	have, err := parseRelease(release)
	if err != nil {
		return false, err
	}
	want, err := parseRelease(since)
	if err != nil {
		return false, err
	}
	return have[0] < want[0] || have[0] == want[0] && have[1] < want[1], nil
}

// parseRelease returns the first two numbers of a kernel release.
func parseRelease(s string) (v [2]int, err error) {
	parts := strings.SplitN(s, ".", 3)
	if len(parts) < 2 {
		return v, fmt.Errorf("kernel release %q has no two numbers", s)
	}
	for i := range v {
		digits := parts[i]
		if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
			digits = digits[:end] // "6.18-rc1"
		}
		if v[i], err = strconv.Atoi(digits); err != nil {
			return v, fmt.Errorf("kernel release %q: %w", s, err)
		}
	}
	return v, nil
}
