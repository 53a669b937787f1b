package conn

import (
	"cmp"
	"fmt"
	"net/netip"
	"time"

	"github.com/penstock-go/penstock/buf"
)

// The longest payloads of a datagram in bytes, by the family of its address:
// 65 535 less the header of UDP, and for IPv4 less that of IP (RFC 768, 791, 8200).
const (
	MaxPacket4 = 65507
	MaxPacket6 = 65527
)

// PacketCost is what a datagram that waits to be sent counts beside its payload,
// in bytes: about what is kept for it. So a flood of empty ones is bounded too.
const PacketCost = 128

// Source is the two ends of a datagram. OnPacket gets that of who sent it, and
// an answer sent to a Source goes to its Peer, from the address that the peer
// had asked. It is a value, good for ==, as a key of a map, and for keeping.
type Source struct {
	// Peer is the address of the other side, an IPv4 address always as IPv4.
	Peer netip.AddrPort
	// Local is our own address. The zero Addr has the kernel choose. A socket that
	// is bound to one address sends from that whatever stands here.
	Local netip.Addr
}

// PacketHandler is what a socket of datagrams does with its events. Whoever is given nil
// instead answers ErrNoHandler.
//
// Thread: every method runs on the socket's loop. One PacketHandler that serves
// ListenPacket is called from all loops at once, each time with the socket of
// the calling loop.
type PacketHandler interface {
	// OnOpen runs once, first.
	OnOpen(p *PacketConn)
	// OnPacket runs for each datagram, also for one without a byte. in is lent
	// until OnPacket returns; in.Take() keeps it, and p.Send(from, in) sends it
	// back without a copy. How many bytes were cut off it, p.Cut tells.
	OnPacket(p *PacketConn, in *buf.Buf, from Source)
	// OnClose runs once, last. err is nil after Close, else a *CloseError.
	OnClose(p *PacketConn, err error)
}

// The interfaces below are optional. A PacketHandler that has them is asked
// once, never at an event.

// PacketFullHandler hears that the queue has filled; see FullHandler.
type PacketFullHandler interface {
	// OnFull runs once when pending goes from below HighWater to it or above.
	OnFull(p *PacketConn)
}

// PacketDrainHandler hears that the queue has emptied; see DrainHandler.
type PacketDrainHandler interface {
	// OnDrain runs once when, after OnFull, pending has come down to LowWater or
	// below: in a later turn than OnFull, and never inside a Send.
	OnDrain(p *PacketConn)
}

// PacketErrorHandler hears of failures that have no caller to answer.
type PacketErrorHandler interface {
	// OnError runs with a [*PacketError] when the network or the kernel has
	// refused datagrams, or with a [*SendError] when messages that came through
	// a Ref were refused. The socket stays open.
	OnError(p *PacketConn, err error)
}

// PacketFuncs is a PacketHandler made of functions. A nil function is an event
// that nobody hears.
type PacketFuncs struct {
	Open   func(p *PacketConn)
	Packet func(p *PacketConn, in *buf.Buf, from Source)
	Full   func(p *PacketConn)
	Drain  func(p *PacketConn)
	Error  func(p *PacketConn, err error)
	Close  func(p *PacketConn, err error)
}

// OnOpen implements PacketHandler.
func (f *PacketFuncs) OnOpen(p *PacketConn) {
	if f.Open != nil {
		f.Open(p)
	}
}

// OnPacket implements PacketHandler.
func (f *PacketFuncs) OnPacket(p *PacketConn, in *buf.Buf, from Source) {
	if f.Packet != nil {
		f.Packet(p, in, from)
	}
}

// OnClose implements PacketHandler.
func (f *PacketFuncs) OnClose(p *PacketConn, err error) {
	if f.Close != nil {
		f.Close(p, err)
	}
}

// packetHooks is a PacketHandler with its optional interfaces asked for once.
type packetHooks struct {
	handler PacketHandler
	full    func(*PacketConn)
	drain   func(*PacketConn)
	err     func(*PacketConn, error)
}

func newPacketHooks(h PacketHandler) *packetHooks {
	k := &packetHooks{handler: h}
	if f, ok := h.(*PacketFuncs); ok {
		k.full, k.drain, k.err = f.Full, f.Drain, f.Error
		return k
	}
	if f, ok := h.(PacketFullHandler); ok {
		k.full = f.OnFull
	}
	if d, ok := h.(PacketDrainHandler); ok {
		k.drain = d.OnDrain
	}
	if e, ok := h.(PacketErrorHandler); ok {
		k.err = e.OnError
	}
	return k
}

// PacketError tells of datagrams that did not go, or of what the network said
// about earlier ones: on a connected socket, that nobody listens there.
type PacketError struct {
	Op      string // the system call
	Packets int    // that were not sent for it; 0 when it concerns earlier ones
	Err     error  // a syscall.Errno, the last one if there were several
}

// Error implements error.
func (e *PacketError) Error() string {
	if e.Packets > 0 {
		return fmt.Sprintf("conn: %d datagrams not sent: %s: %v", e.Packets, e.Op, e.Err)
	}
	return fmt.Sprintf("conn: %s: %v", e.Op, e.Err)
}

// Unwrap returns Err.
func (e *PacketError) Unwrap() error { return e.Err }

// PacketConfig shapes sockets of datagrams. The zero value works.
type PacketConfig struct {
	// HighWater, LowWater and Limit are the marks of the send queue, as in
	// Config. A datagram counts its payload and PacketCost bytes.
	HighWater, LowWater, Limit int
	// Budget counts the queue too, PacketCost bytes for each datagram among them,
	// with those of all connections and sockets that share it. A datagram that
	// does not fit is Rejected: none makes room, and OnFull does not tell of it. With
	// BudgetClose connections go for others' messages, also where datagrams hold the most.
	Budget *Budget
	// PauseOnFull stops receiving while the queue is full.
	PauseOnFull bool
	// MaxPacket is the longest payload that is received whole, in bytes; of a
	// longer one the rest is cut off. Default 64 KiB, which is more than there can be.
	MaxPacket int
	// CloseTimeout bounds the flush of Close. Default 10 s.
	CloseTimeout time.Duration
	// SendBuffer and RecvBuffer are the socket's own buffers in the kernel, in
	// bytes (SO_SNDBUF, SO_RCVBUF: the kernel doubles them, and bounds them by
	// sysctl net.core.wmem_max and rmem_max). Default 0: net.core.wmem_default and
	// rmem_default. What comes in while the second is full is lost.
	SendBuffer, RecvBuffer int
	// Control is called with each socket before it is bound or connected, for
	// options that have no field here. The socket is not its to close.
	Control func(fd int) error
}

// Check returns c with its defaults filled in, or an error that names the field
// that contradicts another.
func (c PacketConfig) Check() (PacketConfig, error) {
	c.HighWater = cmp.Or(c.HighWater, DefaultHighWater)
	c.Limit = cmp.Or(c.Limit, c.HighWater)
	c.CloseTimeout = cmp.Or(c.CloseTimeout, DefaultCloseTimeout)
	c.MaxPacket = cmp.Or(c.MaxPacket, packetRoom)
	if c.MaxPacket < 0 || c.MaxPacket > packetRoom {
		return c, fmt.Errorf("conn: MaxPacket of %d bytes is not from 1 to %d", c.MaxPacket, packetRoom)
	}
	if c.CloseTimeout < 0 || c.SendBuffer < 0 || c.RecvBuffer < 0 {
		return c, fmt.Errorf("conn: negative CloseTimeout, SendBuffer or RecvBuffer")
	}
	if err := c.Budget.check(); err != nil {
		return c, err
	}
	return c, Marks{c.HighWater, c.LowWater, c.Limit}.check()
}

// PacketStats is what a socket of datagrams has counted.
type PacketStats struct {
	In, BytesIn   uint64 // datagrams handed to the handler, and their bytes
	Out, BytesOut uint64 // datagrams that the kernel took
	Truncated     uint64 // received, of which a part was cut off
	Dropped       uint64 // by the kernel, because its receive buffer was full
	Full, Drain   uint64 // hooks run
	Rejected      uint64 // datagrams refused because the queue or the Budget was at its limit
	RejectedBytes uint64
	Failed        uint64 // admitted, and refused by the network or the kernel
	AfterClose    uint64 // sends after the close
	Lost          uint64 // admitted and not sent at the end
	Panics        uint64 // of the handler
	PendingMax    int    // most bytes that were pending at once, costs included
}

// add adds o to s.
func (s *PacketStats) add(o PacketStats) {
	s.In += o.In
	s.BytesIn += o.BytesIn
	s.Out += o.Out
	s.BytesOut += o.BytesOut
	s.Truncated += o.Truncated
	s.Dropped += o.Dropped
	s.Full += o.Full
	s.Drain += o.Drain
	s.Rejected += o.Rejected
	s.RejectedBytes += o.RejectedBytes
	s.Failed += o.Failed
	s.AfterClose += o.AfterClose
	s.Lost += o.Lost
	s.Panics += o.Panics
	s.PendingMax = max(s.PendingMax, o.PendingMax)
}
