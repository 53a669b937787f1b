// Package subject is the servers that a load test of this library measures,
// written as a user of the library would: with handlers that have all hooks,
// marks, reading paused while the queue is full, and the counters read once a
// second as a monitor does.
//
// # The command line of a subject
//
// A subject, of this library or of another, is a program that is started as
//
//	PROGRAM [its own arguments] --protocol NAME --listen HOST:PORT --loops N
//
// It prints one line "listening on tcp://HOST:PORT ..." when it accepts, and
// ends on SIGTERM or when its standard input closes. One with a garbage collector
// runs it once before that line, and gives back what is free (in Go
// debug.FreeOSMemory), so that resident memory is measured from the same state.
//
// # The protocols
//
//   - echo: every byte comes back.
//   - pieces: every byte comes back, written in pieces of 64 bytes, each by a
//     call of its own: many small writes a connection a turn.
//   - alloc: echo by a handler that, for each piece of input, makes 8 objects of
//     128 bytes, each pointing to the next, and keeps the last 8192 such lists: a
//     live heap of 8 MiB, collected once for about every 8192 messages.
//   - fanout: a connection whose first byte is S subscribes. One that sends P, a
//     length in 4 bytes (big-endian) and so many bytes of payload, again and
//     again, publishes: each subscriber gets the payload, and nothing else.
//   - ws: a WebSocket (RFC 6455). A message comes back as one of the same type, in
//     one frame. Compression without context takeover is there for who asks.
//   - ws-deflate: the same with context takeover both ways, in windows of 4 KiB
//     where the library can bound them, for who asks.
//   - ws-fanout: as ws, but a message S subscribes, and is answered by the same once
//     the connection will get what is published. One that begins with P publishes
//     what is behind that: each subscriber gets it as a message of the same type.
package subject
