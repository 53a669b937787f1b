package ws_test

import (
	"strings"
	"testing"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/ws"
)

// TestCloseFrameHasRoom holds that neither pongs nor the end of a Writer's message take
// the place of a close frame past the limit, also where that is the budget's.
func TestCloseFrameHasRoom(t *testing.T) {
	for _, server := range []bool{true, false} {
		for _, budget := range []bool{false, true} {
			t.Run(name("%s budget=%v", role(server), budget), func(t *testing.T) {
				below := conn.Config{HighWater: 1000, Limit: 1000}
				if budget {
					below = conn.Config{Budget: conn.NewBudget(1000, conn.BudgetReject)}
				}
				r := dialedOr(t, server, options{window: 300, below: below})
				r.got()
				r.peer.AutoRead(false)
				w, err := r.c.NewWriter(ws.Binary)
				if err != nil {
					t.Fatal(err)
				}
				for err == nil {
					_, err = w.Write(make([]byte, 100))
					r.Turn()
				}
				ended := 0
				for range 3 {
					r.peer.Feed(encode(server, ping(strings.Repeat("p", 125))))
					r.Turns(3)
					if w.Close() == nil {
						ended++
					}
				}
				r.c.Close(4000, strings.Repeat("r", 123))
				r.peer.AutoRead(true)
				r.Turns(60)
				got, _ := decode(t, !server, r.got())
				if last := got[len(got)-1]; !equalFrames([]frame{last}, []frame{byeText(4000, strings.Repeat("r", 123))}) || ended != 1 {
					t.Errorf("the last frame is %v, and the message ended %d times", last, ended)
				}
				r.peer.Feed(encode(server, bye(4000)))
				r.gone()
				r.wantClose(4000, false, true)
			})
		}
	}
}

// TestCloseWhilePaused holds that the answer to a close frame is heard although
// reading was paused, by the user or for a full queue.
func TestCloseWhilePaused(t *testing.T) {
	for _, full := range []bool{false, true} {
		r := dialed(t, options{window: 300, below: conn.Config{HighWater: 1000, PauseOnFull: true}})
		if full {
			r.peer.AutoRead(false)
			r.c.Send(ws.Binary, make([]byte, 5000))
			r.Turns(3)
		} else {
			r.c.Conn().PauseRead()
		}
		r.peer.Feed(encode(true, text("never mind"), bye(1000)))
		r.Turns(3)
		if r.closed != nil || !r.c.Conn().ReadPaused() {
			t.Fatal("reading is not paused")
		}
		r.c.Close(ws.Normal, "")
		r.Turns(3)
		r.peer.AutoRead(true)
		r.Turns(60)
		if r.gone(); len(r.msgs) != 0 {
			t.Errorf("messages %q behind the close", r.msgs)
		}
		r.wantClose(ws.Normal, false, true)
		if n := r.server.Stats().CloseTimeouts; n != 0 {
			t.Errorf("%d time-outs", n)
		}
	}
}

// TestCloseOfSlowReader holds that the time for an answer begins when the close frame
// has gone, and that a peer which takes nothing of what is before it, or trickles, has no
// more.
func TestCloseOfSlowReader(t *testing.T) {
	const step = 50 << 10 // in half a CloseTimeout
	for takes, reads := range map[int]bool{step: true, 20: false, 0: false} {
		r := dialed(t, options{window: step / 2, cfg: ws.Config{CloseTimeout: time.Second}, below: conn.Config{CloseTimeout: time.Minute}})
		r.peer.AutoRead(false)
		r.c.Send(ws.Binary, make([]byte, 8*step))
		r.c.Close(ws.Normal, "")
		answered := false
		for range 20 {
			for range 2 {
				r.Pass(250 * time.Millisecond)
				_, _ = r.peer.Read(make([]byte, takes/2))
			}
			if r.c.Pending() == 0 && r.peer.Waiting() == 0 && !answered {
				r.feed(bye(1000))
				answered = true
			}
		}
		late := r.server.Stats().CloseTimeouts
		r.gone()
		if r.wantClose(ws.Normal, false, reads); answered != reads || (late == 0) != reads {
			t.Errorf("takes %d: answered %v, %d time-outs", takes, answered, late)
		}
	}
}
