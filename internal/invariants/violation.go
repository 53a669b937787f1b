package invariants

import "fmt"

// Violation is the value of a panic that says: this library broke its own
// rule. A loop recovers the panics of handlers, and never this one.
type Violation string

// Error implements error, so that the text is what a crash prints.
func (v Violation) Error() string { return string(v) }

// Broken panics with a Violation.
func Broken(format string, args ...any) {
	panic(Violation("penstock: broken invariant: " + fmt.Sprintf(format, args...)))
}
