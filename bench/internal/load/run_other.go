//go:build !linux

package load

import (
	"context"
	"errors"
)

// Run generates no load here.
func Run(context.Context, Spec, func()) (*Result, error) { return nil, errors.ErrUnsupported }
