package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// TestShutdownFlushes stops a server while clients read: what was admitted
// arrives, and the process ends by itself with exit code 0.
func TestShutdownFlushes(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		s := serve(t, "firehose", engine, "--high-water", "262144")
		const clients = 6
		var total atomic.Int64
		done := make(chan []byte, clients)
		for i := range clients {
			seed := "s"
			c := s.ask("SEND 1000000000 %s\n", seed)
			go func() {
				var got bytes.Buffer
				r := slow{c, 100_000 * (i + 1), time.Millisecond}
				for b := make([]byte, 1<<20); ; {
					n, err := r.Read(b)
					got.Write(b[:n])
					if total.Add(int64(n)); err != nil {
						if err != io.EOF {
							t.Error(err)
						}
						break
					}
				}
				_ = c.Close()
				done <- got.Bytes()
			}()
		}
		testutil.Eventually(t, 20*time.Second, "readers in the middle", func() bool { return total.Load() > 4<<20 })
		sum := s.stop(syscall.SIGTERM)
		read := 0
		for range clients {
			got := <-done
			same(t, got, stream(len(got), "s"))
			read += len(got)
		}
		sent := 0
		for _, life := range s.records() {
			end := life[len(life)-1]
			if sent += end.BytesOut; end.Reason != "local" || end.LostBytes != 0 || end.BytesOut%65536 != 0 {
				t.Errorf("%+v", end)
			}
		}
		if read != sent || sum != (summary{served: clients}) {
			t.Errorf("%d bytes sent, %d read, %+v", sent, read, sum)
		}
		if _, err := net.Dial("tcp", s.addrs[0]); err == nil {
			t.Error("somebody still listens")
		}
	})
}

// TestDrainTimeout stops a server with a client that does not read.
func TestDrainTimeout(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		s := serve(t, "firehose", engine, "--high-water", "65536", "--drain-timeout", "300ms")
		s.ask("FLOOD 300 65536 a\n")
		s.await(`"event":"reject"`)
		sum := s.stop(syscall.SIGTERM)
		end := s.records()[0]
		e := end[len(end)-1]
		if e.Reason != "shutdown" || e.LostBytes == 0 || sum != (summary{1, 0, e.LostBytes}) {
			t.Errorf("%+v, %+v", e, sum)
		}
	})
}

// TestSecondSignal stops a server at once that waits for such a client.
func TestSecondSignal(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		s := serve(t, "firehose", engine, "--high-water", "65536", "--drain-timeout", "1h", "--close-timeout", "1h")
		s.ask("FLOOD 300 65536 a\n")
		s.await(`"event":"reject"`)
		code, sum := s.signal(syscall.SIGINT, syscall.SIGTERM)
		if code != exitFailed || sum.open != 1 || sum.served != 0 {
			t.Errorf("exit code %d, %+v", code, sum)
		}
	})
}

// TestSecondSignalBehindEvents stops a server at once that has closed everything, and
// waits for a reader of its events.
func TestSecondSignalBehindEvents(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		// The test reads the first line of stdout and no more, so the pipe fills.
		s := serve(t, "firehose", engine, "--events", "-", "--high-water", "8192")
		c := s.ask("FLOOD 20000 1000 a\nQUIT\n")
		s.rest() // Most was refused, since nobody has read.
		all(t, c)
		_ = c.Close()
		if code, sum := s.signal(syscall.SIGINT, syscall.SIGTERM); code != exitFailed || sum != (summary{served: 1}) {
			t.Errorf("exit code %d, %+v", code, sum)
		}
	})
}

// TestNobodyReads has stdout and stderr be pipes that are full from the start: the
// server serves, and a signal ends it.
func TestNobodyReads(t *testing.T) {
	for _, name := range []string{"stdout", "stderr"} {
		t.Run(name, func(t *testing.T) {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()
			_ = w.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			if _, err := w.Write(make([]byte, 8<<20)); err == nil {
				t.Fatal("the pipe does not fill")
			}
			path := filepath.Join(place(t), "s")
			cmd := command("serve", "echo", "--engine", "epoll", "--loops", "1", "--listen", "unix://"+path)
			if name == "stdout" {
				cmd.Stdout = w
			} else {
				cmd.Stderr = w
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer time.AfterFunc(testutil.Timeout(20*time.Second), func() { _ = cmd.Process.Kill() }).Stop()
			testutil.Eventually(t, 20*time.Second, "an echo", func() bool {
				c, err := net.Dial("unix", path)
				return err == nil && answers(c, 10*time.Second)
			})
			_ = cmd.Process.Signal(syscall.SIGTERM)
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// await waits until the events have text.
func (s *process) await(text string) {
	s.t.Helper()
	testutil.Eventually(s.t, 20*time.Second, text, func() bool {
		events, _ := os.ReadFile(s.events)
		return bytes.Contains(events, []byte(text))
	})
}

// TestPortInUse is refused whoever has the port: a plain listener, another
// penstock, or one of its own flags.
func TestPortInUse(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		other := serve(t, "echo", engine)
		for _, addr := range []string{l.Addr().String(), other.addrs[0]} {
			code, stdout, stderr := result(t, command("serve", "echo", "--engine", engine, "--loops", "2",
				"--listen", "tcp://127.0.0.1:0", "--listen", "tcp://"+addr))
			if code != exitFailed || stdout != "" || strings.Count(stderr, "\n") != 1 ||
				!strings.Contains(stderr, "tcp://"+addr) || !strings.Contains(stderr, "address already in use") {
				t.Errorf("%s: exit code %d, stdout %q, stderr %q", addr, code, stdout, stderr)
			}
		}
		other.stop(syscall.SIGTERM)
	})
}

// TestRefusedBySystem checks exit code 1 and one line that says what to do.
func TestRefusedBySystem(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want []string
	}{
		{[]string{"--listen", "tcp://192.0.2.1:8484"}, []string{"192.0.2.1", "choose an address"}},
		{[]string{"--events", "/nonexistent/events"}, []string{"--events", "/nonexistent/events"}},
	} {
		code, stdout, stderr := result(t, command(append([]string{"serve", "echo", "--engine", "epoll"}, tc.args...)...))
		if code != exitFailed || stdout != "" || strings.Count(stderr, "\n") != 1 {
			t.Errorf("%q: exit code %d, stdout %q, stderr %q", tc.args, code, stdout, stderr)
		}
		for _, want := range tc.want {
			if !strings.Contains(stderr, want) {
				t.Errorf("%q: no %q in %q", tc.args, want, stderr)
			}
		}
	}
}

// TestPrivilegedPort asks for port 1 as nobody.
func TestPrivilegedPort(t *testing.T) {
	start, err := os.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if err != nil || strings.TrimSpace(string(start)) <= "1" && len(strings.TrimSpace(string(start))) == 1 {
		t.Skip("no port is privileged here: sysctl net.ipv4.ip_unprivileged_port_start, as containers set it")
	}
	// In reach of nobody: a copy of this binary, in a directory of its own.
	dir, err := os.MkdirTemp("", "penstock")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	binary, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	copied := filepath.Join(dir, "penstock.test")
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(copied, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd := command("serve", "echo", "--engine", "epoll", "--listen", "tcp://127.0.0.1:1")
	cmd.Path, cmd.Dir = copied, dir
	if os.Geteuid() == 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
	}
	code, stdout, stderr := result(t, cmd)
	if code != exitFailed || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "permission denied") ||
		!strings.Contains(stderr, "CAP_NET_BIND_SERVICE") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, stdout, stderr)
	}
}

// TestFewDescriptors has 200 clients come at once to a server that may have 64
// descriptors: at least 24 are served at once, and in the end all.
func TestFewDescriptors(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		s := &process{t: t, events: filepath.Join(t.TempDir(), "events"), high: 1 << 20}
		cmd := command("-c", `ulimit -n 64 && exec "$0" "$@"`, os.Args[0], "serve", "echo", "--engine", engine, "--loops", "2",
			"--listen", "tcp://127.0.0.1:0", "--events", s.events)
		cmd.Path, cmd.Args[0] = "/bin/sh", "sh"
		s.start(cmd, 1)
		const clients, least = 200, 64 - 40
		answered := make(chan net.Conn, clients)
		for range clients {
			c := s.ask("hi")
			go func() {
				if _, err := io.ReadFull(c, make([]byte, 2)); err != nil {
					t.Error(err)
				}
				answered <- c
			}()
		}
		var served []net.Conn
		for len(served) < least {
			served = append(served, <-answered)
		}
		for n := 0; n < clients; n++ { // Each that goes makes room for another.
			if n >= len(served) {
				served = append(served, <-answered)
			}
			_ = served[n].Close()
		}
		if sum := s.stop(syscall.SIGTERM); sum != (summary{served: clients}) {
			t.Errorf("%+v", sum)
		}
		if n := len(s.records()); n != clients {
			t.Errorf("%d connections in the events", n)
		}
	})
}

// TestFewestDescriptors holds that a server that listens also serves, however few
// descriptors it may have, and that one that cannot does not listen.
func TestFewestDescriptors(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		var served, refused int
		for limit := 10; limit < 24; limit++ {
			cmd := command("-c", fmt.Sprintf(`ulimit -n %d && exec "$0" "$@"`, limit), os.Args[0], "serve", "echo",
				"--engine", engine, "--loops", "1", "--listen", "tcp://127.0.0.1:0")
			cmd.Path, cmd.Args[0] = "/bin/sh", "sh"
			s := &process{t: t}
			if !s.tryStart(cmd, 1) {
				refused++
				if text := s.stderr.String(); cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(text, "ulimit -n") {
					t.Errorf("%d descriptors: %v, %q", limit, cmd.ProcessState, text)
				}
				continue
			}
			served++
			c := s.ask("hello")
			_ = c.CloseWrite()
			same(t, all(t, c), []byte("hello"))
			s.stop(syscall.SIGTERM)
		}
		if served == 0 || refused == 0 {
			t.Errorf("%d have served, %d have not", served, refused)
		}
	})
}

// TestReserve holds how many descriptors listeners are reckoned with: one for each loop,
// one in all for a unix socket; and that a server without connections needs no limit.
func TestReserve(t *testing.T) {
	g, err := reactor.Start(reactor.Config{Loops: 3, Engine: reactor.Epoll})
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	srv := &server{group: g}
	most := func(networks ...string) int {
		var all []endpoint
		for _, n := range networks {
			all = append(all, endpoint{network: n})
		}
		limit, err := srv.limit(0, all)
		if err != nil {
			t.Fatal(err)
		}
		if limit == nil {
			return 0
		}
		return limit.Most()
	}
	tcp := most("tcp")
	if n := most("unix"); n != tcp+2 {
		t.Errorf("%d connections with a unix socket, %d with TCP, on three loops", n, tcp)
	}
	if n := most("tcp", "udp"); n != tcp-3 {
		t.Errorf("%d connections with TCP and UDP, %d with TCP alone", n, tcp)
	}
	if n := most("udp"); n != 0 {
		t.Errorf("a limit of %d connections for datagrams", n)
	}
}

// TestEventsBehindHalfLine has a file of events whose last line was cut short.
func TestEventsBehindHalfLine(t *testing.T) {
	file := filepath.Join(t.TempDir(), "events")
	const half = `{"time":"2026-`
	if err := os.WriteFile(file, []byte(half), 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, "echo", "auto", "--events", file)
	c := s.ask("hello")
	_ = c.CloseWrite()
	same(t, all(t, c), []byte("hello"))
	s.stop(syscall.SIGTERM)
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if rest, ok := bytes.CutPrefix(text, []byte(half+"\n")); !ok || !json.Valid(bytes.SplitN(rest, []byte("\n"), 2)[0]) {
		t.Errorf("%q", text)
	}
}

// TestEventsGoNowhere has events go where nobody takes them: the server serves
// on, and ends in order.
func TestEventsGoNowhere(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, where := range []string{"/dev/full", fifo, "-"} {
		t.Run(filepath.Base(where), func(t *testing.T) {
			s := serve(t, "firehose", "auto", "--events", where, "--high-water", "8192")
			// For "-" the test reads the first line and no more, so the pipe fills.
			for i := range 3 {
				c := s.ask("FLOOD 5000 1000 a\nSEND 100 s%d\nQUIT\n", i)
				if got := all(t, c); !bytes.HasSuffix(got, stream(100, fmt.Sprintf("s%d", i))) {
					t.Errorf("%d bytes do not end in the answer", len(got))
				}
				_ = c.Close()
			}
			if sum := s.stop(syscall.SIGTERM); sum != (summary{served: 3}) {
				t.Errorf("%+v", sum)
			}
			if told := strings.Contains(s.stderr.String(), "no space left"); told != (where == "/dev/full") {
				t.Errorf("stderr is %q", &s.stderr)
			}
		})
	}
}

// TestEventsDropped has a reader of a FIFO come when more has happened than
// pipe and queue hold: every event is there, or counted as dropped.
func TestEventsDropped(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	s := serve(t, "firehose", "auto", "--events", fifo, "--high-water", "65536")
	const count = 200_000
	c := s.ask("FLOOD %d 1000 a\nQUIT\n", count)
	s.rest() // Most was refused, since nobody has read.
	rejected := count - len(all(t, c))/1008
	_ = c.Close()
	r, err := os.OpenFile(fifo, os.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := r.SetReadDeadline(time.Now().Add(testutil.Timeout(30 * time.Second))); err != nil {
		t.Fatal(err)
	}
	events, dropped := 0, 0
	lines := bufio.NewScanner(r)
	next := func() bool {
		if !lines.Scan() {
			return false
		}
		var r record
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			t.Errorf("%q: %v", lines.Bytes(), err)
		}
		if r.Event == "dropped" {
			dropped += r.Count
		} else {
			events++
		}
		return true
	}
	// The end waits a second for who reads events, so it comes when they are read, but for those that the pipe holds.
	for events+dropped < rejected+2 {
		if !next() {
			t.Fatalf("%d events, %d dropped, %d messages rejected: %v", events, dropped, rejected, lines.Err())
		}
	}
	rest := make(chan struct{})
	go func() {
		defer close(rest)
		for next() {
		}
	}()
	s.stop(syscall.SIGTERM)
	if <-rest; lines.Err() != nil {
		t.Error(lines.Err())
	}
	// Besides the rejections: open, close, and some pairs of full and drain.
	if more := events + dropped - rejected; dropped == 0 || more < 2 || more > 1000 {
		t.Errorf("%d events, %d dropped, %d messages rejected", events, dropped, rejected)
	}
}

// TestStdoutClosed has the reader of stdout go away, with events on it.
func TestStdoutClosed(t *testing.T) {
	s := &process{t: t}
	cmd := command("serve", "echo", "--loops", "1", "--listen", "tcp://127.0.0.1:0", "--events", "-")
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, &s.stderr
	s.cmd = cmd
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Process.Kill()
	_ = w.Close()
	line := make([]byte, 200)
	n, err := r.Read(line)
	if err != nil {
		t.Fatal(err)
	}
	m := listening.FindSubmatch(bytes.TrimSpace(line[:n]))
	if m == nil {
		t.Fatalf("%q", line[:n])
	}
	s.addrs = []string{string(m[2])}
	_ = r.Close()
	for range 10 {
		c := s.ask("hello")
		_ = c.CloseWrite()
		same(t, all(t, c), []byte("hello"))
	}
	if sum := s.stop(syscall.SIGTERM); sum != (summary{served: 10}) {
		t.Errorf("%+v", sum)
	}
}

// TestNoDescriptorsForLoops holds that who cannot start the loops for want of
// descriptors is told what helps.
func TestNoDescriptorsForLoops(t *testing.T) {
	onEngines(t, func(t *testing.T, engine string) {
		cmd := command("-c", `ulimit -n 24 && exec "$0" "$@"`, os.Args[0], "serve", "echo", "--engine", engine, "--loops", "16", "--listen", "tcp://127.0.0.1:0")
		cmd.Path, cmd.Args[0] = "/bin/sh", "sh"
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != 1 {
			t.Errorf("%v", err)
		}
		if text := string(out); !strings.Contains(text, "ulimit -n") || strings.Count(text, "\n") != 1 {
			t.Errorf("it says %q", text)
		}
	})
}
