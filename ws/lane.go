package ws

import (
	"crypto/rand"
	"encoding/binary"
	"maps"
	"sync"
	"sync/atomic"
	"weak"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// endpoint is what a server or a client is to its connections.
type endpoint struct {
	cfg    Config
	client bool
	hooks  *hooks
	counts counts

	mu    sync.Mutex
	lanes map[weak.Pointer[reactor.Loop]]weak.Pointer[lane] // it may outlive many groups
}

func newEndpoint(h Handler, cfg Config, client bool) (*endpoint, error) {
	cfg, err := cfg.Check()
	if err == nil && h == nil {
		err = conn.ErrNoHandler
	}
	if err != nil {
		return nil, err
	}
	return &endpoint{cfg: cfg, client: client, hooks: newHooks(h), lanes: map[weak.Pointer[reactor.Loop]]weak.Pointer[lane]{}}, nil
}

// Stats is what a server or a client has counted.
type Stats struct {
	Open              int64  // WebSockets that are open now
	Opened            uint64 // handshakes done
	Refused           uint64 // handshakes refused, by the rules or by OnUpgrade
	HandshakeTimeouts uint64
	CloseTimeouts     uint64 // close frames that the peer did not answer
	PongTimeouts      uint64 // peers given up by the heartbeat

	// Connections that were closed for what the peer did, by the code it was told.
	ProtocolErrors uint64 // ProtocolError
	InvalidData    uint64 // InvalidData
	TooBig         uint64 // TooBig
}

// counts are the counters behind Stats. They count what is rare.
type counts struct {
	open                                           atomic.Int64
	opened, refused                                atomic.Uint64
	handshakeTimeouts, closeTimeouts, pongTimeouts atomic.Uint64
	protocol, invalid, tooBig                      atomic.Uint64
}

func (c *counts) stats() Stats {
	return Stats{
		Open: c.open.Load(), Opened: c.opened.Load(), Refused: c.refused.Load(),
		HandshakeTimeouts: c.handshakeTimeouts.Load(), CloseTimeouts: c.closeTimeouts.Load(), PongTimeouts: c.pongTimeouts.Load(),
		ProtocolErrors: c.protocol.Load(), InvalidData: c.invalid.Load(), TooBig: c.tooBig.Load(),
	}
}

// failed counts a connection that is closed for a mistake of its peer.
func (c *counts) failed(code Code) {
	switch code {
	case ProtocolError:
		c.protocol.Add(1)
	case InvalidData:
		c.invalid.Add(1)
	case TooBig:
		c.tooBig.Add(1)
	}
}

// lane is the part of an endpoint on one loop: what its connections there share,
// since only one of them runs at a time.
type lane struct {
	ep    *endpoint
	loop  *reactor.Loop
	clock clock

	head     head
	request  Request
	message  Message
	fragment Fragment
	header   [maxHeader]byte
	control  [maxHeader + maxControl]byte
	scratch  []byte  // for messages on their way out
	rest     buf.Buf // what was behind a message whose block was sent on
	whole    buf.Buf // of a message that is being delivered
	moved    bool    // the block of a message was sent on, and rest is in its place
	spare    []*inbound
	heap     []byte // of a large message that was received, to be used again
	keys     keys
	deflater *deflater
	inflater *inflater
	plain    []*windows // of those that keep none
	owed     map[*Conn]*owed
	stock    stock // of windows
}

// lane returns the part of ep on loop l. It lasts as long as a connection has it, and
// until the collector finds that none does.
func (ep *endpoint) lane(l *reactor.Loop) *lane {
	ep.mu.Lock()
	defer ep.mu.Unlock()
	key := weak.Make(l)
	n := ep.lanes[key].Value()
	if n == nil {
		maps.DeleteFunc(ep.lanes, func(_ weak.Pointer[reactor.Loop], n weak.Pointer[lane]) bool { return n.Value() == nil })
		n = &lane{ep: ep, loop: l}
		n.clock.init(n)
		ep.lanes[key] = weak.Make(n)
	}
	return n
}

// Bounds of what a lane keeps for later: inbounds, and bytes of a buffer.
const (
	spareMost = 64
	keepBytes = 1 << 20
)

// inbound returns an empty inbound.
func (l *lane) inbound() *inbound {
	if n := len(l.spare); n > 0 {
		in := l.spare[n-1]
		l.spare = l.spare[:n-1]
		return in
	}
	return &inbound{}
}

// release takes an inbound back, with what it has collected.
func (l *lane) release(in *inbound) {
	in.block.Release()
	l.keep(in.heap)
	*in = inbound{}
	if len(l.spare) < spareMost {
		l.spare = append(l.spare, in)
	}
}

// keep takes a buffer back.
func (l *lane) keep(heap []byte) {
	if cap(heap) > cap(l.heap) && cap(heap) <= keepBytes {
		l.heap = heap[:0]
	}
}

// bytes returns an empty scratch with room for n bytes, to be used before the
// next call.
func (l *lane) bytes(n int) []byte {
	if cap(l.scratch) >= n {
		return l.scratch[:0]
	}
	p := make([]byte, 0, n)
	if n <= keepBytes {
		l.scratch = p
	}
	return p
}

// keys is a stock of random masking keys.
type keys struct {
	stock [1024]byte
	left  int
}

// next returns a key that nobody can foresee (RFC 6455, 10.3).
func (k *keys) next() uint32 {
	if k.left == 0 {
		_, _ = rand.Read(k.stock[:]) // It never fails: see crypto/rand.
		k.left = len(k.stock)
	}
	k.left -= 4
	return binary.LittleEndian.Uint32(k.stock[k.left:])
}
