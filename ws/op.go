package ws

// Op is the opcode of a frame (RFC 6455, 5.2). Messages are [Text] or [Binary].
type Op uint8

// The opcodes.
const (
	opContinuation Op = 0
	Text           Op = 1 // UTF-8, which is checked on the way in
	Binary         Op = 2
	opClose        Op = 8
	opPing         Op = 9
	opPong         Op = 10
)

// String returns the name of the opcode.
func (o Op) String() string {
	switch o {
	case opContinuation:
		return "continuation"
	case Text:
		return "text"
	case Binary:
		return "binary"
	case opClose:
		return "close"
	case opPing:
		return "ping"
	case opPong:
		return "pong"
	}
	return "reserved"
}

// control reports whether o is that of a control frame.
func (o Op) control() bool { return o >= 8 }
