//go:build !linux

package host

import (
	"errors"
	"time"
)

// CPUs knows none here.
func CPUs() []int { return nil }

// Bind is not to be had here.
func Bind([]int) error { return errors.ErrUnsupported }

// ProcessClock is not to be had here.
func ProcessClock(int) (time.Duration, error) { return 0, errors.ErrUnsupported }

// SelfCPU knows nothing here.
func SelfCPU() time.Duration { return 0 }

// Busy knows nothing here.
func Busy() time.Duration { return 0 }

// Load knows nothing here.
func Load() string { return "" }

// NullCall measures nothing here.
func NullCall() float64 { return 0 }

// RSS is not to be had here.
func RSS(int) (int64, error) { return 0, errors.ErrUnsupported }

// Waited knows nothing here.
func Waited(int) time.Duration { return 0 }

// Threads knows none here.
func Threads(int) int { return 0 }

// NoFile knows no limit here.
func NoFile() int { return 0 }
