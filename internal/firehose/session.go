package firehose

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strconv"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

const (
	// message is the bytes of one message of SEND.
	message = reactor.BulkBlock
	// heldInput is from how many bytes of unserved input on reading pauses: a
	// client that asks and asks, and does not read, costs no more than this and
	// what is received at once.
	heldInput = 4 << 10
	// turnWork bounds the work of one turn, in bytes hashed: 128 KiB are less
	// than half a millisecond, and many times what the turn itself costs.
	turnWork = 128 << 10
	// itemWork is what a message, a refusal or a command costs, however short.
	itemWork = 64
	// inputKept is the capacity that an idle session keeps for its next line.
	inputKept = 1 << 10
)

// session is one connection's input, and its command in progress.
type session struct {
	handler *Handler
	c       *conn.Conn // nil once the connection has closed

	in     []byte // input that is not served yet, from at on
	at     int
	seen   int  // so many bytes of in are lines that were looked at for the last one
	eof    bool // the client sends no more
	paused bool // reading is paused: too much of in is unserved
	over   bool // nothing more is served

	busy     bool   // pump runs, so what it calls must not start it again
	deferred bool   // resume runs in the next turn
	waiting  bool   // for room that a budget does not give
	resume   func() // made once: Defer must not allocate
	work     int    // done in this turn, in bytes

	cmd    command // with seed in seed; verb none: the next line is due
	begun  bool    // cmd has waited for the queue
	last   bool    // a QUIT has come, or a line that is answered by ERR
	hasty  bool    // the end has waited for the queue: the peer has a time in which to take something
	seed   [MaxSeed + 1 + 10]byte
	done   int64   // send: bytes sent; flood: messages sent or refused
	made   buf.Buf // send: the message that was made and not taken yet
	stream Stream
	msg    []byte // flood: the message that was admitted
	built  int    // its bytes that are there; 0: not admitted yet
}

// input takes what the client sent.
func (s *session) input(p []byte) {
	if s.over {
		return
	}
	if s.at > 0 {
		s.in = s.in[:copy(s.in, s.in[s.at:])]
		s.seen = max(0, s.seen-s.at)
		s.at = 0
	}
	s.in = append(s.in, p...)
	s.lookAhead()
	s.pump()
}

// lookAhead notes whether the last line that is served has come. It looks at each line
// once, however slowly they come.
func (s *session) lookAhead() {
	for !s.last {
		rest := s.in[s.seen:]
		end := bytes.IndexByte(rest, '\n')
		if end < 0 {
			return
		}
		s.seen += end + 1
		cmd, err := parse(rest[:end])
		s.last = err != nil || cmd.verb == quit
	}
}

// pump serves as far as input, queue and the bound of a turn allow, and then
// pauses or resumes reading.
func (s *session) pump() {
	if s.busy || s.deferred || s.c == nil {
		return
	}
	s.busy, s.work = true, 0
	for !s.over && s.next() && s.ready() && s.step() {
		s.cmd, s.begun, s.msg = command{}, false, nil
	}
	s.busy = false
	if (s.last || s.eof) && !s.over && !s.hasty && s.c.IsFull() {
		s.hasten()
	}
	rest := len(s.in) - s.at
	if s.over || rest == 0 && cap(s.in) > inputKept {
		s.in, s.at, s.seen = nil, 0, 0
	}
	switch {
	case s.over:
		s.msg = nil
	case rest < heldInput && s.paused:
		s.paused = false
		s.c.ResumeRead()
	case rest >= heldInput && !s.paused:
		s.paused = true
		s.c.PauseRead()
	}
}

// next reports whether there is a command to serve; if not, it waits for input.
func (s *session) next() bool {
	if s.cmd.verb != none {
		return true
	}
	rest := s.in[s.at:]
	end := bytes.IndexByte(rest, '\n')
	if end < 0 {
		s.incomplete(rest)
		return false
	}
	s.at += end + 1
	cmd, err := parse(rest[:end])
	if err != nil {
		s.fail(err)
		return false
	}
	s.cmd = cmd
	s.cmd.seed = s.seed[:copy(s.seed[:], cmd.seed)] // The line goes away.
	return true
}

// incomplete ends the session when rest, which has no LF, cannot become a line.
func (s *session) incomplete(rest []byte) {
	switch {
	case len(bytes.TrimSuffix(rest, []byte{'\r'})) > MaxLine:
		s.fail(errLong)
	case s.eof && len(rest) > 0:
		s.fail(errPartial)
	case s.eof:
		s.over = true
		s.c.Close()
	}
}

// fail answers a line that was not understood, and closes.
func (s *session) fail(err error) {
	s.over = true
	s.c.CloseError(conn.ProtocolError, err, []byte("ERR "+err.Error()+"\n"))
}

// ready reports whether the command may begin: one that comes while the queue
// is full waits for the drain.
func (s *session) ready() bool {
	if s.begun {
		return true
	}
	if s.c.IsFull() && (s.cmd.verb != quit || s.c.Pending() > 0) { // Full for want of a budget alone is nothing to flush.
		return false
	}
	s.begun, s.done = true, 0
	if s.cmd.verb == send {
		s.stream.Reset(s.cmd.seed)
	}
	return true
}

// hasten gives a peer that asks for nothing more, and whose queue is full, as long to take
// something as a flush has: a flush is what it waits for.
func (s *session) hasten() {
	d := s.c.Deadlines()
	if d.Write = s.handler.Patience; d.Write <= 0 {
		d.Write = conn.DefaultCloseTimeout
	}
	s.hasty = s.c.SetDeadlines(d) == nil
}

// step goes on with the command and reports whether it is done.
func (s *session) step() bool {
	if s.exhausted() {
		return false
	}
	s.work += itemWork
	switch s.cmd.verb {
	case send:
		return s.send()
	case flood:
		return s.flood()
	}
	s.over = true // What follows QUIT is not served.
	// Close would tell EOF if the client had ended its side meanwhile.
	s.c.CloseError(conn.Local, nil, nil)
	return false
}

// send is the producer that waits: it stops at Full and goes on at the drain.
func (s *session) send() bool {
	for s.done < s.cmd.count {
		if s.waiting || s.c.IsFull() || s.exhausted() {
			return false
		}
		if s.c.Fits() == conn.Rejected {
			s.await()
			return false
		}
		n := int(min(message, s.cmd.count-s.done))
		if s.made.IsZero() {
			b := s.block(n)
			if b.IsZero() { // No memory just now.
				s.later()
				return false
			}
			_, _ = s.stream.Read(b.Room()[:n])
			b.Extend(n)
			s.made = b.Take()
		}
		switch s.c.TrySend(&s.made) {
		case conn.Closed:
			s.made.Release()
			s.over = true // It closes; what was admitted arrives.
			return false
		case conn.Rejected: // Another loop was faster to what the budget had free.
			s.await()
			return false
		}
		s.done += int64(n)
		s.work += n + itemWork
	}
	return true
}

// await goes on when a budget that others have used up may have room again. What
// it refuses would be missing.
func (s *session) await() {
	s.waiting = true
	AwaitRoom(s.c, func(*conn.Conn) {
		s.waiting = false
		s.pump()
	})
}

// block returns memory for n bytes, in a small block where they fit.
func (s *session) block(n int) buf.Buf {
	if n <= reactor.SmallBlock {
		return s.c.Loop().Small().Get()
	}
	return s.c.Loop().Bulk().Get()
}

// flood is the producer that never waits: what is refused is counted and
// dropped, and not even hashed.
func (s *session) flood() bool {
	size := HeadSize + s.cmd.size
	for s.done < s.cmd.count {
		if s.exhausted() {
			return false
		}
		if s.built == 0 {
			switch s.c.Admit(size) {
			case conn.Rejected:
				s.refused(size)
				s.work += itemWork
				s.done++
				continue
			case conn.Closed:
				s.over = true
				return false
			}
			s.compose(size)
		}
		if !s.build() {
			s.later()
			return false
		}
		switch _, err := s.c.Write(s.msg); {
		case errors.Is(err, conn.ErrSendBufferFull): // Another loop was faster to what a budget had free.
			s.refused(size)
		case err != nil:
			s.over = true
			return false
		}
		s.built = 0
		s.work += itemWork
		s.done++
	}
	return true
}

// refused tells of a message of size bytes that was refused.
func (s *session) refused(size int) {
	if hear := s.handler.Rejected; hear != nil {
		hear(s.c, size)
	}
}

// compose writes the head of message s.done, and resets the stream to its seed.
func (s *session) compose(size int) {
	if s.msg == nil {
		s.msg = make([]byte, size)
	}
	binary.BigEndian.PutUint32(s.msg, uint32(s.done))
	binary.BigEndian.PutUint32(s.msg[4:], uint32(s.cmd.size))
	s.built = HeadSize
	seed := append(s.cmd.seed, '.')
	s.stream.Reset(strconv.AppendInt(seed, s.done, 10))
}

// build fills the message as far as the turn allows: one of 16 MiB takes some
// fifty milliseconds, for which other connections must not wait.
func (s *session) build() (complete bool) {
	n := min(len(s.msg)-s.built, max(itemWork, turnWork-s.work))
	_, _ = s.stream.Read(s.msg[s.built : s.built+n])
	s.built += n
	s.work += n
	return s.built == len(s.msg)
}

// exhausted reports whether the turn's work is done, and goes on in the next.
func (s *session) exhausted() bool {
	if s.work < turnWork {
		return false
	}
	s.later()
	return true
}

func (s *session) later() {
	s.deferred = true
	s.c.Loop().Defer(s.resume)
}

// end forgets the connection, which has closed.
func (s *session) end() {
	s.c, s.over, s.in, s.msg = nil, true, nil, nil
	s.made.Release()
}
