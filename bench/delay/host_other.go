//go:build !linux

package main

import (
	"errors"
	"time"
)

func myCPUs() []int { return nil }

func bind([]int) error { return errors.ErrUnsupported }

func threadCPU() time.Duration { return 0 }

func selfCPU() time.Duration { return 0 }

func hostBusy() time.Duration { return 0 }

func hostLine() string { return "" }

type quota struct{}

func newQuota(int) (*quota, error) { return nil, errors.ErrUnsupported }

func (*quota) add(int) error { return errors.ErrUnsupported }

func (*quota) remove() {}

// Run does not generate load here.
func (*loadCmd) Run() error { return errors.ErrUnsupported }
