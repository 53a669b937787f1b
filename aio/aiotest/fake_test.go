package aiotest_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/internal/invariants"
)

func newPool(t testing.TB) *buf.Pool {
	t.Helper()
	pool, err := buf.NewPool(buf.Config{BlockSize: 1 << 10, SlabBlocks: 8})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// echo is the smallest party: it sends back what it receives.
type echo struct {
	f       *aiotest.Fake
	tok     aio.Token
	fd      int32
	queue   []byte
	lent    map[uint16][]byte
	batch   uint16
	sending bool
	full    bool
	armed   bool
	eof     bool
}

func (e *echo) pump() {
	if !e.armed && !e.eof {
		e.armed = true
		e.f.Submit(&aio.Op{Token: e.tok, Kind: aio.Recv, FD: e.fd})
	}
	if e.sending || len(e.queue) == 0 {
		return
	}
	e.sending = true
	e.batch++
	out := bytes.Clone(e.queue[:min(len(e.queue), 5000)])
	e.lent[e.batch] = out
	op := aio.Op{Token: e.tok, Kind: aio.Send, FD: e.fd, Batch: e.batch, Out: [][]byte{out}}
	if half := len(out) / 2; half > 0 {
		op.Out = [][]byte{out[:half], out[half:]}
	}
	if e.full {
		op.Flags |= aio.PollFirst
	}
	if e.batch%2 == 0 {
		op.Flags |= aio.ZeroCopy
	}
	e.f.Submit(&op)
}

func (e *echo) complete(t *testing.T, c *aio.Completion) {
	t.Helper()
	switch c.Kind {
	case aio.Recv:
		e.armed = !c.Final
		e.queue = append(e.queue, c.In.Bytes()...)
		c.In.Release()
		e.eof = e.eof || c.Res == 0
		if c.Res < 0 && c.Err() != syscall.ENOBUFS {
			t.Fatalf("recv: %v", c.Err())
		}
	case aio.Send:
		if c.First {
			if c.Res < 0 {
				t.Fatalf("send: %v", c.Err())
			}
			e.full = int(c.Res) < len(e.lent[c.Batch])
			e.queue, e.sending = e.queue[c.Res:], false
		}
		if c.Final {
			clear(e.lent[c.Batch]) // the bytes are ours again
			delete(e.lent, c.Batch)
		}
	}
}

// TestFakeEchoes runs several connections through all faults at once, with a
// hundred seeds: what a peer fed it must read.
func TestFakeEchoes(t *testing.T) {
	for seed := range uint64(100) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			f := aiotest.NewFake(seed, newPool(t), aiotest.Faults())
			rng := rand.New(rand.NewPCG(seed, 1))
			echoes := map[aio.Token]*echo{}
			var peers []*aiotest.Peer
			var fed [][]byte
			for i := range 5 {
				fd, p := f.Open()
				tok := aio.Token{Slot: uint32(i), Gen: 7}
				echoes[tok] = &echo{f: f, tok: tok, fd: fd, lent: map[uint16][]byte{}}
				peers = append(peers, p)
				fed = append(fed, nil)
				p.AutoRead(i == 0)
			}
			done := make([]aio.Completion, 7)
			for step := 0; ; step++ {
				for i, p := range peers {
					if step < 50 && rng.IntN(2) == 0 {
						b := make([]byte, rng.IntN(10000))
						for j := range b {
							b[j] = byte(rng.Uint32())
						}
						p.Feed(b)
						fed[i] = append(fed[i], b...)
					}
					if step == 50 {
						p.CloseWrite()
					}
					if rng.IntN(3) == 0 {
						_, _ = p.Read(make([]byte, rng.IntN(20000)))
					}
				}
				for i := range peers {
					echoes[aio.Token{Slot: uint32(i), Gen: 7}].pump()
				}
				n, err := f.Wait(done, -1)
				if err != nil {
					t.Fatal(err)
				}
				for i := range done[:n] {
					echoes[done[i].Token].complete(t, &done[i])
				}
				if step > 50 && f.Idle() && f.InFlight() == 0 {
					all := true
					for _, e := range echoes {
						all = all && e.eof && len(e.queue) == 0
					}
					if all {
						break
					}
				}
				if step > 100000 {
					t.Fatal("no end")
				}
			}
			for i, p := range peers {
				f.Submit(&aio.Op{Token: aio.Token{Slot: uint32(i), Gen: 7}, Kind: aio.Close, FD: p.FD()})
				p.ReadAll()
				if !bytes.Equal(p.Received(), fed[i]) {
					t.Fatalf("peer %d read %d bytes that are not the %d it fed", i, len(p.Received()), len(fed[i]))
				}
				if !p.EOF() {
					t.Errorf("peer %d saw no end of file", i)
				}
			}
			if f.OpenFDs() != 0 {
				t.Errorf("%d descriptors left open", f.OpenFDs())
			}
		})
	}
}

// TestFakeIsDeterministic holds two runs of one seed against each other.
func TestFakeIsDeterministic(t *testing.T) {
	run := func() string {
		pool := newPool(t)
		f := aiotest.NewFake(42, pool, aiotest.Faults())
		fd, p := f.Open()
		tok := aio.Token{Slot: 1}
		p.Feed(make([]byte, 9000))
		f.Submit(&aio.Op{Token: tok, Kind: aio.Send, FD: fd, Out: [][]byte{make([]byte, 9000)}, Flags: aio.ZeroCopy})
		armed := false
		var log strings.Builder
		done := make([]aio.Completion, 4)
		for range 100 {
			if !armed {
				armed = true
				f.Submit(&aio.Op{Token: tok, Kind: aio.Recv, FD: fd})
			}
			n, _ := f.Wait(done, 0)
			for i := range done[:n] {
				c := &done[i]
				fmt.Fprintln(&log, c.Kind, c.First, c.Final, c.Copied, c.Res)
				if c.Kind == aio.Recv && c.Final {
					armed = false
				}
				c.In.Release()
			}
			fmt.Fprintln(&log, "-")
		}
		return log.String()
	}
	if a, b := run(), run(); a != b {
		t.Errorf("two runs of one seed differ:\n%s\n%s", a, b)
	}
}

// TestFakeLaw breaks the law in every way the fake knows; each must panic with a Violation.
func TestFakeLaw(t *testing.T) {
	tok := aio.Token{Slot: 1, Gen: 1}
	wait := func(f *aiotest.Fake) {
		done := make([]aio.Completion, 8)
		n, _ := f.Wait(done, 0)
		for i := range done[:n] {
			done[i].In.Release()
		}
	}
	one := func() [][]byte { return [][]byte{[]byte("x")} }
	tests := []struct {
		name, want string
		do         func(f *aiotest.Fake, fd int32)
	}{
		{"second send", "without its first completion", func(f *aiotest.Fake, fd int32) {
			f.Submit(&aio.Op{Token: tok, Kind: aio.Send, FD: fd, Out: one()})
			f.Submit(&aio.Op{Token: tok, Kind: aio.Send, FD: fd, Out: one()})
		}},
		{"try beside send", "try while", func(f *aiotest.Fake, fd int32) {
			f.Submit(&aio.Op{Token: tok, Kind: aio.Send, FD: fd, Out: one()})
			f.Try(&aio.Op{Token: tok, Kind: aio.Send, FD: fd, Out: one()})
		}},
		{"empty element", "is empty", func(f *aiotest.Fake, fd int32) {
			f.Submit(&aio.Op{Token: tok, Kind: aio.Send, FD: fd, Out: [][]byte{{1}, {}}})
		}},
		{"no element", "0 elements", func(f *aiotest.Fake, fd int32) {
			f.Submit(&aio.Op{Token: tok, Kind: aio.Send, FD: fd})
		}},
		{"second recv", "recv while another", func(f *aiotest.Fake, fd int32) {
			f.Submit(&aio.Op{Token: tok, Kind: aio.Recv, FD: fd})
			f.Submit(&aio.Op{Token: tok, Kind: aio.Recv, FD: fd})
		}},
		{"two parties", "second party", func(f *aiotest.Fake, fd int32) {
			f.Submit(&aio.Op{Token: tok, Kind: aio.Recv, FD: fd})
			f.Submit(&aio.Op{Token: aio.Token{Slot: 2}, Kind: aio.Send, FD: fd, Out: one()})
		}},
		{"double close", "which was closed", func(f *aiotest.Fake, fd int32) {
			f.Submit(&aio.Op{Token: tok, Kind: aio.Close, FD: fd})
			f.Submit(&aio.Op{Token: tok, Kind: aio.Close, FD: fd})
		}},
		{"use after close", "which was closed", func(f *aiotest.Fake, fd int32) {
			f.Submit(&aio.Op{Token: tok, Kind: aio.Close, FD: fd})
			f.Submit(&aio.Op{Token: tok, Kind: aio.Recv, FD: fd})
		}},
		{"close under recv", "while its recv is in flight", func(f *aiotest.Fake, fd int32) {
			f.Submit(&aio.Op{Token: tok, Kind: aio.Recv, FD: fd})
			f.Submit(&aio.Op{Token: tok, Kind: aio.Cancel, Target: aio.Recv, FD: fd})
			f.Submit(&aio.Op{Token: tok, Kind: aio.Close, FD: fd})
		}},
		{"close under loan", "while its send is in flight", func(f *aiotest.Fake, fd int32) {
			f.Submit(&aio.Op{Token: tok, Kind: aio.Send, Flags: aio.ZeroCopy, FD: fd, Out: one()})
			wait(f)
			f.Submit(&aio.Op{Token: tok, Kind: aio.Close, FD: fd})
		}},
		{"stranger's descriptor", "never open", func(f *aiotest.Fake, _ int32) {
			f.Submit(&aio.Op{Token: tok, Kind: aio.Recv, FD: 3})
		}},
		{"bytes touched before first", "changed while they were lent", func(f *aiotest.Fake, fd int32) {
			out := one()
			f.Submit(&aio.Op{Token: tok, Kind: aio.Send, FD: fd, Out: out})
			out[0][0]++
			wait(f)
		}},
		{"bytes touched before final", "changed while they were lent", func(f *aiotest.Fake, fd int32) {
			out := one()
			f.Submit(&aio.Op{Token: tok, Kind: aio.Send, Flags: aio.ZeroCopy, FD: fd, Out: out})
			wait(f)
			out[0][0]++
			wait(f)
		}},
		{"slice touched before first", "element 0 of Op.Out", func(f *aiotest.Fake, fd int32) {
			out := one()
			f.Submit(&aio.Op{Token: tok, Kind: aio.Send, FD: fd, Out: out})
			out[0] = []byte("y")
			wait(f)
		}},
		{"batch used twice", "batch 5", func(f *aiotest.Fake, fd int32) {
			f.Submit(&aio.Op{Token: tok, Kind: aio.Send, Flags: aio.ZeroCopy, Batch: 5, FD: fd, Out: one()})
			wait(f)
			f.Submit(&aio.Op{Token: tok, Kind: aio.Send, Flags: aio.ZeroCopy, Batch: 5 + 4096&0xffff, FD: fd, Out: one()})
		}},
		{"second poll", "poll while another", func(f *aiotest.Fake, fd int32) {
			f.Submit(&aio.Op{Token: tok, Kind: aio.Poll, FD: fd, Events: 1})
			f.Submit(&aio.Op{Token: tok, Kind: aio.Poll, FD: fd, Events: 4})
		}},
		{"close under poll", "while its poll is in flight", func(f *aiotest.Fake, fd int32) {
			f.Submit(&aio.Op{Token: tok, Kind: aio.Poll, FD: fd, Events: 1})
			f.Submit(&aio.Op{Token: tok, Kind: aio.Close, FD: fd})
		}},
		{"accept on a connection", "wrong kind", func(f *aiotest.Fake, fd int32) {
			f.Submit(&aio.Op{Token: tok, Kind: aio.Accept, FD: fd})
		}},
		{"use after the end", "after Close", func(f *aiotest.Fake, _ int32) {
			_ = f.Close()
			wait(f)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			defer func() {
				v, ok := recover().(invariants.Violation)
				if !ok || !strings.Contains(string(v), tt.want) {
					t.Errorf("panic %q, want a Violation with %q", v, tt.want)
				}
			}()
			f := aiotest.NewFake(1, newPool(t), aiotest.Config{ZeroCopy: true})
			fd, _ := f.Open()
			tt.do(f, fd)
		})
	}
}

// TestFakePeer goes through the ends a connection can come to.
func TestFakePeer(t *testing.T) {
	tok := aio.Token{Slot: 1}
	done := make([]aio.Completion, 8)
	recv := func(f *aiotest.Fake, fd int32) aio.Completion {
		f.Submit(&aio.Op{Token: tok, Kind: aio.Recv, FD: fd})
		n, _ := f.Wait(done, 0)
		if n != 1 || !done[0].Final {
			t.Fatalf("%d completions, want a final one", n)
		}
		return done[0]
	}
	t.Run("reset", func(t *testing.T) {
		f := aiotest.NewFake(1, newPool(t), aiotest.Config{})
		fd, p := f.Open()
		p.Reset()
		if c := recv(f, fd); c.Err() != syscall.ECONNRESET {
			t.Errorf("recv: %v, want ECONNRESET", c.Err())
		}
		if n := f.Try(&aio.Op{Token: tok, Kind: aio.Send, FD: fd, Out: [][]byte{{1}}}); n != -int(syscall.EPIPE) {
			t.Errorf("Try gave %d after the reset was told, want -EPIPE", n)
		}
	})
	t.Run("no memory", func(t *testing.T) {
		f := aiotest.NewFake(1, newPool(t), aiotest.Config{NoMemory: 1})
		fd, p := f.Open()
		p.Feed([]byte("x"))
		if c := recv(f, fd); c.Err() != syscall.ENOMEM || !c.In.IsZero() {
			t.Errorf("recv: %v, want ENOMEM", c.Err())
		}
		op := aio.Op{Token: tok, Kind: aio.Send, FD: fd, Out: [][]byte{{1}}}
		if n := f.Try(&op); n != -int(syscall.ENOMEM) {
			t.Errorf("Try gave %d, want -ENOMEM", n)
		}
		f.Submit(&op)
		f.Submit(&aio.Op{Token: tok, Kind: aio.Poll, FD: fd, Events: 1})
		if n, _ := f.Wait(done, 0); n != 2 || done[0].Err() != syscall.ENOMEM || done[1].Err() != syscall.ENOMEM || len(p.ReadAll()) != 0 {
			t.Errorf("%d completions: %v, want two with ENOMEM", n, done[:n])
		}
	})
	t.Run("unread input resets", func(t *testing.T) {
		f := aiotest.NewFake(1, newPool(t), aiotest.Config{})
		fd, p := f.Open()
		p.Feed([]byte("x"))
		f.Submit(&aio.Op{Token: tok, Kind: aio.Close, FD: fd})
		if !p.WasReset() {
			t.Error("close with unread input was a FIN, want a RST")
		}
	})
	t.Run("half-close", func(t *testing.T) {
		f := aiotest.NewFake(1, newPool(t), aiotest.Config{})
		fd, p := f.Open()
		p.CloseWrite()
		if c := recv(f, fd); c.Res != 0 {
			t.Errorf("recv: %d, want the end of file", c.Res)
		}
		if n := f.Try(&aio.Op{Token: tok, Kind: aio.Send, FD: fd, Out: [][]byte{{1}}}); n != 1 {
			t.Errorf("Try gave %d after the peer's FIN, want 1", n)
		}
		if err := f.Shutdown(fd, syscall.SHUT_WR); err != nil {
			t.Fatal(err)
		}
		if p.EOF() {
			t.Error("the FIN overtook bytes")
		}
		if got := p.ReadAll(); !bytes.Equal(got, []byte{1}) || !p.EOF() {
			t.Errorf("peer read %v, EOF %v", got, p.EOF())
		}
	})
	t.Run("full buffer", func(t *testing.T) {
		f := aiotest.NewFake(1, newPool(t), aiotest.Config{SendBufferMin: 100, SendBufferMax: 100})
		fd, p := f.Open()
		if n := f.Try(&aio.Op{Token: tok, Kind: aio.Send, FD: fd, Out: [][]byte{make([]byte, 300)}}); n != 100 {
			t.Errorf("Try took %d, want 100", n)
		}
		f.Submit(&aio.Op{Token: tok, Kind: aio.Send, Flags: aio.PollFirst | aio.Prompt, FD: fd, Out: [][]byte{make([]byte, 200)}})
		if n, _ := f.Wait(done, -1); n != 0 || !f.Idle() {
			t.Errorf("%d completions of a send without room, idle %v", n, f.Idle())
		}
		_, _ = p.Read(make([]byte, 30))
		if n, _ := f.Wait(done, -1); n != 1 || done[0].Res != 30 {
			t.Errorf("%d completions, %d bytes; want 1 and 30", n, done[0].Res)
		}
	})
}

// TestFakeConforms runs the suite on the fake: on its best day, and on bad ones.
func TestFakeConforms(t *testing.T) {
	t.Run("calm", func(t *testing.T) {
		aiotest.TestEngine(t, func(_ testing.TB, pool *buf.Pool) aio.Engine {
			return aiotest.NewFake(0, pool, aiotest.Config{ZeroCopy: true})
		})
	})
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			aiotest.TestEngine(t, func(_ testing.TB, pool *buf.Pool) aio.Engine {
				return aiotest.NewFake(seed, pool, aiotest.Faults())
			})
		})
	}
}

// TestConnect holds what a socket is while it connects: a Poll says nothing until
// the peer answers, and then what Outcome says.
func TestConnect(t *testing.T) {
	pool, _ := buf.NewPool(buf.Config{BlockSize: 4096})
	defer pool.Close()
	f := aiotest.NewFake(1, pool, aiotest.Config{})
	done := make([]aio.Completion, 4)
	for i, errno := range []syscall.Errno{0, syscall.ECONNREFUSED} {
		fd, p := f.Connect()
		op := aio.Op{Token: aio.Token{Slot: uint32(i), Gen: 1}, Kind: aio.Poll, FD: fd, Events: 4}
		f.Submit(&op)
		if n, _ := f.Wait(done, 0); n != 0 || f.Outcome(fd) != syscall.EINPROGRESS || !p.Connecting() {
			t.Fatalf("%d completions, outcome %v", n, f.Outcome(fd))
		}
		if errno == 0 {
			p.Accept()
		} else {
			p.Refuse(errno)
		}
		if n, _ := f.Wait(done, 0); n != 1 || done[0].Res&4 == 0 {
			t.Fatalf("%d completions, %d", n, done[0].Res)
		}
		if err := f.Outcome(fd); err != nil && err != errno || err == nil && errno != 0 {
			t.Errorf("outcome %v, want %v", err, errno)
		}
		f.Submit(&aio.Op{Token: op.Token, Kind: aio.Close, FD: fd})
	}
	if f.OpenFDs() != 0 {
		t.Error("descriptors left open")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
