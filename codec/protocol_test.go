package codec_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/codec"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// wantEnd checks that a connection was closed because of what the peer has sent.
func (r *rig) wantEnd(cause error) {
	r.T.Helper()
	r.peer.AutoRead(true)
	r.Settle("close", func() bool { return r.gone })
	var ce *conn.CloseError
	if !errors.As(r.err, &ce) || ce.Reason != conn.ProtocolError || !errors.Is(r.err, cause) {
		r.T.Errorf("closed with %v, want %v", r.err, cause)
	}
}

func (r *rig) wantGot(want ...string) {
	r.T.Helper()
	if !slices.Equal(r.got, want) {
		r.T.Errorf("got %q, want %q", r.got, want)
	}
}

// TestLimit holds the limit against the length on the wire: as much is taken, one
// byte more is refused, whether it comes at once or byte by byte, whether an end
// has been found or the length announced.
func TestLimit(t *testing.T) {
	const limit = 100
	for name, cd := range map[string]codec.Codec[[]byte]{
		"line": codec.Line{}, "delimiter": codec.Delimiter("##"), "frame": codec.Frame32{},
		"length": codec.LengthField{Width: 8, Strip: true},
	} {
		head := len(mustAppend(t, cd, ""))
		for _, step := range []int{1, 99, 1000} {
			w := newWorld(t)
			r := w.open(cd, codec.Config{Limit: limit}, nil)
			r.feedBy(step, mustAppend(t, cd, strings.Repeat("x", limit-head)))
			if r.feedBy(step, mustAppend(t, cd, strings.Repeat("y", limit-head+1))); len(r.got) != 1 {
				t.Errorf("%s in pieces of %d: %d messages", name, step, len(r.got))
			}
			r.wantEnd(codec.ErrTooLong)
			var long *codec.MessageTooLong
			if !errors.As(r.err, &long) || long.Limit != limit || long.Length != 0 && long.Length != limit+1 || !strings.Contains(r.err.Error(), "100") {
				t.Errorf("%s: %v", name, r.err)
			}
			w.Finish()
		}
	}
}

func mustAppend(t testing.TB, cd codec.Codec[[]byte], m string) string {
	t.Helper()
	p, err := cd.Append(nil, []byte(m))
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

func (r *rig) feedBy(step int, p string) {
	r.T.Helper()
	for ; len(p) > step; p = p[step:] {
		r.feed(p[:step])
	}
	r.feed(p)
}

// TestLimitIsOfOneMessage sends many short lines at once, together far above the
// limit: it is for the current line. In the origin sixty lines of two bytes closed
// a connection with a limit of 100.
func TestLimitIsOfOneMessage(t *testing.T) {
	w := newWorld(t)
	r := w.open(codec.Line{}, codec.Config{Limit: 100}, nil)
	r.feed(strings.Repeat("x\n", 60))
	r.feed(strings.Repeat("x\n", 5000) + strings.Repeat("y", 60))
	r.feed(strings.Repeat("y", 39) + "\n" + strings.Repeat("x\n", 5000))
	if len(r.got) != 10061 || r.got[5060] != strings.Repeat("y", 99) {
		t.Errorf("%d messages", len(r.got))
	}
	r.end()
	r.wantEOF()
	w.Finish()
}

// TestMemoryFollowsWhatCame announces the longest message there may be, and sends
// little of it.
func TestMemoryFollowsWhatCame(t *testing.T) {
	w := newWorld(t)
	const peers = 50
	var rigs []*rig
	before := testutil.Heap()
	for range peers {
		r := w.open(codec.Frame32{}, codec.Config{}, nil)
		r.feed("\x00\xa0\x00\x00and a little")
		rigs = append(rigs, r)
	}
	if n, blocks := testutil.Heap()-before, w.Small.InUse()+w.Bulk.InUse(); n > peers*10000 || blocks != peers*1 {
		t.Errorf("%d bytes and %d blocks for %d announcements", n, blocks, peers)
	}
	for _, r := range rigs {
		r.feed(strings.Repeat("x", 200<<10))
	}
	if n := testutil.Heap() - before; n > peers<<20 {
		t.Errorf("%d bytes for %d pieces of 200 KiB", n, peers)
	}
	if n := w.Bulk.InUse(); n != 0 {
		t.Errorf("%d large blocks held", n)
	}
	for _, r := range rigs {
		r.end()
		r.wantEnd(io.ErrUnexpectedEOF)
	}
	w.Finish()
}

// TestIdleMemory holds what doc says that a connection costs once a message has come
// in two pieces, and that it holds no block between messages.
func TestIdleMemory(t *testing.T) {
	const peers = 300
	w := newWorld(t)
	p, err := codec.New(codec.Line{}, &codec.Funcs[[]byte]{}, codec.Config{})
	if err != nil {
		t.Fatal(err)
	}
	var rigs []*rig
	for range peers {
		r := &rig{world: w}
		r.serve(p)
		rigs = append(rigs, r)
	}
	all := func(s string) {
		for _, r := range rigs {
			r.peer.Feed([]byte(s))
		}
		for range peers { // The kernel completes some of them a turn.
			w.Turn()
		}
	}
	all("a\n")
	before := testutil.Heap()
	all("b")
	if n := w.Small.InUse(); n != peers {
		t.Errorf("%d blocks for %d pieces", n, peers)
	}
	all("\n")
	if n := (testutil.Heap() - before) / peers; n > 256 {
		t.Errorf("%d bytes a connection more", n)
	} else {
		t.Logf("%d bytes a connection more", n)
	}
	if n := w.Small.InUse() + w.Bulk.InUse(); n != 0 {
		t.Errorf("%d blocks between messages", n)
	}
	for _, r := range rigs {
		r.c.Abort()
	}
	w.Settle("close", func() bool { return w.Fake.OpenFDs() == 0 })
	w.Finish()
}

// TestEOF holds that an end in the middle of a message is told, and that one
// between messages is an end in order, or the handler's business.
func TestEOF(t *testing.T) {
	for _, tc := range []struct {
		sent  string
		hook  bool
		bytes int
	}{{"", false, 0}, {"a\nb\n", false, 0}, {"a\nb\nccc", false, 3}, {"a\nb\n", true, 0}, {"a\nb\nccc", true, 3}} {
		w := newWorld(t)
		heard := 0
		r := w.open(codec.Line{}, codec.Config{}, func(r *rig) {
			if tc.hook {
				r.onEOF = func(c *conn.Conn) {
					heard++
					_, _ = io.WriteString(c, "answer")
					c.Close()
				}
			}
		})
		r.feedBy(2, tc.sent)
		r.end()
		if len(tc.sent) > 1 {
			r.wantGot("a", "b")
		}
		var cut *codec.Incomplete
		switch {
		case tc.bytes == 0:
			if r.wantEOF(); tc.hook && (heard != 1 || string(r.peer.Received()) != "answer") {
				t.Errorf("OnEOF ran %d times, the peer has %q", heard, r.peer.Received())
			}
		case !errors.As(r.err, &cut) || cut.Bytes != tc.bytes || !errors.Is(r.err, io.ErrUnexpectedEOF):
			t.Errorf("closed with %v", r.err)
		}
		w.Finish()
	}
}

// TestStopInside pauses, closes, aborts and panics inside OnMessage: no further
// message of the same bytes comes before reading goes on.
func TestStopInside(t *testing.T) {
	for _, step := range []int{1, 3, 100} {
		for name, stop := range map[string]func(c *conn.Conn){
			"pause": (*conn.Conn).PauseRead, "close": (*conn.Conn).Close, "abort": (*conn.Conn).Abort,
			"panic": func(*conn.Conn) { panic("in OnMessage") },
		} {
			w := newWorld(t)
			r := w.open(codec.Line{}, codec.Config{}, func(r *rig) {
				r.onMessage = func(c *conn.Conn, m []byte) {
					if string(m) == "stop" {
						stop(c)
					}
				}
			})
			if r.feedBy(step, "one\nstop\nthree\nfour\n"); name != "pause" {
				r.peer.AutoRead(true)
				r.peer.CloseWrite()
				r.Settle("close", func() bool { return r.gone })
				r.wantGot("one", "stop")
			} else {
				r.wantGot("one", "stop")
				r.feed("five\n")
				r.c.ResumeRead()
				r.Turn()
				r.Turn()
				r.wantGot("one", "stop", "three", "four", "five")
				r.end()
				r.wantEOF()
			}
			w.Finish()
		}
	}
}

// TestPauseOnFull holds that a full queue stops the messages of the same block.
func TestPauseOnFull(t *testing.T) {
	w := newWorld(t)
	r := w.open(codec.Line{}, codec.Config{}, func(r *rig) {
		r.onMessage = func(c *conn.Conn, m []byte) {
			if codec.Send(c, codec.Line{}, m) == conn.Full {
				c.PauseRead()
			}
		}
	})
	if err := r.c.SetMarks(conn.Marks{High: 100, Limit: 100}); err != nil {
		t.Fatal(err)
	}
	r.feed(strings.Repeat("0123456789\n", 10000))
	r.peer.AutoRead(true)
	for r.Settle("idle", func() bool { return r.c.Pending() == 0 }); len(r.got) < 10000; r.Turn() {
		r.c.ResumeRead()
	}
	r.Settle("answers", func() bool { return len(r.peer.Received()) == 110000 })
	if n := r.c.Stats().Rejected; n > 0 {
		t.Errorf("%d answers were refused", n)
	}
	r.end()
	w.Finish()
}

// TestBurst holds that a connection that has many messages leaves others their turn.
func TestBurst(t *testing.T) {
	const burst = 16
	w := newWorld(t)
	many := w.open(codec.Line{}, codec.Config{Burst: burst}, nil)
	one := w.open(codec.Line{}, codec.Config{Burst: burst}, func(r *rig) {
		r.onMessage = func(*conn.Conn, []byte) {
			if n := len(many.got); n > 3*burst {
				t.Errorf("heard behind %d messages of another connection", n)
			}
		}
	})
	many.peer.Feed(bytes.Repeat([]byte("\n"), 20*burst))
	one.peer.Feed([]byte("me too\n"))
	for before := 0; len(many.got) < 20*burst; before = len(many.got) {
		if many.Turn(); len(many.got) > before+2*burst {
			t.Fatalf("%d messages in one turn", len(many.got)-before)
		}
	}
	one.wantGot("me too")
	many.end()
	one.end()
	w.Finish()
}

// TestSwitch changes the codec inside OnMessage, and to a handler of plain bytes:
// whatever has come behind the message goes there, whole and in order.
func TestSwitch(t *testing.T) {
	for _, step := range []int{1, 2, 5, 100} {
		w := newWorld(t)
		var raw []byte
		plain := &conn.Funcs{Data: func(_ *conn.Conn, in *buf.Buf) { raw = append(raw, in.Bytes()...) }}
		r := w.open(codec.Line{}, codec.Config{}, func(r *rig) {
			frames := r.protocol(codec.Frame32{}, codec.Config{})
			r.onMessage = func(c *conn.Conn, m []byte) {
				switch string(m) {
				case "frames":
					c.SetHandler(frames)
				case "plain":
					c.PauseRead()
					c.SetHandler(plain)
				}
			}
		})
		r.feedBy(step, "a line\nframes\n\x00\x00\x00\x0aa\nline\x00\x00\x00\x09plain\x00\x00\x00\x08any\nthing")
		r.c.ResumeRead()
		r.Turn()
		r.Turn()
		r.wantGot("a line", "frames", "a\nline", "plain")
		if want := "\x00\x00\x00\x08any\nthing"; string(raw) != want {
			t.Errorf("in pieces of %d: the plain handler has %q, want %q", step, raw, want)
		}
		r.c.Abort()
		w.Settle("close", func() bool { return w.Fake.OpenFDs() == 0 })
		w.Finish()
	}
}

// TestSwitchOutside changes the handler while a piece of a message is held, of any
// size, from elsewhere than OnMessage: the piece goes to the new one.
func TestSwitchOutside(t *testing.T) {
	for _, size := range []int{1, 300, reactor.SmallBlock, reactor.SmallBlock + 1, reactor.BulkBlock, 3*reactor.BulkBlock + 1} {
		w := newWorld(t)
		var raw []byte
		r := w.open(codec.Line{}, codec.Config{}, nil)
		held := make([]byte, size)
		for i := range held {
			held[i] = 'a' + byte(i%23)
		}
		r.feed("first\n")
		r.feed(string(held))
		r.c.SetHandler(&conn.Funcs{Data: func(_ *conn.Conn, in *buf.Buf) { raw = append(raw, in.Bytes()...) }})
		r.feed("behind")
		r.wantGot("first")
		if string(raw) != string(held)+"behind" {
			t.Errorf("of %d bytes held, %d have come", size, len(raw)-6)
		}
		r.c.Abort()
		w.Settle("close", func() bool { return w.Fake.OpenFDs() == 0 })
		w.Finish()
	}
}

// TestSwitchAfterEOF holds that who takes over a piece hears the end behind it.
func TestSwitchAfterEOF(t *testing.T) {
	w := newWorld(t)
	r := w.open(codec.Line{}, codec.Config{}, func(r *rig) { r.onEOF = func(*conn.Conn) {} })
	r.feedBy(1, "first\nand half")
	r.peer.CloseWrite()
	w.Turn()
	w.Turn()
	heard := ""
	r.c.SetHandler(&conn.Funcs{
		Data: func(_ *conn.Conn, in *buf.Buf) { heard += string(in.Bytes()) },
		EOF:  func(c *conn.Conn) { heard += " and the end"; c.Close() },
	})
	r.peer.AutoRead(true)
	w.Settle("close", func() bool { return w.Fake.OpenFDs() == 0 })
	if r.wantGot("first"); heard != "and half and the end" {
		t.Errorf("the new handler heard %q", heard)
	}
	w.Finish()
}

// TestPipeInside begins a Pipe inside OnMessage: what has come behind the message
// is forwarded.
func TestPipeInside(t *testing.T) {
	for _, step := range []int{1, 3, 100} {
		w := newWorld(t)
		to := w.open(codec.Line{}, codec.Config{}, nil)
		to.peer.AutoRead(true)
		r := w.open(codec.Line{}, codec.Config{}, func(r *rig) {
			r.onMessage = func(c *conn.Conn, m []byte) {
				if string(m) == "pipe" {
					if _, err := conn.Pipe(c, to.c, conn.PipeConfig{}); err != nil {
						t.Error(err)
					}
				}
			}
		})
		r.feedBy(step, "one\npipe\ntwo\nthree and half")
		to.peer.CloseWrite()
		r.end()
		to.end()
		if r.wantGot("one", "pipe"); string(to.peer.Received()) != "two\nthree and half" {
			t.Errorf("in pieces of %d: forwarded %q", step, to.peer.Received())
		}
		w.Finish()
	}
}

// TestPipeOutside begins it while a piece is held.
func TestPipeOutside(t *testing.T) {
	w := newWorld(t)
	to := w.open(codec.Line{}, codec.Config{}, nil)
	to.peer.AutoRead(true)
	r := w.open(codec.Line{}, codec.Config{}, nil)
	r.feedBy(1, "one\ntwo and")
	if _, err := conn.Pipe(r.c, to.c, conn.PipeConfig{}); err != nil {
		t.Error(err)
	}
	r.feed(" half")
	to.peer.CloseWrite()
	r.end()
	to.end()
	if r.wantGot("one"); string(to.peer.Received()) != "two and half" {
		t.Errorf("forwarded %q", to.peer.Received())
	}
	w.Finish()
}

// TestDetachInside takes a connection out inside OnMessage, and while a piece is
// held: what was received and not heard goes along.
func TestDetachInside(t *testing.T) {
	for _, step := range []int{1, 3, 100} {
		w := newWorld(t)
		var out conn.Departure
		take := func(d conn.Departure, err error) {
			if out = d; err != nil {
				t.Error(err)
			}
		}
		r := w.open(codec.Line{}, codec.Config{}, func(r *rig) {
			r.onMessage = func(c *conn.Conn, m []byte) {
				if string(m) == "out" {
					c.Detach(take)
				}
			}
		})
		r.feedBy(step, "one\nout\ntwo\nand half")
		w.Settle("detach", func() bool { return out.FD != 0 })
		rest := "two\nand half" // Of which some may be in the socket.
		if r.wantGot("one", "out"); string(out.Input) != rest[:len(out.Input)] || step == 100 && len(out.Input) < len(rest) {
			t.Errorf("in pieces of %d: %q went along", step, out.Input)
		}
		held := w.open(codec.Line{}, codec.Config{}, nil)
		held.feedBy(step, "one\nand half")
		out = conn.Departure{}
		held.c.Detach(take)
		w.Settle("detach", func() bool { return out.FD != 0 })
		if held.wantGot("one"); string(out.Input) != "and half" {
			t.Errorf("in pieces of %d: %q went along", step, out.Input)
		}
		if a, b := w.Small.InUse(), w.Bulk.InUse(); a != 0 || b != 0 {
			t.Errorf("%d small and %d bulk blocks leaked", a, b)
		}
	}
}

// own is a codec that a user would write, with defects on demand: a packet is one
// letter, which says what happens, and one digit, which says how long it is.
type own struct{ codec.Line }

func (o own) Split(data []byte, seen int) (int, error) {
	switch data[0] {
	case 'e':
		return 0, errOwn
	case 'p':
		panic(errOwn)
	case 'n':
		return -1, nil
	case 'k': // breaks the contract: an end in what it has seen
		return max(0, len(data)-3), nil
	}
	if len(data) < 2 {
		return 0, nil
	}
	return int(data[1] - '0'), nil
}

func (o own) Decode(p []byte) ([]byte, error) {
	switch p[0] {
	case 'E':
		return nil, errOwn
	case 'P':
		panic(errOwn)
	case 'S':
		return nil, codec.ErrSkip
	}
	return p, nil
}

func (o own) Append(dst, m []byte) ([]byte, error) {
	switch m[0] {
	case 'E':
		return append(dst, m...), errOwn
	case 'P':
		panic(errOwn)
	}
	return append(dst, m...), nil
}

var errOwn = errors.New("own codec")

// TestOwnCodec feeds a user's codec in pieces of each size: errors and panics of
// it end this connection, behind the messages before, and no other.
func TestOwnCodec(t *testing.T) {
	for sent, want := range map[string]struct {
		got    string
		reason conn.Reason
	}{
		"a2b3.c9.......": {"a2 b3. c9.......", conn.EOF},
		"a2S4..b2":       {"a2 b2", conn.EOF},
		"a2b3.e2c2":      {"a2 b3.", conn.ProtocolError},
		"a2b3.p2c2":      {"a2 b3.", conn.HandlerPanic},
		"a2b3.n2c2":      {"a2 b3.", conn.ProtocolError},
		"a2E3.c2":        {"a2", conn.ProtocolError},
		"a2P3.c2":        {"a2", conn.HandlerPanic},
	} {
		for step := 1; step <= len(sent); step++ {
			w := newWorld(t)
			other := w.open(own{}, codec.Config{}, nil)
			r := w.open(own{}, codec.Config{}, nil)
			r.feedBy(step, sent)
			if r.end(); want.reason == conn.EOF {
				r.wantEOF()
			}
			var ce *conn.CloseError
			if errors.As(r.err, &ce) != (want.reason != conn.EOF) || ce != nil && ce.Reason != want.reason {
				t.Errorf("%q in pieces of %d: closed with %v", sent, step, r.err)
			}
			if got := strings.Join(r.got, " "); got != want.got {
				t.Errorf("%q in pieces of %d: got %q", sent, step, got)
			}
			other.feed("z2")
			other.wantGot("z2")
			other.end()
			w.Finish()
		}
	}
	w := newWorld(t)
	r := w.open(own{}, codec.Config{}, nil)
	r.feedBy(1, "k123456")
	r.end()
	if len(r.got) > 0 || r.err == nil || !strings.Contains(r.err.Error(), "had answered 0") {
		t.Errorf("closed with %v, got %q", r.err, r.got)
	}
	w.Finish()
}

// TestOwnAppend holds that a message that cannot be encoded closes its connection,
// and that nothing of it is sent: the origin sent it without its framing.
func TestOwnAppend(t *testing.T) {
	for _, bad := range []string{"E", "P"} {
		w := newWorld(t)
		other := w.open(own{}, codec.Config{}, nil)
		r := w.open(own{}, codec.Config{}, func(r *rig) {
			r.onMessage = func(c *conn.Conn, m []byte) {
				codec.Send(c, own{}, []byte("before"))
				if s := codec.Send(c, own{}, []byte(bad+"bad")); s != conn.Closed {
					t.Errorf("%s: %v", bad, s)
				}
			}
		})
		r.peer.AutoRead(true)
		r.feed("a2")
		r.end()
		var ce *conn.CloseError
		if !errors.As(r.err, &ce) || !errors.Is(r.err, errOwn) {
			t.Errorf("%s: closed with %v", bad, r.err)
		}
		if got := string(r.peer.Received()); bad == "E" && got != "before" || strings.Contains(got, "bad") {
			t.Errorf("%s: the peer has %q", bad, got)
		}
		other.feed("z2")
		other.wantGot("z2")
		other.end()
		w.Finish()
	}
}

// pinger is a codec with a state, made for one connection: it answers heartbeats
// by itself.
type pinger struct {
	codec.Line
	c     *conn.Conn
	pings int
}

func (p *pinger) Decode(packet []byte) ([]byte, error) {
	m, err := p.Line.Decode(packet)
	if string(m) == "ping" {
		p.pings++
		codec.Send(p.c, p.Line, fmt.Appendf(nil, "pong %d", p.pings))
		return nil, codec.ErrSkip
	}
	return m, err
}

func TestCodecThatSends(t *testing.T) {
	w := newWorld(t)
	r := &rig{world: w}
	r.serve(&conn.Funcs{Open: func(c *conn.Conn) { c.SetHandler(r.protocol(&pinger{c: c}, codec.Config{})) }})
	r.peer.AutoRead(true)
	r.feedBy(3, "ping\nhello\nping\n")
	r.end()
	if r.wantGot("hello"); string(r.peer.Received()) != "pong 1\npong 2\n" {
		t.Errorf("the peer has %q", r.peer.Received())
	}
	w.Finish()
}

// TestRefusal holds that a peer is told why, past the limit of its queue.
func TestRefusal(t *testing.T) {
	w := newWorld(t)
	r := w.open(codec.Line{}, codec.Config{Limit: 10, Refusal: func(err error) []byte {
		if errors.Is(err, codec.ErrTooLong) {
			return []byte("line too long\n")
		}
		return nil
	}}, nil)
	r.peer.AutoRead(true)
	r.feed("fine\n" + strings.Repeat("x", 20))
	r.wantEnd(codec.ErrTooLong)
	if got := string(r.peer.Received()); got != "line too long\n" {
		t.Errorf("the peer has %q", got)
	}
	w.Finish()
}

// TestHooks holds that the optional interfaces of a handler are heard.
type everything struct {
	conn.NopHandler
	heard []string
}

func (e *everything) OnMessage(*conn.Conn, []byte)  { e.heard = append(e.heard, "message") }
func (e *everything) OnFull(*conn.Conn)             { e.heard = append(e.heard, "full") }
func (e *everything) OnDrain(*conn.Conn)            { e.heard = append(e.heard, "drain") }
func (e *everything) OnError(_ *conn.Conn, _ error) { e.heard = append(e.heard, "error") }
func (e *everything) OnEOF(c *conn.Conn)            { e.heard = append(e.heard, "eof"); c.Close() }
func (e *everything) OnClose(c *conn.Conn, _ error) { e.heard = append(e.heard, "close") }

func TestHooks(t *testing.T) {
	for _, lines := range []string{"a\n", "a\nb"} { // By the protocol, and by its session.
		w := newWorld(t)
		e := &everything{}
		p, err := codec.New(codec.Line{}, e, codec.Config{})
		if err != nil {
			t.Fatal(err)
		}
		r := &rig{world: w}
		r.serve(p)
		if err := r.c.SetMarks(conn.Marks{High: 10, Limit: 10}); err != nil {
			t.Fatal(err)
		}
		r.feed(lines)
		_, _ = r.c.Write(make([]byte, 1<<20))
		r.c.Ref().Write(nil)
		r.c.Ref().Write([]byte("refused"))
		r.Turn()
		r.peer.AutoRead(true)
		r.Settle("drained", func() bool { return r.c.Pending() == 0 })
		r.Turn()
		if len(lines) > 2 {
			r.feed("\n")
		}
		r.peer.CloseWrite()
		r.Settle("close", func() bool { return slices.Contains(e.heard, "close") })
		for _, h := range []string{"message", "full", "drain", "error", "eof", "close"} {
			if !slices.Contains(e.heard, h) {
				t.Errorf("%q: %s was not heard: %q", lines, h, e.heard)
			}
		}
		w.Finish()
	}
}
