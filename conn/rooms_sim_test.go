package conn_test

import (
	"bytes"
	"testing"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
)

// TestSendBehindLone sends from a room that is told by the completion of the only
// message: it is sent, and to whom it belongs.
func TestSendBehindLone(t *testing.T) {
	w := newWorld(t, 1, aiotest.Config{})
	cfg, _ := conn.Config{}.Check()
	parties, peers := w.crowd(3, cfg)
	w.Turn()
	c, d, e := parties[0].c, parties[1].c, parties[2].c
	s := buf.NewShared([]byte("for all"))
	_, _ = c.Write([]byte("one, "))
	w.Turn()
	c.OnRoom(0, func(*conn.Conn) {
		d.SendShared(s)
		c.SendShared(s)
		w.Loop.Defer(func() { _, _ = e.Write([]byte("for nobody else")) })
	})
	for range 8 {
		w.Turn()
	}
	for i, want := range []string{"one, for all", "for all", "for nobody else"} {
		if got := string(peers[i].ReadAll()); got != want || parties[i].c.Pending() != 0 {
			t.Errorf("peer %d has %q and %d bytes are pending, want %q", i, got, parties[i].c.Pending(), want)
		}
	}
	s.Release()
	for _, p := range parties {
		p.c.Abort()
	}
	w.Settle("close", func() bool { return c.Pending()+d.Pending()+e.Pending() == 0 && parties[2].closes == 1 })
	w.Finish()
}

// roomAct asks for what runs later in the loop's own time, and sends then.
func (p *party) roomAct(parties []*party) {
	w, c := p.w, p.c
	send := func(*conn.Conn) {
		if w.Rand.IntN(2) == 0 {
			p.act()
		} else {
			w.tell(parties)
		}
	}
	switch other := parties[w.Rand.IntN(len(parties))]; w.Rand.IntN(6) {
	case 0, 1:
		c.OnRoom(w.Rand.IntN(3)*w.Rand.IntN(5000)-1, send)
	case 2:
		c.PauseRead()
	case 3:
		c.ResumeRead()
	case 4:
		high := 1 + w.Rand.IntN(50_000)
		_ = c.SetMarks(conn.Marks{High: high, Low: w.Rand.IntN(high), Limit: high + w.Rand.IntN(1000)})
	case 5:
		lent := []byte("lent")
		told := func() {
			if p.dones++; other.closes == 0 {
				other.c.OnRoom(w.Rand.IntN(3000), func(*conn.Conn) { other.act() })
			}
		}
		if c.SendBytes(lent, told) <= conn.Full {
			p.accepted = append(p.accepted, lent...)
			p.lends++
		}
	}
}

// TestSimRooms sends from rooms, dones and drains, with marks that change: all that runs
// behind the completion of one message and before that of the next.
func TestSimRooms(t *testing.T) {
	looptest.Seeds(t, 600, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, aiotest.Faults())
		parties, peers := w.crowd(2+w.Rand.IntN(5), w.config())
		for _, p := range parties {
			p.onDrain = func(*conn.Conn) {
				if w.Rand.IntN(2) == 0 {
					p.act()
				}
			}
		}
		for range 60 {
			if w.Rand.IntN(3) == 0 {
				w.tell(parties)
			}
			for i, p := range parties {
				if w.Rand.IntN(4) == 0 {
					p.act()
				}
				if w.Rand.IntN(4) == 0 && p.closes == 0 {
					p.roomAct(parties)
				}
				if w.Rand.IntN(3) == 0 {
					_, _ = peers[i].Read(make([]byte, 1+w.Rand.IntN(20_000)))
				}
				if w.Rand.IntN(6) == 0 {
					peers[i].Feed(bytes.Repeat([]byte("x"), 1+w.Rand.IntN(9)))
				}
			}
			w.Turn()
		}
		for i := range peers {
			peers[i].AutoRead(true)
		}
		for range 200 {
			w.Turn()
		}
		w.part(parties, peers)
	})
}
