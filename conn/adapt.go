package conn

import (
	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/reactor"
)

const (
	// calmMost is after how many short receives a connection receives into small
	// blocks again.
	calmMost = 8
	// wide is the most bytes that one receive brings. What is behind them in the
	// socket comes with the next, when others have had their turn.
	wide = aio.WideBlocks * reactor.BulkBlock
	// multishot is the most that comes when a receive of much that stays armed is cancelled.
	multishot = aio.MultishotBlocks * reactor.BulkBlock
	// filledEnough is how many large blocks in a row must come full before receives
	// may bring several, and filledMost for how many others that is remembered.
	filledEnough = 2
	filledMost   = 16
	// steadyEnough is how many receives of much must have come without a cancel before a receive
	// into large ones may stay armed.
	steadyEnough = 4
)

// adapt chooses how to receive next, when n bytes have come. A receive that stays
// armed costs least for small messages, into small blocks. Where these come filled,
// the peer sends much: then large blocks, one at a time, so that no more than it has
// to be kept when reading is paused; by a receive that stays armed where it has not been
// for a while; or several at once, as long as these come filled. Both only while so much fits.
func (c *Conn) adapt(n int) {
	if n < reactor.SmallBlock && !c.bulk && c.filled == 0 {
		return // Little comes, as before.
	}
	switch {
	case n < reactor.SmallBlock && c.bulk:
		if c.calm++; c.calm == calmMost {
			c.bulk, c.calm = false, 0
		}
	case n < reactor.SmallBlock:
	case c.bulk:
		c.calm, c.steady = 0, min(c.steady+1, steadyEnough)
	default:
		c.bulk = true
	}
	switch full := n >= reactor.BulkBlock; {
	case !full && c.filled > 0:
		c.filled--
	case !full:
	case c.filled < filledEnough:
		c.filled++
	default:
		c.filled = filledMost
	}
	if !c.suits() {
		c.touch()
	}
}

// howToReceive returns the flags of the next receive. It may bring several blocks while
// so much fits until the queue is full, or until whoever takes the input has enough.
func (c *Conn) howToReceive() (how aio.Flags) {
	if c.unix {
		how = aio.Once
	}
	switch {
	case c.bulk && c.filled >= filledEnough && c.room() >= wide:
		how |= aio.Bulk | aio.Wide
	case c.bulk:
		how |= aio.Bulk
		// For more than it may bring, so that it is not taken back at once.
		if !c.unix && c.steady == steadyEnough && c.room() >= wide {
			how |= aio.Multishot
		}
	}
	return how
}

// suits reports whether the receive that is armed is still of the right kind. Which one
// that ends with what it brings is chosen anew then.
func (c *Conn) suits() bool {
	if c.recvFlags == 0 {
		return !c.bulk
	}
	return c.suitsMuch()
}

// suitsMuch is suits of a receive of much, or of one that ends with what it brings.
func (c *Conn) suitsMuch() bool {
	switch {
	case c.recvFlags&aio.Multishot != 0:
		return c.bulk && c.filled < filledEnough && c.room() >= multishot
	case c.recvFlags&aio.Wide != 0:
		return c.room() >= wide
	}
	return true
}

// room returns the bytes that may come until reading is paused, as far as that is
// known before.
func (c *Conn) room() int {
	n := c.headroom()
	if b := c.beside; b != nil {
		if b.inlet != nil {
			n = min(n, b.inlet.room())
		}
		if most := c.host.cfg.RecvLimit; most > 0 {
			n = min(n, most-c.Kept())
		}
	}
	return n
}
