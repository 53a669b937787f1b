package conn

import (
	"cmp"
	"io"
	"net"
	"os"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/reactor"
)

// Read returns what has been received, and waits when nothing has been: as
// net.Conn says. A Read that waits is filled by the loop, without a block between.
func (n *NetConn) Read(p []byte) (int, error) {
	if err := inTurn(&n.reading); err != nil {
		return 0, n.fault("read", err)
	}
	defer n.reading.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	if err := n.await(p); err != nil {
		return 0, n.fault("read", err)
	}
	if k := n.filled; k > 0 {
		n.filled = 0
		return k, nil
	}
	return n.fetch(p), nil
}

// await waits until there is something to read, perhaps in p already, as filled
// says, or until there never will be.
func (n *NetConn) await(p []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	for {
		switch {
		case n.done:
			return net.ErrClosed
		case n.rd.late:
			return os.ErrDeadlineExceeded
		case n.rd.shut:
			return io.EOF
		case n.unread > 0:
			return nil
		case n.over:
			return io.EOF
		case n.end != nil:
			return n.end
		}
		if reactor.OnLoop() {
			return ErrWouldBlock
		}
		n.waits = p
		n.mu.Unlock()
		failed := false
		select {
		case <-n.rd.bell:
		case <-n.ref.g.remote.Done(): // The loop has failed, or else n.end is set.
			failed = true
		}
		n.mu.Lock()
		n.waits = nil
		switch {
		case n.filled > 0:
			return nil
		case failed && n.end == nil:
			n.end = net.ErrClosed
		}
	}
}

// fetch copies what waits to p.
func (n *NetConn) fetch(p []byte) (total int) {
	n.hands.Lock()
	defer n.hands.Unlock()
	for total < len(p) && (len(n.block.bytes) > 0 || n.turn()) {
		k := copy(p[total:], n.block.bytes)
		n.block.bytes = n.block.bytes[k:]
		total += k
	}
	if total < len(p) {
		k := copy(p[total:], n.rest)
		n.rest = n.rest[k:]
		total += k
	}
	n.took(total)
	return total
}

// turn goes on to the next block, if there is one. The caller holds hands.
func (n *NetConn) turn() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.putAside()
	if len(n.blocks) == 0 {
		return false
	}
	n.block = n.blocks[0]
	if n.blocks = n.blocks[1:]; len(n.blocks) == 0 {
		n.blocks = nil
	}
	return true
}

// putAside gives up a block that was read. The caller holds both locks.
func (n *NetConn) putAside() {
	if !n.block.block.IsZero() && len(n.block.bytes) == 0 {
		n.spent = append(n.spent, n.block.block.Take())
		n.block.bytes = nil
	}
}

// took counts what was read. The loop is visited when it may read on, or when
// nothing is left that would bring it here and it misses a large block, or any.
func (n *NetConn) took(k int) {
	n.mu.Lock()
	n.unread -= k
	n.putAside()
	visit := n.paused && n.unread <= n.ahead/2 || n.unread == 0 && (n.dammed || n.owes() > reactor.SmallBlock)
	n.mu.Unlock()
	if visit {
		n.call()
	}
}

// owes returns the bytes of the blocks that were read.
func (n *NetConn) owes() (size int) {
	for i := range n.spent {
		size += n.spent[i].Cap()
	}
	return size
}

// call has the loop visit, once.
func (n *NetConn) call() {
	n.mu.Lock()
	asked := n.asked
	n.asked = true
	n.mu.Unlock()
	if !asked && !n.ref.Do(n.visit) {
		n.mu.Lock()
		n.asked = false // Another time.
		n.mu.Unlock()
	}
}

// visit gives the loop what is the loop's, and has it read on if it may.
func (n *NetConn) visit(c *Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.asked = false
	n.giveBack()
	if n.rd.shut {
		for i := range n.blocks {
			n.unread -= len(n.blocks[i].bytes)
			n.blocks[i].block.Release()
		}
		n.blocks = nil
	}
	n.dammed = c.keepsEnough()
	if n.paused && (n.rd.shut || n.unread <= n.ahead/2) {
		n.paused = false
		c.resume(byBridge)
		c.touch()
	}
}

// giveBack releases what was read. The caller is the loop.
func (n *NetConn) giveBack() {
	for i := range n.spent {
		n.spent[i].Release()
	}
	n.spent = n.spent[:0]
}

// data implements inlet.
func (n *NetConn) data(c *Conn, in *buf.Buf) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.giveBack()
	if n.rd.shut || n.done && !n.leaving {
		return
	}
	if n.waits != nil { // Then nothing is unread.
		n.filled = copy(n.waits, in.Bytes())
		n.waits = nil
		in.Advance(n.filled)
		n.rd.ring()
	}
	if in.Len() == 0 {
		return
	}
	n.unread += in.Len()
	n.keep(in)
	n.dammed = c.keepsEnough()
	if n.unread >= n.ahead && !n.paused {
		n.paused = true
		c.hold(byBridge)
		c.touch()
	}
}

// keep takes a block, or its bytes into the last one, so that many small segments
// do not hold many blocks.
func (n *NetConn) keep(in *buf.Buf) {
	if i := len(n.blocks) - 1; i >= 0 {
		last := &n.blocks[i]
		if len(last.block.Room()) >= in.Len() {
			last.block.Append(in.Bytes())
			last.bytes = last.block.Bytes()
			return
		}
	}
	b := in.Take()
	n.blocks = append(n.blocks, held{b, b.Bytes()})
}

// room implements inlet.
func (n *NetConn) room() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ahead - n.unread
}

// eof implements inlet. The connection goes on as long as nobody closes it.
func (n *NetConn) eof(*Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.over = true
	n.rd.ring()
}

// ending implements ender: the connection takes and brings no more.
func (n *NetConn) ending(c *Conn) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.end = c.final.result()
	if n.end == nil || n.end == io.EOF { // Somebody here has closed it.
		n.end = net.ErrClosed
	}
	n.rd.ring()
	n.wr.ring()
}

// closed implements mourner. What was received and not read moves to the heap, as
// the blocks are of a loop that may end.
func (n *NetConn) closed(*Conn, error) {
	n.hands.Lock()
	defer n.hands.Unlock()
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gone = true
	n.rest = n.surrender()
	if n.exit != nil { // The connection was faster.
		n.exit <- detached{err: cmp.Or(n.end, net.ErrClosed)}
	}
}

// surrender gives all blocks back, and returns a copy of what they held. The
// caller is the loop, and holds both locks.
func (n *NetConn) surrender() (rest []byte) {
	n.giveBack()
	n.blocks = append([]held{n.block}, n.blocks...)
	for i := range n.blocks {
		if !n.done || n.leaving {
			rest = append(rest, n.blocks[i].bytes...)
		}
		n.blocks[i].block.Release()
	}
	n.block, n.blocks, n.unread = held{}, nil, len(rest)
	return rest
}

// WriteTo implements io.WriterTo, for io.Copy: it needs no buffer of its own.
func (n *NetConn) WriteTo(w io.Writer) (total int64, err error) {
	p := newParcel()
	defer p.drop()
	for {
		k, err := n.Read(p.room[:])
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
		m, err := w.Write(p.room[:k])
		total += int64(m)
		switch {
		case err != nil:
			return total, err
		case m < k:
			return total, io.ErrShortWrite
		}
	}
}
