// Package conn is a byte stream on a loop: its handler, its bounded send queue
// and its end.
//
// A connection has three numbers. HighWater is the number of pending bytes at
// which OnFull runs, LowWater that at which OnDrain runs after it, and Limit
// that from which on a message is refused. Pending bytes are those that were
// admitted and that the kernel has not taken yet.
//
// # Where to begin
//
//   - [Listen] serves a [Handler], or [Funcs] for small programs; [Dialer] connects,
//     and with [Reconnect] again and again; [Attach] takes a socket that is there.
//   - [Conn.Send], Write, SendShared and their kin answer with a [Status];
//     [Conn.SendFrom] streams a file or a reader, [Pipe] forwards a connection,
//     [Topics] send to many, [Conn.Encode] makes a message once it is admitted.
//   - [Conn.PauseRead] holds a peer back, Config.PauseOnFull does so by the queue.
//   - [Config] bounds a connection, [Budget] all of them, [Deadlines] their time.
//   - [Conn.Close], CloseWrite and Abort end it; [Conn.Detach] takes it away.
//   - [ListenPacket] and [DialPacket] are datagrams; [NetListen] and [NetConn] what
//     package net knows.
//
// Messages on a stream are package codec, WebSocket is package ws.
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
// counts. SendBytes borrows the caller's memory until it calls done. Both copy what is
// short and waits behind others.
//
// # Errors
//
// OnClose runs exactly once, as the last call, after every operation of the
// connection has ended. Its error is nil for an end that was asked for here,
// io.EOF when the peer had sent its end of file, and a [*CloseError] otherwise.
package conn
