package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/internal/testutil"
)

// slow is a reader that takes small pieces, with pauses.
type slow struct {
	r     io.Reader
	piece int
	pause time.Duration
}

func (s slow) Read(p []byte) (int, error) {
	time.Sleep(s.pause)
	return s.r.Read(p[:min(len(p), s.piece)])
}

// pacer is a client that reads with pauses, and knows for how long at most it was kept
// from that. Its kernel holds and takes little at a time: what it has read is told at
// once, and by the other side filled up at once.
type pacer struct {
	*net.TCPConn
	pause   time.Duration
	began   time.Time     // the last read
	longest time.Duration // from the beginning of one to the end of the next
}

// pace connects.
func (s *process) pace(pause time.Duration) *pacer {
	s.t.Helper()
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error {
		var failed error
		err := raw.Control(func(fd uintptr) {
			failed = errors.Join(syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 16<<10),
				syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 1460))
		})
		return errors.Join(err, failed)
	}}
	return &pacer{TCPConn: s.dialBy(&d), pause: pause, began: time.Now()}
}

func (p *pacer) Read(b []byte) (int, error) {
	time.Sleep(p.pause)
	began := time.Now()
	n, err := p.TCPConn.Read(b)
	p.longest = max(p.longest, time.Since(p.began))
	p.began = began
	return n, err
}

// paused reports whether so much time may have passed, for the other side, without a byte
// taken: from one that came at the end of two reads to one at the beginning of the next two,
// and its kernel may tell of that 40 ms later.
func (p *pacer) paused(d time.Duration) bool { return p.longest > d/3 }

// small gives c a small window, so that the kernel holds little.
func small(t *testing.T, c *net.TCPConn) {
	if err := c.SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
}

// TestSend has clients of different speeds ask for different lengths at once,
// their commands cut anywhere, and compares every byte.
func TestSend(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		s := serve(t, "firehose", engine, "--high-water", "131072", "--low-water", "1000")
		lengths := []int{0, 1, 31, 32, 33, 4096, 65535, 65536, 65537, 300_000, 2_000_000}
		var wg sync.WaitGroup
		for client := range 8 {
			wg.Go(func() {
				rnd := rand.New(rand.NewPCG(uint64(client), 1))
				var asked, want bytes.Buffer
				for i, n := range lengths {
					seed := fmt.Sprintf("Seed%dx%d", client, i)
					end := []string{"\n", "\r\n"}[rnd.IntN(2)]
					fmt.Fprintf(&asked, "SEND %d %s%s", n, seed, end)
					want.Write(stream(n, seed))
				}
				asked.WriteString("QUIT\nSEND 1 ignored\n")
				c := s.dial()
				go func() {
					for asked.Len() > 0 { // One byte at a time, or some.
						_, _ = c.Write(asked.Next(1 + rnd.IntN(1+client*10)))
					}
				}()
				var r io.Reader = c
				if client%2 == 0 {
					r = slow{c, 20_000 << client, time.Millisecond}
				}
				same(t, all(t, r), want.Bytes())
			})
		}
		wg.Wait()
		for _, end := range s.ends() {
			if end.Reason != "local" || end.Rejected != 0 || end.PendingMax >= 131072+65536 {
				t.Errorf("%+v", end)
			}
		}
	})
}

// TestSendFillsAndDrains stops reading in the middle, so that there is a Full.
func TestSendFillsAndDrains(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		s := serve(t, "firehose", engine, "--high-water", "65536")
		const n = 16 << 20
		c := s.ask("SEND %d big\n", n)
		small(t, c)
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		testutil.Eventually(t, 20*time.Second, "a full event", func() bool {
			text, _ := os.ReadFile(s.events)
			return bytes.Contains(text, []byte(`"event":"full"`))
		})
		same(t, all(t, c), stream(n, "big"))
		end := s.ends()[0]
		if end.Reason != "eof" || end.Full == 0 || end.BytesOut != n || end.PendingMax >= 2*65536 {
			t.Errorf("%+v", end)
		}
	})
}

// message is one message of FLOOD.
func message(k, size int, seed string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(k))
	b = binary.BigEndian.AppendUint32(b, uint32(size))
	return append(b, stream(size, seed+"."+strconv.Itoa(k))...)
}

// received checks that what came are whole messages in order, and returns how many.
func received(t *testing.T, got []byte, size int, seed string) (n int) {
	t.Helper()
	last := -1
	for len(got) > 0 {
		if len(got) < 8+size {
			t.Fatalf("%d bytes behind the last whole message", len(got))
		}
		k := int(binary.BigEndian.Uint32(got))
		if k <= last {
			t.Fatalf("message %d behind %d", k, last)
		}
		same(t, got[:8+size], message(k, size, seed))
		got, last = got[8+size:], k
		n++
	}
	return n
}

// TestFlood asks for more than queue and kernel hold, reads nothing meanwhile,
// and then all: what arrived and what was rejected are what was asked for.
func TestFlood(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		for _, tc := range []struct{ count, size int }{
			{20_000, 1000}, {50_000, 0}, {100, 100_000}, {1, 16 << 20}, {0, 5},
		} {
			t.Run(fmt.Sprintf("%dx%d", tc.count, tc.size), func(t *testing.T) {
				s := serve(t, "firehose", engine, "--high-water", "65536", "--send-limit", "128KiB")
				c := s.ask("FLOOD %d %d fl\n", tc.count, tc.size)
				time.Sleep(100 * time.Millisecond) // A head start: the reader should find a queue.
				if _, err := c.Write([]byte("QUIT\n")); err != nil {
					t.Fatal(err)
				}
				got := all(t, c)
				_ = c.Close()
				n := received(t, got, tc.size, "fl")
				end := s.ends()[0]
				if n+end.Rejected != tc.count || end.Reason != "local" || end.BytesOut != len(got) {
					t.Errorf("%d of %d messages of %d bytes came, %+v", n, tc.count, tc.size, end)
				}
				for _, r := range s.records()[0] {
					if r.Event == "reject" && r.Size != 8+tc.size {
						t.Errorf("%+v", r)
					}
				}
			})
		}
	})
}

// TestFloodRejects has a client whose window is small, so that most is refused.
func TestFloodRejects(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		s := serve(t, "firehose", engine, "--high-water", "65536")
		c := s.ask("FLOOD 500 65528 zz\nSEND 100000 after\n")
		small(t, c)
		if err := c.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		testutil.Eventually(t, 20*time.Second, "rejections", func() bool {
			text, _ := os.ReadFile(s.events)
			return bytes.Contains(text, []byte(`"event":"reject"`))
		})
		// The SEND waits for the drain, and loses nothing.
		got := all(t, c)
		after := stream(100_000, "after")
		if !bytes.HasSuffix(got, after) {
			t.Fatalf("%d bytes do not end in the answer to SEND", len(got))
		}
		n := received(t, got[:len(got)-len(after)], 65528, "zz")
		end := s.ends()[0]
		if end.Rejected == 0 || n+end.Rejected != 500 || end.Reason != "eof" || end.Full == 0 {
			t.Errorf("%d messages came, %+v", n, end)
		}
	})
}

func TestNotUnderstood(t *testing.T) {
	long := strings.Repeat("a", 64)
	onEngines(t, func(t *testing.T, engine string) {
		s := serve(t, "firehose", engine)
		for _, line := range []string{
			"\n", " \n", "\r\n", "send 1 a\n", "SEND\n", "SEND 1\n", "SEND 1 a b\n", "SEND  1 a\n", " SEND 1 a\n", "SEND 1 a \n",
			"SEND -1 a\n", "SEND +1 a\n", "SEND 0x10 a\n", "SEND 1e3 a\n", "SEND 1_000 a\n", "SEND 1.0 a\n", "SEND  a\n",
			"SEND 9223372036854775808 a\n", "SEND 99999999999999999999999999 a\n", "SEND 1 \n", "SEND 1 a-b\n", "SEND 1 \xc3\xa9\n",
			"SEND 1 " + long + "a\n", "SEND 1 a\r\r\n", "SEND\t1\ta\n", "SEND 1 a\x00\n",
			"FLOOD 1 a\n", "FLOOD 1 1 a a\n", "FLOOD -1 1 a\n", "FLOOD 1 -1 a\n", "FLOOD 1 16777217 a\n", "FLOOD 4294967297 1 a\n",
			"FLOOD 1 1 \n", "FLOOD 1 1 _\n", "QUIT now\n", "QUIT \n", "QUITS\n", "GET / HTTP/1.1\r\n",
			strings.Repeat("x", 1025), strings.Repeat("x", 5000) + "\n", strings.Repeat("SEND ", 1000),
		} {
			c := s.ask("SEND 70000 %s\r\n%s", long, line)
			got := all(t, c) // To the end of file: it is the server that closes.
			same(t, got[:70000], stream(70000, long))
			if answer := string(got[70000:]); !strings.HasPrefix(answer, "ERR ") || strings.Index(answer, "\n") != len(answer)-1 || len(answer) < 10 {
				t.Errorf("%q is answered by %q", line, answer)
			}
		}
		// A line that never ends, at the end of file.
		c := s.ask("SEND 5 a\nSEND 5")
		_ = c.CloseWrite()
		if got := all(t, c); !bytes.HasPrefix(got[5:], []byte("ERR ")) {
			t.Errorf("an unfinished line is answered by %q", got)
		}
		for _, end := range s.ends() {
			if end.Reason != "protocol_error" {
				t.Errorf("%+v", end)
			}
		}
	})
}

// TestUnreadInputIsNoReset sends megabytes behind QUIT, and behind an error:
// the end of the answer must arrive all the same.
func TestUnreadInputIsNoReset(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		s := serve(t, "firehose", engine)
		junk := bytes.Repeat([]byte("SEND 1 a\n"), 300_000)
		for _, last := range []string{"QUIT\n", "what\n"} {
			c := s.ask("SEND 3000000 a\n%s", last)
			var wg sync.WaitGroup
			wg.Go(func() { _, _ = c.Write(junk) })
			got := all(t, slow{c, 1 << 16, time.Millisecond})
			same(t, got[:3_000_000], stream(3_000_000, "a"))
			if tail := got[3_000_000:]; (last == "QUIT\n") != (len(tail) == 0) {
				t.Errorf("behind %q came %q", last, tail)
			}
			wg.Wait()
		}
		s.ends()
	})
}

// TestCommandsCostBoundedMemory has a client that asks and asks, and does not
// read: at some point the server no longer reads either.
func TestCommandsCostBoundedMemory(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		s := serve(t, "firehose", engine)
		c := s.dial()
		line := bytes.Repeat([]byte("SEND 100000 a\n"), 10_000)
		if err := c.SetWriteDeadline(time.Now().Add(testutil.Timeout(2 * time.Second))); err != nil {
			t.Fatal(err)
		}
		sent := 0
		for sent < 64<<20 {
			n, err := c.Write(line)
			sent += n
			if errors.Is(err, os.ErrDeadlineExceeded) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if sent >= 64<<20 {
			t.Errorf("it took %d bytes of commands that it does not serve", sent)
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(status), "VmRSS:")
		if kb, _ := strconv.Atoi(strings.Fields(rest)[0]); kb > 200<<10 {
			t.Errorf("%d KiB are resident for one client", kb)
		}
		_ = c.SetLinger(0)
		_ = c.Close()
		if end := s.ends()[0]; end.Reason != "peer_reset" {
			t.Errorf("%+v", end)
		}
	})
}

// TestHalfClose reads long after it has closed its sending side.
func TestHalfClose(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		want := append(append(stream(6_000_000, "a"), message(0, 100, "b")...), message(1, 100, "b")...)
		want = append(want, stream(4_000_000, "c")...)
		// The flush lasts longer than the close timeout, and is not cut while the
		// client reads all the time.
		const timeout = 300 * time.Millisecond
		s := serve(t, "firehose", engine, "--close-timeout", timeout.String())
		p := s.pace(2 * time.Millisecond)
		began := time.Now()
		_, _ = io.WriteString(p, "SEND 6000000 a\nFLOOD 2 100 b\nSEND 4000000 c\n")
		_ = p.CloseWrite()
		got, err := io.ReadAll(bufio.NewReaderSize(p, 64<<10))
		took := time.Since(began)
		reasons := []string{"eof", "eof"}
		if len(got) < len(want) && p.paused(timeout) { // The host is busy.
			t.Logf("cut after %d bytes, a read was late by %v", len(got), p.longest)
			reasons[0], want = "write_timeout", want[:len(got)]
		} else if err != nil {
			t.Fatalf("after %d bytes: %v", len(got), err)
		} else if took < 2*timeout {
			t.Errorf("the flush lasted %v", took)
		}
		same(t, got, want)
		// Nothing at all is asked for.
		c := s.dial()
		_ = c.CloseWrite()
		same(t, all(t, c), nil)
		for i, end := range s.ends() {
			if end.Reason != reasons[i] {
				t.Errorf("%+v", end)
			}
		}
	})
}

// TestReasons has connections end in the ways that only a client can make.
func TestReasons(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		s := serve(t, "firehose", engine, "--high-water", "65536", "--close-timeout", "400ms")
		waitFor := func(reason string) {
			t.Helper()
			testutil.Eventually(t, 20*time.Second, reason, func() bool {
				text, _ := os.ReadFile(s.events)
				return bytes.Contains(text, []byte(`"reason":"`+reason+`"`))
			})
		}
		// QUIT behind a queue that nobody reads.
		stuck := s.ask("FLOOD 500 65536 a\nQUIT\n")
		waitFor("write_timeout")
		// Gone while the answer was flowing.
		gone := s.ask("SEND 1000000000 a\n")
		_, _ = io.ReadFull(gone, make([]byte, 100_000))
		_ = gone.Close()
		waitFor("peer_reset")
		_ = stuck.Close()
		ends := s.ends()
		if e := ends[0]; e.Reason != "write_timeout" || e.LostBytes == 0 || (e.BytesOut+e.LostBytes)%65544 != 0 ||
			(e.BytesOut+e.LostBytes)/65544+e.Rejected != 500 {
			t.Errorf("the first ended with %+v", e)
		}
		if e := ends[1]; e.Reason != "peer_reset" || (e.BytesOut+e.LostBytes)%65536 != 0 {
			t.Errorf("the second ended with %+v", e)
		}
	})
}

// TestOthersLive asks for small answers beside connections that are flooded.
func TestOthersLive(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		s := serve(t, "firehose", engine, "--events", "/dev/null")
		for range 2 {
			s.ask("FLOOD 4294967296 16777216 a\nQUIT\n") // Never read: refused for minutes.
			c := s.ask("SEND 9223372036854775807 a\n")
			go func() { _, _ = io.Copy(io.Discard, c) }()
		}
		for i := range 30 {
			c := s.ask("SEND 100 s%d\nQUIT\n", i)
			same(t, all(t, c), stream(100, fmt.Sprintf("s%d", i)))
		}
		if code, _ := s.signal(syscall.SIGTERM, syscall.SIGTERM); code != 1 && code != 0 {
			t.Errorf("exit code %d", code)
		}
	})
}

// TestEcho compares what comes back, from clients of different speeds.
func TestEcho(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		s := serve(t, "echo", engine, "--high-water", "65536")
		var wg sync.WaitGroup
		for client := range 4 {
			wg.Go(func() {
				sent := stream(3_000_000, fmt.Sprint(client))
				if client == 0 {
					sent = sent[:3000]
				}
				c := s.dial()
				go func() {
					for from := 0; from < len(sent); {
						to := min(len(sent), from+[]int{1, 1000, 65536, 3_000_000}[client])
						_, _ = c.Write(sent[from:to])
						from = to
					}
					_ = c.CloseWrite()
				}()
				same(t, all(t, slow{c, 40_000, time.Millisecond}), sent)
			})
		}
		wg.Wait()
		for _, end := range s.ends() {
			if end.Reason != "eof" || end.BytesIn != end.BytesOut || end.Rejected != 0 {
				t.Errorf("%+v", end)
			}
		}
	})
}

func TestDiscard(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		s := serve(t, "discard", engine)
		c := s.ask("%s", stream(2_000_000, "d"))
		_ = c.CloseWrite()
		same(t, all(t, c), nil)
		if end := s.ends()[0]; end.BytesIn != 2_000_000 || end.Reason != "eof" || end.BytesOut != 0 {
			t.Errorf("%+v", end)
		}
	})
}

// TestFamilies serves IPv4 and IPv6 from one listener, and several listeners
// in the order of the flags.
func TestFamilies(t *testing.T) {
	if ln, err := net.Listen("tcp6", "[::1]:0"); err != nil {
		t.Skip("this host has no IPv6 on its loopback: ", err)
	} else {
		ln.Close()
	}
	s := serve(t, "echo", "auto", "--listen", "tcp://[::]:0", "--listen=tcp://127.0.0.1:0", "--listen", "tcp://[::1]:0")
	for i, host := range []string{"::", "127.0.0.1", "::1"} {
		h, port, err := net.SplitHostPort(s.addrs[i])
		if err != nil || h != host {
			t.Fatalf("line %d is %q, want host %s", i, s.lines[i], host)
		}
		targets := []string{host}
		if host == "::" {
			targets = []string{"127.0.0.1", "::1"}
		}
		for _, target := range targets {
			s.addrs[0] = net.JoinHostPort(target, port)
			c := s.ask("hello")
			_ = c.CloseWrite()
			same(t, all(t, c), []byte("hello"))
		}
	}
	s.stop(syscall.SIGINT)
	for i, life := range s.records() {
		want := []string{"127.0.0.1:", "[::1]:", "127.0.0.1:", "[::1]:"}[i]
		if r := life[0]; !strings.HasPrefix(r.Remote, want) || !strings.HasPrefix(r.Local, want) {
			t.Errorf("connection %d: %+v, want %s", i, r, want)
		}
	}
}
