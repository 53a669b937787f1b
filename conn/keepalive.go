package conn

import (
	"fmt"
	"time"
)

// KeepAlive has the kernel find out about a TCP peer that is gone without a
// word. The zero value does nothing. Listeners and dialers set it; unix sockets
// need none of it.
//
// It finds a host that has vanished and keeps what is between awake; it says
// nothing of a program that hangs. That is for the timeouts.
type KeepAlive struct {
	// Idle is how long a connection is silent before the kernel probes the
	// peer (SO_KEEPALIVE, TCP_KEEPIDLE), in whole seconds, rounded up. 0: it
	// does not probe.
	Idle time.Duration
	// Interval is the time between two probes (TCP_KEEPINTVL), in whole
	// seconds, rounded up. Default: the kernel's, 75 s as a rule.
	Interval time.Duration
	// Count is how many probes stay unanswered before the connection ends,
	// with reason PeerReset (TCP_KEEPCNT). Default: the kernel's, 9 as a rule.
	// At most 127.
	Count int
	// UserTimeout is how long what was sent may stay without an
	// acknowledgement before the connection ends, with reason PeerReset
	// (TCP_USER_TIMEOUT), in milliseconds. It also stands in for Count.
	// Default: the kernel's, some 15 minutes.
	UserTimeout time.Duration
}

// keepAliveMost is the most of Idle and Interval: the kernel's.
const keepAliveMost = 32767 * time.Second

func (k KeepAlive) check() error {
	switch {
	case k.Idle < 0 || k.Idle > keepAliveMost || k.Interval < 0 || k.Interval > keepAliveMost:
		return fmt.Errorf("conn: KeepAlive with %v and %v: from 0 to %v", k.Idle, k.Interval, keepAliveMost)
	case k.Count < 0 || k.Count > 127:
		return fmt.Errorf("conn: KeepAlive with %d probes: from 0 to 127", k.Count)
	case k.UserTimeout < 0 || k.UserTimeout > 24*24*time.Hour:
		return fmt.Errorf("conn: KeepAlive with UserTimeout %v: from 0 to 24 days", k.UserTimeout)
	case k.Idle == 0 && (k.Interval != 0 || k.Count != 0):
		return fmt.Errorf("conn: KeepAlive with Interval or Count and without Idle")
	}
	return nil
}

// seconds rounds up.
func (KeepAlive) seconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }
