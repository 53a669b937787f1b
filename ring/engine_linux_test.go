//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package ring_test

import (
	"bytes"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio"
	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/ring"
	"golang.org/x/sys/unix"
)

func conformance(t *testing.T, cfg ring.EngineConfig) {
	aiotest.TestEngine(t, func(t testing.TB, pool *buf.Pool) aio.Engine {
		cfg := cfg
		cfg.Pool = pool
		e, err := ring.NewEngine(cfg)
		must(t, err)
		return e
	})
}

func TestConformance(t *testing.T) { conformance(t, ring.EngineConfig{}) }

// On an older kernel, and with queues so short that all of them overflow.
func TestConformanceCoop(t *testing.T) {
	conformance(t, ring.EngineConfig{Hide: []string{"defer_taskrun", "send_zc_report_usage"}})
}

func TestConformanceTiny(t *testing.T) {
	conformance(t, ring.EngineConfig{
		Entries: 2, CQEntries: 4, RecvBuffers: 32,
		Hide: []string{"defer_taskrun", "single_issuer", "coop_taskrun", "submit_all", "register_ring_fds", "send_zc", "recv_multishot_limit"},
	})
}

// A wait with a far end sets no timer of the kernel when an earlier one is set,
// which is what a timer of the loop costs an echo.
func TestFarEnd(t *testing.T) {
	l := newLoop(t, buf.Config{}, ring.EngineConfig{})
	for range 100 {
		l.Wake()
		l.wait(time.Hour)
	}
	before := l.Stats().Submitted
	for range 100 {
		l.Wake()
		l.wait(time.Hour)
	}
	if n := l.Stats().Submitted - before; n != 0 {
		t.Errorf("%d entries for 100 waits", n)
	}
	for range 100 {
		l.Wake()
		l.wait(time.Minute)
	}
	if n := l.Stats().Submitted - before; n != 1 {
		t.Errorf("%d entries to move the alarm once", n)
	}
}

// Sends that are cut at all sorts of places: what is told as taken is what the
// peer reads, in order.
func TestShortSendsAreExact(t *testing.T) {
	l := newLoop(t, buf.Config{}, ring.EngineConfig{})
	for name, pair := range map[string]func(testing.TB) (int, int){"unix": socketPair, "tcp": tcpPair} {
		a, b := pair(t)
		must(t, unix.SetsockoptInt(a, unix.SOL_SOCKET, unix.SO_SNDBUF, 16<<10))
		data := random(t, 4<<20)
		in := make([]byte, 30_011) // so that the peer's reads end anywhere
		var got []byte
		sent, size, shorts, batch, busy := 0, 0, 0, uint16(0), false
		l.until("all bytes over "+name, func(c *aio.Completion) {
			if c.Batch != batch || c.Res < 0 || int(c.Res) > size || !busy {
				t.Fatalf("completion %+v of a send of %d bytes, batch %d", c, size, batch)
			}
			busy = false
			sent += int(c.Res)
			size -= int(c.Res)
		}, func() bool {
			if n, err := unix.Read(b, in); err == nil {
				got = append(got, in[:n]...)
			}
			if !busy && sent < len(data) {
				flags := aio.Prompt
				if size > 0 {
					flags |= aio.PollFirst
					shorts++
				}
				rest := data[sent:]
				rest = rest[:min(len(rest), 1+sent*7919%200_000)]
				cut := len(rest) / 3
				size, busy = len(rest), true
				batch++
				if cut == 0 {
					l.send(9, a, batch, flags, rest)
				} else {
					l.send(9, a, batch, flags, rest[:cut], rest[cut:])
				}
			}
			return len(got) == len(data)
		})
		if !bytes.Equal(got, data) {
			t.Errorf("bytes over %s differ", name)
		}
		if shorts == 0 {
			t.Errorf("no send over %s was short", name)
		}
	}
}

// A send that waits for a peer which has half-closed ends when it is cancelled, however
// often the kernel has tried it by then.
func TestCancelSendToHalfClosed(t *testing.T) {
	l := newLoop(t, buf.Config{}, ring.EngineConfig{})
	msg := random(t, 1000)
	for tries := range 6 {
		a, b := socketPair(t)
		fill(t, a)
		must(t, unix.Shutdown(b, unix.SHUT_WR))
		l.send(1, a, uint16(tries), aio.PollFirst, msg)
		for range tries {
			if cs := l.wait(0); len(cs) > 0 {
				t.Fatalf("%+v before the cancel", cs)
			}
		}
		l.cancel(1, aio.Send)
		ended := false
		l.until("the end of a cancelled send", func(c *aio.Completion) {
			if c.Kind != aio.Send || c.Res > 0 || !c.Final {
				t.Fatalf("completion %+v", c)
			}
			ended = true
		}, func() bool { return ended })
	}
}

// A send that waits for a peer which has half-closed is told when there is room, and
// not over and over before; or when it is cancelled.
func TestSendToHalfClosed(t *testing.T) {
	for _, c := range []struct {
		name      string
		pair      func(testing.TB) (int, int)
		flags     aio.Flags
		inVain    int // answers of nothing taken that are allowed
		cancelled bool
	}{
		{"unix", socketPair, 0, 0, false},
		{"unix, cancelled", socketPair, 0, 0, true},
		{"tcp", tcpPair, 0, 0, false},
		{"tcp, cancelled", tcpPair, 0, 0, true},
		{"without a copy", tcpPair, aio.ZeroCopy, 1, false},
		{"without a copy, cancelled", tcpPair, aio.ZeroCopy, 1, true},
	} {
		l := newLoop(t, buf.Config{}, ring.EngineConfig{})
		a, b := c.pair(t)
		must(t, unix.SetsockoptInt(a, unix.SOL_SOCKET, unix.SO_SNDBUF, 16<<10))
		must(t, unix.SetsockoptInt(b, unix.SOL_SOCKET, unix.SO_RCVBUF, 16<<10))
		must(t, unix.Shutdown(b, unix.SHUT_WR))
		msg := random(t, 100_000)
		waits, inVain := false, 0
		send := func() {
			waits = true
			l.send(1, a, 7, aio.PollFirst|c.flags, msg[:1000], msg[1000:])
		}
		check := func(done *aio.Completion) {
			if done.Kind != aio.Send || done.Batch != 7 || done.Res < 0 || c.flags == 0 && !done.Final {
				t.Fatalf("%s: %+v", c.name, done)
			}
		}
		each := func(done *aio.Completion) {
			if check(done); !done.First {
				return
			}
			if waits = false; done.Res == 0 {
				inVain++
			}
			send()
		}
		send()
		began := time.Now()
		l.until("a send that waits", each, func() bool { return time.Since(began) > 300*time.Millisecond })
		if inVain > c.inVain {
			t.Errorf("%s: nothing taken %d times, though nobody reads", c.name, inVain)
		}
		if c.cancelled {
			l.cancel(1, aio.Send)
		}
		end := func(done *aio.Completion) {
			if waits = waits && !done.First; !c.cancelled {
				check(done)
			}
		}
		l.until("the end of the send "+c.name, end, func() bool {
			if !c.cancelled {
				readAll(t, b)
			}
			return !waits
		})
	}
}

// A receive that was cancelled while bytes came loses none of them.
func TestCancelRaces(t *testing.T) {
	l := newLoop(t, buf.Config{BlockSize: 4096}, ring.EngineConfig{})
	a, b := tcpPair(t)
	stop := make(chan struct{})
	var wrote atomic.Int64
	var wg sync.WaitGroup
	wg.Go(func() {
		data := make([]byte, 3000)
		for {
			select {
			case <-stop:
				return
			default:
			}
			for i := range data {
				data[i] = byte(int(wrote.Load()) + i)
			}
			if n, _ := unix.Write(b, data); n > 0 {
				wrote.Add(int64(n))
			} else {
				time.Sleep(50 * time.Microsecond)
			}
		}
	})
	testutil.Eventually(t, patience, "the first bytes", func() bool { return wrote.Load() > 0 })
	got, armed := 0, false
	each := func(c *aio.Completion) {
		if c.Kind != aio.Recv || c.Res == 0 {
			t.Fatalf("completion %+v", c)
		}
		for _, x := range c.In.Bytes() {
			if x != byte(got) {
				t.Fatalf("byte %d is %d", got, x)
			}
			got++
		}
		c.In.Release()
		armed = !c.Final
	}
	for i := range 500 {
		l.recv(1, a)
		armed = true
		if i%3 > 0 {
			cs := l.wait(0)
			for j := range cs {
				each(&cs[j])
			}
		}
		l.cancel(1, aio.Recv)
		l.until("the end of a cancelled receive", each, func() bool { return !armed })
	}
	close(stop)
	wg.Wait()
	l.recv(1, a)
	l.until("all bytes", each, func() bool { return got == int(wrote.Load()) })
	if got == 0 {
		t.Error("nothing was received")
	}
	l.cancel(1, aio.Recv)
}

// Loopback copies what was to be sent without a copy, and the kernel says so.
func TestZeroCopyOnLoopback(t *testing.T) {
	l := newLoop(t, buf.Config{}, ring.EngineConfig{})
	if !l.Caps().ZeroCopy {
		t.Fatal("no zero copy on this kernel")
	}
	a, b := tcpPair(t)
	data := random(t, 100_000)
	for batch := uint16(1); batch <= 10; batch++ {
		out := [][]byte{data}
		if batch%2 == 0 {
			out = [][]byte{data[:30_000], data[30_000:]}
		}
		l.send(5, a, batch, aio.ZeroCopy, out...)
		first, final := false, false
		sent := 0
		var got []byte
		l.until("a zero-copy send", func(c *aio.Completion) {
			if c.Batch != batch || c.Kind != aio.Send {
				t.Fatalf("completion %+v", c)
			}
			if c.First {
				first, sent = true, int(c.Res)
			}
			if c.Final {
				if final = true; c.First || !c.Copied || c.Res != 0 {
					t.Errorf("final completion %+v", c)
				}
			}
		}, func() bool {
			got = append(got, readAll(t, b)...)
			return first && final && len(got) >= sent
		})
		if sent == 0 || !bytes.Equal(got, data[:sent]) {
			t.Errorf("%d bytes told as sent, %d read, or they differ", sent, len(got))
		}
	}
	// A family that cannot gets an ordinary send.
	u, _ := socketPair(t)
	l.send(6, u, 1, aio.ZeroCopy|aio.Prompt, data[:10])
	cs := l.wait(-1)
	if len(cs) == 0 { // It ended for what an earlier wait was given.
		cs = l.wait(-1)
	}
	if len(cs) != 1 || !cs[0].First || !cs[0].Final || cs[0].Res != 10 {
		t.Errorf("zero copy on a unix socket: %+v", cs)
	}
}

// A kernel without one part of zero copy, the report of copies among them, gets
// ordinary sends: one completion, which is the first and the final.
func TestZeroCopyNeedsAllOfIt(t *testing.T) {
	for _, name := range []string{"send_zc", "sendmsg_zc", "send_zc_report_usage"} {
		t.Run(name, func(t *testing.T) {
			l := newLoop(t, buf.Config{}, ring.EngineConfig{Hide: []string{name}})
			if l.Caps().ZeroCopy {
				t.Error("the engine offers zero copy")
			}
			a, _ := tcpPair(t)
			l.send(5, a, 1, aio.ZeroCopy|aio.Prompt, make([]byte, 1000))
			told := false
			l.until("a send", func(c *aio.Completion) {
				if told = true; !c.First || !c.Final || c.Copied || c.Res != 1000 {
					t.Errorf("completion %+v", c)
				}
			}, func() bool { return told })
		})
	}
}

func TestThousandSockets(t *testing.T) {
	const n, rounds = 1000, 5
	var lim unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &lim))
	if lim.Cur < 2*n+100 {
		t.Fatalf("needs %d descriptors, try 'ulimit -n 4096'", 2*n+100)
	}
	l := newLoop(t, buf.Config{BlockSize: 4096}, ring.EngineConfig{})
	var near, far, heard [n]int
	for i := range n {
		near[i], far[i] = socketPair(t)
		l.recv(uint32(i), near[i])
	}
	msg := []byte("a message of sixty-four bytes, which is what an echo test sends.")
	type echo struct {
		b    buf.Buf
		busy bool
	}
	var out [n]echo
	for round := 1; round <= rounds; round++ {
		for i := range n {
			_, err := unix.Write(far[i], msg)
			must(t, err)
		}
		back := 0
		l.until("echoes", func(c *aio.Completion) {
			i := c.Token.Slot
			switch {
			case c.Kind == aio.Send:
				if int(c.Res) != len(msg) {
					t.Fatalf("send: %d", c.Res)
				}
				out[i].b.Release()
				out[i].busy = false
				back++
			case c.Res > 0:
				if out[i].busy || c.In.Len() != len(msg) {
					t.Fatalf("receiver %d: %d bytes", i, c.In.Len())
				}
				heard[i]++
				out[i] = echo{c.In.Take(), true}
				l.send(i, near[i], uint16(round), aio.Prompt, out[i].b.Bytes())
			}
			if c.Kind == aio.Recv && c.Final {
				l.recv(i, near[i])
			}
		}, func() bool { return back == n })
		for i := range n {
			if got := readAll(t, far[i]); !bytes.Equal(got, msg) || heard[i] != round {
				t.Fatalf("socket %d, round %d: %q", i, round, got)
			}
		}
	}
	s := l.Stats()
	t.Logf("%+v", s)
	if s.Enters > s.Submitted {
		t.Errorf("%d enters for %d operations: nothing was batched", s.Enters, s.Submitted)
	}
}

func TestNoAllocations(t *testing.T) {
	l := newLoop(t, buf.Config{}, ring.EngineConfig{})
	a, b := tcpPair(t)
	full, _ := socketPair(t)
	fill(t, full)
	l.recv(1, a)
	msg, in := random(t, 1000), make([]byte, 4096)
	op := &aio.Op{Token: aio.Token{Slot: 1}, Kind: aio.Send, FD: int32(a), Flags: aio.Prompt, Out: [][]byte{msg, msg[:1]}}
	stuck := &aio.Op{Token: aio.Token{Slot: 2}, Kind: aio.Send, FD: int32(full), Flags: aio.PollFirst, Out: [][]byte{msg}}
	end := &aio.Op{Token: aio.Token{Slot: 2}, Kind: aio.Cancel, Target: aio.Send}
	turn := func() {
		if _, err := unix.Write(b, msg); err != nil {
			t.Fatal(err)
		}
		l.Wake()
		l.Submit(stuck)
		for sent, ended := false, false; !sent || !ended; {
			n, err := l.Wait(l.done, -1)
			if err != nil {
				t.Fatal(err)
			}
			for i := range l.done[:n] {
				switch c := &l.done[i]; {
				case c.Kind == aio.Recv && c.Res > 0:
					l.Submit(op)
					l.Submit(end)
					c.In.Release()
				case c.Kind == aio.Send && c.Token.Slot == 1:
					sent = true
				case c.Kind == aio.Send:
					ended = true
				}
			}
		}
		for n := 0; n < len(msg)+1; {
			m, err := unix.Read(b, in)
			if err != nil && err != unix.EAGAIN {
				t.Fatal(err)
			}
			n += max(m, 0)
		}
	}
	for range 200 {
		turn()
	}
	if n := testing.AllocsPerRun(500, turn); n != 0 {
		t.Errorf("%v allocations a turn", n)
	}
	if n := testing.AllocsPerRun(10, func() { l.Try(op) }); n != 0 {
		t.Errorf("%v allocations in Try", n)
	}
}

func TestWakeDuringClose(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	for range 50 {
		pool, err := buf.NewPool(buf.Config{})
		must(t, err)
		e, err := ring.NewEngine(ring.EngineConfig{Pool: pool, Entries: 8})
		must(t, err)
		var wg sync.WaitGroup
		var stop atomic.Bool
		for range 3 {
			wg.Go(func() {
				for !stop.Load() {
					e.Wake()
				}
			})
		}
		_, err = e.Wait(make([]aio.Completion, 8), -1)
		must(t, err)
		must(t, e.Close())
		// The number of the eventfd is free: nobody may write to its next owner.
		var p [2]int
		must(t, unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
		time.Sleep(100 * time.Microsecond)
		if n, _ := unix.Read(p[0], make([]byte, 8)); n > 0 {
			t.Error("a wake went to a stranger")
		}
		stop.Store(true)
		wg.Wait()
		unix.Close(p[0])
		unix.Close(p[1])
		must(t, e.Close())
		pool.Close()
	}
}

// Close brings all blocks home although receives are in flight and answers wait.
func TestCloseInTheMiddle(t *testing.T) {
	for range 20 {
		l := newLoop(t, buf.Config{BlockSize: 4096}, ring.EngineConfig{Entries: 16})
		for i := range 50 {
			a, b := socketPair(t)
			l.recv(uint32(i), a)
			_, err := unix.Write(b, []byte("never read"))
			must(t, err)
			if i%10 == 9 {
				cs := l.wait(0)
				for j := range cs {
					cs[j].In.Release()
				}
			}
		}
		full, _ := socketPair(t)
		fill(t, full)
		l.send(99, full, 1, aio.PollFirst, random(t, 10))
	}
}

// TestCloseOfBroken: Close does not ask a ring for seconds that takes nothing more.
func TestCloseOfBroken(t *testing.T) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pool, err := buf.NewPool(smallPool(16))
	must(t, err)
	e, err := ring.NewEngine(ring.EngineConfig{Pool: pool, Hide: []string{"register_ring_fds"}})
	testutil.SkipIfKernelOlder(t, "6.1", "ring.Engine", err)
	a, _ := socketPair(t)
	e.Submit(&aio.Op{Kind: aio.Recv, FD: int32(a)})
	_, err = e.Wait(make([]aio.Completion, 8), 0)
	must(t, err)
	null, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	must(t, err)
	must(t, unix.Dup3(null, e.Ring().FD(), unix.O_CLOEXEC))
	must(t, unix.Close(null))
	if _, err = e.Wait(make([]aio.Completion, 8), 0); err == nil {
		t.Error("a broken ring waits")
	}
	began := time.Now()
	if err = e.Close(); err == nil {
		t.Error("Close knows nothing of what is in flight")
	}
	if d := time.Since(began); d > testutil.Timeout(time.Second) {
		t.Errorf("Close took %v", d)
	}
}

// What was accepted and not told is closed with the engine.
func TestCloseKeepsNoAccepted(t *testing.T) {
	l := newLoop(t, buf.Config{}, ring.EngineConfig{})
	ln, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(ln)
	must(t, unix.Bind(ln, &unix.SockaddrUnix{}))
	must(t, unix.Listen(ln, 8))
	to, err := unix.Getsockname(ln)
	must(t, err)
	l.Submit(&aio.Op{Token: aio.Token{Slot: 1}, Kind: aio.Accept, FD: int32(ln)})
	l.wait(0)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Connect(fd, to))
	// Nobody waits for the completion; the leak check of the package sees it.
}

// An accept that is armed while no descriptor is free fails, and one that is
// armed later gets the connection that waited.
func TestAcceptWithoutDescriptors(t *testing.T) {
	l := newLoop(t, buf.Config{}, ring.EngineConfig{})
	ln, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(ln)
	must(t, unix.Bind(ln, &unix.SockaddrUnix{}))
	must(t, unix.Listen(ln, 8))
	to, err := unix.Getsockname(ln)
	must(t, err)
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	must(t, err)
	defer unix.Close(fd)
	must(t, unix.Connect(fd, to))
	var lim unix.Rlimit
	must(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &lim))
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: 3, Max: lim.Max}))
	accept := &aio.Op{Token: aio.Token{Slot: 1}, Kind: aio.Accept, FD: int32(ln)}
	l.Submit(accept)
	var c aio.Completion
	each := func(got *aio.Completion) { c = *got }
	l.until("a failed accept", each, func() bool { return c.Final })
	must(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &lim))
	if !errors.Is(c.Err(), syscall.EMFILE) {
		t.Errorf("accept: %+v", c)
	}
	c = aio.Completion{Res: -1}
	l.Submit(accept)
	l.until("the connection that waited", each, func() bool { return c.Res >= 0 })
	must(t, unix.Close(int(c.Res)))
}
