package conn_test

import (
	"testing"

	"github.com/penstock-go/penstock/conn"
)

// TestOnRoom holds that a wait for room ends once, behind the OnDrain of the
// same bytes, and never inside a Send.
func TestOnRoom(t *testing.T) {
	r := newRig(t, 100, marks(1000, 200, 2000), nil)
	r.stuff()
	room := func(what string) func(*conn.Conn) {
		return func(c *conn.Conn) {
			if c != r.c {
				t.Error("told with another connection")
			}
			r.note(what)
		}
	}
	_ = r.write(1000)
	r.c.OnRoom(900, room("900"))
	r.c.OnRoom(-1, room("low"))
	r.c.OnRoom(0, room("empty"))
	stopped := r.c.OnRoom(0, room("stopped"))
	r.Turns(2)
	r.wantLog("full")
	r.read(100)
	r.wantLog("full 900")
	if !stopped.Stop() || stopped.Stop() {
		t.Error("Stop does not tell whether the wait was on")
	}
	for range 7 {
		r.read(100)
	}
	r.wantLog("full 900 drain low")
	for range 2 {
		r.read(100)
	}
	r.wantLog("full 900 drain low empty")
	r.c.OnRoom(0, room("again"))
	r.wantLog("full 900 drain low empty")
	r.Turn()
	r.wantLog("full 900 drain low empty again")
	r.gone()
}

// TestOnRoomBesideDrain has a handler that fills the queue at each drain: who
// waits for room beside it has its turn all the same.
func TestOnRoomBesideDrain(t *testing.T) {
	told := 0
	r := newRig(t, 100, marks(1000, 0, 1000), func(r *rig) {
		r.onDrain = func(c *conn.Conn) {
			if r.count("drain") < 20 {
				_ = r.write(1000)
			}
		}
	})
	r.stuff()
	_ = r.write(1000)
	r.c.OnRoom(0, func(*conn.Conn) { told++ })
	for range 10 {
		r.read(100)
	}
	if told != 1 || r.count("drain") != 1 {
		t.Errorf("told %d times after %d drains", told, r.count("drain"))
	}
	r.gone()
}

// TestOnRoomMarks holds that a wait for the low mark follows the mark.
func TestOnRoomMarks(t *testing.T) {
	told := 0
	r := newRig(t, 100, marks(1000, 0, 1000), nil)
	r.stuff()
	_ = r.write(800)
	r.c.OnRoom(-1, func(*conn.Conn) { told++ })
	if r.Turn(); told != 0 {
		t.Fatal("told with 800 bytes pending")
	}
	if err := r.c.SetMarks(conn.Marks{High: 2000, Low: 800, Limit: 2000}); err != nil {
		t.Fatal(err)
	}
	if r.Turn(); told != 1 {
		t.Error("not told with the low mark at what is pending")
	}
	r.gone()
}

// TestOnRoomAgain has a wait that begins anew each time it is told: it is told
// once a turn, and the loop goes on.
func TestOnRoomAgain(t *testing.T) {
	told := 0
	r := newRig(t, 100, marks(1000, 0, 1000), nil)
	var again func(c *conn.Conn)
	again = func(c *conn.Conn) { told++; _, _ = c.Write([]byte("x")); c.OnRoom(1000, again) }
	r.c.OnRoom(0, again)
	r.Turns(10)
	if told < 9 || told > 10 {
		t.Errorf("told %d times in 10 turns", told)
	}
	r.c.Abort()
	last := told
	r.Settle("close", r.isClosed)
	if again = func(*conn.Conn) {}; told == last {
		t.Error("not told at the end")
	}
	r.Turns(2)
	r.Finish()
}

// TestOnRoomEnds holds that a close ends every wait, before OnClose, also when
// one of those that are told panics; and that it ends at once behind the close.
func TestOnRoomEnds(t *testing.T) {
	for _, abort := range []bool{false, true} {
		r := newRig(t, 100, marks(1000, 0, 1000), nil)
		r.stuff()
		_ = r.write(500)
		r.c.OnRoom(0, func(*conn.Conn) { r.note("first"); panic("a room's panic") })
		r.c.OnRoom(0, func(c *conn.Conn) {
			r.note("second")
			if _, err := c.Write([]byte("x")); err == nil {
				t.Error("a send after the close was taken")
			}
		})
		r.do(func(c *conn.Conn) {
			if abort {
				c.Abort()
			} else {
				c.Close()
			}
			r.wantLog("")
		})
		r.Settle("close", r.isClosed)
		r.wantLog("first second close")
		if abort {
			r.wantReason(conn.Aborted, 500)
		} else {
			r.wantReason(conn.HandlerPanic, 500)
		}
		late := false
		r.c.OnRoom(0, func(*conn.Conn) { late = true })
		if r.Turn(); !late {
			t.Error("not told after the close")
		}
		r.Finish()
	}
}
