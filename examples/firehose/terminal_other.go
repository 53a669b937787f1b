//go:build !linux

package main

import (
	"errors"
	"os"
)

// settings would be those of a terminal: elsewhere there is no server to watch.
type settings struct{}

func columns(*os.File) (int, bool) { return 0, false }

func rawMode(*os.File) (*settings, error) { return nil, errors.ErrUnsupported }

func (*settings) apply(*os.File) {}
