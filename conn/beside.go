package conn

import (
	"slices"

	"github.com/penstock-go/penstock/buf"
)

// beside is what few connections have: what parts of the library have to do with one
// without touching the handler or its hooks, marks of its own, input that waits, and
// what is counted rarely. It is nil until there is something.
//
// An inlet and its kin stand in a fixed order to the handler. Input goes to the inlet, if there
// is one, instead of OnData and OnEOF. Rooms are told behind the OnDrain that the
// same bytes gave cause for. Mourners are told before OnClose.
type beside struct {
	inlet    inlet
	polls    polls
	rooms    []*Room // that wait
	due      []*Room // for which it is time
	fresh    []*Room // asked for by one that was told; they wait once a Defer has run
	telling  bool
	mourners []mourner
	intake   *intake

	parked []buf.Buf // received while reading was paused
	marks  *Marks    // of SetMarks; nil: those of the host

	bypass    bypassWait
	starvedAt int    // bytes that were pending when the queue was full for want of budget
	starvings uint64 // how often it was
	jobs      *jobs  // work that runs elsewhere
	fulls     uint64 // OnFull, but for those of starvings
	drains    uint64
	rejected  amount // messages refused
	dropped   amount // messages that had to go for newer ones
	late      amount // sends after the close
}

// inlet takes what a connection receives, in place of its handler.
type inlet interface {
	data(c *Conn, in *buf.Buf) // as OnData
	eof(c *Conn)               // as OnEOF
	room() int                 // bytes that it takes until it pauses reading, about
}

// ender is an inlet that hears of a Close and its kin at once. What is parked
// then is lost to it.
type ender interface{ ending(c *Conn) }

// mourner hears of the end of a connection: all its operations are home, and
// OnClose, which is told err, is next.
type mourner interface{ closed(c *Conn, err error) }

func (c *Conn) aside() *beside {
	if c.beside == nil {
		c.beside = &beside{}
	}
	return c.beside
}

func (b *beside) mourn(m mourner) { b.mourners = append(b.mourners, m) }

func (b *beside) forget(m mourner) {
	b.mourners = slices.DeleteFunc(b.mourners, func(o mourner) bool { return o == m })
}

// mournersTold tells the parts of the library, each once.
func (c *Conn) mournersTold(err error) {
	b := c.beside
	if b == nil || len(b.mourners) == 0 {
		return
	}
	m := b.mourners[0]
	b.mourners = b.mourners[1:]
	defer c.mournersTold(err)
	m.closed(c, err)
}

// hear hands received bytes to whoever takes them.
func (c *Conn) hear(in *buf.Buf) {
	if c.host.cfg.RecvLimit > 0 {
		k := c.owns(in)
		defer k.heard(in)
	}
	if c.piped() {
		c.beside.inlet.data(c, in)
		return
	}
	c.hooks.handler.OnData(c, in)
}
