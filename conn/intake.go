package conn

import "github.com/penstock-go/penstock/buf"

// intake counts the blocks that a connection has received and somebody keeps. It
// owns them, so it hears of their release wherever that is: in the handler, behind
// a send of this connection or of another on the loop, at the end of a codec.
type intake struct {
	c    *Conn
	kept int // bytes, whole blocks
}

// Kept returns the bytes of blocks that were handed to the handler and are not
// released: whole blocks are counted, however little is in them. It counts only
// with Config.RecvLimit.
func (c *Conn) Kept() int {
	if b := c.beside; b != nil && b.intake != nil {
		return b.intake.kept
	}
	return 0
}

// keepsEnough reports whether as much is kept as may be.
func (c *Conn) keepsEnough() bool {
	most := c.host.cfg.RecvLimit
	return most > 0 && c.Kept() >= most
}

// owns counts a block that is about to be handed over.
func (c *Conn) owns(in *buf.Buf) *intake {
	k := c.aside().intake
	if k == nil {
		k = &intake{c: c}
		c.beside.intake = k
	}
	in.Own(k)
	k.kept += in.Cap()
	return k
}

// heard looks at what was left of a block that was handed over, and pauses reading
// when too much is kept.
func (k *intake) heard(in *buf.Buf) {
	in.Release()
	if c := k.c; k.kept >= c.host.cfg.RecvLimit && c.state < closing {
		c.hold(byKept)
		c.touch()
	}
}

// Released implements buf.Owner.
func (k *intake) Released(bytes int) {
	k.kept -= bytes
	if c := k.c; c.paused&byKept != 0 && k.kept < c.host.cfg.RecvLimit && c.state < closed {
		c.resume(byKept)
		c.touch()
	}
}
