package codec

import "github.com/penstock-go/penstock/conn"

// Handler is what a connection does with its messages. It may have the optional
// interfaces of package conn too, such as conn.DrainHandler.
//
// Thread: every method runs on the connection's loop. One Handler that serves a
// whole listener is called from all loops at once.
type Handler[M any] interface {
	// OnOpen runs once, first, unless SetHandler has put the protocol in place.
	OnOpen(c *conn.Conn)
	// OnMessage runs for each message, in order. Behind PauseRead, Close, Detach
	// or SetHandler inside it, the next one does not run: the bytes that have come
	// wait until reading goes on, are discarded, or go to the new handler.
	OnMessage(c *conn.Conn, m M)
	// OnClose runs once, last.
	OnClose(c *conn.Conn, err error)
}

// Funcs is a Handler made of functions, for small programs. A nil function is an
// event that nobody hears; a nil EOF closes behind what is queued.
type Funcs[M any] struct {
	Open    func(c *conn.Conn)
	Message func(c *conn.Conn, m M)
	Full    func(c *conn.Conn)
	Drain   func(c *conn.Conn)
	EOF     func(c *conn.Conn)
	Error   func(c *conn.Conn, err error)
	Timeout func(c *conn.Conn, which conn.Reason) (extend bool)
	Retry   func(c *conn.Conn, r conn.Retry)
	Close   func(c *conn.Conn, err error)
}

// OnOpen implements Handler.
func (f *Funcs[M]) OnOpen(c *conn.Conn) {
	if f.Open != nil {
		f.Open(c)
	}
}

// OnMessage implements Handler.
func (f *Funcs[M]) OnMessage(c *conn.Conn, m M) {
	if f.Message != nil {
		f.Message(c, m)
	}
}

// OnClose implements Handler.
func (f *Funcs[M]) OnClose(c *conn.Conn, err error) {
	if f.Close != nil {
		f.Close(c, err)
	}
}

// Wrapped implements conn.Wrapper.
func (f *Funcs[M]) Wrapped() any {
	return &conn.Funcs{Full: f.Full, Drain: f.Drain, EOF: f.EOF, Error: f.Error, Timeout: f.Timeout, Retry: f.Retry}
}
