package ws_test

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/ws"
)

// TestPongsOfSlowReader holds that a peer which reads slowly from a queue that is always
// at its limit has an answer to its latest ping, after no more bytes than were waiting,
// and that pongs stay within the reserve.
func TestPongsOfSlowReader(t *testing.T) {
	const limit, message, pings = 1000, 100, 30
	for _, server := range []bool{true, false} {
		for _, budget := range []bool{false, true} {
			t.Run(name("%s budget=%v", role(server), budget), func(t *testing.T) {
				below := conn.Config{HighWater: limit, Limit: limit}
				if budget {
					below = conn.Config{Budget: conn.NewBudget(limit, conn.BudgetReject)}
				}
				r := dialedOr(t, server, options{window: 300, below: below})
				r.got()
				r.peer.AutoRead(false)
				most := 0
				step := func(read int) {
					for r.c.Send(ws.Binary, make([]byte, message)) < conn.Rejected {
					}
					most = max(most, r.c.Pending())
					_, _ = r.peer.Read(make([]byte, read))
					r.Turns(2)
				}
				step(0)
				for i := range pings { // Three come for each message that is read.
					r.peer.Feed(encode(server, ping(fmt.Sprintf("%0100d", i))))
					step(message / 3)
				}
				for range 2 * (limit + 300) / message {
					step(message)
				}
				if waiting := limit + message + 14 + conn.Reserve; most > waiting {
					t.Errorf("%d bytes pending, more than %d", most, waiting)
				}
				r.peer.AutoRead(true)
				r.Turns(60)
				all, _ := decode(t, !server, r.got())
				answered, last := 0, -1
				for _, f := range all {
					if f.op == 10 {
						n, _ := strconv.Atoi(f.data)
						if n <= last {
							t.Errorf("ping %d is answered behind ping %d", n, last)
						}
						answered, last = answered+1, n
					}
				}
				if last != pings-1 || answered < pings/6 {
					t.Errorf("%d of %d pings are answered, the last one is %d", answered, pings, last)
				}
				r.peer.CloseWrite()
				r.gone()
			})
		}
	}
}
