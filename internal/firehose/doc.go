// Package firehose is a protocol to try a send queue with: a client asks for
// bytes, and the server sends them as fast as the client reads.
//
// A client sends lines of ASCII that end in LF; a CR before it is ignored.
//
//	SEND <bytes> <seed>          a producer that waits: 64 KiB a message, until the
//	                             queue is full, and on at its drain
//	FLOOD <count> <size> <seed>  a producer that never waits: what is refused is lost
//	QUIT                         flush and close
//
// Commands are served one after another. A line that is not understood, or one
// of more than 1 KiB, is answered by "ERR <why>", and the connection closed
// after the flush. A client that ends its sending side gets all it asked for.
//
// SEND is answered by exactly so many bytes of the [Stream] of its seed. Each
// message of FLOOD is its number from 0 and its size, 4 bytes big-endian each,
// then <size> bytes of the Stream of the seed "<seed>.<number>".
package firehose
