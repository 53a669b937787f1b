package ring

import (
	"errors"
	"strings"
)

// ErrUnavailable is what every [*UnavailableError] is to errors.Is.
var ErrUnavailable = errors.New("io_uring is not available")

// UnavailableError says that this process cannot have io_uring here, why, and
// what would change that. It is not for failures that another try may cure,
// such as a lack of descriptors.
type UnavailableError struct {
	Op    string // the system call or the feature that was refused
	Err   error  // the errno, or nil when a feature is missing
	Cause string
	Cure  string
}

// Error returns what failed, why, and the cure.
func (e *UnavailableError) Error() string {
	var b strings.Builder
	b.WriteString(ErrUnavailable.Error())
	b.WriteString(": ")
	b.WriteString(e.Op)
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	for _, part := range []string{e.Cause, e.Cure} {
		if part != "" {
			b.WriteString("; ")
			b.WriteString(part)
		}
	}
	return b.String()
}

// Unwrap returns the errno.
func (e *UnavailableError) Unwrap() error { return e.Err }

// Is reports whether target is ErrUnavailable, or errors.ErrUnsupported, which
// means the same here.
func (e *UnavailableError) Is(target error) bool {
	return target == ErrUnavailable || target == errors.ErrUnsupported
}
