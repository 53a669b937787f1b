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
// # Hooks
//
// OnOpen runs first and OnClose last, each once; [FullHandler] and the interfaces behind
// it say when the others run. OnFull and OnDrain alternate, and begin with OnFull. After
// Close, OnDrain still runs while the queue is flushed, OnData and OnEOF do not. Once the
// connection has failed or was aborted, neither of the four runs any more. At the end come,
// in this order: the done functions of SendBytes and SendFrom, those of [Conn.OnRoom],
// OnClose, and that of [Conn.Detach].
//
// # Errors
//
// OnClose runs exactly once, as the last call, after every operation of the
// connection has ended. Its error is nil for an end that was asked for here,
// io.EOF when the peer had sent its end of file, and a [*CloseError] otherwise.
package conn

// Where things are, for who reads the source. A file for one system alone has its name
// behind that of what it is about.
//
// A connection:
//
//	conn        Conn, its counters, and what it does at the end of a turn
//	host        what connections with one configuration share on a loop
//	beside      what few connections have: input that waits, rare counters, parts of the library
//	handler     Handler, the optional hooks, and Funcs
//	config errors addr string keepalive
//	listener acceptor limit unix inuse socket
//	attach attacher detach syscallconn
//	dial dialing resolve reconnect
//
// The way out, from the send to the kernel:
//
//	send        Send, Write and their kin
//	encode fits Encode, Fits and TrySend
//	water       the marks: admission, OnFull and OnDrain
//	policy      what makes room for a message that does not fit
//	budget      Budget; starve: queues that are full for want of it; bypass: what needs none of it
//	outbound    what is queued and in flight, and the send operation
//	sendq       the pieces of the queue; cut: what is taken out of its middle
//	bounds      where messages begin, so that whole ones can be dropped
//	lone        one message where nothing waits, without a queue
//	loan        what zero-copy sends read from
//	room        OnRoom
//	stream      SendFrom; source fromfile sendfile: where its bytes come from
//	queuestats  the counters of a Listener, a Dialer or an Attacher
//
// The way in:
//
//	inbound     receives, pauses, what is parked; adapt: how to receive next
//	intake      Config.RecvLimit
//	unread      Unread and OnLeave
//	poll        waits for a socket beside its receive and send
//	pipe splice Pipe
//
// From other goroutines:
//
//	ref         Ref; via: messages of a protocol
//	gate        where they meet a connection; account: what is pending there
//	mailbox     what waits for the loop; mail: what the loop does with it
//	waiter      who waits for room
//	go          work that blocks
//
// The end, and time:
//
//	close       Close, CloseWrite, Abort, and the steps to the end
//	inflight    what a loop that fails calls home
//	deadline timer
//
// Others:
//
//	topics shard walk
//	packet packetconn packetsend packetref packetlisten packetdial
//	bridge bridge_read bridge_write bridge_file bridge_detach bridge_dial bridge_listener
