package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"
)

// limit bounds every step of a test. It is generous: nothing here measures.
const limit = 30 * time.Second

// asCompare in the environment makes this test binary the program itself.
const asCompare = "COMPARE_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asCompare) != "" {
		_ = os.Unsetenv(asCompare)
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// server is a peer in a process of its own.
type server struct {
	addr  string
	cmd   *exec.Cmd
	leash io.Closer // its standard input
	done  chan error
}

// start runs a peer. It skips one that is not available and says why; a peer in Go
// always is.
func start(t *testing.T, p peer, args ...string) *server {
	t.Helper()
	if p.check != nil {
		if err := p.check(); err != nil {
			t.Skip(err)
		}
	}
	cmd := exec.Command(os.Args[0], append([]string{"--peer", p.name}, args...)...)
	cmd.Env = append(os.Environ(), asCompare+"=1")
	cmd.Stderr = os.Stderr
	leash, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	s := &server{cmd: cmd, leash: leash, done: make(chan error, 1)}
	timer := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	out := bufio.NewReader(stdout)
	line, err := out.ReadString('\n')
	timer.Stop()
	go func() {
		rest, _ := io.ReadAll(out)
		if err := cmd.Wait(); err != nil || len(rest) == 0 {
			s.done <- err
			return
		}
		s.done <- fmt.Errorf("more than one line on standard output: %q", rest)
	}()
	t.Cleanup(func() { s.end(t, leash.Close) })
	var name string
	if _, scanErr := fmt.Sscanf(line, "listening on tcp://%s peer=%s\n", &s.addr, &name); err != nil || scanErr != nil || name != p.name {
		t.Fatalf("first line %q, %v", line, errors.Join(err, scanErr))
	}
	return s
}

// end asks the server to end, and fails when it does not, or not in order.
func (s *server) end(t *testing.T, ask func() error) {
	t.Helper()
	if s.done == nil {
		return
	}
	_ = ask()
	select {
	case err := <-s.done:
		if err != nil {
			t.Errorf("end of the server: %v", err)
		}
	case <-time.After(limit):
		_ = s.cmd.Process.Kill()
		<-s.done
		t.Error("the server did not end")
	}
	s.done = nil
}

func (s *server) dial(t *testing.T) *net.TCPConn {
	t.Helper()
	c, err := net.DialTimeout("tcp", s.addr, limit)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(limit)); err != nil {
		t.Fatal(err)
	}
	return c.(*net.TCPConn)
}

// noise returns n bytes that repeat only after a long while, so that none can be
// missing, doubled or elsewhere unseen.
func noise(n int, seed uint64) []byte {
	p := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(p)
	return p
}

// slowly reads n bytes, at first not at all and then in small steps with pauses, until
// what both sides buffer has filled and drained several times.
func slowly(r io.Reader, n int) ([]byte, error) {
	time.Sleep(300 * time.Millisecond)
	got := make([]byte, 0, n)
	step := make([]byte, 100_000)
	for i := 0; len(got) < n; i++ {
		k, err := r.Read(step[:min(len(step), n-len(got))])
		got = append(got, step[:k]...)
		if err != nil {
			return got, err
		}
		if i%8 == 0 {
			time.Sleep(time.Millisecond)
		}
	}
	return got, nil
}

func everyPeer(t *testing.T, test func(t *testing.T, p peer)) {
	for _, p := range tcpPeers() {
		t.Run(p.name, func(t *testing.T) { test(t, p) })
	}
}

func check(t *testing.T, got, want []byte, err error) {
	t.Helper()
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("%d bytes came back of %d, the first %d as sent; %v", len(got), len(want), common(got, want), err)
	}
}

func common(a, b []byte) int {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

func TestEcho(t *testing.T) {
	everyPeer(t, func(t *testing.T, p peer) {
		s := start(t, p)
		for _, test := range []struct {
			name string
			size int
			read func(io.Reader, int) ([]byte, error)
		}{
			{"1 B", 1, quickly},
			{"64 KiB", 64 << 10, quickly},
			{"8 MiB to a slow reader", 8 << 20, slowly},
		} {
			c := s.dial(t)
			data := noise(test.size, 1)
			wrote := make(chan error, 1)
			go func() { _, err := c.Write(data); wrote <- err }()
			got, err := test.read(c, test.size)
			check(t, got, data, err)
			if err := <-wrote; err != nil {
				t.Fatalf("%s: write: %v", test.name, err)
			}
			_ = c.Close()
		}
	})
}

func quickly(r io.Reader, n int) ([]byte, error) {
	got := make([]byte, n)
	k, err := io.ReadFull(r, got)
	return got[:k], err
}

// Many at once, some slow, in writes of all sizes: what is left of one must not end up
// behind later bytes of it or among another's.
func TestEchoMany(t *testing.T) {
	everyPeer(t, func(t *testing.T, p peer) {
		s := start(t, p)
		const clients = 24
		failed := make(chan error, clients)
		for i := range clients {
			c := s.dial(t)
			read := quickly
			if i%3 == 0 {
				read = slowly
			}
			go func() { failed <- pour(c, noise(1<<20+i*4001, uint64(i)), read) }()
		}
		for range clients {
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
	})
}

func pour(c net.Conn, data []byte, read func(io.Reader, int) ([]byte, error)) error {
	wrote := make(chan error, 1)
	go func() {
		var err error
		for rest, i := data, 1; len(rest) > 0 && err == nil; i++ {
			n := min(len(rest), i*i*37%90_000+1)
			_, err = c.Write(rest[:n])
			rest = rest[n:]
		}
		wrote <- err
	}()
	got, err := read(c, len(data))
	if err == nil && !bytes.Equal(got, data) {
		err = fmt.Errorf("of %d bytes only the first %d came as sent", len(data), common(got, data))
	}
	return errors.Join(err, <-wrote)
}

// Buffers far below what a client sends: many receives a message, more pieces than one
// send gathers, and in C on io_uring a ring that runs empty.
func TestSmallBuffers(t *testing.T) {
	everyPeer(t, func(t *testing.T, p peer) {
		s := start(t, p, "--buffer", "512")
		const clients = 16
		failed := make(chan error, clients)
		for i := range clients {
			c := s.dial(t)
			read := quickly
			if i%4 == 0 {
				read = slowly
			}
			go func() { failed <- pour(c, noise(700_000+i*4001, uint64(i)), read) }()
		}
		for range clients {
			if err := <-failed; err != nil {
				t.Error(err)
			}
		}
	})
}

// Connections that stall do not hold the others up, and still get all in the end.
func TestStalled(t *testing.T) {
	everyPeer(t, func(t *testing.T, p peer) {
		s := start(t, p)
		const stalled = 32
		data := noise(4<<20, 5) // more than the sockets of both sides hold
		slow := make([]net.Conn, stalled)
		sent := make(chan error, stalled)
		for i := range slow {
			slow[i] = s.dial(t)
			_ = slow[i].(*net.TCPConn).SetReadBuffer(128 << 10)
			go func() { _, err := slow[i].Write(data); sent <- err }()
		}
		for i := range 20 {
			if err := pour(s.dial(t), noise(50_000, uint64(i)), quickly); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range slow {
			got, err := quickly(c, len(data))
			check(t, got, data, err)
		}
		for range slow {
			if err := <-sent; err != nil {
				t.Error(err)
			}
		}
	})
}

// A client that has sent all and said so still gets its answer, as far as the peer can.
func TestHalfClose(t *testing.T) {
	everyPeer(t, func(t *testing.T, p peer) {
		s := start(t, p)
		sizes := []int{1, 1000, 8 << 20}
		switch p.halfClose {
		case answersNone:
			sizes = nil
		case answersSmall:
			sizes = sizes[:2]
		}
		for _, size := range sizes {
			c := s.dial(t)
			data := noise(size, 3)
			go func() {
				_, _ = c.Write(data)
				_ = c.CloseWrite()
			}()
			var got bytes.Buffer
			_, err := io.Copy(&got, c) // to the end that the server makes
			check(t, got.Bytes(), data, err)
		}
	})
}

func TestFanout(t *testing.T) {
	everyPeer(t, func(t *testing.T, p peer) {
		s := start(t, p, "--protocol", "fanout")
		var want []byte
		frames := []byte{}
		for i, size := range []int{1, 64, 0, 5, 1024, 300_000, 64, 2 << 20, 1} {
			payload := noise(size, uint64(i))
			want = append(want, payload...)
			frames = binary.BigEndian.AppendUint32(append(frames, 'P'), uint32(size))
			frames = append(frames, payload...)
		}
		pub := s.dial(t)
		subs := subscribe(t, s, pub, 10)
		read := make(chan error, len(subs))
		for i, c := range subs {
			go func() {
				by := quickly
				if i == 0 {
					by = slowly
				}
				got, err := by(c, len(want))
				if err == nil && !bytes.Equal(got, want) {
					err = fmt.Errorf("of %d bytes only the first %d came as sent", len(want), common(got, want))
				}
				read <- err
			}()
		}
		// Heads and payloads in pieces, and several messages in one.
		for rest, i := frames, 0; len(rest) > 0; i++ {
			n := min(len(rest), []int{3, 1, 2, 70, 1, 50_000}[i%6])
			if _, err := pub.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
			if i < 20 {
				time.Sleep(time.Millisecond)
			}
		}
		for range subs {
			if err := <-read; err != nil {
				t.Error(err)
			}
		}
	})
}

// subscribe dials n subscribers and returns when all are in the list: the protocol has no
// answer to a subscription, so a byte is published until each has had one, and then one
// that differs, behind which nothing of the rehearsal is left.
func subscribe(t *testing.T, s *server, pub net.Conn, n int) []net.Conn {
	t.Helper()
	subs := make([]net.Conn, n)
	for i := range subs {
		subs[i] = s.dial(t)
		if _, err := subs[i].Write([]byte("S")); err != nil {
			t.Fatal(err)
		}
	}
	say := func(b byte) {
		if _, err := pub.Write([]byte{'P', 0, 0, 0, 1, b}); err != nil {
			t.Fatal(err)
		}
	}
	one := make([]byte, 1)
	for _, c := range subs {
		for heard := false; !heard; {
			say('?')
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			k, err := c.Read(one)
			if heard = k == 1; !heard && !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal(err)
			}
		}
	}
	say('!')
	for _, c := range subs {
		_ = c.SetReadDeadline(time.Now().Add(limit))
		for one[0] = 0; one[0] != '!'; {
			if _, err := c.Read(one); err != nil {
				t.Fatal(err)
			}
		}
	}
	return subs
}

// A subscriber that leaves is no harm to the others.
func TestFanoutLeave(t *testing.T) {
	everyPeer(t, func(t *testing.T, p peer) {
		s := start(t, p, "--protocol", "fanout")
		pub := s.dial(t)
		subs := subscribe(t, s, pub, 4)
		_ = subs[0].(*net.TCPConn).SetLinger(0)
		_ = subs[0].Close()
		_ = subs[2].Close()
		payload := noise(100, 9)
		for range 50 {
			if _, err := pub.Write(append([]byte{'P', 0, 0, 0, 100}, payload...)); err != nil {
				t.Fatal(err)
			}
		}
		for _, c := range []net.Conn{subs[1], subs[3]} {
			got, err := quickly(c, 50*100)
			check(t, got, bytes.Repeat(payload, 50), err)
		}
	})
}

func TestLoops(t *testing.T) {
	everyPeer(t, func(t *testing.T, p peer) {
		s := start(t, p, "--loops", "2")
		for i := range 16 {
			if err := pour(s.dial(t), noise(100_000, uint64(i)), quickly); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestEnd(t *testing.T) {
	everyPeer(t, func(t *testing.T, p peer) {
		s := start(t, p)
		c := s.dial(t) // an open connection must not keep it
		if err := pour(c, noise(10, 1), quickly); err != nil {
			t.Fatal(err)
		}
		s.end(t, func() error { return s.cmd.Process.Signal(syscall.SIGTERM) })
	})
}

func TestList(t *testing.T) {
	var out bytes.Buffer
	if err := run([]string{"--list"}, &out); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != len(peers()) {
		t.Fatalf("%d lines for %d peers", len(lines), len(peers()))
	}
	for _, line := range lines {
		var entry struct {
			Name, How, Error string
			Protocols        []string
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Fatal(err)
		}
		if entry.Name == "" || entry.How == "" || strings.Contains(entry.How, "\n") || len(entry.Protocols) < 2 {
			t.Errorf("line %s", line)
		}
		if strings.HasPrefix(entry.Name, "c-") && entry.Error == "" && !strings.Contains(entry.How, "built by ") {
			t.Errorf("nobody knows by what %s was built", entry.Name)
		}
		if entry.Error != "" {
			t.Logf("%s: %s", entry.Name, entry.Error)
		}
	}
}

// Without a compiler the C references say how to get one, and the others stand.
func TestListWithoutCompiler(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	t.Setenv("BUN", "")
	var out bytes.Buffer
	if err := run([]string{"--list"}, &out); err != nil {
		t.Fatal(err)
	}
	if got := strings.Count(out.String(), `"error":"no gcc: `+install); got != 3 {
		t.Errorf("%d references say so in\n%s", got, out.String())
	}
	if got := strings.Count(out.String(), `"error":""`); got != len(peers())-4 {
		t.Errorf("%d peers stand in\n%s", got, out.String())
	}
}

func TestBadUse(t *testing.T) {
	for _, args := range [][]string{
		{"--peer", "nobody"},
		{"--peer", "net", "--protocol", "smtp"},
		{"--peer", "net", "--loops", "0"},
		{"--peer", "net", "more"},
		{"--peer", "net", "--listen", "nowhere"},
		{},
	} {
		if err := run(args, io.Discard); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
}

// The versions that are printed are those that are built.
func TestVersions(t *testing.T) {
	mod, err := os.ReadFile("go.mod")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range peers() {
		for _, word := range strings.FieldsFunc(p.how, func(r rune) bool { return r == ' ' || r == ',' || r == ';' || r == ':' }) {
			if len(word) > 2 && word[0] == 'v' && word[1] >= '0' && word[1] <= '9' && !strings.Contains(string(mod), " "+word+"\n") {
				t.Errorf("%s: go.mod has no %s", p.name, word)
			}
		}
	}
}
