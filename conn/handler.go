package conn

import "github.com/penstock-go/penstock/buf"

// Handler is what a connection does with its events. Whoever is given nil instead answers
// ErrNoHandler.
//
// Thread: every method runs on the connection's loop. One Handler that serves
// a whole listener is called from all loops at once, each time with a
// connection of the calling loop.
type Handler interface {
	// OnOpen runs once, first.
	OnOpen(c *Conn)
	// OnData runs for bytes as they came. in is lent until OnData returns;
	// in.Take() keeps it, c.Send(in) sends it on without a copy.
	OnData(c *Conn, in *buf.Buf)
	// OnClose runs once, last. For err see [CloseError].
	OnClose(c *Conn, err error)
}

// The interfaces below are optional. A Handler that has them is asked once,
// when it is given to a listener or to SetHandler, never at an event.

// FullHandler hears that the queue has filled.
type FullHandler interface {
	// OnFull runs once when pending goes from below HighWater to it or above:
	// inside the Send that did it, or on the loop for bytes that came through
	// a Ref. It does not run again before OnDrain has run. With a Budget it also
	// runs when that will refuse the next message, or has refused one: inside the
	// Send, or the Admit, that found it so. See Conn.Starved.
	OnFull(c *Conn)
}

// DrainHandler hears that the queue has emptied.
type DrainHandler interface {
	// OnDrain runs once when, after OnFull, pending has come down to LowWater
	// or below. It never runs inside a Send. It may Send until the queue is
	// full again, Close, and change the marks. It still runs while a Close
	// flushes, and never once the connection has failed or was aborted.
	OnDrain(c *Conn)
}

// EOFHandler hears that the peer will send no more.
type EOFHandler interface {
	// OnEOF runs at most once, after the last OnData. The connection stays
	// open for sending until it is closed. Without this hook the connection
	// flushes what is queued and closes.
	OnEOF(c *Conn)
}

// TimeoutHandler is asked when a deadline has run out.
type TimeoutHandler interface {
	// OnTimeout runs when a deadline has run out; which is the reason that the
	// connection would end with. It returns true to have that deadline count
	// anew, or false to have the connection end. It may end it in its own way,
	// by Close, CloseError or Abort.
	OnTimeout(c *Conn, which Reason) (extend bool)
}

// ErrorHandler hears of failures that have no caller to answer.
type ErrorHandler interface {
	// OnError runs with a [*SendError] when messages that came through a Ref
	// were refused: once for each time the mailbox is emptied; and for each message
	// of a topic that was.
	OnError(c *Conn, err error)
}

// ShutdownHandler hears that the group of its loop ends in order.
type ShutdownHandler interface {
	// OnShutdown runs once, when the loop is first asked to end, in place of the
	// Close that a handler without this hook gets: to say a last word first. The
	// connection has as long as the shutdown allows.
	OnShutdown(c *Conn)
}

// Wrapper is a Handler in front of another one, as a protocol stands in front of
// what is done with its messages.
type Wrapper interface {
	// Wrapped returns the other one, or nil. The optional interfaces that the
	// Wrapper does not have are looked for in it; it need not be a Handler.
	Wrapped() any
}

// NopHandler does nothing, closes when the peer does, and is there to embed.
type NopHandler struct{}

// OnOpen implements Handler.
func (NopHandler) OnOpen(*Conn) {}

// OnData implements Handler; the bytes are dropped.
func (NopHandler) OnData(*Conn, *buf.Buf) {}

// OnClose implements Handler.
func (NopHandler) OnClose(*Conn, error) {}

// Funcs is a Handler made of functions, for small programs. A nil function is
// an event that nobody hears; a nil EOF leaves the default of [EOFHandler]. For
// OnShutdown and OnLeave write a Handler.
type Funcs struct {
	Open  func(c *Conn)
	Data  func(c *Conn, in *buf.Buf)
	Full  func(c *Conn)
	Drain func(c *Conn)
	EOF   func(c *Conn)
	Error func(c *Conn, err error)
	Close func(c *Conn, err error)
	Retry func(c *Conn, r Retry)
	// Timeout is OnTimeout of [TimeoutHandler].
	Timeout func(c *Conn, which Reason) (extend bool)
}

// OnOpen implements Handler.
func (f *Funcs) OnOpen(c *Conn) {
	if f.Open != nil {
		f.Open(c)
	}
}

// OnData implements Handler.
func (f *Funcs) OnData(c *Conn, in *buf.Buf) {
	if f.Data != nil {
		f.Data(c, in)
	}
}

// OnClose implements Handler.
func (f *Funcs) OnClose(c *Conn, err error) {
	if f.Close != nil {
		f.Close(c, err)
	}
}

// hooks is a Handler with its optional interfaces asked for once; a nil
// function is a hook that the handler does not have.
type hooks struct {
	handler Handler
	full    func(*Conn)
	drain   func(*Conn)
	eof     func(*Conn)
	err     func(*Conn, error)
	leave   func(*Conn)
	retry   func(*Conn, Retry)
	timeout func(*Conn, Reason) bool
	stop    func(*Conn)
}

func newHooks(h Handler) *hooks {
	k := &hooks{handler: h}
	for from := any(h); from != nil; {
		k.ask(from)
		w, ok := from.(Wrapper)
		if !ok {
			break
		}
		from = w.Wrapped()
	}
	return k
}

// ask looks for the hooks that nobody in front of h has.
func (k *hooks) ask(h any) {
	if f, ok := h.(*Funcs); ok {
		k.askFuncs(f)
		return
	}
	if f, ok := h.(FullHandler); ok && k.full == nil {
		k.full = f.OnFull
	}
	if d, ok := h.(DrainHandler); ok && k.drain == nil {
		k.drain = d.OnDrain
	}
	if e, ok := h.(EOFHandler); ok && k.eof == nil {
		k.eof = e.OnEOF
	}
	if e, ok := h.(ErrorHandler); ok && k.err == nil {
		k.err = e.OnError
	}
	if l, ok := h.(LeaveHandler); ok && k.leave == nil {
		k.leave = l.OnLeave
	}
	if r, ok := h.(RetryHandler); ok && k.retry == nil {
		k.retry = r.OnRetry
	}
	if t, ok := h.(TimeoutHandler); ok && k.timeout == nil {
		k.timeout = t.OnTimeout
	}
	if s, ok := h.(ShutdownHandler); ok && k.stop == nil {
		k.stop = s.OnShutdown
	}
}

func (k *hooks) askFuncs(f *Funcs) {
	if k.full == nil {
		k.full = f.Full
	}
	if k.drain == nil {
		k.drain = f.Drain
	}
	if k.eof == nil {
		k.eof = f.EOF
	}
	if k.err == nil {
		k.err = f.Error
	}
	if k.retry == nil {
		k.retry = f.Retry
	}
	if k.timeout == nil {
		k.timeout = f.Timeout
	}
}
