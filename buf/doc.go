// Package buf holds the only bytes that the kernel may read or write.
//
// A [Pool] cuts equal blocks from slabs of memory outside the Go heap, so that
// the garbage collector neither moves nor scans them. A [Buf] is the right to
// one block and the range of it that is filled: one holder at a time. A
// [Shared] is the other kind of bytes, immutable and counted, for one payload
// that goes to many connections.
//
// Signatures say who owns what, here and in every package above:
//
//   - a []byte parameter is lent until the call returns;
//   - a *Buf parameter may be taken: the zero Buf is left behind when it was;
//   - a returned Buf is the caller's, who must Release it or pass it on;
//   - a *Shared is counted: whoever keeps it calls Retain, and Release later.
//
// Builds with the race detector or with the tag "invariants" fill every
// released block with 0xDB and check the generation at every access, so that
// a use after release shows up in tests. A double release panics in every build.
package buf
