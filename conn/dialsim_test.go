package conn_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
)

// far is the other side of what is dialed on a simulated kernel.
type far struct {
	w     *world
	peers []*aiotest.Peer // of the sockets that were made, in order
	to    []conn.Addr
	fail  func() error // of connect itself; nil: it begins
}

// dialer returns a Dialer on w's kernel.
func (w *world) dialer(d *conn.Dialer) (*conn.Dialer, *far) {
	f := &far{w: w}
	conn.DialOn(d, func(to, _ conn.Addr) (int, error) {
		if f.fail != nil {
			if err := f.fail(); err != nil {
				return -1, err
			}
		}
		fd, p := w.Fake.Connect()
		f.peers, f.to = append(f.peers, p), append(f.to, to)
		return int(fd), nil
	}, func(fd int) error { return w.Fake.Outcome(int32(fd)) }, func(n int64) int64 { return w.Rand.Int64N(n) })
	return d, f
}

// last returns the newest socket's peer.
func (f *far) last() *aiotest.Peer { return f.peers[len(f.peers)-1] }

// waiting returns the peers that have not been answered.
func (f *far) waiting() (list []*aiotest.Peer) {
	for _, p := range f.peers {
		if p.Connecting() && !p.Abandoned() && !p.WasReset() {
			list = append(list, p)
		}
	}
	return list
}

// dialRig is one dialed connection on a kernel without misfortunes.
func dialRig(t *testing.T, d *conn.Dialer, address string, with func(r *rig)) (*rig, *far) {
	t.Helper()
	r := &rig{world: newWorld(t, 1, aiotest.Config{SendBufferMin: 1000, SendBufferMax: 1000})}
	if with != nil {
		with(r)
	}
	_, f := r.dialer(d)
	network := "tcp"
	if address[0] == '@' {
		network = "unix"
	}
	c, err := d.Dial(r.Loop, network, address, r.handler())
	if err != nil {
		t.Fatal(err)
	}
	r.c = c
	r.Turn()
	return r, f
}

// ended waits for OnClose, and checks that nothing is left and what it was told.
func (r *rig) ended(reason conn.Reason) *conn.CloseError {
	r.T.Helper()
	r.Settle("close", r.isClosed)
	r.Finish()
	if r.err == nil || r.err == io.EOF {
		if want := map[error]conn.Reason{nil: conn.Local, io.EOF: conn.EOF}[r.err]; want != reason {
			r.T.Fatalf("closed with %v, want %v", r.err, reason)
		}
		return nil
	}
	var ce *conn.CloseError
	if !errors.As(r.err, &ce) || ce.Reason != reason {
		r.T.Fatalf("closed with %v, want %v", r.err, reason)
	}
	return ce
}

// TestDialReasons holds what each failure is told as, once, without OnOpen.
func TestDialReasons(t *testing.T) {
	for _, tc := range []struct {
		err    error
		reason conn.Reason
	}{
		{syscall.ECONNREFUSED, conn.Refused}, {syscall.ECONNRESET, conn.Refused}, {syscall.ETIMEDOUT, conn.ConnectTimeout},
		{syscall.EHOSTUNREACH, conn.Unreachable}, {syscall.ENETUNREACH, conn.Unreachable}, {syscall.EADDRNOTAVAIL, conn.IOError},
		{syscall.EMFILE, conn.IOError}, {os.NewSyscallError("connect", syscall.ENOENT), conn.Refused},
	} {
		for _, late := range []bool{false, true} {
			errno, isErrno := tc.err.(syscall.Errno)
			if late && !isErrno {
				continue
			}
			t.Run(name("%v %v", tc.err, late), func(t *testing.T) {
				d := &conn.Dialer{}
				r := &rig{world: newWorld(t, 1, aiotest.Config{})}
				_, f := r.dialer(d)
				if !late {
					f.fail = func() error { return tc.err }
				}
				c, err := d.Dial(r.Loop, "tcp", "192.0.2.1:7", r.handler())
				if err != nil {
					t.Fatal(err)
				}
				r.c = c
				_ = r.write(10)
				r.Turn()
				if late {
					f.last().Refuse(errno)
				}
				ce := r.ended(tc.reason)
				var de *conn.DialError
				if !errors.As(ce, &de) || de.Reason != tc.reason || de.Address != "192.0.2.1:7" || !errors.Is(ce, tc.err) || ce.LostBytes != 10 {
					t.Errorf("told %v", ce)
				}
				r.wantLog("close")
				if s := d.Stats(); s.Started != 1 || s.Failed != 1 || s.Connected != 0 || s.Open != 0 || s.Closed.LostBytes != 10 {
					t.Errorf("counted %+v", s)
				}
			})
		}
	}
}

// TestDialTimeout gives up an address that never answers.
func TestDialTimeout(t *testing.T) {
	r, f := dialRig(t, &conn.Dialer{Timeout: 3 * time.Second}, "192.0.2.1:7", nil)
	start := r.Now
	ce := r.ended(conn.ConnectTimeout)
	var de *conn.DialError
	if !errors.As(ce, &de) || !de.Timeout() || !errors.Is(ce, os.ErrDeadlineExceeded) || r.Now-start < 3*time.Second {
		t.Errorf("told %v after %v", ce, r.Now-start)
	}
	if !f.last().Abandoned() {
		t.Error("the socket is still there")
	}
}

// TestDialBefore does with a connection that connects all that one may do with a
// connection, and looks at what comes of it when it is connected.
func TestDialBefore(t *testing.T) {
	var mail conn.Status
	r, f := dialRig(t, &conn.Dialer{Config: marks(1000, 100, 2000)}, "192.0.2.1:7", func(r *rig) {
		r.onOpen = func(c *conn.Conn) { _, _ = c.Write([]byte("open")) }
	})
	c := r.c
	if c.Connected() || c.RemoteAddr() != (conn.Addr{}) {
		t.Error("it is connected")
	}
	if _, err := c.NetConn(); !errors.Is(err, syscall.ENOTCONN) {
		t.Errorf("NetConn: %v", err)
	}
	raw, _ := c.SyscallConn()
	if err := raw.Control(func(uintptr) { t.Error("there is a socket") }); err != syscall.ENOTCONN {
		t.Errorf("SyscallConn: %v", err)
	}
	ref := c.Ref()
	c.PauseRead()
	_, _ = c.Write(bytes.Repeat([]byte("a"), 999))
	r.wantLog("")
	mail = ref.Write([]byte("mail"))
	timer := 0
	c.Loop().AfterFunc(time.Millisecond, c, func() { timer++ })
	r.Turns(5)
	if mail != conn.Full || timer != 1 || c.Pending() != 1003 || ref.Pending() != 1003 {
		t.Errorf("mail %v, timer %d, pending %d", mail, timer, c.Pending())
	}
	r.wantLog("full")
	if err := c.SetMarks(conn.Marks{High: 5000, Low: 2000, Limit: 5000}); err != nil {
		t.Fatal(err)
	}
	r.Turn()
	r.wantLog("full drain") // The new marks say so.
	if s := r.write(3997); s != nil {
		t.Error(s)
	}
	r.wantLog("full drain full")
	if s := r.write(1); s != conn.ErrSendBufferFull {
		t.Error(s)
	}
	peer := f.last()
	r.peer = peer
	peer.Accept()
	peer.Feed([]byte("hello"))
	r.Turns(5)
	if !c.Connected() || r.count("open") != 1 || r.count("data") != 0 {
		t.Fatalf("log %v", r.log)
	}
	peer.AutoRead(true)
	r.Turns(5)
	c.ResumeRead()
	r.Turns(5)
	if string(r.got) != "hello" {
		t.Errorf("got %q", r.got)
	}
	if got := string(peer.Received()); len(got) != 999+4+3997+4 || got[999:1003] != "mail" || got[5000:] != "open" {
		t.Errorf("the peer has %d bytes", len(got))
	}
	r.wantLog("full drain full drain")
	r.gone()
}

// TestDialEnds ends a connection before it is connected, in each way, with and
// without bytes that wait, and has the peer answer or not.
func TestDialEnds(t *testing.T) {
	for _, tc := range []struct {
		name    string
		end     func(c *conn.Conn)
		pending int
		answer  func(p *aiotest.Peer) // nil: never
		reason  conn.Reason
		arrives int
		opens   int
	}{
		{"Close", (*conn.Conn).Close, 0, nil, conn.Local, 0, 0},
		{"Close", (*conn.Conn).Close, 500, (*aiotest.Peer).Accept, conn.Local, 500, 0},
		{"Close", (*conn.Conn).Close, 500, func(p *aiotest.Peer) { p.Refuse(syscall.ECONNREFUSED) }, conn.Refused, 0, 0},
		{"Close", (*conn.Conn).Close, 500, nil, conn.WriteTimeout, 0, 0},
		{"CloseWrite", (*conn.Conn).CloseWrite, 0, (*aiotest.Peer).Accept, conn.EOF, 0, 1},
		{"CloseWrite", (*conn.Conn).CloseWrite, 500, (*aiotest.Peer).Accept, conn.EOF, 500, 1},
		{"CloseWrite", (*conn.Conn).CloseWrite, 0, nil, conn.ConnectTimeout, 0, 0},
		{"Abort", (*conn.Conn).Abort, 0, nil, conn.Aborted, 0, 0},
		{"Abort", (*conn.Conn).Abort, 500, (*aiotest.Peer).Accept, conn.Aborted, 0, 0},
		{"panic", func(c *conn.Conn) { c.Ref().Do(func(*conn.Conn) { panic("x") }) }, 0, nil, conn.HandlerPanic, 0, 0},
		{"shutdown", func(c *conn.Conn) { c.Stop(c.Loop(), false) }, 0, nil, conn.Local, 0, 0},
		{"shutdown at once", func(c *conn.Conn) { c.Stop(c.Loop(), true) }, 500, nil, conn.Shutdown, 0, 0},
	} {
		t.Run(name("%s %d %v", tc.name, tc.pending, tc.reason), func(t *testing.T) {
			cfg := conn.Config{CloseTimeout: 5 * time.Second}
			r, f := dialRig(t, &conn.Dialer{Timeout: 8 * time.Second, Config: cfg}, "192.0.2.1:7", nil)
			peer := f.last()
			_ = r.write(tc.pending)
			r.Turns(2)
			tc.end(r.c)
			r.Turns(2)
			if tc.answer != nil && !peer.Abandoned() {
				tc.answer(peer)
			}
			peer.AutoRead(true)
			r.Settle("an end", func() bool { return r.isClosed() || peer.EOF() })
			if peer.EOF() && !peer.Abandoned() {
				peer.CloseWrite()
			}
			r.ended(tc.reason)
			if n := len(peer.Received()); n != tc.arrives || r.count("open") != tc.opens {
				t.Errorf("%d bytes arrived, %v", n, r.log)
			}
			if s := r.c.Stats(); int(s.LostBytes)+int(s.BytesOut) != tc.pending {
				t.Errorf("%d bytes, counted %+v", tc.pending, s)
			}
		})
	}
}

// TestDialNoRoom has a unix listener whose backlog is full for a while.
func TestDialNoRoom(t *testing.T) {
	d := &conn.Dialer{}
	r := &rig{world: newWorld(t, 1, aiotest.Config{})}
	_, f := r.dialer(d)
	calls := 0
	f.fail = func() error {
		if calls++; calls < 8 {
			return os.NewSyscallError("connect", syscall.EAGAIN)
		}
		return nil
	}
	c, err := d.Dial(r.Loop, "unix", "@x", r.handler())
	if err != nil {
		t.Fatal(err)
	}
	r.c = c
	r.Settle("a socket", func() bool { return len(f.peers) == 1 })
	r.peer = f.last()
	r.peer.Accept()
	r.Settle("open", func() bool { return r.count("open") == 1 })
	r.gone()
}

// TestSimDial dials with everything going wrong, and does a little of everything
// before, during and after.
func TestSimDial(t *testing.T) {
	looptest.Seeds(t, 300, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, aiotest.Faults())
		d, f := w.dialer(&conn.Dialer{Timeout: time.Second, Config: w.config()})
		f.fail = func() error {
			if w.Rand.IntN(8) == 0 {
				return []error{syscall.EMFILE, syscall.ENETUNREACH, syscall.EAGAIN}[w.Rand.IntN(3)]
			}
			return nil
		}
		p := &party{w: w}
		address := "192.0.2.1:7"
		if w.Rand.IntN(2) == 0 {
			address = ":7" // Both families of this host.
		}
		c, err := d.Dial(w.Loop, "tcp", address, p)
		if err != nil {
			t.Fatal(err)
		}
		p.c = c
		end := w.Rand.IntN(60)
		for turn := range 60 {
			for range w.Rand.IntN(3) {
				p.act()
			}
			for _, peer := range f.waiting() {
				switch w.Rand.IntN(20) {
				case 0:
					peer.Refuse(syscall.ECONNREFUSED)
				case 1, 2, 3:
					peer.Accept()
					peer.AutoRead(w.Rand.IntN(2) == 0)
				}
			}
			if turn == end {
				[]func(*conn.Conn){(*conn.Conn).Close, (*conn.Conn).CloseWrite, (*conn.Conn).Abort, func(*conn.Conn) {}}[w.Rand.IntN(4)](c)
			}
			w.Turn()
		}
		c.Close()
		for _, peer := range f.peers {
			if peer.AutoRead(true); !peer.Connecting() {
				peer.CloseWrite()
			}
		}
		w.Settle("close", func() bool { return p.closes == 1 })
		var won *aiotest.Peer
		for _, peer := range f.peers {
			if len(peer.Received()) > 0 {
				if won != nil {
					t.Fatal("two sockets have got bytes")
				}
				won = peer
			}
		}
		if won != nil && !bytes.HasPrefix(p.accepted, won.Received()) {
			t.Fatal("the peer has other bytes than were sent")
		}
		s := c.Stats()
		if uint64(len(p.accepted)) != s.BytesOut+s.LostBytes {
			t.Fatalf("%d bytes taken; counted %+v", len(p.accepted), s)
		}
		if p.closeErr == nil && won != nil && len(won.Received()) != len(p.accepted) {
			t.Fatalf("closed in order, and %d bytes of %d arrived", len(won.Received()), len(p.accepted))
		}
		if p.opens > 1 || p.dones != p.lends {
			t.Fatalf("%d opens, %d of %d loans ended", p.opens, p.dones, p.lends)
		}
		if ds := d.Stats(); ds.Open != 0 || ds.Started != 1 {
			t.Fatalf("the dialer counts %+v", ds)
		}
		w.Finish()
	})
}

const longestSeq = 3000 // bytes

// seqs is a handler that sends numbered messages over a connection that comes
// again and again.
type seqs struct {
	conn.NopHandler
	w       *world
	c       *conn.Conn
	ref     bool
	keep    bool
	stream  []byte // all messages that were taken, in order
	far     *far
	peers   []*aiotest.Peer // of the connections, in order
	starts  []uint64        // offset in stream at which each begins
	ends    map[uint64]bool // offsets in stream at which a message ends
	retries int
	opens   int
	closes  int
	err     error
}

func (s *seqs) OnOpen(c *conn.Conn) {
	s.opens++
	st := c.Stats()
	s.peers = append(s.peers, s.far.last())
	s.starts = append(s.starts, st.BytesOut+st.LostBytes)
	s.say() // Behind what was kept.
}

func (s *seqs) OnRetry(c *conn.Conn, r conn.Retry) {
	if s.retries++; r.Attempt < 1 || r.Wait <= 0 || r.Err == nil {
		s.w.T.Errorf("told %+v", r)
	}
	if s.keep && r.Lost >= longestSeq {
		s.w.T.Errorf("%d bytes lost, which is more than one message", r.Lost)
	}
	s.say() // workerman's defect 11: what was sent here was lost.
}

func (s *seqs) OnData(*conn.Conn, *buf.Buf) {}

func (s *seqs) OnClose(_ *conn.Conn, err error) { s.closes++; s.err = err }

func (s *seqs) say() {
	data := bytes.Repeat([]byte{byte(s.w.Rand.Uint32())}, 1+s.w.Rand.IntN(longestSeq))
	copy(data, fmt.Sprint(len(s.ends)))
	var status conn.Status
	if s.ref {
		status = s.c.Ref().Write(data)
	} else {
		_, err := s.c.Write(data)
		status = statusOf(err)
	}
	switch {
	case status <= conn.Full:
		s.stream = append(s.stream, data...)
		s.ends[uint64(len(s.stream))] = true
	case status == conn.Closed:
		s.w.T.Error("a send was answered closed")
	}
}

// TestSimReconnect loses a connection again and again, and holds what becomes of
// the messages: each connection begins with a whole one, goes on in order, and no
// byte of a message comes twice. With Keep none is dropped that was not begun.
func TestSimReconnect(t *testing.T) {
	looptest.Seeds(t, 300, func(t *testing.T, seed uint64) {
		faults := aiotest.Faults()
		faults.NoMemory = 0.003
		w := newWorld(t, seed, faults)
		cfg := w.config()
		keep := w.Rand.IntN(2) == 0
		d, f := w.dialer(&conn.Dialer{
			Timeout: 200 * time.Millisecond, Config: cfg,
			Reconnect: &conn.Reconnect{Least: 2 * time.Millisecond, Most: 20 * time.Millisecond, Keep: keep},
		})
		f.fail = func() error {
			if w.Rand.IntN(10) == 0 {
				return syscall.EMFILE
			}
			return nil
		}
		s := &seqs{w: w, far: f, keep: keep, ref: w.Rand.IntN(2) == 0, ends: map[uint64]bool{0: true}}
		c, err := d.Dial(w.Loop, "tcp", "192.0.2.1:7", s)
		if err != nil {
			t.Fatal(err)
		}
		s.c = c
		for range 120 {
			for range w.Rand.IntN(3) {
				s.say()
			}
			for i, peer := range f.peers {
				live := i == len(f.peers)-1 && !peer.Connecting() && !peer.WasReset()
				switch n := w.Rand.IntN(30); {
				case peer.Connecting() && !peer.WasReset() && !peer.Abandoned() && n == 0:
					peer.Refuse(syscall.ECONNREFUSED)
				case peer.Connecting() && !peer.WasReset() && !peer.Abandoned() && n < 15:
					peer.Accept()
				case live && n == 0:
					peer.Reset()
				case live && n == 1:
					peer.Close()
				case live && n < 20:
					_, _ = peer.Read(make([]byte, 1+w.Rand.IntN(5000)))
				}
			}
			w.Turn()
		}
		w.Settle("a connection", func() bool {
			for _, peer := range f.waiting() {
				peer.Accept()
			}
			return c.Connected()
		})
		c.Close()
		if w.Rand.IntN(4) == 0 { // And lost once more, for good.
			f.last().Reset()
		}
		f.last().AutoRead(true)
		w.Settle("the end", func() bool {
			if f.last().EOF() {
				f.last().CloseWrite()
			}
			return s.closes == 1
		})
		s.check(f)
		w.Finish()
	})
}

func (s *seqs) check(f *far) {
	t, st := s.w.T, s.c.Stats()
	if uint64(len(s.stream)) != st.BytesOut+st.LostBytes {
		t.Fatalf("%d bytes taken; counted %+v", len(s.stream), st)
	}
	for _, peer := range f.peers {
		if len(peer.Received()) > 0 && !slices.Contains(s.peers, peer) {
			t.Fatal("bytes before OnOpen")
		}
	}
	for k, peer := range s.peers {
		start := s.starts[k]
		if !s.ends[start] {
			t.Fatalf("connection %d begins in the middle of a message, at %d", k, start)
		}
		if !bytes.HasPrefix(s.stream[start:], peer.Received()) {
			t.Fatalf("connection %d has other bytes than were sent from %d on", k, start)
		}
		// One that has closed answers what comes with a reset, which may be behind our end.
		if k == len(s.starts)-1 && s.err == nil && !peer.WasReset() && len(peer.Received()) != len(s.stream[start:]) {
			t.Fatalf("closed in order, and the last connection has %d bytes of %d", len(peer.Received()), len(s.stream[start:]))
		}
	}
}

// TestDialClosedDeadlines holds that a connection which was closed before it was
// there has no deadlines but CloseTimeout: OnTimeout does not run behind Close.
func TestDialClosedDeadlines(t *testing.T) {
	d := &conn.Dialer{Config: conn.Config{HandshakeTimeout: 100 * time.Millisecond, CloseTimeout: time.Hour}}
	r, f := dialRig(t, d, "192.0.2.1:7", func(r *rig) {
		r.onTimeout = func(*conn.Conn, conn.Reason) bool { r.note("timeout"); return false }
	})
	_ = r.write(5000)
	r.c.Close()
	r.Settle("an attempt", func() bool { return len(f.waiting()) > 0 })
	r.peer = f.last()
	r.peer.Accept()
	r.Turns(500)
	if len(r.log) > 0 {
		t.Errorf("hooks %v", r.log)
	}
	r.peer.AutoRead(true)
	r.Settle("FIN", r.peer.EOF)
	r.peer.CloseWrite()
	r.ended(conn.Local)
}
