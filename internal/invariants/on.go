//go:build invariants || race

// Package invariants switches on the self-checks that cost too much for production.
//
// They are compiled in by the build tag "invariants" and by the race detector.
// A build with them only ever adds checks: the code that runs is the same.
package invariants

// Enabled reports whether the expensive self-checks are compiled in.
const Enabled = true
