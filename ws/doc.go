// Package ws speaks WebSocket on the loop: RFC 6455, with the compression of RFC
// 7692, as a server and as a client.
//
// A [Server] is the conn.Handler of a listener. Each WebSocket is a [Conn] with
// the send queue of the connection below it: a Send answers Queued, Full, Rejected
// or Closed, and OnFull and OnDrain tell a producer when to stop and to go on. What
// is counted there are bytes with their frames. A message is admitted before it is
// framed or compressed, so one that is refused leaves no trace.
//
// # Thread
//
// Handlers run on the connection's loop and must not block; a *Conn is seen only
// there.
//
// # Ownership
//
// Bytes that a handler is given are lent until it returns. A message that lies in
// one received block is handed over there, unmasked in place, and
// [Conn.SendReceived] sends that block back.
//
// # Limits
//
// A message is bounded by Config.MaxMessage, as it comes and as it inflates to; a
// handshake by MaxHead, MaxHeaders and HandshakeTimeout; what is sent by the marks
// of the connection; the time from a close frame to its answer by CloseTimeout, as is
// the time that the peer needs for each 64 KiB of what is queued before that frame. An
// idle WebSocket costs about 110 bytes beside its connection, and with context takeover
// its windows.
//
// # What the peer does wrong
//
// It is told the code that the RFC names, the connection ends, OnClose is told the
// reason, and [Stats] counts it.
package ws
