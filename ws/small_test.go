package ws_test

import (
	"runtime"
	"testing"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/ws"
)

// TestSmallMessagesMemory holds that short messages to a peer that does not read cost
// little more than the bytes of their frames, prepared or not, on the loop and in the
// mailbox.
func TestSmallMessagesMemory(t *testing.T) {
	const limit = 128 << 10
	for what, send := range map[string]func(c *ws.Conn, p []byte) conn.Status{
		"prepared":     func(c *ws.Conn, p []byte) conn.Status { return c.SendPrepared(ws.Prepare(ws.Binary, p)) },
		"Ref":          func(c *ws.Conn, p []byte) conn.Status { return c.Ref().Send(ws.Binary, p) },
		"Ref prepared": func(c *ws.Conn, p []byte) conn.Status { return c.Ref().SendPrepared(ws.Prepare(ws.Binary, p)) },
	} {
		for _, policy := range []conn.Policy{conn.Reject, conn.DropOldest} {
			for _, n := range []int{4, 32, 200} {
				t.Run(name("%s %d %d", what, policy, n), func(t *testing.T) {
					r := dialed(t, options{window: 4096, below: conn.Config{HighWater: limit, SlowPeer: policy}})
					r.peer.AutoRead(false)
					for r.c.Send(ws.Binary, make([]byte, 100)); r.c.Pending() == 0; r.Turns(2) {
						r.c.Send(ws.Binary, make([]byte, 100))
					}
					before, p := r.Held(), make([]byte, n)
					for r.c.Pending() < limit {
						if s := send(r.c, p); s >= conn.Rejected {
							t.Fatal(s)
						}
					}
					for range 2 { // In the mailbox, and on the loop.
						r.Costs(before, r.c.Pending())
						r.Turns(2)
					}
					runtime.KeepAlive(r)
					r.gone()
				})
			}
		}
	}
}
