package conn_test

import (
	"bytes"
	"testing"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
)

// crowd opens n connections with the same configuration on one place of the loop.
func (w *world) crowd(n int, cfg conn.Config) (parties []*party, peers []*aiotest.Peer) {
	for i := range n {
		fd, peer := w.Fake.Open()
		p := &party{w: w}
		if i == 0 {
			conn.New(w.Loop, int(fd), p, cfg)
		} else {
			conn.NewBeside(parties[0].c, int(fd), p)
		}
		parties, peers = append(parties, p), append(peers, peer)
	}
	return parties, peers
}

// tell sends one payload to some of the parties.
func (w *world) tell(parties []*party) {
	data := bytes.Repeat([]byte{byte(w.Rand.Uint32())}, 1+w.Rand.IntN(w.Rand.IntN(6000)+1))
	shared := buf.NewShared(data)
	defer shared.Release()
	for _, p := range parties {
		if p.closes > 0 || w.Rand.IntN(8) == 0 {
			continue
		}
		if s := p.send(func() conn.Status { return p.c.SendShared(shared) }); s <= conn.Full {
			p.accepted = append(p.accepted, data...)
		}
		if w.Rand.IntN(16) == 0 {
			p.act() // While others do not have theirs yet.
		}
	}
}

// TestSimCommon sends the same payloads to many, with other messages between, to
// peers that read now and then: each gets its own bytes in its own order, whatever
// becomes of the others.
func TestSimCommon(t *testing.T) {
	looptest.Seeds(t, 700, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, aiotest.Faults())
		parties, peers := w.crowd(2+w.Rand.IntN(6), w.config())
		for range 60 {
			if w.Rand.IntN(2) == 0 {
				w.tell(parties)
			}
			for i, p := range parties {
				if w.Rand.IntN(6) == 0 {
					p.act()
				}
				if w.Rand.IntN(3) == 0 {
					_, _ = peers[i].Read(make([]byte, 1+w.Rand.IntN(20000)))
				}
			}
			w.Turn()
		}
		w.part(parties, peers)
	})
}

// TestSimCommonEnds has some of them end at any step: what was admitted is with the
// kernel or told as lost, the others have theirs, and every count comes back.
func TestSimCommonEnds(t *testing.T) {
	looptest.Seeds(t, 700, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, aiotest.Faults())
		parties, peers := w.crowd(2+w.Rand.IntN(6), w.config())
		payloads := make([]*buf.Shared, 1+w.Rand.IntN(3))
		for i := range payloads {
			payloads[i] = buf.NewShared(bytes.Repeat([]byte{byte(i + 1)}, 1+w.Rand.IntN(9000)))
		}
		for range 40 {
			shared := payloads[w.Rand.IntN(len(payloads))]
			for i, p := range parties {
				if p.closes == 0 && w.Rand.IntN(3) > 0 && p.c.SendShared(shared) <= conn.Full {
					p.accepted = append(p.accepted, shared.Bytes()...)
				}
				switch w.Rand.IntN(60) {
				case 0:
					p.c.Abort()
				case 1:
					p.c.Close()
				case 2:
					peers[i].Reset()
				}
				_, _ = peers[i].Read(make([]byte, 1+w.Rand.IntN(20000)))
			}
			w.Turn()
		}
		for i, p := range parties {
			p.c.Abort()
			w.Settle("close", func() bool { return p.closes == 1 })
			if s := p.c.Stats(); s.BytesOut+s.LostBytes != uint64(len(p.accepted)) {
				t.Fatalf("%d bytes admitted, %d sent and %d lost", len(p.accepted), s.BytesOut, s.LostBytes)
			}
			if got := append(peers[i].Received(), peers[i].ReadAll()...); !bytes.HasPrefix(p.accepted, got) {
				t.Fatalf("the peer has %d bytes that are not the first of %d", len(got), len(p.accepted))
			}
		}
		w.Finish()
		for i, s := range payloads {
			if s.Release(); s.Bytes() != nil {
				t.Fatalf("a count of payload %d was not given back", i)
			}
		}
	})
}

// TestCommon holds who has a payload in common with others, and what ends that.
func TestCommon(t *testing.T) {
	shared, other := buf.NewShared([]byte("for all")), buf.NewShared([]byte("for some"))
	defer shared.Release()
	defer other.Release()
	w := newWorld(t, 1, aiotest.Config{})
	cfg, _ := marks(1000, 10, 1000).Check()
	parties, peers := w.crowd(5, cfg)
	w.Turn()
	want := func(counts ...int) {
		t.Helper()
		for i, n := range counts {
			if got := conn.Common(parties[i].c); got != n {
				t.Errorf("connection %d has it in common with %d, want %d", i, got, n)
			}
		}
	}
	for _, p := range parties[:4] {
		p.c.SendShared(shared)
	}
	want(4, 4, 4, 4, 0)
	_, _ = parties[0].c.Write([]byte(", and more"))
	parties[1].c.SendShared(other)
	parties[4].c.SendShared(other)
	want(0, 0, 2, 2, 1)
	w.calls.sends = 0
	w.Turn()
	if w.calls.sends != 5 || w.calls.last.Flags&aio.Prompt != 0 {
		t.Errorf("%d sends for 5 connections, the last with %v", w.calls.sends, w.calls.last.Flags)
	}
	w.Turn()
	want(0, 0, 0, 0, 0)
	for i, text := range []string{"for all, and more", "for allfor some", "for all", "for all", "for some"} {
		if got := string(peers[i].ReadAll()); got != text {
			t.Errorf("peer %d has %q, want %q", i, got, text)
		}
	}
	for _, p := range parties {
		p.c.SendShared(shared)
	}
	parties[4].c.Close()
	want(5, 5, 5, 5, 5)
	w.Turn()
	if w.calls.last.Flags&aio.Prompt == 0 {
		t.Error("a close waits for its send, and the engine does not know")
	}
	for _, p := range parties {
		p.c.Abort()
	}
	w.Settle("close", func() bool { return parties[4].closes == 1 && parties[0].closes == 1 })
	w.Finish()
}

// TestLone holds that one message by itself has no queue, whoever sends it and how,
// and that a second message and a socket that is full make one of it.
func TestLone(t *testing.T) {
	for _, immediate := range []bool{false, true} {
		testLone(t, newWorld(t, 1, aiotest.Config{Immediate: immediate}))
	}
}

// TestFailedTry has the only message meet a socket that is reset, where it is tried: behind
// that nothing is submitted, by whichever way it was flushed.
func TestFailedTry(t *testing.T) {
	for _, aside := range []bool{false, true} {
		w := newWorld(t, 1, aiotest.Config{Immediate: true})
		cfg, _ := conn.Config{}.Check()
		parties, peers := w.crowd(1, cfg)
		c := parties[0].c
		if aside { // So that it is flushed as those are that may have more to do.
			_ = c.SetMarks(c.Marks())
		}
		w.Turn()
		_, _ = c.Write([]byte("lost"))
		peers[0].Reset()
		c.Flush(w.Loop)
		if w.calls.tries != 1 || w.calls.sends != 0 {
			t.Errorf("%d tries, %d sends", w.calls.tries, w.calls.sends)
		}
		w.Settle("close", func() bool { return parties[0].closes == 1 })
		if s := c.Stats(); s.LostBytes != 4 || s.BytesOut != 0 {
			t.Errorf("%+v", s)
		}
		w.Finish()
	}
}

func testLone(t *testing.T, w *world) {
	cfg, _ := marks(100_000, 10, 100_000).Check()
	parties, peers := w.crowd(1, cfg)
	w.Turn()
	c := parties[0].c
	for name, send := range map[string]func(){
		"Write":      func() { _, _ = c.Write([]byte("one")) },
		"SendVec":    func() { c.SendVec([][]byte{[]byte("o"), []byte("ne")}) },
		"SendHeaded": func() { c.SendHeaded([]byte("o"), []byte("ne")) },
		"Send": func() {
			b := w.Loop.Small().Get()
			b.Append([]byte("one"))
			c.Send(&b)
		},
		"Encode": func() { c.Encode(3, func(dst []byte) ([]byte, error) { return append(dst, "one"...), nil }) },
	} {
		if send(); conn.Common(c) != 1 {
			t.Errorf("%s: one message has a queue", name)
		}
		w.Turn()
		if w.Turn(); c.Pending() != 0 || conn.Common(c) != 0 {
			t.Errorf("%s: %d bytes are pending behind the send", name, c.Pending())
		}
		if got := string(peers[0].ReadAll()); got != "one" {
			t.Errorf("%s: the peer has %q", name, got)
		}
		send()
		if c.SendHeaded(nil, []byte(", two")); conn.Common(c) != 0 {
			t.Errorf("%s: two messages without a queue", name)
		}
		if _, _ = c.Write([]byte(", three")); c.Pending() != len("one, two, three") {
			t.Errorf("%s: %d bytes are pending", name, c.Pending())
		}
		w.Turn()
		w.Turn()
		if got := string(peers[0].ReadAll()); got != "one, two, three" {
			t.Errorf("%s: the peer has %q", name, got)
		}
	}
	c.Abort()
	w.Settle("close", func() bool { return parties[0].closes == 1 })
	w.Finish()
}
