package conn_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// noise returns n bytes of which no two short runs are alike.
func noise(seed, n int) []byte {
	p := make([]byte, n)
	x := uint64(seed)*2654435761 + 1
	for i := range p {
		x = x*6364136223846793005 + 1442695040888963407
		p[i] = byte(x >> 56)
	}
	return p
}

var streamNoise = noise(7, 200_000)

// tempFile returns an open file with data.
func tempFile(t testing.TB, data []byte) *os.File {
	t.Helper()
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// hidden is a reader that shows nothing but Read.
type hidden struct{ io.Reader }

// sources returns data in each kind of reader that SendFrom knows.
func sources(t testing.TB, data []byte) map[string]io.Reader {
	file := tempFile(t, append([]byte("before"), append(data, "behind"...)...))
	whole := tempFile(t, data)
	section := io.NewSectionReader(bytes.NewReader(append([]byte("before"), data...)), 3, int64(len(data))+3)
	if _, err := section.Seek(3, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	return map[string]io.Reader{
		"file":           whole,
		"part of a file": io.NewSectionReader(file, 6, int64(len(data))),
		"section":        section,
		"bytes":          bytes.NewReader(data),
		"buffer":         bytes.NewBuffer(bytes.Clone(data)),
		"string":         strings.NewReader(string(data)),
		"inline":         conn.Inline(iotest.HalfReader(bytes.NewReader(data))),
		"goroutine":      hidden{bytes.NewReader(data)},
		"with its end":   conn.Inline(iotest.DataErrReader(bytes.NewReader(data))),
	}
}

// outcome is what done was told.
type outcome struct {
	t    *testing.T
	runs int
	sent int64
	err  error
}

func (o *outcome) done(sent int64, err error) {
	o.runs, o.sent, o.err = o.runs+1, sent, err
}

func (o *outcome) want(sent int, err error) {
	o.t.Helper()
	if o.runs != 1 || o.sent != int64(sent) || !errors.Is(o.err, err) {
		o.t.Fatalf("done ran %d times, with %d bytes and %v; want once, %d and %v", o.runs, o.sent, o.err, sent, err)
	}
}

// patiently settles what needs another goroutine.
func (r *rig) patiently(what string, ok func() bool) {
	r.T.Helper()
	for end := time.Now().Add(testutil.Timeout(10 * time.Second)); !ok(); runtime.Gosched() {
		if r.Turn(); time.Now().After(end) {
			r.T.Fatalf("%s: not in time", what)
		}
	}
}

// TestSendFromOrder holds that a stream has its place among the sends, whatever
// it is read from and whether its length is known.
func TestSendFromOrder(t *testing.T) {
	for _, size := range []int{1, 5000, 200_000} {
		data := noise(1, size)
		for kind, src := range sources(t, data) {
			for _, n := range []int64{int64(size), -1} {
				t.Run(name("%s %d %d", kind, size, n), func(t *testing.T) {
					r := newRig(t, 3000, conn.Config{}, nil)
					o := &outcome{t: t}
					if s, ok := src.(io.Seeker); ok && n < 0 {
						_, _ = s.Seek(map[string]int64{"section": 3}[kind], io.SeekStart)
					} else if n < 0 {
						src = sources(t, data)[kind]
					}
					_, _ = r.c.Write([]byte("<before>"))
					if s := r.c.SendFrom(src, n, o.done); s != conn.Queued {
						t.Fatalf("answered %v", s)
					}
					_, _ = r.c.Write([]byte("<behind"))
					r.c.Ref().Write([]byte(" and by a Ref>"))
					r.peer.AutoRead(true)
					want := "<before>" + string(data) + "<behind and by a Ref>"
					r.patiently("all", func() bool { return len(r.peer.Received()) >= len(want) })
					if !bytes.Equal(r.peer.Received(), []byte(want)) {
						t.Fatal("the bytes are out of order")
					}
					r.Turns(3)
					o.want(size, nil)
					if r.c.Ahead() != 0 || r.c.Pending() != 0 {
						t.Fatalf("%d bytes ahead, %d pending", r.c.Ahead(), r.c.Pending())
					}
					r.gone()
				})
			}
		}
	}
}

// TestCloseBehindStream is defect 5 of workerman's list (1.12): close() while a
// file was sent cut it short, and with a range the connection stayed for ever.
func TestCloseBehindStream(t *testing.T) {
	data := noise(2, 100_000)
	for kind, src := range sources(t, data) {
		for _, half := range []bool{false, true} {
			t.Run(name("%s half %v", kind, half), func(t *testing.T) {
				if half {
					src = sources(t, data)[kind]
				}
				r := newRig(t, 3000, conn.Config{CloseTimeout: 100 * time.Hour}, nil)
				o := &outcome{t: t}
				r.c.SendFrom(src, int64(len(data)), o.done)
				if half {
					r.c.CloseWrite()
				} else {
					r.c.CloseWith([]byte("bye"))
					data := append(bytes.Clone(data), "bye"...)
					defer func() {
						if got := r.peer.Received(); !bytes.Equal(got, data) {
							t.Errorf("the peer has %d bytes of %d", len(got), len(data))
						}
					}()
				}
				// A reader so slow that it outlasts CloseTimeout many times over.
				r.patiently("FIN", func() bool {
					if n, _ := r.peer.Read(make([]byte, 3000)); n > 0 {
						r.Now += 10 * time.Hour
					}
					return r.peer.EOF()
				})
				o.want(len(data), nil)
				if half && !bytes.Equal(r.peer.Received(), data) {
					t.Errorf("the peer has %d bytes of %d", len(r.peer.Received()), len(data))
				}
				if r.isClosed() {
					t.Fatalf("closed with %v before the peer", r.err)
				}
				r.peer.CloseWrite()
				r.gone()
			})
		}
	}
}

// TestStreamKeepsHooks is the other half of that defect: sending a file took the
// hooks of its user and did not give them back.
func TestStreamKeepsHooks(t *testing.T) {
	data := noise(3, 300_000)
	for kind, src := range sources(t, data) {
		t.Run(name("%s", kind), func(t *testing.T) {
			r := newRig(t, 2000, marks(1000, 200, 1000), nil)
			o := &outcome{t: t}
			if s := r.c.SendFrom(src, int64(len(data)), o.done); s != conn.Queued {
				t.Fatalf("answered %v", s)
			}
			r.patiently("something", func() bool { return r.peer.Waiting() > 0 })
			r.Turns(20)
			if r.wantLog(""); r.c.Pending() != 0 || r.c.Ahead() > 64<<10 || r.Bulk.InUse()+r.Small.InUse() > 2 {
				t.Fatalf("%d bytes pending, %d ahead, in %d blocks", r.c.Pending(), r.c.Ahead(), r.Bulk.InUse()+r.Small.InUse())
			}
			if _ = r.write(999); r.c.IsFull() {
				t.Fatal("full of what the stream has read")
			}
			_ = r.write(1)
			r.wantLog("full")
			if err := r.write(1); !errors.Is(err, conn.ErrSendBufferFull) {
				t.Fatalf("behind a stream and 1000 bytes: %v", err)
			}
			r.peer.AutoRead(true)
			r.patiently("all", func() bool { return len(r.peer.Received()) == len(data)+1000 })
			r.Turns(2)
			r.wantLog("full drain")
			o.want(len(data), nil)
			r.gone()
		})
	}
}

// TestShortSource holds that a promise of n bytes which the source does not keep
// resets the connection, and that both the caller and OnClose are told why.
func TestShortSource(t *testing.T) {
	for kind, src := range sources(t, noise(4, 20_000)) {
		t.Run(name("%s", kind), func(t *testing.T) {
			r := newRig(t, 3000, conn.Config{}, nil)
			first, second := &outcome{t: t}, &outcome{t: t}
			r.c.SendFrom(src, 20_001, first.done)
			r.c.SendFrom(src, 1, second.done)
			r.c.Close()
			r.peer.AutoRead(true)
			r.patiently("close", r.isClosed)
			if first.runs != 1 || first.err != io.ErrUnexpectedEOF || first.sent > 20_000 {
				t.Errorf("done ran %d times, with %d bytes and %v", first.runs, first.sent, first.err)
			}
			var ce *conn.CloseError
			if !errors.As(r.err, &ce) || ce.Reason != conn.StreamFailed || ce.Err != io.ErrUnexpectedEOF || !r.peer.WasReset() {
				t.Errorf("closed with %v, reset: %v", r.err, r.peer.WasReset())
			}
			if second.want(0, r.err); r.count("close") != 1 {
				t.Error("not closed once")
			}
			r.Finish()
		})
	}
}

var errTest = errors.New("a failure")

// badReader misbehaves behind some bytes.
type badReader struct {
	first int
	then  func(p []byte) (int, error)
}

func (b *badReader) Read(p []byte) (int, error) {
	if n := min(b.first, len(p)); n > 0 {
		b.first -= n
		return n, nil
	}
	return b.then(p)
}

// TestBadSource has readers that fail in every way there is, on the loop and in
// a goroutine: that connection ends, told as documented, and the loop goes on.
func TestBadSource(t *testing.T) {
	for _, tc := range []struct {
		name   string
		reason conn.Reason
		text   string
		then   func(p []byte) (int, error)
	}{
		{"error", conn.StreamFailed, errTest.Error(), func([]byte) (int, error) { return 0, errTest }},
		{"error with bytes", conn.StreamFailed, errTest.Error(), func([]byte) (int, error) { return 7, errTest }},
		{"panic", conn.HandlerPanic, errTest.Error(), func([]byte) (int, error) { panic(errTest) }},
		{"too many", conn.StreamFailed, "impossible", func(p []byte) (int, error) { return len(p) + 1, nil }},
		{"negative", conn.StreamFailed, "impossible", func([]byte) (int, error) { return -1, nil }},
		{"nothing", conn.StreamFailed, io.ErrNoProgress.Error(), func([]byte) (int, error) { return 0, nil }},
	} {
		for _, inline := range []bool{false, true} {
			t.Run(name("%s inline %v", tc.name, inline), func(t *testing.T) {
				r := newRig(t, 3000, conn.Config{}, nil)
				o := &outcome{t: t}
				src := io.Reader(&badReader{first: 100_000, then: tc.then})
				if inline {
					src = conn.Inline(src)
				}
				r.c.SendFrom(src, -1, o.done)
				r.peer.AutoRead(true)
				r.patiently("close", r.isClosed)
				var ce *conn.CloseError
				if !errors.As(r.err, &ce) || ce.Reason != tc.reason || !strings.Contains(ce.Err.Error(), tc.text) || !r.peer.WasReset() {
					t.Errorf("closed with %v, want %v of %q", r.err, tc.reason, tc.text)
				}
				if strings.Contains(ce.Error(), "goroutine") {
					t.Errorf("a stack in what OnClose is told: %v", ce)
				}
				if o.runs != 1 || o.err == nil || !strings.Contains(o.err.Error(), tc.text) {
					t.Errorf("done ran %d times, with %v", o.runs, o.err)
				}
				r.Finish()
			})
		}
	}
}

// TestStreamAborted holds that an Abort ends a stream, also one whose reader
// blocks, and accounts for every byte.
func TestStreamAborted(t *testing.T) {
	pr, pw := io.Pipe()
	defer pr.Close()
	for kind, src := range map[string]io.Reader{"inline": conn.Inline(hidden{bytes.NewReader(noise(5, 100_000))}), "blocked": pr} {
		t.Run(kind, func(t *testing.T) {
			r := newRig(t, 3000, conn.Config{}, nil)
			first, second := &outcome{t: t}, &outcome{t: t}
			r.c.SendFrom(src, 100_000, first.done)
			_ = r.write(50)
			r.c.SendFrom(strings.NewReader("never"), -1, second.done)
			_ = r.write(50)
			if kind == "blocked" {
				go pw.Write(make([]byte, 10_000))
			}
			r.patiently("something", func() bool { return r.peer.Waiting() == 3000 })
			r.Turns(5)
			ahead := r.c.Ahead()
			if want := map[string]int{"inline": 64<<10 - 3000, "blocked": 7000}[kind]; ahead != want {
				t.Errorf("%d bytes ahead, want %d", ahead, want)
			}
			r.c.Abort()
			r.Settle("close", r.isClosed)
			r.wantReason(conn.Aborted, ahead+100)
			first.want(3000, r.err)
			second.want(0, r.err)
			r.Finish()
		})
	}
}

// TestStreamAdmission holds when a stream is refused, and that done does not run
// then.
func TestStreamAdmission(t *testing.T) {
	r := newRig(t, 100, marks(10, 0, 20), nil)
	r.stuff()
	never := func(int64, error) { t.Error("done of a refused stream has run") }
	_ = r.write(20)
	r.Turn()
	if s := r.c.SendFrom(strings.NewReader("x"), 1, never); s != conn.Rejected {
		t.Errorf("answered %v at the limit", s)
	}
	if s := r.c.Stats(); s.Rejected != 1 || s.RejectedBytes != 0 {
		t.Errorf("%d messages and %d bytes rejected", s.Rejected, s.RejectedBytes)
	}
	r.peer.AutoRead(true)
	r.c.Close()
	if s := r.c.SendFrom(strings.NewReader("x"), 1, never); s != conn.Closed {
		t.Errorf("answered %v after Close", s)
	}
	r.Settle("close", r.isClosed)
	r.Turns(2)
}

// TestManyStreams holds that the number of streams that wait is bounded, and that
// those of no length cost nothing.
func TestManyStreams(t *testing.T) {
	r := newRig(t, 100, conn.Config{}, nil)
	var order []int
	for i := range conn.MaxStreams {
		src, n := strings.NewReader(strings.Repeat("x", i)), int64(i)
		if s := r.c.SendFrom(src, n, func(sent int64, err error) {
			if order = append(order, i); sent != n || err != nil {
				t.Errorf("stream %d: %d bytes, %v", i, sent, err)
			}
		}); s != conn.Queued {
			t.Fatalf("stream %d: %v", i, s)
		}
	}
	if s := r.c.SendFrom(strings.NewReader("x"), 1, nil); s != conn.Rejected {
		t.Errorf("one more: %v", s)
	}
	r.peer.AutoRead(true)
	r.Settle("all", func() bool { return len(order) == conn.MaxStreams })
	for i, v := range order {
		if i != v {
			t.Fatalf("told in the order %v", order)
		}
	}
	if s := r.c.SendFrom(nil, 0, nil); s != conn.Queued {
		t.Errorf("a stream of nothing: %v", s)
	}
	r.Turns(2)
	r.gone()
}

// TestStreamWithoutMemory holds that a stream which finds no block goes on when
// there is one.
func TestStreamWithoutMemory(t *testing.T) {
	for kind, src := range sources(t, noise(6, 100_000)) {
		t.Run(name("%s", kind), func(t *testing.T) {
			r := &rig{window: 1000, world: newWorldOf(t, 1, aiotest.Config{SendBufferMin: 1000}, 1<<20)}
			r.join(conn.Config{}, nil)
			var held []buf.Buf
			for b := r.Bulk.Get(); !b.IsZero(); b = r.Bulk.Get() {
				held = append(held, b)
			}
			o := &outcome{t: t}
			r.c.SendFrom(src, 100_000, o.done)
			r.peer.AutoRead(true)
			for range 100 {
				r.Turn()
				time.Sleep(10 * time.Microsecond)
			}
			if o.runs != 0 || r.isClosed() || len(r.peer.Received()) > 0 {
				t.Fatalf("done ran %d times without memory", o.runs)
			}
			for i := range held {
				held[i].Release()
			}
			r.patiently("done", func() bool { return o.runs == 1 })
			o.want(100_000, nil)
			r.gone()
		})
	}
}

// TestSimStream mixes streams of every kind with every kind of send, and closes
// behind them: what was taken arrives, once and in order.
func TestSimStream(t *testing.T) {
	file := tempFile(t, streamNoise)
	looptest.Seeds(t, 300, func(t *testing.T, seed uint64) {
		w := newWorld(t, seed, aiotest.Faults())
		fd, peer := w.Fake.Open()
		p := &party{w: w}
		conn.New(w.Loop, int(fd), p, w.config())
		told, streams := 0, 0
		for range 60 {
			for range w.Rand.IntN(4) {
				if p.act(); w.Rand.IntN(4) == 0 {
					streams += p.stream(file, func(error) { told++ })
				}
			}
			if w.Rand.IntN(3) == 0 {
				_, _ = peer.Read(make([]byte, 1+w.Rand.IntN(20000)))
			}
			w.Turn()
		}
		p.c.Close()
		peer.AutoRead(true)
		w.Settle("FIN", peer.EOF)
		peer.CloseWrite()
		w.Settle("close", func() bool { return p.closes == 1 })
		p.check(peer)
		if told != streams {
			t.Fatalf("%d streams, %d told", streams, told)
		}
		w.Finish()
	})
}

// stream sends one of random size from a random source, and reports how many
// were taken.
func (p *party) stream(file *os.File, told func(error)) int {
	w := p.w
	size, from := w.Rand.IntN(w.Rand.IntN(50_000)+1), w.Rand.IntN(100_000)
	data := streamNoise[from : from+size]
	var src io.Reader
	n := int64(size)
	switch w.Rand.IntN(4) {
	case 0:
		src = io.NewSectionReader(file, int64(from), int64(size))
	case 1:
		src = conn.Inline(iotest.HalfReader(bytes.NewReader(data)))
	case 2:
		src = conn.Inline(iotest.DataErrReader(bytes.NewReader(data)))
	default:
		src = bytes.NewReader(data)
	}
	if w.Rand.IntN(2) == 0 {
		n = -1
	}
	if s := p.send(func() conn.Status {
		return p.c.SendFrom(src, n, func(sent int64, err error) {
			if told(err); err == nil && sent != int64(size) {
				w.T.Errorf("done told %d bytes of %d", sent, size)
			}
		})
	}); s > conn.Full {
		return 0
	}
	p.accepted = append(p.accepted, data...)
	return 1
}

// TestSimStreamReset ends connections at any step of streams: each is told once,
// and nothing is left behind.
func TestSimStreamReset(t *testing.T) {
	file := tempFile(t, streamNoise)
	looptest.Seeds(t, 300, func(t *testing.T, seed uint64) {
		faults := aiotest.Faults()
		faults.Reset, faults.NoMemory = 0.005, 0.005
		w := newWorld(t, seed, faults)
		fd, peer := w.Fake.Open()
		p := &party{w: w}
		cfg := w.config()
		cfg.CloseTimeout = 5 * time.Second
		conn.New(w.Loop, int(fd), p, cfg)
		told, streams := 0, 0
		for range 80 {
			if p.closes == 0 {
				if p.act(); w.Rand.IntN(3) == 0 {
					streams += p.stream(file, func(error) { told++ })
				}
				switch w.Rand.IntN(100) {
				case 0:
					peer.Reset()
				case 1:
					p.c.Abort()
				case 2:
					p.c.Close()
				case 3:
					p.c.CloseWrite()
				}
			}
			if w.Rand.IntN(3) == 0 {
				_, _ = peer.Read(make([]byte, 1+w.Rand.IntN(20000)))
			}
			w.Turn()
		}
		if p.closes == 0 {
			p.c.Close()
		}
		w.Settle("close", func() bool { return p.closes == 1 })
		if told != streams {
			t.Fatalf("%d streams, %d told; closed with %v", streams, told, p.closeErr)
		}
		if s := p.c.Stats(); s.BytesOut+s.LostBytes > uint64(len(p.accepted)) {
			t.Fatalf("admitted %d bytes, taken %d, lost %d", len(p.accepted), s.BytesOut, s.LostBytes)
		}
		w.Finish()
	})
}

// TestStreamBesideUsedBudget holds that streams go on beside a budget that others
// have used up, by small blocks that are on its account, and that what is sent
// behind them stays behind. An earlier draft stopped for ever, or sent the stream's
// bytes last.
func TestStreamBesideUsedBudget(t *testing.T) {
	data := noise(8, 100_000)
	for kind, src := range sources(t, data) {
		t.Run(name("%s", kind), func(t *testing.T) {
			b := conn.NewBudget(50_000, conn.BudgetReject)
			cfg := conn.Config{Budget: b, HighWater: 40_000}
			r := newRig(t, 2000, cfg, nil)
			hog := r.second(cfg, nil)
			hog.stuff()
			r.stuff()
			o := &outcome{t: t}
			r.c.SendFrom(src, int64(len(data)), o.done)
			if err := r.write(1000); err != nil {
				t.Fatal(err)
			}
			for hog.write(10_000) == nil {
			}
			_, _ = hog.c.Write(make([]byte, 20_000))
			total := hog.c.Pending() + 1000
			r.patiently("something", func() bool { r.Turns(3); return r.c.Ahead() > 0 || r.peer.Waiting() == 2000 })
			for len(r.peer.Received()) < 2000+len(data)+1000 {
				_, _ = r.peer.Read(make([]byte, 1500))
				r.Turn()
				runtime.Gosched()
				if r.c.Ahead() > reactor.SmallBlock {
					t.Fatalf("%d bytes ahead beside a used-up budget", r.c.Ahead())
				}
				if s := b.Stats(); s.Total != hog.c.Pending()+r.c.Pending()+r.c.Ahead() {
					t.Fatalf("%d bytes on account; %d, %d and %d ahead", s.Total, hog.c.Pending(), r.c.Pending(), r.c.Ahead())
				}
			}
			if got := r.peer.Received()[2000:]; !bytes.Equal(got[:len(data)], data) {
				t.Error("the stream is not where it belongs")
			}
			o.want(len(data), nil)
			if n := b.Stats().Total; n != total-1000 {
				t.Errorf("%d bytes on account, the other holds %d", n, total-1000)
			}
			hog.c.Abort()
			hog.Settle("close", hog.isClosed)
			r.gone()
			if n := b.Stats().Total; n != 0 {
				t.Errorf("%d bytes on account at the end", n)
			}
		})
	}
}

// TestStreamDeadline holds that the write deadline speaks of a stream whose peer
// takes nothing, and not of one whose source has nothing.
func TestStreamDeadline(t *testing.T) {
	stalled := newRig(t, 3000, conn.Config{WriteTimeout: time.Second}, nil)
	o := &outcome{t: t}
	stalled.c.SendFrom(bytes.NewReader(noise(9, 100_000)), -1, o.done)
	for range 5 {
		stalled.Turns(100)
		stalled.read(3000)
	}
	if stalled.isClosed() {
		t.Fatalf("closed with %v while the peer was reading", stalled.err)
	}
	stalled.Turns(900)
	if stalled.isClosed() {
		t.Fatalf("closed with %v before its time", stalled.err)
	}
	stalled.Turns(200)
	stalled.wantReason(conn.WriteTimeout, stalled.lost)
	o.want(18_000, stalled.err)
	stalled.Finish()

	r, w := io.Pipe()
	waiting := newRig(t, 3000, conn.Config{WriteTimeout: time.Second}, nil)
	waiting.c.SendFrom(r, -1, nil)
	_, _ = waiting.c.Write([]byte("behind"))
	waiting.peer.AutoRead(true)
	go w.Write([]byte("first"))
	waiting.patiently("first", func() bool { return len(waiting.peer.Received()) == 5 })
	waiting.Turns(3000)
	if waiting.isClosed() {
		t.Fatalf("closed with %v since the source has nothing", waiting.err)
	}
	_ = w.Close()
	waiting.patiently("behind", func() bool { return len(waiting.peer.Received()) == 11 })
	waiting.gone()
}

// TestStreamDonePanics holds that a panic in done is that of a handler, and that
// those behind it are told.
func TestStreamDonePanics(t *testing.T) {
	r := newRig(t, 1<<20, conn.Config{}, nil)
	o := &outcome{t: t}
	r.do(func(c *conn.Conn) {
		c.SendFrom(strings.NewReader("first"), 5, func(int64, error) { panic(errTest) })
		c.SendFrom(hidden{bytes.NewReader(noise(10, 100))}, 200, o.done)
	})
	r.patiently("close", r.isClosed)
	var ce *conn.CloseError
	if !errors.As(r.err, &ce) || ce.Reason != conn.HandlerPanic || !errors.Is(r.err, errTest) {
		t.Errorf("closed with %v", r.err)
	}
	if o.runs != 1 || o.err == nil {
		t.Errorf("the next done ran %d times, with %v", o.runs, o.err)
	}
	r.Finish()
}

// TestStreamBehindSection holds that a section which stands behind its end sends
// nothing, and not what the file has there.
func TestStreamBehindSection(t *testing.T) {
	file := tempFile(t, append([]byte("public...."), bytes.Repeat([]byte("SECRET"), 20_000)...))
	for _, n := range []int64{-1, 5} {
		r := newRig(t, 1<<20, conn.Config{}, nil)
		r.peer.AutoRead(true)
		section := io.NewSectionReader(file, 0, 10)
		_, _ = section.Seek(20, io.SeekStart)
		o := &outcome{t: t}
		r.c.SendFrom(section, n, o.done)
		r.Turns(5)
		if n < 0 {
			o.want(0, nil)
		} else {
			o.want(0, io.ErrUnexpectedEOF)
		}
		if got := r.peer.Received(); len(got) > 0 {
			t.Errorf("%d bytes: the peer has %d, %.12q", n, len(got), got)
		}
		r.gone()
	}
}

// TestStreamDropBehind holds that who lent a message is told when DropOldest drops
// it behind a stream.
func TestStreamDropBehind(t *testing.T) {
	cfg := marks(2000, 0, 2000)
	cfg.SlowPeer = conn.DropOldest
	r := newRig(t, 1<<20, cfg, nil)
	never, w := io.Pipe()
	r.c.SendFrom(never, -1, nil)
	dones := 0
	for range 10 {
		if s := r.c.SendBytes(make([]byte, 1000), func() { dones++ }); s > conn.Full {
			t.Fatalf("answered %v", s)
		}
	}
	r.Turns(2)
	if dropped := r.c.Stats().Dropped; dropped != 8 || dones != 8 {
		t.Errorf("%d messages dropped, %d told", dropped, dones)
	}
	_ = w.Close()
	r.peer.AutoRead(true)
	r.patiently("the rest", func() bool { return len(r.peer.Received()) == 2000 })
	if r.Turns(2); dones != 10 {
		t.Errorf("%d of 10 told", dones)
	}
	r.gone()
}

// gauge is a reader whose Read waits, and that notes those which began too late.
type gauge struct {
	begun, free chan struct{}
	told        atomic.Bool
	late        atomic.Int32
}

func (g *gauge) Read(p []byte) (int, error) {
	if g.told.Load() {
		g.late.Add(1)
	}
	g.begun <- struct{}{}
	<-g.free
	return copy(p, "x"), nil
}

// TestStreamReadsNoMore holds that no Read of a source begins once done was told:
// the one that is under way is the last.
func TestStreamReadsNoMore(t *testing.T) {
	r := newRig(t, 1<<20, conn.Config{}, nil)
	g := &gauge{begun: make(chan struct{}, 100), free: make(chan struct{})}
	r.c.SendFrom(g, -1, func(int64, error) { g.told.Store(true) })
	r.Turn()
	<-g.begun
	r.c.Abort()
	r.Settle("done", g.told.Load)
	close(g.free)
	time.Sleep(20 * time.Millisecond)
	if n := g.late.Load(); n > 0 {
		t.Errorf("%d Reads began behind done", n)
	}
	r.gone()
}
