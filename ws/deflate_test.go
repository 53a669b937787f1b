package ws_test

import (
	"bytes"
	"compress/flate"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/ws"
)

// squeezer compresses messages as a peer does: with one stream for all, or one
// for each.
type squeezer struct {
	out      bytes.Buffer
	w        *flate.Writer
	takeover bool
}

func (s *squeezer) message(t testing.TB, f frame) frame {
	t.Helper()
	if s.w == nil || !s.takeover {
		s.w, _ = flate.NewWriter(&s.out, 6)
	}
	s.out.Reset()
	_, _ = s.w.Write([]byte(f.data))
	if err := s.w.Flush(); err != nil {
		t.Fatal(err)
	}
	f.data = strings.TrimSuffix(s.out.String(), "\x00\x00\xff\xff")
	return rsv1(f)
}

// stretcher inflates messages as a peer does that keeps a window of 2^bits, or
// none.
type stretcher struct {
	before   []byte
	bits     int
	takeover bool
	deflated int // messages that came compressed
}

func (s *stretcher) message(t testing.TB, f frame) frame {
	t.Helper()
	if f.rsv == 0 {
		return f
	}
	s.deflated++
	out, err := puff([]byte(f.data+"\x00\x00\xff\xff"), s.before, s.bits)
	if err != nil {
		t.Fatalf("%v: %v", f, err)
	}
	if s.takeover {
		s.before = append(s.before, out...)
		s.before = s.before[max(0, len(s.before)-1<<s.bits):]
	}
	f.rsv, f.data = f.rsv&^0x40, string(out)
	return f
}

func (s *stretcher) messages(t testing.TB, frames []frame) []frame {
	t.Helper()
	for i := range frames {
		frames[i] = s.message(t, frames[i])
	}
	return frames
}

// wantInflated checks the messages that have come since the last look.
func (r *rig) wantInflated(s *stretcher, frames ...frame) {
	r.T.Helper()
	got, rest := decode(r.T, r.client != nil, r.got())
	if got = s.messages(r.T, got); len(rest) > 0 || !equalFrames(got, frames) {
		r.T.Fatalf("got %v, want %v", got, frames)
	}
}

// sentence returns n bytes of text that compresses as text does.
func sentence(seed, n int) string {
	words := []string{"the ", "quick ", "brown ", "fox ", "jumps ", "over ", "a ", "lazy ", "dog, ", "and ", "penstock ", "\"key\": ", "[1, 2, 3] ", "µ ", "κόσμε "}
	var b strings.Builder
	for x := uint32(seed)*2654435761 + 1; b.Len() < n; {
		x = x*1664525 + 1013904223
		b.WriteString(words[x>>16%uint32(len(words))])
		if x>>28 == 0 {
			fmt.Fprintf(&b, "%d ", x)
		}
	}
	return strings.ToValidUTF8(b.String()[:n], "?")
}

var everything = &ws.Deflate{SendTakeover: true, RecvTakeover: true, Threshold: 16, SendBits: 15, RecvBits: 15}

// TestDeflateOffers holds what comes of what a client offers.
func TestDeflateOffers(t *testing.T) {
	small := &ws.Deflate{SendTakeover: true, RecvTakeover: true, SendBits: 10, RecvBits: 11}
	for _, tc := range []struct {
		d           *ws.Deflate
		offer, want string
	}{
		{nil, "permessage-deflate", ""},
		{everything, "permessage-deflate", "permessage-deflate"},
		{everything, "Permessage-Deflate", "permessage-deflate"},
		{everything, "x-other, permessage-deflate", "permessage-deflate"},
		{everything, "permessage-deflate; client_max_window_bits", "permessage-deflate; client_max_window_bits=15"},
		{everything, "permessage-deflate; client_max_window_bits=10", "permessage-deflate; client_max_window_bits=10"},
		{everything, `permessage-deflate; client_max_window_bits="10"`, "permessage-deflate; client_max_window_bits=10"},
		{everything, `permessage-deflate; client_max_window_bits="1\0"`, "permessage-deflate; client_max_window_bits=10"},
		{everything, "permessage-deflate ; server_max_window_bits = 9", "permessage-deflate; server_max_window_bits=9"},
		{everything, "permessage-deflate; server_no_context_takeover", "permessage-deflate; server_no_context_takeover"},
		{everything, "permessage-deflate; client_no_context_takeover", "permessage-deflate; client_no_context_takeover"},
		{everything, "permessage-deflate; server_max_window_bits=8; client_max_window_bits=8; server_no_context_takeover; client_no_context_takeover",
			"permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=8; client_max_window_bits=8"},
		{&ws.Deflate{}, "permessage-deflate", "permessage-deflate; server_no_context_takeover; client_no_context_takeover"},
		{&ws.Deflate{SendTakeover: true}, "permessage-deflate; server_max_window_bits=15", "permessage-deflate; client_no_context_takeover; server_max_window_bits=12"},
		{&ws.Deflate{}, "permessage-deflate; server_max_window_bits=15; client_max_window_bits", "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=15; client_max_window_bits=15"},
		{&ws.Deflate{RecvTakeover: true}, "permessage-deflate; client_max_window_bits", "permessage-deflate; server_no_context_takeover; client_max_window_bits=12"},
		{&ws.Deflate{RecvTakeover: true}, "permessage-deflate", "permessage-deflate; server_no_context_takeover; client_no_context_takeover"},
		{small, "permessage-deflate", "permessage-deflate; client_no_context_takeover"},
		{small, "permessage-deflate; client_max_window_bits; server_max_window_bits=15", "permessage-deflate; server_max_window_bits=10; client_max_window_bits=11"},
		{small, "permessage-deflate; client_max_window_bits=9; server_max_window_bits=9", "permessage-deflate; server_max_window_bits=9; client_max_window_bits=9"},

		// An offer that cannot be met is passed over; the next one counts.
		{everything, "permessage-deflate; server_max_window_bits=7", ""},
		{everything, "permessage-deflate; server_max_window_bits=16", ""},
		{everything, "permessage-deflate; server_max_window_bits=08", ""},
		{everything, "permessage-deflate; server_max_window_bits", ""},
		{everything, "permessage-deflate; client_max_window_bits=7", ""},
		{everything, "permessage-deflate; client_max_window_bits=+9", ""},
		{everything, "permessage-deflate; server_no_context_takeover=1", ""},
		{everything, "permessage-deflate; client_no_context_takeover=x", ""},
		{everything, "permessage-deflate; unknown", ""},
		{everything, "permessage-deflate; unknown=1", ""},
		{everything, "permessage-deflate; server_no_context_takeover; server_no_context_takeover", ""},
		{everything, "permessage-deflate; client_max_window_bits; client_max_window_bits=9", ""},
		{everything, "permessage-deflate; server_max_window_bits=10; server_max_window_bits=10", ""},
		{everything, "permessage-deflate; unknown, permessage-deflate; server_max_window_bits=12", "permessage-deflate; server_max_window_bits=12"},
		{everything, "permessage-deflate; server_max_window_bits=12, permessage-deflate", "permessage-deflate; server_max_window_bits=12"},
	} {
		r, status, head := answer(t, options{cfg: ws.Config{Deflate: tc.d}}, string(handshake("Sec-WebSocket-Extensions: "+tc.offer)), cuts["whole"])
		_, got, _ := strings.Cut(string(head), "Sec-WebSocket-Extensions: ")
		got, _, _ = strings.Cut(got, "\r\n")
		if status != "101" || got != tc.want || r.c.Compressed() != (tc.want != "") {
			t.Errorf("offer %q: %s, %q, want %q", tc.offer, status, got, tc.want)
		}
		r.gone()
	}
}

// TestDeflateAnswers holds what a client offers, and which answers it takes.
func TestDeflateAnswers(t *testing.T) {
	small := &ws.Deflate{SendTakeover: true, RecvTakeover: true, SendBits: 10, RecvBits: 11}
	none := &ws.Deflate{}
	const full = "permessage-deflate; client_max_window_bits"
	const less = "permessage-deflate; server_max_window_bits=11; client_max_window_bits=10, " +
		"permessage-deflate; server_no_context_takeover; client_max_window_bits=10"
	const nothing = "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"
	for _, tc := range []struct {
		d             *ws.Deflate
		offer, answer string
		ok            bool
	}{
		{nil, "", "", true}, {nil, "", "permessage-deflate", false},
		{everything, full, "", true},
		{everything, full, "permessage-deflate", true},
		{everything, full, "permessage-deflate; client_max_window_bits=9; server_max_window_bits=9", true},
		{everything, full, "permessage-deflate; server_no_context_takeover; client_no_context_takeover", true},
		{everything, full, "permessage-deflate; client_max_window_bits", false},
		{everything, full, "permessage-deflate; client_max_window_bits=16", false},
		{everything, full, "permessage-deflate; server_max_window_bits=7", false},
		{everything, full, "permessage-deflate; unknown", false},
		{everything, full, "permessage-deflate, permessage-deflate", false},
		{everything, full, "x-other", false},
		{everything, full, "permessage-deflate, x-other", false},
		{small, less, "permessage-deflate; server_max_window_bits=11", true},
		{small, less, "permessage-deflate; server_max_window_bits=10; server_no_context_takeover; client_max_window_bits=8", true},
		{small, less, "permessage-deflate", false},
		{small, less, "permessage-deflate; server_no_context_takeover", true},
		{small, less, "permessage-deflate; server_no_context_takeover; client_no_context_takeover", true},
		{small, less, "permessage-deflate; server_no_context_takeover; server_max_window_bits=15", true},
		{small, less, "permessage-deflate; server_no_context_takeover; server_max_window_bits=16", false},
		{small, less, "permessage-deflate; server_no_context_takeover; client_max_window_bits=11", true},
		{small, less, "permessage-deflate; client_no_context_takeover", false},
		{small, less, "permessage-deflate; server_max_window_bits=12", false},
		{small, less, "permessage-deflate; server_max_window_bits=11; client_max_window_bits=15", true},
		{none, nothing, "permessage-deflate; server_no_context_takeover", true},
		{none, nothing, "permessage-deflate; server_no_context_takeover; client_max_window_bits=8; server_max_window_bits=9", true},
		{none, nothing, "permessage-deflate", false},
	} {
		r := newClientRig(t, options{cfg: ws.Config{Deflate: tc.d}})
		request := r.request()
		var offers []string
		for line := range strings.SplitSeq(request, "\r\n") {
			if offer, ok := strings.CutPrefix(line, "Sec-WebSocket-Extensions: "); ok {
				offers = append(offers, offer)
			}
		}
		if got := strings.Join(offers, "\n"); got != tc.offer {
			t.Errorf("offers %q, want %q", got, tc.offer)
		}
		headers := []string{}
		if tc.answer != "" {
			headers = append(headers, "Sec-WebSocket-Extensions: "+tc.answer)
		}
		r.peer.Feed(answerTo(request, headers...))
		r.Turns(4)
		if r.opens == 1 && strings.Contains(tc.answer, "server_no_context_takeover") {
			s := &squeezer{} // Any window is good for one message.
			long := sentence(1, 20000)
			r.peer.Feed(encode(false, s.message(t, text(long+long)), s.message(t, text("again"))))
			if r.Turns(4); len(r.msgs) != 2 || r.msgs[0] != "text:"+long+long {
				t.Errorf("answer %q: heard %d messages", tc.answer, len(r.msgs))
			}
		}
		if r.opens == 1 != tc.ok || tc.ok && r.c.Compressed() != (tc.answer != "") {
			t.Errorf("answer %q: opened %d times", tc.answer, r.opens)
		}
		r.peer.CloseWrite()
		r.Settle("close", func() bool { return r.closes > 0 })
		r.opens = 1
		r.gone()
	}
}

// TestDeflateEcho sends messages of all sizes both ways, with and without takeover,
// in every window, fragmented or not, and among messages that are not compressed
// and must not touch the windows.
func TestDeflateEcho(t *testing.T) {
	for _, server := range []bool{true, false} {
		for _, takeover := range []bool{true, false} {
			for bits := 8; bits <= 15; bits++ {
				for _, level := range []int{1, 6, 9} {
					if level > 1 && bits != 15 {
						continue // A smaller window has a level of its own.
					}
					if testing.Short() && bits%7 != 1 && bits != 11 {
						continue
					}
					t.Run(name("%s takeover=%v bits=%d level=%d", role(server), takeover, bits, level), func(t *testing.T) {
						deflateEcho(t, server, takeover, bits, level)
					})
				}
			}
		}
	}
}

func deflateEcho(t *testing.T, server, takeover bool, bits, level int) {
	d := &ws.Deflate{SendTakeover: takeover, RecvTakeover: takeover, SendBits: bits, RecvBits: 15, Threshold: 16, Level: level}
	o := options{cfg: ws.Config{Deflate: d}, window: 4 << 20, below: conn.Config{HighWater: 4 << 20}}
	in, out := &squeezer{takeover: takeover}, &stretcher{takeover: takeover, bits: bits}
	var r *rig
	if server {
		r = dialed(t, o, "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits="+fmt.Sprint(bits))
	} else {
		answer := "permessage-deflate; client_max_window_bits=" + fmt.Sprint(bits)
		if !takeover {
			answer += "; server_no_context_takeover; client_no_context_takeover"
		}
		r = dialing(t, o, "Sec-WebSocket-Extensions: "+answer)
		r.Turns(3)
	}
	sizes := []int{0, 1, 15, 16, 17, 100, 100, 1000, 1000, 5000, 126, 500, 4500, 130, 20000, 40000, 70000, 130, 33000, 32768, 500}
	if testing.Short() {
		sizes = sizes[:14]
	}
	for i, n := range sizes {
		plain := text(sentence(i, n))
		if i%5 == 4 {
			plain = text(sentence(i-1, n)) // Much like the one before.
		}
		if i%7 == 6 {
			plain = bin(strings.Repeat("\x00\xff", n/2))
		}
		frames, want := []frame{in.message(t, plain)}, []frame{plain, text("plain"), bin(sentence(i, 40))}
		switch f := frames[0]; {
		case n >= 20000:
			frames = parts(f, 256)
		case n%4 == 0 && len(f.data) > 10: // In three parts, with a ping among them.
			frames = []frame{more(f), more(cont(f.data[5:8])), ping("p"), cont(f.data[8:])}
			frames[0].data = f.data[:5]
			want = append([]frame{pong("p")}, want...)
		}
		r.peer.Feed(encode(server, frames...))
		r.peer.Feed(encode(server, text("plain"), bin(sentence(i, 40))))
		r.Turns(60)
		r.wantInflated(out, want...)
	}
	if out.deflated < 10 {
		t.Errorf("%d messages came compressed", out.deflated)
	}
	if n := r.c.Windows(); takeover && n != 2 || !takeover && n != 0 {
		t.Errorf("%d windows are held", n)
	}
	r.peer.Feed(encode(server, bye(1000)))
	r.Turns(5)
	r.gone()
	if n := r.c.Windows(); n != 0 {
		t.Errorf("%d windows were not given back", n)
	}
}

// TestAgreedIsShared holds that a connection without takeover costs nothing for what
// was agreed on, and that others have windows of their own.
func TestAgreedIsShared(t *testing.T) {
	for _, takeover := range []bool{false, true} {
		r := dialed(t, options{cfg: ws.Config{Deflate: &ws.Deflate{SendTakeover: takeover}}}, offerAll)
		first := r.c
		below, err := conn.Config{}.Check()
		if err != nil {
			t.Fatal(err)
		}
		fd, peer := r.Fake.Open()
		peer.AutoRead(true)
		peer.Feed(handshake(offerAll))
		r.Loop.Defer(func() { conn.New(r.Loop, int(fd), r.server, below) })
		r.Settle("open", func() bool { return r.opens == 2 })
		if first.Shares(r.c) == takeover {
			t.Errorf("takeover %v: shared %v", takeover, !takeover)
		}
		peer.CloseWrite()
		r.gone()
	}
}

const offerAll = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"

// TestDeflateForms holds messages that a compressor may make, and few make.
func TestDeflateForms(t *testing.T) {
	hello := "\xf2\x48\xcd\xc9\xc9\x07\x00"
	for _, tc := range []struct{ name, data, want string }{
		{"RFC 7692 7.2.3.1", hello, "Hello"},
		{"RFC 7692 7.2.3.2", "\xf2\x00\x11\x00\x00", "Hello"},
		{"RFC 7692 7.2.3.3 stored", "\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", "Hello"},
		{"RFC 7692 7.2.3.4 final", "\xf3\x48\xcd\xc9\xc9\x07\x00\x00", "Hello"},
		{"final without an end", "\xf3\x48\xcd\xc9\xc9\x07\x00", "Hello"},
		{"RFC 7692 7.2.3.5 two blocks", "\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", "Hello"},
		{"RFC 7692 7.2.3.6 empty", "\x00", ""},
		{"empty fixed", "\x02\x00", ""},
		{"several finals", "\xf3\x48\xcd\xc9\xc9\x07\x00" + "\xf3\x48\xcd\xc9\xc9\x07\x00" + hello, "HelloHelloHello"},
	} {
		r := dialed(t, options{cfg: ws.Config{Deflate: everything}}, offerAll)
		if tc.name == "RFC 7692 7.2.3.2" { // It refers to the Hello before.
			r.feed(rsv1(text(hello)))
			r.msgs = nil
		}
		r.feed(rsv1(text(tc.data)))
		if len(r.msgs) != 1 || r.msgs[0] != "text:"+tc.want {
			t.Errorf("%s: heard %q, closed with %v", tc.name, r.msgs, r.closed)
		}
		r.gone()
	}
}

// TestDeflateRefused holds what is refused, and with which code.
func TestDeflateRefused(t *testing.T) {
	hello := "\xf2\x48\xcd\xc9\xc9\x07\x00"
	for _, tc := range []struct {
		name  string
		offer string
		say   []frame
		code  int
	}{
		{"not agreed on", "X: y", frames(rsv1(text(hello))), 1002},
		{"RSV1 of a continuation", offerAll, frames(more(rsv1(text(hello[:3]))), rsv1(cont(hello[3:]))), 1002},
		{"RSV1 of a ping", offerAll, frames(rsv1(ping(""))), 1002},
		{"RSV1 of a close", offerAll, frames(rsv1(bye(1000))), 1002},
		{"RSV1 and RSV2", offerAll, frames(frame{op: 1, rsv: 0x60, data: hello}), 1002},
		{"garbage", offerAll, frames(rsv1(bin("\xff\xff\xff\xff"))), 1007},
		{"type 3", offerAll, frames(rsv1(bin("\x06"))), 1007},
		{"nothing at all", offerAll, frames(rsv1(bin(""))), 1007},
		{"cut", offerAll, frames(rsv1(bin("\xf2\x48\xcd"))), 1007},
		{"length of a stored block", offerAll, frames(rsv1(bin("\x00\x05\x00\xfa\xfe\x48\x65\x6c\x6c\x6f\x00"))), 1007},
		{"before the beginning", offerAll, frames(rsv1(bin("\xf2\x00\x11\x00\x00"))), 1007},
		{"no UTF-8", offerAll, frames(rsv1(text("\x00\x02\x00\xfd\xff\xc3\x28\x00"))), 1007},
		{"many finals", offerAll, frames(rsv1(bin(strings.Repeat("\x03\x00", 1000)))), 1007},
	} {
		r := dialed(t, options{cfg: ws.Config{Deflate: everything}}, tc.offer)
		r.feed(tc.say...)
		r.want(bye(tc.code))
		r.gone()
		r.wantClose(ws.Code(tc.code), false, false)
	}
}

// TestBomb holds that a message which inflates to much costs little: it is given
// up at the limit, or when it is out of proportion.
func TestBomb(t *testing.T) {
	bomb := &squeezer{}
	packed := bomb.message(t, bin(strings.Repeat("\x00", 24<<20)))
	for _, tc := range []struct {
		name  string
		limit int
		ratio int
		want  string
	}{
		{"size", 1 << 20, -1, "a message over the limit"},
		{"ratio", 32 << 20, 0, "a message that inflates out of proportion"},
		{"ratio of one's own", 32 << 20, 10, "a message that inflates out of proportion"},
	} {
		t.Run(name("%s", tc.name), func(t *testing.T) {
			r := dialed(t, options{cfg: ws.Config{MaxMessage: tc.limit, Deflate: &ws.Deflate{MaxRatio: tc.ratio}}}, offerAll)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r.peer.Feed(encode(true, packed))
			r.Turns(50)
			runtime.ReadMemStats(&after)
			r.want(bye(1009))
			if n := after.TotalAlloc - before.TotalAlloc; n > uint64(3*min(tc.limit, ws.DefaultMaxMessage)+1<<20) {
				t.Errorf("%d bytes for a bomb", n)
			}
			if s := r.server.Stats(); s.TooBig != 1 {
				t.Errorf("stats %+v", s)
			}
			r.gone()
			if r.closed.Err == nil || !strings.HasSuffix(r.closed.Err.Error(), tc.want) {
				t.Errorf("closed with %v", r.closed)
			}
		})
	}
	// What is free of the ratio is still inflated.
	r := dialed(t, options{cfg: ws.Config{Deflate: &ws.Deflate{MaxRatio: 2}}}, offerAll)
	r.feed((&squeezer{}).message(t, bin(strings.Repeat("\x00", ws.DefaultMaxMessage))))
	if r.Turns(5); len(r.msgs) != 1 || len(r.msgs[0]) != len("binary:")+ws.DefaultMaxMessage {
		t.Errorf("closed with %v", r.closed)
	}
	r.gone()
}

// TestRefusedLeavesNoTrace sends with takeover to a peer that does not read:
// messages that are refused must be unknown to the compressor. workerman 8.7: a
// message refused after the compressor has seen it spoils all that follow.
func TestRefusedLeavesNoTrace(t *testing.T) {
	r := dialed(t, options{cfg: ws.Config{Deflate: everything}, window: 512, below: conn.Config{HighWater: 2000, Limit: 3000}}, offerAll)
	r.peer.AutoRead(false)
	out := &stretcher{takeover: true, bits: 15}
	var want []frame
	refused := 0
	for i := range 400 {
		f := text(sentence(i, 50+i*13%700))
		switch s := r.c.Send(ws.Text, []byte(f.data)); s {
		case conn.Queued, conn.Full:
			want = append(want, f)
		case conn.Rejected:
			refused++
		default:
			t.Fatal(s)
		}
		if i%10 == 0 {
			r.Turn()
		}
		if i%25 == 24 {
			r.peer.ReadAll()
			r.Turns(3)
		}
	}
	r.peer.AutoRead(true)
	r.Turns(10)
	if refused < 50 || len(want) < 50 {
		t.Fatalf("%d refused, %d taken", refused, len(want))
	}
	r.wantInflated(out, want...)
	if out.deflated < 50 {
		t.Errorf("%d came compressed", out.deflated)
	}
	r.gone()
}

// TestThreshold holds from which size on messages are compressed, and that what
// would not become shorter is sent as it is.
func TestThreshold(t *testing.T) {
	r := dialed(t, options{cfg: ws.Config{Deflate: &ws.Deflate{Threshold: 100}}}, offerAll)
	r.c.Send(ws.Text, bytes.Repeat([]byte("a"), 99))
	r.c.Send(ws.Text, bytes.Repeat([]byte("a"), 100))
	noise := make([]byte, 1000)
	for i := range noise {
		noise[i] = byte(r.Rand.Uint32())
	}
	r.c.Send(ws.Binary, noise)
	r.Turns(2)
	got, _ := decode(t, false, r.got())
	if len(got) != 3 || got[0].rsv != 0 || got[1].rsv != 0x40 || len(got[1].data) > 20 || got[2].rsv != 0 || got[2].data != string(noise) {
		t.Errorf("got %v", got)
	}
	r.gone()
}
