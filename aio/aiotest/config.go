package aiotest

import (
	"time"

	"github.com/penstock-go/penstock/buf"
)

// Defaults of [Config].
const (
	DefaultMaxOut        = 64
	DefaultSendBufferMin = 2 << 10
	DefaultSendBufferMax = 128 << 10
)

// Config says how a [Fake] behaves. The zero value is a kernel on its best
// day: everything that fits is taken, everything is told by the next Wait.
//
// The fields of type float64 are probabilities from 0 to 1, default 0.
type Config struct {
	// ZeroCopy is Caps.ZeroCopy.
	ZeroCopy bool
	// Immediate is Caps.Immediate. What a Submit does does not follow from it.
	Immediate bool
	// MaxOut is Caps.MaxOut. Default 64.
	MaxOut int
	// SendBufferMin and SendBufferMax bound the bytes that wait between us and
	// a peer that does not read; each connection draws its own bound between
	// them. Default 2 KiB and 128 KiB.
	SendBufferMin, SendBufferMax int
	// Bulk is where a Recv with aio.Bulk receives. Default the Fake's pool.
	Bulk *buf.Pool
	// OnIdle is called instead of sleeping, when a Wait with d != 0 has nothing
	// to tell: the place to move a clock of the test. Default nil.
	OnIdle func(d time.Duration)

	ShortSend  float64 // a Send or Try takes a random part of what fits
	WouldBlock float64 // a Send without PollFirst, or a Try, takes nothing
	LateSend   float64 // a Send without Prompt is told some Waits later
	LateFinal  float64 // the final completion of a zero-copy Send comes many Waits later, in any order
	Copied     float64 // a zero-copy Send was copied

	LateRecv  float64 // bytes, connections and events that are there are told by a later Wait
	SplitRecv float64 // a random part of the bytes is told
	FinalRecv float64 // a completion with bytes ends the Recv
	NoBuffers float64 // a Recv ends with -ENOBUFS although there are some

	CancelRace float64 // something overtakes a Cancel
	LateCancel float64 // a Cancel takes effect some Waits later

	AcceptError float64 // an Accept ends with -EMFILE, -ECONNABORTED or the like
	FinalAccept float64 // a completion with a descriptor ends the Accept

	Reset    float64 // a Wait begins with a reset of a given connection
	NoMemory float64 // a Send, Try, Recv or Poll gives -ENOMEM, and has done nothing
}

// Faults returns a Config in which everything goes wrong often, except that no
// connection is reset and memory is there: bytes in must still be bytes out.
func Faults() Config {
	return Config{
		ZeroCopy:  true,
		ShortSend: 0.3, WouldBlock: 0.2, LateSend: 0.3, LateFinal: 0.5, Copied: 0.2,
		LateRecv: 0.3, SplitRecv: 0.5, FinalRecv: 0.1, NoBuffers: 0.05,
		CancelRace: 0.5, LateCancel: 0.3,
		AcceptError: 0.1, FinalAccept: 0.2,
	}
}

func (c Config) withDefaults() Config {
	if c.MaxOut == 0 {
		c.MaxOut = DefaultMaxOut
	}
	if c.SendBufferMin == 0 {
		c.SendBufferMin = DefaultSendBufferMin
	}
	if c.SendBufferMax == 0 {
		c.SendBufferMax = max(DefaultSendBufferMax, c.SendBufferMin)
	}
	if c.SendBufferMin < 0 || c.SendBufferMax < c.SendBufferMin || c.MaxOut < 0 {
		panic("aiotest: SendBufferMin, SendBufferMax or MaxOut make no sense")
	}
	return c
}
