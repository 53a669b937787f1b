// Package aiotest is what engines and the code above them are tested with: an
// engine whose kernel is a seed ([Fake]), and one conformance suite for every
// engine ([TestEngine]).
//
// The fake is stricter than a kernel: it panics with an invariants.Violation
// at every breach of the law of package aio, such as bytes that changed while
// they were lent, a second Send in flight, or a descriptor that was closed
// under an operation.
package aiotest
