package ws

import "github.com/penstock-go/penstock/buf"

// windows is what a connection with compression has agreed to and keeps.
type windows struct {
	agreed
	unsure         bool // sent ends with what may yet be refused
	sent, received window
}

// windows returns what a connection needs that has agreed to a. Those that keep
// nothing share it.
func (l *lane) windows(a agreed) *windows {
	if a.sendTakeover || a.recvTakeover {
		return &windows{agreed: a}
	}
	for _, w := range l.plain {
		if w.agreed == a {
			return w
		}
	}
	l.plain = append(l.plain, &windows{agreed: a})
	return l.plain[len(l.plain)-1]
}

// context returns what precedes the next message that is sent.
func (w *windows) context() []byte {
	if w.sendTakeover && !w.unsure {
		return w.sent.block.Bytes()
	}
	return nil
}

// release gives the windows back.
func (w *windows) release(l *lane) {
	l.stock.put(&w.sent, w.sendBits)
	l.stock.put(&w.received, w.recvBits)
}

// window is the end of what went one way: what the other side's decompressor can
// still refer to. From the first message on it is a block of its size, outside of the
// Go heap, which would hold as much again until it collects.
type window struct {
	block buf.Buf
}

// add appends p, of which the window keeps the last 2^bits bytes. It is false when
// there is no memory: the window is empty then.
func (w *window) add(l *lane, p []byte, bits uint8) bool {
	size := 1 << bits
	if p = p[max(0, len(p)-size):]; len(p) == 0 {
		return true
	}
	if w.block.IsZero() {
		if w.block = l.stock.get(bits); w.block.IsZero() {
			return false
		}
	}
	if over := w.block.Len() + len(p) - size; over > 0 {
		data := w.block.Bytes()
		w.block.Truncate(copy(data, data[over:]))
	}
	w.block.Append(p)
	return true
}

// forget empties the window.
func (w *window) forget() { w.block.Truncate(0) }

// stock is where a lane has its windows from: a pool for each size.
type stock [maxBits + 1]struct {
	pool *buf.Pool
	back int // windows that came back
}

// slabBytes is how much a pool of windows maps at once.
const slabBytes = 256 << 10

// get returns an empty window, or the zero Buf when there is no memory.
func (s *stock) get(bits uint8) buf.Buf {
	k := &s[bits]
	if k.pool == nil {
		var err error
		if k.pool, err = buf.NewPool(buf.Config{BlockSize: 1 << bits, SlabBlocks: slabBytes >> bits}); err != nil {
			panic(err) // A power of two up to 32 KiB suits every page.
		}
	}
	return k.pool.Get()
}

// put takes a window back, and now and then has the pool give back what is free.
func (s *stock) put(w *window, bits uint8) {
	if w.block.IsZero() {
		return
	}
	k := &s[bits]
	w.block.Release()
	if k.back++; k.pool.InUse() == 0 {
		k.pool.Close() // There may be no other end of this lane.
	} else if k.back%64 == 0 && k.pool.Idle() {
		k.pool.Trim()
	}
}
