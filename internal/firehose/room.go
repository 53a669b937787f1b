package firehose

import (
	"time"

	"github.com/penstock-go/penstock/conn"
)

// roomPatience is how long a connection with nothing pending waits before it looks
// again whether a budget that others have used up has room.
const roomPatience = 10 * time.Millisecond

// AwaitRoom runs fn once, on the loop, when it is time to look again whether c
// takes a message after [conn.Conn.Fits] has said no: when half of what is
// pending has gone, or the connection takes no more; with nothing pending after
// a while, unless it has closed by then.
func AwaitRoom(c *conn.Conn, fn func(*conn.Conn)) {
	if n := c.Pending(); n > 0 {
		c.OnRoom(n/2, fn)
		return
	}
	c.AfterFunc(roomPatience, fn)
}
