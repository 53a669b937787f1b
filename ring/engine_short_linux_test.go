//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring_test

import (
	"crypto/sha256"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/ring"
	"golang.org/x/sys/unix"
)

func TestStarvedReceiversGetAll(t *testing.T) {
	const senders, each = 100, 50_000
	l := newLoop(t, smallPool(4), ring.EngineConfig{})
	data := random(t, each)
	want := sha256.Sum256(data)
	type receiver struct {
		near, far, wrote, got int
		sum                   []byte
	}
	rs := make([]receiver, senders)
	for i := range rs {
		rs[i].near, rs[i].far = socketPair(t)
		l.recv(uint32(i), rs[i].near)
	}
	complete := 0
	l.until("all bytes of all senders", func(c *aio.Completion) {
		r := &rs[c.Token.Slot]
		r.sum = append(r.sum, c.In.Bytes()...)
		c.In.Release()
		if c.Res > 0 {
			if r.got += int(c.Res); r.got == each {
				complete++
			}
		} else if c.Err() != syscall.ENOBUFS {
			t.Fatalf("recv: %d", c.Res)
		}
		if c.Final {
			l.recv(c.Token.Slot, r.near)
		}
	}, func() bool {
		for i := range rs {
			if r := &rs[i]; r.wrote < each {
				n, _ := unix.Write(r.far, data[r.wrote:min(each, r.wrote+9000)])
				r.wrote += max(n, 0)
			}
		}
		return complete == senders
	})
	for i := range rs {
		if sha256.Sum256(rs[i].sum) != want {
			t.Errorf("bytes of sender %d differ", i)
		}
	}
	if s := l.Stats(); s.Starved == 0 {
		t.Errorf("nobody starved: %+v", s)
	}
}

// Blocks may be with sends that tell nothing by themselves. While receives wait
// for blocks, those are no reason to sleep until another event.
func TestSilentSendsHoldBlocks(t *testing.T) {
	l := newLoop(t, smallPool(4), ring.EngineConfig{RecvBuffers: 4})
	a, b := socketPair(t)
	var kept []buf.Buf
	_, err := unix.Write(b, make([]byte, 100_000))
	must(t, err)
	starved := false
	l.recv(3, a)
	l.until("starvation", func(c *aio.Completion) {
		if c.Res > 0 {
			kept = append(kept, c.In.Take())
		}
		starved = starved || c.Err() == syscall.ENOBUFS
	}, func() bool { return starved })
	l.recv(3, a)
	l.wait(0)
	tok := aio.Token{Slot: 3, Gen: 1}
	l.Submit(&aio.Op{Token: tok, Kind: aio.Send, FD: int32(a), Out: [][]byte{kept[0].Bytes()}})
	hung := time.AfterFunc(testutil.Timeout(patience), l.Wake)
	cs := l.wait(-1)
	if len(cs) == 0 && hung.Stop() { // It ended for what an earlier wait was given.
		hung.Reset(testutil.Timeout(patience))
		cs = l.wait(-1)
	}
	if !hung.Stop() || len(cs) != 1 || cs[0].Kind != aio.Send {
		t.Errorf("the wait told %+v", cs)
	}
	for i := range kept {
		kept[i].Release()
	}
}

func TestStarvedCancel(t *testing.T) {
	l := newLoop(t, smallPool(4), ring.EngineConfig{RecvBuffers: 4})
	a, b := socketPair(t)
	var kept []buf.Buf
	_, err := unix.Write(b, make([]byte, 100_000))
	must(t, err)
	starved, ended := false, false
	each := func(c *aio.Completion) {
		switch {
		case c.Res > 0:
			kept = append(kept, c.In.Take())
		case c.Err() == syscall.ENOBUFS:
			starved = true
		case c.Err() == syscall.ECANCELED && c.First && c.Final && c.Kind == aio.Recv && c.Token.Slot == 3:
			ended = true
		}
	}
	l.recv(3, a)
	l.until("starvation", each, func() bool { return starved })
	l.recv(3, a)
	for range 3 {
		if cs := l.wait(0); len(cs) != 0 {
			t.Fatalf("a starved receive without blocks is told %+v", cs)
		}
	}
	l.cancel(3, aio.Recv)
	l.until("the end of a starved receive", each, func() bool { return ended })
	for i := range kept {
		kept[i].Release()
	}
}

// One sender that never stops uses up every buffer, and the others still get theirs.
func TestFloodStarvesNobody(t *testing.T) {
	const others, rounds = 20, 10
	l := newLoop(t, smallPool(4), ring.EngineConfig{RecvBuffers: 2})
	var near, far, got [others + 1]int
	for i := range near {
		near[i], far[i] = socketPair(t)
		l.recv(uint32(i), near[i])
	}
	flood := make([]byte, 64<<10)
	for round := 1; round <= rounds; round++ {
		for _, fd := range far[1:] {
			_, err := unix.Write(fd, []byte{1})
			must(t, err)
		}
		l.until("a byte of everybody", func(c *aio.Completion) {
			got[c.Token.Slot] += c.In.Len()
			c.In.Release()
			if c.Final {
				l.recv(c.Token.Slot, near[c.Token.Slot])
			}
		}, func() bool {
			_, _ = unix.Write(far[0], flood)
			for _, n := range got[1:] {
				if n < round {
					return false
				}
			}
			return true
		})
	}
}

// An engine begins with few blocks, and offers more when they do not do.
func TestReceiveRingGrows(t *testing.T) {
	l := newLoop(t, buf.Config{BlockSize: 4096, SlabBlocks: 16}, ring.EngineConfig{RecvBuffers: 256})
	l.wait(0)
	first := l.OfferedBuffers()
	var near, far [20]int
	for i := range near {
		near[i], far[i] = socketPair(t)
		l.recv(uint32(i), near[i])
	}
	l.until("growth", func(c *aio.Completion) {
		c.In.Release()
		if c.Final {
			l.recv(c.Token.Slot, near[c.Token.Slot])
		}
	}, func() bool {
		for _, fd := range far {
			_, _ = unix.Write(fd, make([]byte, 100_000))
		}
		return l.Stats().Starved > 0 && l.OfferedBuffers() > first
	})
}

// Failed optimistic sends whose answers do not fit the queue must not be taken
// for successes.
func TestOverflowOfFailedSends(t *testing.T) {
	const n = 200
	l := newLoop(t, buf.Config{}, ring.EngineConfig{Entries: 64, CQEntries: 64})
	var full, open [n]int
	for i := range n {
		full[i], _ = socketPair(t)
		fill(t, full[i])
		open[i], _ = socketPair(t)
	}
	data := random(t, 100)
	told := map[uint32]int32{}
	for i := range n {
		l.send(uint32(2*i), full[i], 1, 0, data)
		l.send(uint32(2*i+1), open[i], 1, aio.Prompt, data[:50], data[50:])
	}
	l.until("all sends", func(c *aio.Completion) {
		if _, twice := told[c.Token.Slot]; twice || c.Kind != aio.Send || !c.First || !c.Final || c.Batch != 1 {
			t.Fatalf("completion %+v", c)
		}
		told[c.Token.Slot] = c.Res
	}, func() bool { return len(told) == 2*n })
	for slot, res := range told {
		if want := int32(slot%2) * 100; res != want {
			t.Errorf("send %d took %d, want %d", slot, res, want)
		}
	}
	if s := l.Stats(); s.Overflows == 0 {
		t.Errorf("no overflow: %+v", s)
	}
}

// What is submitted while answers are fetched from an overflow is decided with them: a
// wait that slept on it would sleep for ever.
func TestOverflowDecidesAll(t *testing.T) {
	l := newLoop(t, buf.Config{}, ring.EngineConfig{Entries: 8, CQEntries: 8})
	full, _ := socketPair(t)
	fill(t, full)
	for range l.Ring().CQEntries() {
		l.Ring().SQE().PrepNop()
		_, err := l.Ring().Enter(0, 0)
		must(t, err)
	}
	l.send(1, full, 1, aio.Prompt, random(t, 10))
	_, err := l.Ring().Enter(0, 0)
	must(t, err)
	open, _ := socketPair(t)
	l.send(2, open, 1, aio.Prompt, random(t, 10))
	if !l.Ring().Overflowed() || l.Ring().Pending() != 1 {
		t.Fatal("the queue has not overflowed beside a send that waits")
	}
	l.Settle()
	hung := time.AfterFunc(testutil.Timeout(patience), l.Wake)
	var told []aio.Completion
	for len(told) < 2 && l.Stats().Wakes == 0 {
		told = append(told, l.wait(-1)...)
	}
	if !hung.Stop() || len(told) != 2 || told[0].Res != 0 || told[1].Res != 10 {
		t.Errorf("told %+v", told)
	}
}

func TestOverflowOfReceives(t *testing.T) {
	const n = 300
	l := newLoop(t, buf.Config{BlockSize: 4096}, ring.EngineConfig{Entries: 8, CQEntries: 16})
	var near [n]int
	var got [n]int
	for i := range n {
		var far int
		near[i], far = socketPair(t)
		l.recv(uint32(i), near[i])
		_, err := unix.Write(far, []byte("hello"))
		must(t, err)
	}
	total := 0
	l.until("five bytes of all", func(c *aio.Completion) {
		if c.Res > 0 {
			got[c.Token.Slot] += c.In.Len()
			total += c.In.Len()
			c.In.Release()
		}
		if c.Final {
			l.recv(c.Token.Slot, near[c.Token.Slot])
		}
	}, func() bool { return total == 5*n })
	for i := range got {
		if got[i] != 5 {
			t.Errorf("receiver %d got %d bytes", i, got[i])
		}
	}
}
