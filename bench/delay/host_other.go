//go:build !linux

package main

import (
	"errors"
	"time"
)

func threadCPU() time.Duration { return 0 }

func hostLine() string { return "" }

type quota struct{}

func newQuota(int) (*quota, error) { return nil, errors.ErrUnsupported }

func (*quota) add(int) error { return errors.ErrUnsupported }

func (*quota) remove() {}

// Run does not generate load here.
func (*loadCmd) Run() error { return errors.ErrUnsupported }
