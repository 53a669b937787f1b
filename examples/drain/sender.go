package main

import (
	"io"
	"os"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/ws"
)

// chunk is how much of the file is a message. share is how much a client is sent in one
// turn of its loop, so that others have their turn however fast it reads.
const (
	chunk = 16 << 10
	share = 8 * chunk
)

// sender is the handler of all connections: each is sent the file from its beginning.
type sender struct {
	ws.NopHandler
	file *os.File
}

// transfer is how far one connection has come.
type transfer struct {
	offset int64
	again  bool // the next share comes by itself
}

// OnOpen implements ws.Handler.
func (s *sender) OnOpen(c *ws.Conn) {
	c.SetUser(&transfer{})
	s.pump(c)
}

// OnDrain implements ws.DrainHandler: what waited has gone, and there is room.
func (s *sender) OnDrain(c *ws.Conn) { s.pump(c) }

// pump sends until the queue is full, the client has had its share, or the file is
// at its end. When the queue is full OnDrain goes on.
func (s *sender) pump(c *ws.Conn) {
	t := c.User().(*transfer)
	if t.again {
		return
	}
	var p [chunk]byte
	for sent := 0; !c.IsFull(); sent += chunk {
		if sent >= share {
			t.again = true
			c.Conn().Loop().Defer(func() {
				t.again = false
				s.pump(c)
			})
			return
		}
		n, err := s.file.ReadAt(p[:], t.offset)
		t.offset += int64(n)
		if n > 0 && c.Send(ws.Binary, p[:n]) >= conn.Rejected {
			return // Closed meanwhile.
		}
		switch {
		case err == io.EOF:
			c.Close(ws.Normal, "")
			return
		case err != nil:
			c.Close(ws.Internal, "the file cannot be read")
			return
		}
	}
}
