package ws_test

import (
	"strings"
	"testing"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/ws"
)

// TestPanicInSendReceived has OnFull panic inside SendReceived, with another message
// behind in the block: the connection ends, and no block is lost.
func TestPanicInSendReceived(t *testing.T) {
	h := &ws.Funcs{Full: func(*ws.Conn) { panic("full") }, Message: func(c *ws.Conn, m *ws.Message) { c.SendReceived(m) }}
	r := newRig(t, options{window: 200, handler: h, below: conn.Config{HighWater: 1000, Limit: 1 << 20}})
	r.peer.Feed(handshake())
	r.Turns(3)
	r.feed(frame{op: 2, data: strings.Repeat("a", 2500)}, frame{op: 2, data: strings.Repeat("b", 60)})
	r.Turns(20)
	r.World.Finish()
}

// TestFullInRefusal has a budget that another connection has used up refuse a message in
// SendReceived: in the OnFull of that the message is as it was.
func TestFullInRefusal(t *testing.T) {
	budget := conn.NewBudget(1000, conn.BudgetReject)
	inFull := -1
	var now *ws.Message
	h := &ws.Funcs{
		Full: func(*ws.Conn) {
			if now != nil {
				inFull = len(now.Bytes())
			}
		},
		Message: func(c *ws.Conn, m *ws.Message) {
			now = m
			if s := c.SendReceived(m); s != conn.Rejected || len(m.Bytes()) != 2500 {
				t.Errorf("%v, and %d bytes behind it", s, len(m.Bytes()))
			}
			now = nil
		},
	}
	r := newRig(t, options{window: 200, handler: h, below: conn.Config{Budget: budget}})
	r.peer.Feed(handshake())
	r.Turns(3)
	fd, _ := r.Fake.Open()
	cfg, err := conn.Config{Budget: budget}.Check()
	if err != nil {
		t.Fatal(err)
	}
	other := conn.New(r.Loop, int(fd), &conn.Funcs{}, cfg)
	if _, err = other.Write(make([]byte, 3000)); err != nil {
		t.Fatal(err)
	}
	r.Turns(3)
	r.feed(frame{op: 2, data: strings.Repeat("a", 2500)})
	if r.Turns(5); inFull != 2500 {
		t.Errorf("the message has %d bytes in OnFull", inFull)
	}
}

// TestPanicInRefusal has OnFull panic while a budget that is used up refuses a message in
// SendReceived, with another one behind: no block is lost.
func TestPanicInRefusal(t *testing.T) {
	budget := conn.NewBudget(1000, conn.BudgetReject)
	fulls := 0
	h := &ws.Funcs{
		Full:    func(*ws.Conn) { fulls++; panic("full") },
		Message: func(c *ws.Conn, m *ws.Message) { c.SendReceived(m) },
	}
	r := newRig(t, options{window: 200, handler: h, below: conn.Config{Budget: budget}})
	r.peer.Feed(handshake())
	r.Turns(3)
	fd, _ := r.Fake.Open()
	cfg, _ := conn.Config{Budget: budget}.Check()
	other := conn.New(r.Loop, int(fd), &conn.Funcs{}, cfg)
	if _, err := other.Write(make([]byte, 3000)); err != nil {
		t.Fatal(err)
	}
	r.Turns(3)
	r.feed(frame{op: 2, data: strings.Repeat("a", 2500)}, frame{op: 2, data: strings.Repeat("b", 60)})
	r.Turns(20)
	other.Abort()
	r.Turns(20)
	if fulls != 1 {
		t.Errorf("fulls %d", fulls)
	}
	r.World.Finish()
}
