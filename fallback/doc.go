// Package fallback is the engine on epoll: readiness turned into completions,
// under the same law as the ring. It serves where a kernel or a sandbox has no
// io_uring, and where bulk is better served by one large read.
//
// Every descriptor is registered once, edge-triggered for both directions, so
// that the steady state costs what a hand-written epoll server pays: one wait a
// turn, one receive and one send a message. What the edges said is remembered
// by slot, in a table of 16 bytes a connection.
//
// The engine is for stream sockets and their listeners: that a receive which
// fills less than a block has emptied the socket holds for no other kind.
package fallback
