// Package fallback is the engine on epoll: readiness turned into completions,
// under the same law as the ring. It serves where a kernel or a sandbox has no
// io_uring, and where bulk is better served by one large read.
//
// Every descriptor is registered once, edge-triggered for both directions, so
// that the steady state costs what a hand-written epoll server pays: one wait a
// turn, one receive and one send a message. What the edges said is remembered
// by slot, in a table of 16 bytes a connection.
//
// Receives and sends are for stream sockets, accepts for their listeners: that a
// receive which fills less than a block has emptied the socket holds for no other
// kind. A Poll is for any descriptor. One that it alone uses is reported once and
// for its events only, so that a datagram socket does not wake the loop each
// time a packet has left.
package fallback
