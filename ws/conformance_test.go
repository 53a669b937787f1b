package ws_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/penstock-go/penstock/aio/aiotest"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
	"github.com/penstock-go/penstock/ws"
)

// exchange is what a peer says to an echo, and what it must hear.
type exchange struct {
	name string
	say  []frame
	want []frame
	code int // of the close frame that ends it; 0: the peer says goodbye itself
	// raw follows say, for what is no frame.
	raw string
}

// fails has the echo end the connection with a code, after some answers.
func fails(name string, code int, say []frame, want ...frame) exchange {
	return exchange{name: name, say: say, want: want, code: code}
}

// echoes has every message come back as it is.
func echoes(name string, say ...frame) exchange { return exchange{name: name, say: say, want: say} }

func frames(f ...frame) []frame { return f }

// exchanges are cases in the meaning of the groups of the Autobahn test suite,
// whose numbers they bear where there is one.
func exchanges() []exchange {
	var all []exchange
	add := func(e ...exchange) { all = append(all, e...) }

	// 1: framing.
	for i, n := range []int{0, 125, 126, 127, 128, 65535, 65536} {
		add(echoes(fmt.Sprintf("1.1.%d", i+1), text(strings.Repeat("*", n))),
			echoes(fmt.Sprintf("1.2.%d", i+1), bin(strings.Repeat("\xfe", n))))
	}

	// 2: pings and pongs.
	long := strings.Repeat("\xfe", 125)
	add(exchange{name: "2.1", say: frames(ping("")), want: frames(pong(""))},
		exchange{name: "2.2", say: frames(ping("Hello, world!")), want: frames(pong("Hello, world!"))},
		exchange{name: "2.3", say: frames(ping("\x00\xff\xfe\xfd\xfc\xfb\x00\xff")), want: frames(pong("\x00\xff\xfe\xfd\xfc\xfb\x00\xff"))},
		exchange{name: "2.4", say: frames(ping(long)), want: frames(pong(long))},
		fails("2.5", 1002, frames(ping(long+"\xfe"))),
		exchange{name: "2.7", say: frames(pong(""))},
		exchange{name: "2.8", say: frames(pong("unsolicited pong payload"))},
		exchange{name: "2.9", say: frames(pong("unsolicited"), ping("ping payload")), want: frames(pong("ping payload"))})
	var pings, pongs []frame
	for i := range 10 {
		pings, pongs = append(pings, ping(fmt.Sprint("payload-", i))), append(pongs, pong(fmt.Sprint("payload-", i)))
	}
	add(exchange{name: "2.10", say: pings, want: pongs})

	// 3: reserved bits.
	for i := 1; i < 8; i++ {
		r := func(f frame) frame { f.rsv = byte(i) << 4; return f }
		add(fails(fmt.Sprintf("3.%d text", i), 1002, frames(r(text("Hello, world!")))),
			fails(fmt.Sprintf("3.%d behind", i), 1002, frames(text("Hello"), r(text("Hello, world!")), ping("")), text("Hello")),
			fails(fmt.Sprintf("3.%d binary", i), 1002, frames(r(bin(long)))),
			fails(fmt.Sprintf("3.%d ping", i), 1002, frames(r(ping("Hello, world!")))),
			fails(fmt.Sprintf("3.%d close", i), 1002, frames(r(bye(1000)))),
			fails(fmt.Sprintf("3.%d continuation", i), 1002, frames(more(text("Hello")), r(cont("")))))
	}

	// 4: opcodes.
	for i, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		f := frame{op: op}
		add(fails(fmt.Sprintf("4.%d.1", i), 1002, frames(f)))
		f.data = "reserved opcode payload"
		add(fails(fmt.Sprintf("4.%d.2", i), 1002, frames(f)),
			fails(fmt.Sprintf("4.%d.3", i), 1002, frames(text("Hello"), f, ping("")), text("Hello")),
			fails(fmt.Sprintf("4.%d.4", i), 1002, frames(more(text("Hello")), f)))
	}
	add(fragments()...)
	add(texts()...)
	add(closes()...)
	add(limits()...)
	return all
}

// fragments is group 5.
func fragments() []exchange {
	f1, f2 := more(text("fragment1")), cont("fragment2")
	both := text("fragment1fragment2")
	all := []exchange{
		fails("5.1", 1002, frames(more(ping("fragment1")), f2)),
		fails("5.2", 1002, frames(more(pong("fragment1")), f2)),
		{name: "5.3", say: frames(f1, f2), want: frames(both)},
		{name: "5.6", say: frames(f1, ping("ping payload"), f2), want: frames(pong("ping payload"), both)},
		{name: "5.6 pong", say: frames(f1, pong("pong"), f2, ping("x")), want: frames(both, pong("x"))},
		fails("5.9", 1002, frames(cont("non-continuation payload"), text("Hello, world!"))),
		fails("5.12", 1002, frames(more(cont("non-continuation payload")), text("Hello, world!"))),
		fails("5.15", 1002, frames(f1, f2, more(cont("fragment3")), text("fragment4")), both),
		fails("5.16", 1002, frames(more(cont("fragment1")), f1, f2)),
		fails("5.17", 1002, frames(cont("fragment1"), f1, f2)),
		fails("5.18", 1002, frames(f1, text("fragment2"))),
		fails("5.18 binary", 1002, frames(f1, bin("fragment2"))),
		fails("5.18 parts", 1002, frames(f1, more(cont("fragment2")), more(text("fragment3")))),
		{name: "binary", say: frames(more(bin("\xff")), more(cont("\xfe")), cont("")), want: frames(bin("\xff\xfe"))},
		{name: "many", say: parts(text(strings.Repeat("part ", 500)), 5), want: frames(text(strings.Repeat("part ", 500)))},
		{name: "10.1.1", say: parts(text(strings.Repeat("*", 65536)), 1300), want: frames(text(strings.Repeat("*", 65536)))},
	}
	say := frames(more(text("fragment1")), more(cont("fragment2")), ping("ping payload 1"), more(cont("fragment3")),
		more(cont("fragment4")), ping("ping payload 2"), cont("fragment5"))
	want := frames(pong("ping payload 1"), pong("ping payload 2"), text("fragment1fragment2fragment3fragment4fragment5"))
	return append(all, exchange{name: "5.19", say: say, want: want})
}

// texts is group 6. What is invalid must fail at its first byte, however it is
// cut: that is for TestFailFast.
func texts() []exchange {
	all := []exchange{
		echoes("6.1.1", text("")),
		{name: "6.1.2", say: frames(more(text("")), more(cont("")), cont("")), want: frames(text(""))},
		{name: "6.1.3", say: frames(more(text("")), more(cont("middle frame payload")), cont("")), want: frames(text("middle frame payload"))},
		echoes("6.2.1", text("Hello-µ@ßöäüàá-UTF-8!!")),
		{name: "6.2.2", say: frames(more(text("Hello-µ@ßöä")), cont("üàá-UTF-8!!")), want: frames(text("Hello-µ@ßöäüàá-UTF-8!!"))},
		fails("6.3.1", 1007, frames(text("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"))),
		fails("6.3.2", 1007, frames(more(text("\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80")), cont("edited"))),
		fails("6.4.1", 1007, frames(more(text("κόσμε")), more(cont("\xf4\x90\x80\x80")), cont("edited"))),
		fails("6.4.2", 1007, frames(more(text("κόσμε\xf4")), more(cont("\x90\x80\x80")), cont("edited"))),
	}
	// One byte a frame, so that every character is cut.
	for i, s := range []string{"Hello-µ@ßöäüàá-UTF-8!!", "κόσμε"} {
		all = append(all, exchange{name: fmt.Sprintf("6.2.%d", 3+i), say: parts(text(s), 1), want: frames(text(s))})
	}
	all = append(all, fails("6.3.2 bytewise", 1007, parts(text("κόσμε\xed\xa0\x80edited"), 1)))
	valid, invalid := sequences()
	for i, s := range valid {
		all = append(all, echoes(fmt.Sprintf("6.5 %d", i), text(s)),
			exchange{name: fmt.Sprintf("6.5 %d in parts", i), say: frames(more(text(s[:len(s)/2])), cont(s[len(s)/2:])), want: frames(text(s))})
	}
	for i, s := range invalid {
		all = append(all, fails(fmt.Sprintf("6.6 %d", i), 1007, frames(text(s))),
			fails(fmt.Sprintf("6.6 %d in parts", i), 1007, frames(more(text("κόσμε")), more(cont(s)), cont(""))))
	}
	return all
}

// closes is group 7. The peer's close frame is answered with its own code.
func closes() []exchange {
	hello := text("Hello World!")
	all := []exchange{
		{name: "7.1.1", say: frames(hello, bye(1000)), want: frames(hello), code: 1000},
		{name: "7.1.2", say: frames(bye(1000), bye(1000)), code: 1000},
		{name: "7.1.3", say: frames(bye(1000), ping("too late")), code: 1000},
		{name: "7.1.4", say: frames(bye(1000), hello), code: 1000},
		{name: "7.1.5", say: frames(more(text("fragment1")), bye(1000), cont("fragment2")), code: 1000},
		{name: "7.1.6", say: frames(bin(strings.Repeat("x", 200<<10)), bye(1000), ping("")), want: frames(bin(strings.Repeat("x", 200<<10))), code: 1000},
		{name: "7.3.1", say: frames(frame{op: 8}), code: -1},
		fails("7.3.2", 1002, frames(frame{op: 8, data: "a"})),
		{name: "7.3.4", say: frames(byeText(1000, "Hello World!")), code: 1000},
		{name: "7.3.5", say: frames(byeText(1000, strings.Repeat("*", 123))), code: 1000},
		fails("7.3.6", 1002, frames(byeText(1000, strings.Repeat("*", 124)))),
		fails("7.3.7", 1002, frames(more(bye(1000)))),
		fails("7.5.1", 1007, frames(byeText(1000, "\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited"))),
		fails("7.5.2", 1007, frames(byeText(3000, "cut \xce"))),
	}
	for _, code := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		all = append(all, exchange{name: fmt.Sprint("7.7 ", code), say: frames(bye(code)), code: code})
	}
	for _, code := range []int{0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
		all = append(all, fails(fmt.Sprint("7.9 ", code), 1002, frames(bye(code))),
			fails(fmt.Sprint("7.9 with text ", code), 1002, frames(byeText(code, "reason"))))
	}
	return all
}

// maxMessage is the limit of the echo.
const maxMessage = 200 << 10

// limits are what is refused for its length, before the bytes come.
func limits() []exchange {
	over := bin("the first bytes of many")
	over.length = maxMessage + 1
	huge := bin("")
	huge.length = math.MaxInt
	half := strings.Repeat("y", maxMessage/2)
	second := cont("x")
	second.length = maxMessage/2 + 1
	return []exchange{
		echoes("at the limit", bin(strings.Repeat("z", maxMessage))),
		fails("over the limit", 1009, frames(over)),
		fails("far over the limit", 1009, frames(huge)),
		fails("over the limit in parts", 1009, frames(more(bin(half)), second)),
		{name: "at the limit in parts", say: frames(more(bin(half)), cont(half)), want: frames(bin(half + half))},
		fails("length in too many bytes", 1002, nil).with("\x82\xfe\x00\x05"),
		fails("length in far too many bytes", 1002, nil).with("\x82\xff\x00\x00\x00\x00\x00\x00\xff\xff"),
		fails("length below 0", 1002, nil).with("\x82\xff\x80\x00\x00\x00\x00\x00\x00\x00"),
	}
}

// with adds raw bytes, written as a client writes them.
func (e exchange) with(raw string) exchange { e.raw = raw; return e }

// bytes returns what the peer says. A role other than a server's clears the mask
// bit of what is raw.
func (e exchange) bytes(server bool) (whole []byte, cuts []int) {
	for _, f := range e.say {
		whole = append(whole, encode(server, f)...)
		cuts = append(cuts, len(whole))
	}
	if raw := []byte(e.raw); len(raw) > 0 {
		if !server {
			raw[1] &^= 0x80
		} else {
			raw = append(raw, "key!"...)
		}
		whole = append(whole, raw...)
	}
	if e.code == 0 {
		whole = append(whole, encode(server, bye(1000))...)
	}
	return whole, cuts
}

// check compares what the peer has heard.
func (e exchange) check(t *testing.T, server bool, heard []byte) {
	t.Helper()
	want := append([]frame(nil), e.want...)
	switch e.code {
	case -1:
		want = append(want, frame{op: 8})
	case 0:
		want = append(want, bye(1000))
	default:
		want = append(want, bye(e.code))
	}
	got, rest := decode(t, !server, heard)
	if len(rest) > 0 {
		t.Fatalf("% x behind the frames", rest)
	}
	if !equalFrames(got, want) {
		t.Fatalf("heard %v, want %v", got, want)
	}
}

// TestConformance runs the exchanges on the fake, with both roles, in one piece,
// byte by byte, and with splits by chance.
func TestConformance(t *testing.T) {
	for _, server := range []bool{true, false} {
		for _, e := range exchanges() {
			t.Run(name("%s/%s", role(server), e.name), func(t *testing.T) {
				whole, cuts := e.bytes(server)
				for seed := range uint64(4) {
					if seed > 0 && len(whole) > 100<<10 && testing.Short() {
						break
					}
					converse(t, server, e, seed, func(r *rig, feed func([]byte)) {
						switch p := whole; {
						case seed == 0:
							feed(p)
						case seed == 1: // Frame by frame.
							from := 0
							for _, to := range cuts {
								feed(p[from:to])
								r.Turns(2)
								from = to
							}
							feed(p[from:])
						case seed == 2 && len(p) < 1000:
							for i := range p {
								feed(p[i : i+1])
								r.Turns(2)
							}
						default:
							for len(p) > 0 {
								n := min(len(p), 1+r.Rand.IntN(1+r.Rand.IntN(1+2*len(p))))
								feed(p[:n])
								p = p[n:]
								r.Turns(r.Rand.IntN(3))
							}
						}
					})
				}
			})
		}
	}
}

func role(server bool) string {
	if server {
		return "server"
	}
	return "client"
}

// converse has a peer talk with an echo of ours until the connection ends.
func converse(t *testing.T, server bool, e exchange, seed uint64, talk func(r *rig, feed func([]byte))) {
	t.Helper()
	o := options{cfg: ws.Config{MaxMessage: maxMessage}, seed: seed + 1, window: 4 << 20}
	if seed >= 2 {
		o.faults = aiotest.Config{SplitRecv: 0.5, LateRecv: 0.2, FinalRecv: 0.2, ShortSend: 0.2, LateSend: 0.2, NoBuffers: 0.05, WouldBlock: 0.1}
	}
	var r *rig
	if server {
		r = dialed(t, o)
	} else {
		r = dialing(t, o)
	}
	var feed = func(p []byte) {
		if !r.peer.WasReset() {
			r.peer.Feed(p)
		}
	}
	talk(r, feed)
	r.Settle("end", func() bool { return r.peer.EOF() || r.peer.WasReset() || !server && r.c != nil && r.Fake.Idle() })
	r.peer.CloseWrite()
	r.Settle("close", func() bool { return r.Fake.OpenFDs() == 0 })
	e.check(t, server, r.got())
	if r.opens != 1 || r.closes != 1 {
		t.Fatalf("%d opened, %d closed", r.opens, r.closes)
	}
	r.Finish()
}

// TestConformanceOnEngines runs the exchanges over TCP, on both engines, with both
// roles.
func TestConformanceOnEngines(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		below := conn.Config{Linger: 10 * time.Second}
		s, l, err := ws.Listen(g, "tcp", "127.0.0.1:0", echoer(), ws.Config{MaxMessage: maxMessage}, below)
		if err != nil {
			t.Fatal(err)
		}
		foreign := listenTCP(t)
		defer foreign.Close()
		k, err := ws.NewClient("ws://"+foreign.Addr().String()+"/", echoer(), ws.ClientConfig{
			Config: ws.Config{MaxMessage: maxMessage}, Dialer: &conn.Dialer{Config: below},
		})
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range exchanges() {
			t.Run(name("server/%s", e.name), func(t *testing.T) {
				c := dialTCP(t, l)
				defer c.Close()
				say, _ := e.bytes(true)
				_, heard, _ := bytes.Cut(talk(t, c, c, append(handshake(), say...), false), []byte("\r\n\r\n"))
				e.check(t, true, heard)
			})
			t.Run(name("client/%s", e.name), func(t *testing.T) {
				if err := k.Start(within(t, 20*time.Second), g.Loop(0)); err != nil {
					t.Fatal(err)
				}
				c, err := foreign.Accept()
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				_ = c.SetDeadline(time.Now().Add(testutil.Timeout(20 * time.Second)))
				r := bufio.NewReader(c)
				request, err := http.ReadRequest(r)
				if err != nil {
					t.Fatal(err)
				}
				say, _ := e.bytes(false)
				key := "Sec-WebSocket-Key: " + request.Header.Get("Sec-WebSocket-Key") + "\r\n"
				e.check(t, false, talk(t, c.(*net.TCPConn), r, append(answerTo(key), say...), true))
			})
		}
		testutil.Eventually(t, 10*time.Second, "all closed", func() bool { return s.Stats().Open == 0 && k.Stats().Open == 0 })
		if n := uint64(len(exchanges())); s.Stats().Opened != n || k.Stats().Opened != n {
			t.Errorf("of %d: server %+v, client %+v", n, s.Stats(), k.Stats())
		}
	})
}

// talk says all while it hears what comes, to the end.
func talk(t *testing.T, c *net.TCPConn, heard io.Reader, say []byte, half bool) []byte {
	t.Helper()
	go func() {
		if _, err := c.Write(say); err == nil && half {
			_ = c.CloseWrite() // A client waits for the server to end the connection.
		}
	}()
	all, err := io.ReadAll(heard)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// echoer sends back what it gets.
func echoer() *ws.Funcs {
	return &ws.Funcs{Message: func(c *ws.Conn, m *ws.Message) { c.SendReceived(m) }}
}

func dialTCP(t testing.TB, l *conn.Listener) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(testutil.Timeout(20 * time.Second)))
	return c.(*net.TCPConn)
}
