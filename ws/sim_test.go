package ws_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/ws"
)

// actor is a handler that does something of everything, and knows what the peer
// must come to see of it.
type actor struct {
	r       *rig
	c       *ws.Conn
	sent    []frame // messages that were taken, in order
	got     []frame // messages that came
	w       *ws.Writer
	half    frame // what w has written
	isFull  bool
	closes  int
	closed  *ws.CloseError
	refused int
	mail    *mail // that is being sent on the loop
	mailed  int   // through a Ref, and taken
	streams int   // sent whole
}

// mail is a message that was posted by a Ref.
type mail struct {
	frame
	posted bool
	at     int // in sent
	late   uint64
}

func (a *actor) OnOpen(c *ws.Conn) { a.c = c }

func (a *actor) OnMessage(c *ws.Conn, m *ws.Message) {
	f := frame{op: byte(m.Op), data: string(m.Bytes())}
	a.got = append(a.got, f)
	switch a.r.Rand.IntN(4) {
	case 0:
		at := len(a.sent)
		a.sent = append(a.sent, f) // Before: a hook inside may send more.
		if c.SendReceived(m) >= conn.Rejected {
			a.refused++
			a.sent = append(a.sent[:at], a.sent[at+1:]...)
		}
	case 1:
		c.Conn().PauseRead()
	default:
		a.act()
	}
}

func (a *actor) OnFull(c *ws.Conn) {
	if a.isFull {
		a.r.T.Error("two Fulls without a Drain")
	}
	if a.isFull = true; a.r.Rand.IntN(3) == 0 {
		a.act()
	}
}

func (a *actor) OnDrain(*ws.Conn) {
	if !a.isFull {
		a.r.T.Error("a Drain without a Full")
	}
	a.isFull = false
	for range a.r.Rand.IntN(4) {
		a.act()
	}
}

func (a *actor) OnClose(_ *ws.Conn, err *ws.CloseError) {
	a.closes++
	a.closed = err
}

// send sends a message in one of the ways.
func (a *actor) send(f frame) {
	at := len(a.sent)
	a.sent = append(a.sent, f) // Before: a hook may send more.
	var s conn.Status
	op, p := ws.Op(f.op), []byte(f.data)
	if a.r.Rand.IntN(2) == 0 {
		s = a.c.Send(op, p)
	} else {
		s = a.c.SendPrepared(ws.Prepare(op, p))
	}
	if s >= conn.Rejected {
		a.refused++
		a.sent = append(a.sent[:at], a.sent[at+1:]...)
	}
}

// forget takes back that the message at that place was sent.
func (a *actor) forget(at int) {
	a.refused++
	a.sent = append(a.sent[:at], a.sent[at+1:]...)
}

// post sends a message through a Ref, and has it noted when its turn has come.
func (a *actor) post(f frame) {
	m, ref := &mail{frame: f}, a.c.Ref()
	ref.Do(func(c *ws.Conn) {
		if m.posted {
			a.mail, m.at, m.late = m, len(a.sent), c.Conn().Stats().AfterClose
			a.sent = append(a.sent, f)
		}
	})
	var s conn.Status
	if a.r.Rand.IntN(2) == 0 {
		s = ref.Send(ws.Op(f.op), []byte(f.data))
	} else {
		s = ref.SendPrepared(ws.Prepare(ws.Op(f.op), []byte(f.data)))
	}
	m.posted = s <= conn.Full
	ref.Do(func(c *ws.Conn) {
		if a.mail == nil {
			return
		}
		a.mail = nil
		if c.Conn().Stats().AfterClose > m.late {
			a.forget(m.at)
			return
		}
		a.mailed++
	})
}

// OnError hears that what was posted found another message being sent, or none taken;
// and in the end of a mailbox, of what was never posted.
func (a *actor) OnError(_ *ws.Conn, err error) {
	if m := a.mail; m != nil {
		a.mail = nil
		a.forget(m.at)
	}
}

// piece is a part of a message, that is compressed well or badly.
func (a *actor) piece() string {
	n := 1 + a.r.Rand.IntN(3000)
	if a.r.Rand.IntN(2) == 0 {
		return noise(n)
	}
	return sentence(a.r.Rand.IntN(50), n)
}

// stream sends a message from a reader.
func (a *actor) stream() {
	s := &script{err: io.EOF}
	f := frame{op: 2}
	for range a.r.Rand.IntN(6) {
		piece := a.piece()
		s.list = append(s.list, piece)
		f.data += piece
	}
	at := len(a.sent)
	if a.c.SendFrom(ws.Binary, conn.Inline(s), func(err error) {
		if err != nil {
			a.forget(at)
			return
		}
		a.streams++
	}) == conn.Queued {
		a.sent = append(a.sent, f)
	}
}

// act does something at random.
func (a *actor) act() {
	rng := a.r.Rand
	switch rng.IntN(12) {
	case 6:
		a.stream()
	case 7, 8:
		a.post(frame{op: 1, data: sentence(rng.IntN(50), rng.IntN(1500))})
	case 0:
		a.c.Ping([]byte("ping"))
	case 5:
		if a.w != nil {
			_ = a.w.Flush()
		}
	case 1:
		if a.w == nil {
			if w, err := a.c.NewWriter(ws.Binary); err == nil {
				a.w, a.half = w, frame{op: 2}
			}
		}
	case 2, 3:
		a.write()
	case 4:
		if w := a.w; w != nil {
			a.w = nil
			at := len(a.sent)
			a.sent = append(a.sent, a.half)
			if err := w.Close(); err != nil {
				a.sent = append(a.sent[:at], a.sent[at+1:]...)
				if a.refused++; err == conn.ErrSendBufferFull {
					a.w = w
				}
			}
		}
	default:
		f := frame{op: 1, data: sentence(rng.IntN(50), rng.IntN(1500))}
		a.send(f)
	}
}

func (a *actor) write() {
	w := a.w
	if w == nil {
		return
	}
	piece := a.piece()
	was := len(a.half.data)
	a.half.data += piece
	switch _, err := w.Write([]byte(piece)); {
	case err != nil && a.w == w:
		a.half.data = a.half.data[:was] + a.half.data[was+len(piece):]
		a.refused++
	case err == nil && a.r.Rand.IntN(3) == 0:
		_ = w.Flush()
	}
}

// TestSimulation runs a WebSocket with compression against a peer that reads as it
// likes, on a kernel with misfortunes, until one of them closes. Whatever was taken
// arrives, whole and in order; whatever was refused has left no trace.
func TestSimulation(t *testing.T) {
	mailed, streams := 0, 0
	looptest.Seeds(t, 300, func(t *testing.T, seed uint64) {
		faults := aiotest.Config{
			SplitRecv: 0.3, LateRecv: 0.2, FinalRecv: 0.1, NoBuffers: 0.05, ShortSend: 0.3, WouldBlock: 0.2, LateSend: 0.3,
			LateCancel: 0.3, CancelRace: 0.3, SendBufferMin: 200, SendBufferMax: 4000,
		}
		if seed%5 == 0 {
			faults.Reset, faults.NoMemory = 0.001, 0.001
		}
		policy := conn.Reject
		if seed%7 == 0 {
			policy = conn.CloseSlow
		}
		a := &actor{}
		r := newRig(t, options{
			handler: a, faults: faults, seed: seed,
			cfg:   ws.Config{Deflate: everything, PingAfter: 300 * time.Millisecond, PongWithin: 10 * time.Second},
			below: conn.Config{HighWater: 1500, LowWater: 300, Limit: 2500, PauseOnFull: seed%3 == 0, SlowPeer: policy, CloseTimeout: time.Hour},
		})
		a.r = r
		offer := offerAll
		takeover := seed%2 == 0
		switch {
		case seed%4 == 1:
			offer = "X: y"
		case !takeover:
			offer += "; server_no_context_takeover"
		}
		r.peer.Feed(handshake(offer))
		r.Settle("open", func() bool { return a.c != nil || r.peer.WasReset() })
		said := a.speak()
		r.peer.AutoRead(true)
		if !r.peer.WasReset() {
			a.c.Conn().ResumeRead()
			a.c.Close(ws.Normal, "")
			r.Settle("close frame", func() bool { return r.peer.WasReset() || bytes.Contains(tail(r.peer.Received(), 40), []byte{0x88}) })
			if !r.peer.WasReset() {
				r.peer.Feed(encode(true, bye(1000)))
			}
		}
		r.Settle("end", func() bool {
			if !r.peer.WasReset() && a.closes == 0 && a.c != nil {
				a.c.Conn().ResumeRead() // Whoever is called last may have paused again.
			}
			return r.Fake.OpenFDs() == 0
		})
		a.check(said, takeover)
		mailed, streams = mailed+a.mailed, streams+a.streams
		r.Finish()
	})
	if !looptest.Replaying() && (mailed < 10 || streams < 10) {
		t.Errorf("%d messages went through a Ref, %d from a reader", mailed, streams)
	}
}

func tail(p []byte, n int) []byte { return p[max(0, len(p)-n):] }

// speak has both sides act for a while, and returns what the peer has said.
func (a *actor) speak() (said []frame) {
	r, in := a.r, &squeezer{takeover: true}
	for range 150 {
		if r.peer.WasReset() || a.closes > 0 {
			return said
		}
		switch r.Rand.IntN(7) {
		case 6:
			for range 1 + r.Rand.IntN(20) { // The pongs take the room that a Writer counts on.
				r.peer.Feed(encode(true, ping(sentence(r.Rand.IntN(50), r.Rand.IntN(126)))))
			}
		case 0:
			f := text(sentence(r.Rand.IntN(50), r.Rand.IntN(2000)))
			said = append(said, f)
			if r.Rand.IntN(2) == 0 && a.c.Compressed() {
				f = in.message(r.T, f)
			}
			r.peer.Feed(encode(true, cut(r.Rand, f)...))
		case 1, 2:
			_, _ = r.peer.Read(make([]byte, r.Rand.IntN(4000)))
		case 3:
			a.c.Conn().ResumeRead()
		default:
			a.act()
		}
		r.Turns(r.Rand.IntN(3))
	}
	return said
}

// check compares what came with what was sent.
func (a *actor) check(said []frame, takeover bool) {
	r, t := a.r, a.r.T
	if a.closes > 1 || a.closes == 0 && a.c != nil {
		t.Fatalf("closed %d times", a.closes)
	}
	whole := !r.peer.WasReset()
	if len(a.got) > len(said) || !equalFrames(a.got, said[:len(a.got)]) {
		t.Fatalf("heard %v of %v", a.got, said)
	}
	_, p, ok := bytes.Cut(r.peer.Received(), []byte("\r\n\r\n"))
	if !ok {
		return
	}
	frames, rest := decode(t, false, p)
	out := &stretcher{takeover: takeover, bits: 15}
	var got []frame
	var open *frame
	for i, f := range frames {
		switch {
		case f.op == 8:
			if i != len(frames)-1 {
				t.Fatalf("%v behind the close frame", frames[i+1:])
			}
		case f.op > 8:
		case f.op == 0:
			open.data, open.part = open.data+f.data, f.part
			if !f.part {
				got = append(got, out.message(t, *open))
				open = nil
			}
		case f.part:
			open = &f
		default:
			got = append(got, out.message(t, f))
		}
	}
	if n := len(got); n > len(a.sent) || !equalFrames(got, a.sent[:n]) || whole && (n != len(a.sent) || len(rest) > 0) {
		t.Fatalf("the peer has %d messages of %d, % x behind them; closed with %v", n, len(a.sent), rest, a.closed)
	}
	if whole && !a.closed.Clean {
		t.Errorf("closed with %+v", a.closed)
	}
	var ce *conn.CloseError
	if !whole && !errors.As(a.closed, &ce) && !errors.Is(a.closed, io.EOF) && !a.closed.Clean {
		t.Errorf("reset, and closed with %+v", a.closed)
	}
}
