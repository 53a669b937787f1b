package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/internal/testutil"
)

// place returns a directory for sockets, whose names are short.
func place(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "penstock")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// dialAt connects to listener i.
func (s *process) dialAt(i int) net.Conn {
	s.t.Helper()
	c, err := net.Dial(s.nets[i], s.addrs[i])
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(testutil.Timeout(30 * time.Second)))
	return c
}

// answers reports whether an echo answers within d.
func answers(c net.Conn, d time.Duration) bool {
	_, _ = c.Write([]byte("ping"))
	_ = c.SetReadDeadline(time.Now().Add(d))
	got := make([]byte, 4)
	_, err := io.ReadFull(c, got)
	return err == nil && string(got) == "ping"
}

// TestUnixListeners serves a file and an abstract name beside TCP: the lines, the
// events, and what becomes of the file.
func TestUnixListeners(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		file := filepath.Join(place(t), "s")
		abstract := fmt.Sprintf("@penstock-command-%d-%s", os.Getpid(), engine)
		s := serve(t, "firehose", engine, "--listen", "unix://"+file, "--listen", "tcp://127.0.0.1:0", "--listen", "unix://"+abstract)
		if got := strings.Join(s.nets, " "); got != "unix tcp unix" || s.addrs[0] != file || s.addrs[2] != abstract {
			t.Fatalf("%q", s.lines)
		}
		want := stream(1_000_000, "s")
		for i := range s.addrs {
			c := s.dialAt(i)
			_, _ = fmt.Fprintf(c, "SEND 1000000 s\n")
			_ = c.(interface{ CloseWrite() error }).CloseWrite()
			same(t, all(t, c), want)
			_ = c.Close()
		}
		for _, name := range []string{file, abstract} {
			code, stdout, stderr := result(t, command("serve", "echo", "--engine", engine, "--listen", "unix://"+name))
			if code != exitFailed || stdout != "" || strings.Count(stderr, "\n") != 1 ||
				!strings.Contains(stderr, "unix://"+name) || !strings.Contains(stderr, "address already in use") {
				t.Errorf("%s: exit code %d, stdout %q, stderr %q", name, code, stdout, stderr)
			}
		}
		if sum := s.stop(syscall.SIGTERM); sum.lost != 0 || sum.open != 0 {
			t.Errorf("%+v", sum)
		}
		seen := map[string]bool{}
		for _, life := range s.records() {
			if open := life[0]; strings.HasPrefix(open.Local, "127.") {
				continue
			} else if open.Remote != "@" {
				t.Errorf("%+v", open)
			}
			seen[life[0].Local] = true
			if end := life[len(life)-1]; end.Event != "close" || end.Reason != "eof" && end.BytesIn > 0 {
				t.Errorf("%+v", end)
			}
		}
		if !seen[file] || !seen[abstract] {
			t.Errorf("the events are of %v", seen)
		}
		if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the file is still there: %v", err)
		}
	})
}

// TestUnixFiles has files in the way: that of a server that was killed is
// replaced, at once, and nothing else.
func TestUnixFiles(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		dir := place(t)
		file := filepath.Join(dir, "s")
		for range 2 {
			s := serve(t, "echo", engine, "--listen", "unix://"+file)
			if !answers(s.dialAt(0), testutil.Timeout(10*time.Second)) {
				t.Error("nobody answers")
			}
			_ = s.cmd.Process.Kill()
			_ = s.cmd.Wait()
			if _, err := os.Lstat(file); err != nil {
				t.Fatal(err)
			}
		}
		s := serve(t, "echo", engine, "--listen", "unix://"+file)
		s.stop(syscall.SIGTERM)

		precious := filepath.Join(dir, "precious")
		if err := os.WriteFile(precious, []byte("data"), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{precious: "choose another path", dir: "choose another path", dir + "/no/s": "directory"} {
			code, stdout, stderr := result(t, command("serve", "echo", "--engine", engine, "--listen", "unix://"+name))
			if code != exitFailed || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, name) || !strings.Contains(stderr, want) {
				t.Errorf("%s: exit code %d, stdout %q, stderr %q", name, code, stdout, stderr)
			}
		}
		if text, err := os.ReadFile(precious); string(text) != "data" {
			t.Errorf("%q, %v", text, err)
		}
	})
}

// TestDatagrams echoes and discards them; they make no events.
func TestDatagrams(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		s := serve(t, "echo", engine, "--listen", "udp://127.0.0.1:0", "--listen", "tcp://127.0.0.1:0", "--listen", "udp://[::]:0")
		if got := strings.Join(s.nets, " "); got != "udp tcp udp" {
			t.Fatalf("%q", s.lines)
		}
		_, port, _ := net.SplitHostPort(s.addrs[2])
		for _, at := range []string{s.addrs[0], "127.0.0.1:" + port, "[::1]:" + port} {
			c, err := net.Dial("udp", at)
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(testutil.Timeout(10 * time.Second)))
			for _, size := range []int{1, 0, 1400, 65507, 3} {
				sent := bytes.Repeat([]byte{byte(size)}, size)
				if _, err := c.Write(sent); err != nil {
					t.Fatal(err)
				}
				got := make([]byte, 1<<16)
				if n, err := c.Read(got); err != nil || !bytes.Equal(got[:n], sent) {
					t.Errorf("%s: %d bytes came back of %d, %v", at, n, size, err)
				}
			}
			_ = c.Close()
		}
		code, stdout, stderr := result(t, command("serve", "echo", "--engine", engine, "--listen", "udp://"+s.addrs[0]))
		if code != exitFailed || stdout != "" || !strings.Contains(stderr, "udp://"+s.addrs[0]) || !strings.Contains(stderr, "address already in use") {
			t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
		}
		if sum := s.stop(syscall.SIGTERM); sum != (summary{}) {
			t.Errorf("%+v", sum)
		}
		if n := len(s.records()); n != 0 {
			t.Errorf("%d events", n)
		}

		s = serve(t, "discard", engine, "--listen", "udp://127.0.0.1:0")
		c := s.dialAt(0)
		for range 10 {
			_, _ = c.Write([]byte("hello"))
		}
		_ = c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		if n, err := c.Read(make([]byte, 10)); err == nil || errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("%d bytes came back, %v", n, err)
		}
		s.stop(syscall.SIGTERM)
	})
}

// TestMaxConns has clients past the limit wait, on all listeners together.
func TestMaxConns(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		file := filepath.Join(place(t), "s")
		s := serve(t, "echo", engine, "--listen", "tcp://127.0.0.1:0", "--listen", "unix://"+file, "--max-conns", "3")
		var clients []net.Conn
		for i := range 3 {
			c := s.dialAt(i % 2)
			if !answers(c, testutil.Timeout(10*time.Second)) {
				t.Fatal("not served within the limit")
			}
			clients = append(clients, c)
		}
		for i := range 4 {
			c := s.dialAt(i % 2)
			if answers(c, 50*time.Millisecond) {
				t.Error("served past the limit")
			}
			clients = append(clients, c)
		}
		for i, c := range clients {
			_ = c.Close()
			if next := i + 3; next < len(clients) {
				// Who waited longest on that listener is served; its ping has come before.
				_ = clients[next].SetReadDeadline(time.Now().Add(testutil.Timeout(10 * time.Second)))
				if _, err := io.ReadFull(clients[next], make([]byte, 4)); err != nil {
					t.Errorf("client %d: %v", next, err)
				}
			}
		}
		if sum := s.stop(syscall.SIGTERM); sum.served != 7 || sum.open != 0 {
			t.Errorf("%+v", sum)
		}
		open := 0
		text, _ := os.ReadFile(s.events)
		for line := range strings.Lines(string(text)) {
			switch {
			case strings.Contains(line, `"event":"open"`):
				if open++; open > 3 {
					t.Error("more than 3 were open")
				}
			case strings.Contains(line, `"event":"close"`):
				open--
			}
		}
	})
}

// TestIdleTimeout closes who is silent, and not who takes its answer slowly.
func TestIdleTimeout(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		const idle = 400 * time.Millisecond
		s := serve(t, "firehose", engine, "--idle-timeout", idle.String(), "--high-water", "65536")
		began := time.Now()
		silent := s.dial()
		if _, err := silent.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("the silent one is told %v", err)
		}
		if d := time.Since(began); d < idle {
			t.Errorf("closed after %v", d)
		}
		const total = 12 << 20
		p := s.pace(10 * time.Millisecond)
		fmt.Fprintf(p, "SEND %d a\n", total)
		got, piece := make([]byte, 0, total), make([]byte, 64<<10)
		var err error
		for began := time.Now(); len(got) < total && err == nil; {
			if time.Since(began) > 3*idle {
				p.pause = 0
			}
			var n int
			n, err = p.Read(piece)
			got = append(got, piece[:n]...)
		}
		lost := total - len(got)
		switch {
		case lost > 0 && p.paused(idle): // The host is busy.
			t.Logf("cut after %d bytes, a read was late by %v", len(got), p.longest)
		case err != nil:
			t.Fatalf("after %d bytes: %v", len(got), err)
		default:
			if _, err := p.Read(piece); err != io.EOF {
				t.Errorf("behind its answer the silent one is told %v", err)
			}
		}
		same(t, got, stream(total, "a")[:len(got)])
		for _, end := range s.ends() {
			if end.Reason != "idle_timeout" || end.LostBytes > lost {
				t.Errorf("%+v", end)
			}
		}
	})
}

// TestSendMemory has many who do not read beside one who does, on little memory:
// what is pending stays within it, who reads is served, a SEND is never refused
// and arrives whole when it is read at last, and a FLOOD is refused.
func TestSendMemory(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		const memory, stalled, each = 4 << 20, 6, 7 << 20
		s := serve(t, "firehose", engine, "--send-memory", fmt.Sprint(memory), "--slow-peer", "reject")
		var readers []net.Conn
		for i := range stalled {
			readers = append(readers, s.ask("SEND %d r%d\n", each, i))
		}
		s.rest()
		flood := s.ask("FLOOD 200 65536 f\nQUIT\n")
		s.await(`"event":"reject"`)
		for i := range 3 {
			c := s.ask("SEND 1000000 s%d\nQUIT\n", i)
			same(t, all(t, c), stream(1_000_000, fmt.Sprintf("s%d", i)))
		}
		if got := all(t, flood); len(got)%(8+65536) != 0 {
			t.Errorf("%d bytes are no whole messages", len(got))
		}
		for i, c := range readers {
			got := make([]byte, each)
			if n, err := io.ReadFull(c, got); err != nil {
				t.Fatalf("%d bytes: %v", n, err)
			}
			same(t, got, stream(each, fmt.Sprintf("r%d", i)))
			_ = c.Close()
		}
		for _, end := range s.ends() {
			if end.PendingMax > memory+65536 || end.LostBytes != 0 || end.Rejected != 0 && end.Reason != "local" {
				t.Errorf("%+v", end)
			}
		}
	})
}

// TestSlowPeerClose makes room by closing who holds the most.
func TestSlowPeerClose(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		s := serve(t, "firehose", engine, "--send-memory", "1048576", "--slow-peer", "close", "--drain-timeout", "200ms")
		for range 40 { // Each of which has at least one message taken, while there is budget.
			s.ask("FLOOD 80 65536 f\n")
		}
		s.await(`"reason":"memory_limit"`)
		c := s.ask("SEND 1000000 s\nQUIT\n")
		same(t, all(t, c), stream(1_000_000, "s"))
		closed := 0
		for _, end := range s.ends() {
			if end.Reason == "memory_limit" {
				closed++
			}
		}
		if closed == 0 {
			t.Error("nobody was closed")
		}
	})
}

// TestEchoWithoutRoom holds that an echo on little memory has no hole: it waits.
func TestEchoWithoutRoom(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		s := serve(t, "echo", engine, "--send-memory", "262144")
		const clients, total = 4, 5 << 20
		done := make(chan []byte, clients)
		for i := range clients {
			c := s.dial()
			sent := stream(total, fmt.Sprintf("e%d", i))
			go func() {
				_, _ = c.Write(sent)
				_ = c.CloseWrite()
			}()
			go func() {
				time.Sleep(200 * time.Millisecond) // Meanwhile nobody reads.
				got, err := io.ReadAll(c)
				if err != nil || !bytes.Equal(got, sent) {
					t.Errorf("%d bytes came back of %d, %v", len(got), total, err)
				}
				done <- got
			}()
		}
		for range clients {
			<-done
		}
		for _, end := range s.ends() {
			if end.Reason != "eof" || end.BytesIn != total || end.BytesOut != total {
				t.Errorf("%+v", end)
			}
		}
	})
}
