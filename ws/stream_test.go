package ws_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
	"github.com/penstock-go/penstock/ws"
)

// TestSendFrom streams readers of all kinds to peers that read slowly, with and without
// compression.
func TestSendFrom(t *testing.T) {
	data := []byte(sentence(1, 300000))
	for _, headers := range []string{"X: y", offerAll} {
		for name, reader := range map[string]func() io.Reader{
			"memory":  func() io.Reader { return bytes.NewReader(data) },
			"inline":  func() io.Reader { return conn.Inline(iotest.HalfReader(bytes.NewReader(data))) },
			"with":    func() io.Reader { return conn.Inline(iotest.DataErrReader(bytes.NewReader(data))) },
			"nothing": func() io.Reader { return strings.NewReader("") },
		} {
			r := dialed(t, options{cfg: ws.Config{Deflate: everything}, window: 3000, below: conn.Config{HighWater: 20000, LowWater: 5000}}, headers)
			r.peer.AutoRead(false)
			told := 0
			if s := r.c.SendFrom(ws.Text, reader(), func(err error) {
				if told++; err != nil {
					t.Error(err)
				}
			}); s != conn.Queued {
				t.Fatal(s)
			}
			if r.c.SendFrom(ws.Text, reader(), nil) != conn.Rejected || r.c.Send(ws.Text, nil) != conn.Rejected {
				t.Error("a message inside another was taken")
			}
			most := 0
			for told == 0 || r.c.Pending() > 0 {
				r.peer.ReadAll()
				r.Turn()
				most = max(most, r.c.Pending())
			}
			r.peer.ReadAll()
			got, rest := decode(t, false, r.got())
			whole := frame{op: 1}
			for _, f := range got {
				whole.data += f.data
				whole.rsv |= f.rsv
			}
			whole = (&stretcher{bits: 15}).message(t, whole)
			if want := string(data); len(rest) > 0 || name != "nothing" && whole.data != want || name == "nothing" && len(got) != 1 {
				t.Errorf("%s: %d bytes came, %d frames", name, len(whole.data), len(got))
			}
			if s := r.c.Conn().Stats(); most >= 20000 || told != 1 || s.Full > 0 {
				t.Errorf("%s: %d bytes pending at the most, told %d times, full %d times", name, most, told, s.Full)
			}
			r.gone()
		}
	}
}

// TestSendFromEnds holds what becomes of a stream that fails, panics, or loses its peer.
func TestSendFromEnds(t *testing.T) {
	failure := errors.New("broken disk")
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		for _, tc := range []struct {
			name   string
			reader io.Reader
			told   error
			code   ws.Code
		}{
			{"fails", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(failure)), failure, ws.Internal},
			{"never ends", endless{}, conn.ErrClosed, ws.Abnormal},
			{"panics", crashes{}, conn.ErrClosed, ws.Abnormal},
			{"exits", io.MultiReader(strings.NewReader("half"), exits{}), nil, ws.Internal},
			{"ends", io.MultiReader(strings.NewReader("one"), strings.NewReader("two")), nil, ws.Normal},
		} {
			told, closed := make(chan error, 2), make(chan *ws.CloseError, 1)
			h := &ws.Funcs{
				Open: func(c *ws.Conn) {
					c.SendFrom(ws.Binary, tc.reader, func(err error) {
						if told <- err; tc.name == "ends" {
							c.Close(ws.Normal, "")
						}
					})
				},
				Close: func(_ *ws.Conn, err *ws.CloseError) { closed <- err },
			}
			_, l, err := ws.Listen(g, "tcp", "127.0.0.1:0", h, ws.Config{}, conn.Config{HighWater: 10000, SendBuffer: 4096})
			if err != nil {
				t.Fatal(err)
			}
			c := dialTCP(t, l)
			_, _ = c.Write(handshake())
			if tc.name == "never ends" {
				_, _ = io.ReadFull(c, make([]byte, 10000))
				_ = c.SetLinger(0)
			} else if heard := untilClose(t, c); tc.code != ws.Abnormal {
				_, _ = c.Write(masked(bye(int(tc.code))))
				_, _ = io.ReadAll(c)
				if last := heard[len(heard)-1]; last.op != 8 {
					t.Errorf("%s: heard %v", tc.name, heard)
				}
			}
			_ = c.Close()
			if err = <-told; err == nil != (tc.name == "ends") || tc.told != nil && err != tc.told {
				t.Errorf("%s: told %v, want %v", tc.name, err, tc.told)
			}
			if ce := <-closed; ce.Code != tc.code {
				t.Errorf("%s: closed with %v, want %d", tc.name, ce, tc.code)
			}
			if len(told) > 0 {
				t.Errorf("%s: told twice", tc.name)
			}
			l.Close()
		}
	})
}

// untilClose reads frames up to a close frame, or to the end of the connection.
func untilClose(t *testing.T, c io.Reader) (got []frame) {
	var all []byte
	p, head := make([]byte, 4096), true
	for {
		n, err := c.Read(p)
		if all = append(all, p[:n]...); head {
			if all, head = behindHead2(all); head {
				if err != nil {
					return got
				}
				continue
			}
		}
		var more []frame
		more, all = decode(t, false, all)
		if got = append(got, more...); err != nil || len(got) > 0 && got[len(got)-1].op == 8 {
			return got
		}
	}
}

// behindHead2 is behindHead that says whether the head is still to come.
func behindHead2(p []byte) ([]byte, bool) {
	p, ok := behindHead(p)
	return p, !ok
}

// TestSendFromBesidePings has the peer ping while a stream waits for it: the pongs take
// room that the stream was about to use. Nothing is lost or refused, by no policy.
func TestSendFromBesidePings(t *testing.T) {
	for _, policy := range []conn.Policy{conn.Reject, conn.CloseSlow, conn.DropOldest} {
		for _, headers := range []string{"X: y", offerAll} {
			r := dialed(t, options{cfg: ws.Config{Deflate: everything}, window: 300, below: conn.Config{HighWater: 1000, Limit: 1000, SlowPeer: policy}}, headers)
			r.peer.AutoRead(false)
			say, p := noise(20000), &script{err: io.EOF}
			for i := 0; i < len(say); i += 50 {
				p.list = append(p.list, say[i:i+50])
			}
			told := errors.New("not told")
			if s := r.c.SendFrom(ws.Text, conn.Inline(p), func(err error) { told = err }); s != conn.Queued {
				t.Fatal(s)
			}
			for range 3000 {
				if r.Turn(); r.Rand.IntN(3) == 0 && r.c.Pending() < 950 {
					r.peer.Feed(encode(true, ping(strings.Repeat("p", 125))))
				}
				if r.Rand.IntN(5) == 0 {
					_, _ = r.peer.Read(make([]byte, 200))
				}
			}
			r.peer.AutoRead(true)
			r.Settle("flush", func() bool { return r.closed != nil || told == nil && r.c.Pending() == 0 })
			if told != nil || r.closed != nil {
				t.Fatalf("%v, %q: told %v, closed %v", policy, headers, told, r.closed)
			}
			if f := r.joined(); f.data != say {
				t.Errorf("%v, %q: %d bytes came of %d", policy, headers, len(f.data), len(say))
			}
			if s := r.c.Conn().Stats(); s.Rejected > 0 || s.Dropped > 0 {
				t.Errorf("%v, %q: %+v", policy, headers, s)
			}
			r.gone()
		}
	}
}

// TestSendFromNothing holds that a reader which fails before the peer has heard of the
// message costs nobody the WebSocket.
func TestSendFromNothing(t *testing.T) {
	failure := errors.New("no such file")
	for headers, before := range map[string][]string{"X: y": nil, offerAll: {"held back"}} {
		r := dialed(t, options{cfg: ws.Config{Deflate: everything}}, headers)
		var told error
		r.c.SendFrom(ws.Text, conn.Inline(&script{before, failure}), func(err error) {
			told = err
			r.c.Send(ws.Text, []byte("another"))
		})
		r.Turns(3)
		if told != failure {
			t.Errorf("told %v", told)
		}
		r.want(text("another"))
		r.gone()
	}
}

// script is a reader of some strings, one after the other, and an error.
type script struct {
	list []string
	err  error
}

func (s *script) Read(p []byte) (n int, err error) {
	if len(s.list) == 0 {
		return 0, s.err
	}
	n = copy(p, s.list[0])
	if s.list[0] = s.list[0][n:]; s.list[0] == "" {
		s.list = s.list[1:]
	}
	return n, nil
}

// TestSendFromBehindClose holds that a stream which waits for a peer that does not read
// does not keep the loop busy when the connection below closes: it is told.
func TestSendFromBehindClose(t *testing.T) {
	r := dialed(t, options{window: 300, below: conn.Config{HighWater: 1000}})
	r.peer.AutoRead(false)
	r.c.Send(ws.Binary, make([]byte, 3000)) // It is full.
	var told error
	if s := r.c.SendFrom(ws.Text, strings.NewReader("late"), func(err error) { told = err }); s != conn.Queued {
		t.Fatal(s)
	}
	r.Turns(3)
	r.c.Conn().Close()
	if r.Turns(3); told != conn.ErrClosed {
		t.Errorf("told %v", told)
	}
	r.c.Conn().Abort()
	r.gone()
}

// TestSendFromBehindCloseFrame holds that nothing is read any more once a close frame is
// sent: the message will not be whole.
func TestSendFromBehindCloseFrame(t *testing.T) {
	r := dialed(t, options{below: conn.Config{HighWater: 1000}})
	var told error
	reads := 0
	if s := r.c.SendFrom(ws.Binary, conn.Inline(counts{&reads}), func(err error) { told = err }); s != conn.Queued {
		t.Fatal(s)
	}
	r.Turns(5)
	had := reads
	r.c.Close(ws.Normal, "")
	if r.Turns(5); reads != had || had == 0 || told != conn.ErrClosed {
		t.Errorf("%d reads before the close, %d with those behind it; told %v", had, reads, told)
	}
	r.peer.Feed(encode(true, bye(1000)))
	r.gone()
}

// counts is a reader without an end that counts.
type counts struct{ reads *int }

func (c counts) Read(p []byte) (int, error) { *c.reads++; return len(p), nil }

// TestSendFromPastDo streams a reader that blocks while functions wait for the loop in
// as great a number as may: what it has read is not lost.
func TestSendFromPastDo(t *testing.T) {
	r := dialed(t, options{})
	ref, read, done := r.c.Ref(), make(chan bool), false
	r.c.SendFrom(ws.Text, &slow{read}, func(err error) { done = err == nil })
	r.Turn()
	for ref.Do(func(*ws.Conn) {}) {
	}
	read <- true
	testutil.Eventually(t, 10*time.Second, "the end of the goroutine", func() bool { return !streaming() })
	// The end of the reader is read by another goroutine.
	testutil.Eventually(t, 10*time.Second, "done", func() bool { r.Turn(); return done && r.c.Pending() == 0 })
	if f := r.joined(); f.data != "late" {
		t.Errorf("%v came", f)
	}
	r.gone()
}

// streaming reports whether a goroutine reads for a stream. Their number would not tell:
// those of an earlier test may end meanwhile.
func streaming() bool {
	stacks := make([]byte, 1<<20)
	return bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("ws.(*stream).next"))
}

// slow is a reader that waits.
type slow struct{ read chan bool }

func (s *slow) Read(p []byte) (int, error) {
	if !<-s.read {
		return 0, io.EOF
	}
	close(s.read)
	return copy(p, "late"), nil
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

type crashes struct{}

func (crashes) Read([]byte) (int, error) { panic("in Read") }

type exits struct{}

func (exits) Read([]byte) (int, error) { runtime.Goexit(); return 0, nil }

// boasts returns a count that no io.Reader may.
type boasts struct{}

func (boasts) Read(p []byte) (int, error) { return len(p) + 1, nil }

// TestSendFromCount holds that a reader with an impossible count breaks its stream, and
// that no bytes go out that it has not read.
func TestSendFromCount(t *testing.T) {
	r := dialed(t, options{below: conn.Config{HighWater: 20000}}, "X: y")
	var told error
	if s := r.c.SendFrom(ws.Binary, conn.Inline(boasts{}), func(err error) { told = err }); s != conn.Queued {
		t.Fatal(s)
	}
	r.Turn()
	r.Turn()
	if n := len(r.got()); told == nil || n > 0 || r.c.Send(ws.Text, nil) != conn.Queued {
		t.Errorf("told %v, %d bytes came", told, n)
	}
	r.gone()
}
