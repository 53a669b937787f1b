// Package codec makes messages of the byte stream of a connection, and bytes of
// messages.
//
// A [Codec] says where a message ends, and is made of pure functions over bytes:
// [Line], [Delimiter], [Frame32], [LengthField], or one of your own. [New] joins
// it with a [Handler], which hears whole messages, to a handler for package conn.
// [Send] sends one message.
//
// # Ownership
//
// What OnMessage gets is lent until it returns, if it refers to the bytes received,
// as the []byte of the codecs here does. A message that lies within one received
// block is not copied; one that spans blocks is put together once.
//
// # Limits
//
// Config.Limit bounds a message on the wire, its framing included. It is held when
// the length of a message becomes known, before memory is taken for it, and while
// no end of it has come; memory follows what has been received, not what was
// announced. It counts the message that is being received, never those before or
// behind it in the same bytes. Split is never shown more bytes than that.
//
// # Ends
//
// A message that is too long ([*MessageTooLong]), one that the codec refuses, and an
// end of file in the middle of one ([*Incomplete]) close the connection with reason
// ProtocolError and that error in OnClose's *conn.CloseError, behind what was queued
// before. A codec that panics ends its connection as any handler does.
package codec
