// Package conn is a byte stream on a loop: its handler, its bounded send queue
// and its end.
//
// A connection has three numbers. HighWater is the number of pending bytes at
// which OnFull runs, LowWater that at which OnDrain runs after it, and Limit
// that from which on a message is refused. Pending bytes are those that were
// admitted and that the kernel has not taken yet.
//
// # Threads
//
// A *Conn is handed out on its loop only, to the handler and to functions that
// run there, and must not be used anywhere else. What may travel is a [Ref], a
// small value: once the connection has closed it reaches nobody, and never
// another connection. A handler runs on the loop and must not block.
//
// # Ownership
//
// The *buf.Buf that OnData gets is lent until OnData returns, unless the
// handler takes it: with in.Take(), or by c.Send(in). Write copies. SendShared
// counts. SendBytes borrows the caller's memory until it calls done.
//
// # Errors
//
// OnClose runs exactly once, as the last call, after every operation of the
// connection has ended. Its error is nil for an end that was asked for here,
// io.EOF when the peer had sent its end of file, and a [*CloseError] otherwise.
package conn
