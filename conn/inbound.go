package conn

import (
	"io"
	"syscall"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
)

// PauseRead stops OnData until ResumeRead. What the kernel had already handed
// over is kept and delivered then, in order; the peer is held back by its
// window. While paused, neither the peer's end of file nor its reset is
// noticed, but by a send.
func (c *Conn) PauseRead() {
	c.hold(byUser)
	c.touch()
}

// ResumeRead lets OnData run again, from the end of this turn on. It does
// nothing after Close.
func (c *Conn) ResumeRead() {
	c.resume(byUser)
	c.touch()
}

// ReadOn ends a PauseRead, and has Config.PauseOnFull stop reading no more: for a
// protocol that has said its last word, and only waits for that of the peer.
func (c *Conn) ReadOn() {
	c.readsOn = true
	c.resume(byUser | byFull)
	c.touch()
}

// ReadPaused reports whether reading is paused: by PauseRead, by a full queue
// with Config.PauseOnFull, or by a part of the library.
func (c *Conn) ReadPaused() bool { return c.paused != 0 }

// pauses are the reasons for which a connection does not read. It reads when
// there is none.
type pauses uint16

const (
	byUser   pauses = 1 << iota // PauseRead
	byFull                      // Config.PauseOnFull
	byPipe                      // the other end of a Pipe is full
	byWork                      // work of Go is under way
	byKept                      // Config.RecvLimit
	byUnread                    // Unread, until a Defer has run
	byExit                      // Detach
	byBridge                    // a NetConn has much that is not read
	bySplice                    // the kernel moves what comes
)

func (c *Conn) hold(why pauses) {
	c.paused |= why
	c.filled, c.steady = 0, 0 // Who pauses is to have little to keep when it does so again.
}

func (c *Conn) resume(why pauses) { c.paused &^= why }

// received settles a completion of Recv.
func (c *Conn) received(done *aio.Completion) {
	if done.Final {
		c.armed, c.cancelling = false, false
	}
	if c.state >= ending || c.offline {
		c.proceed()
		return
	}
	if done.Final {
		c.touch() // Re-arms, or goes on closing.
	}
	switch {
	case done.Res > 0:
		c.bytesIn += uint64(done.Res)
		if c.clock != nil {
			c.clock.in = c.loop.Now()
		}
		c.adapt(done.In.Len())
		c.take(&done.In)
	case done.Res == 0 && done.Final:
		c.eof = true
		c.touch()
	case done.Res == -int32(syscall.ENOBUFS), done.Res == -int32(syscall.ECANCELED),
		done.Res == -int32(syscall.EINTR), done.Res == -int32(syscall.EAGAIN), done.Res >= 0:
		// The engine waits for buffers, or we have cancelled: armed anew at the
		// end of the turn if the connection still wants to read.
	default:
		c.fail("recv", int(done.Res))
	}
}

// take hands received bytes over, now or when reading goes on.
func (c *Conn) take(in *buf.Buf) {
	switch {
	case c.state == closing:
		return // Discarded: the loop releases what is not taken.
	case c.ReadPaused() || c.hasParked():
		c.park(in)
	default:
		c.hear(in)
	}
}

// park keeps received bytes, in the room of the last block if they fit, so
// that many small segments do not hold many large blocks.
func (c *Conn) park(in *buf.Buf) {
	b := c.aside()
	if n := len(b.parked); n > 0 && len(b.parked[n-1].Room()) >= in.Len() {
		b.parked[n-1].Append(in.Bytes())
		return
	}
	b.parked = append(b.parked, in.Take())
	c.touch()
}

// hasParked reports whether received bytes wait until reading goes on.
func (c *Conn) hasParked() bool { return c.beside != nil && len(c.beside.parked) > 0 }

// handParked delivers what came while reading was paused, and then the end of
// file behind it.
func (c *Conn) handParked() {
	for c.hasParked() && !c.ReadPaused() && c.state < closing {
		b := c.beside
		in := b.parked[0].Take()
		if b.parked = b.parked[1:]; len(b.parked) == 0 {
			b.parked = nil
		}
		c.deliver(&in)
	}
	if !c.eof || c.eofHeard || c.hasParked() || c.state > closing || c.ReadPaused() && c.state < closing {
		return
	}
	c.eofHeard = true
	switch {
	case c.state == closing:
	case c.dial != nil && c.state == open:
		c.dial.endOfFile()
	case c.piped():
		c.beside.inlet.eof(c)
	default:
		c.hearEOF()
	}
}

// hearEOF is OnEOF, or what stands for it.
func (c *Conn) hearEOF() {
	if c.hooks.eof != nil {
		c.hooks.eof(c)
	} else {
		c.closeFor(EOF, io.EOF)
	}
}

// deliver is OnData with a block that is ours to release, panic or not.
func (c *Conn) deliver(in *buf.Buf) {
	defer in.Release()
	c.hear(in)
}

// dropParked gives back what nobody will hear.
func (c *Conn) dropParked() {
	b := c.beside
	if b == nil {
		return
	}
	for i := range b.parked {
		b.parked[i].Release()
	}
	b.parked = nil
}

// listens reports whether the receive is armed that stays so, and armOrCancel would
// find nothing to do.
func (c *Conn) listens() bool {
	return c.armed && !c.cancelling && c.paused == 0 && !c.eof && c.suits()
}

// armOrCancel brings the receive to what it should be: armed while somebody
// listens or input is to be discarded, cancelled while reading is paused, when it
// is of the kind for little while the peer sends much, and when it may bring more
// than there is room for by now.
func (c *Conn) armOrCancel() {
	if c.state >= ending || c.offline {
		return
	}
	want := !c.eof && (c.state == closing || !c.ReadPaused() && !c.hasParked())
	switch {
	case want && !c.armed:
		c.armed, c.recvFlags = true, c.howToReceive()
		c.submit(aio.Op{Kind: aio.Recv, Flags: c.recvFlags})
	case c.armed && !c.cancelling && !(want && c.suits()):
		c.cancelling, c.steady = true, 0 // One that was taken back is not to be so again soon.
		c.submit(aio.Op{Kind: aio.Cancel, Target: aio.Recv})
	}
}
