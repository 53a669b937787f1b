// Package testutil is what the tests of several rooms share.
package testutil

import (
	"os"
	"strconv"
	"testing"
	"time"
)

// Timeout returns d times the factor in PENSTOCK_TEST_FACTOR (default 1), for
// machines on which everything is slow, such as an emulator. All deadlines of
// tests go through it.
func Timeout(d time.Duration) time.Duration {
	if f, err := strconv.ParseFloat(os.Getenv("PENSTOCK_TEST_FACTOR"), 64); err == nil && f > 0 {
		return time.Duration(float64(d) * f)
	}
	return d
}

// Eventually calls ok until it is true, and fails the test with what when that
// has not happened after d, stretched by Timeout.
func Eventually(t testing.TB, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(Timeout(d)); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %v", what, Timeout(d))
		}
	}
}
