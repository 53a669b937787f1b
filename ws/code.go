package ws

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/penstock-go/penstock/conn"
)

// Code is a status code of a close (RFC 6455, 7.4).
type Code uint16

// The codes. Those from 3000 to 4999 are for applications.
const (
	Normal            Code = 1000
	GoingAway         Code = 1001 // the process shuts down, or the page is left
	ProtocolError     Code = 1002
	Unsupported       Code = 1003 // a type of message that is not taken
	NoStatus          Code = 1005 // never sent: the peer's close frame was empty
	Abnormal          Code = 1006 // never sent: the connection ended without a close frame
	InvalidData       Code = 1007 // text that is no UTF-8, or data that does not inflate
	Policy            Code = 1008
	TooBig            Code = 1009
	ExtensionRequired Code = 1010 // of a client: the server did not agree to what it needs
	Internal          Code = 1011
	ServiceRestart    Code = 1012
	TryAgainLater     Code = 1013
	BadGateway        Code = 1014
)

// sendable reports whether c may be in a close frame.
func (c Code) sendable() bool {
	switch {
	case c >= 3000:
		return c < 5000
	case c >= 1000 && c <= 1014:
		return c != 1004 && c != NoStatus && c != Abnormal
	}
	return false
}

// maxReason is how many bytes a reason may have beside the code.
const maxReason = maxControl - 2

// CloseError is why a WebSocket ended. OnClose is always told one.
type CloseError struct {
	// Code and Reason are those of the close frame of the side that closed; or
	// Abnormal, with Err, when there was none.
	Code   Code
	Reason string
	// Remote says that the peer closed.
	Remote bool
	// Clean says that each side had the other's close frame.
	Clean bool
	// Err is what became of the connection, and is found by errors.Is and As: nil
	// when it ended in order, io.EOF, a *conn.CloseError, or for what the peer did
	// wrong an error that says so.
	Err error

	unopened bool // there was no WebSocket
}

// Error implements error: one line.
func (e *CloseError) Error() string {
	var refusal *HandshakeError
	var dial *conn.DialError
	switch {
	case errors.As(e.Err, &refusal):
		return refusal.Error()
	case errors.As(e.Err, &dial):
		return dial.Error()
	}
	by := "closed here"
	if e.Remote {
		by = "closed by the peer"
	}
	s := fmt.Sprintf("ws: %s: %d", by, e.Code)
	if e.unopened {
		s = "ws: handshake: " + by
	}
	if e.Reason != "" {
		s += fmt.Sprintf(" %q", e.Reason)
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Unwrap returns Err.
func (e *CloseError) Unwrap() error { return e.Err }

// failure is what the peer has done wrong, and the code that it is told.
type failure struct {
	code Code
	text string
}

func (f *failure) Error() string { return f.text }

// The mistakes of a peer.
var (
	errReserved     = &failure{ProtocolError, "a reserved bit is set"}
	errOpcode       = &failure{ProtocolError, "a reserved opcode"}
	errLength       = &failure{ProtocolError, "a length in a form that is not the shortest"}
	errUnmasked     = &failure{ProtocolError, "a frame without a mask"}
	errMasked       = &failure{ProtocolError, "a masked frame"}
	errControlLong  = &failure{ProtocolError, "a control frame of more than 125 bytes"}
	errControlPart  = &failure{ProtocolError, "a fragmented control frame"}
	errContinuation = &failure{ProtocolError, "a continuation of nothing"}
	errInterrupted  = &failure{ProtocolError, "a message inside another"}
	errCloseShort   = &failure{ProtocolError, "a close frame of one byte"}
	errCloseCode    = &failure{ProtocolError, "a close code that may not be sent"}
	errCloseText    = &failure{InvalidData, "a close reason that is no UTF-8"}
	errText         = &failure{InvalidData, "a text that is no UTF-8"}
	errInflate      = &failure{InvalidData, "a message that does not inflate"}
	errTooBig       = &failure{TooBig, "a message over the limit"}
	errRatio        = &failure{TooBig, "a message that inflates out of proportion"}
)

// parseClose reads the payload of a close frame. The reason is a part of p.
func parseClose(p []byte) (code Code, reason []byte, err *failure) {
	switch len(p) {
	case 0:
		return NoStatus, nil, nil
	case 1:
		return 0, nil, errCloseShort
	}
	code, reason = Code(binary.BigEndian.Uint16(p)), p[2:]
	switch {
	case !code.sendable():
		return 0, nil, errCloseCode
	case !utf8.Valid(reason):
		return 0, nil, errCloseText
	}
	return code, reason, nil
}

// sayable returns what of a reason can be in a close frame: it is UTF-8, cut between
// characters, and there is none without a code.
func sayable(code Code, reason string) string {
	if code == NoStatus {
		return ""
	}
	reason = strings.ToValidUTF8(reason, "\uFFFD")
	if len(reason) > maxReason {
		n := maxReason
		for !utf8.RuneStart(reason[n]) {
			n--
		}
		reason = reason[:n]
	}
	return reason
}

// appendClose appends the payload of a close frame, which is empty for NoStatus.
func appendClose(p []byte, code Code, reason string) []byte {
	if code == NoStatus {
		return p
	}
	return append(binary.BigEndian.AppendUint16(p, uint16(code)), reason...)
}
