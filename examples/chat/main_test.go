package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// party starts the service and returns its address; it ends with the test.
func party(t *testing.T, o options) string {
	t.Helper()
	g, err := reactor.Start(reactor.Config{Loops: 1, Engine: mustEngine(t, o.engine)})
	if o.engine == "uring" {
		testutil.SkipIfKernelOlder(t, "6.1", "io_uring", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = g.Close()
	o.listen, o.loops = "127.0.0.1:0", 2
	ctx, cancel := context.WithCancel(context.Background())
	in, out := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := serve(ctx, o, out)
		_ = out.Close()
		ended <- err
	}()
	lines := bufio.NewScanner(in)
	if !lines.Scan() {
		t.Fatal(<-ended)
	}
	t.Cleanup(func() {
		cancel()
		_, _ = io.Copy(io.Discard, in)
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	var addr, engine string
	if _, err := fmt.Sscanf(lines.Text(), "serving tcp://%s on %s", &addr, &engine); err != nil || engine != o.engine {
		t.Fatalf("%q: %v", lines.Text(), err)
	}
	return addr
}

func mustEngine(t *testing.T, name string) reactor.EngineKind {
	t.Helper()
	kind, err := reactor.ParseEngine(name)
	if err != nil {
		t.Fatal(err)
	}
	return kind
}

// client is a guest at a terminal.
type client struct {
	net.Conn
	t  *testing.T
	in *bufio.Reader
}

func arrive(t *testing.T, addr, name string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(testutil.Timeout(20 * time.Second)))
	g := &client{c, t, bufio.NewReader(c)}
	g.hears("What is your name?")
	g.types(name)
	return g
}

func (g *client) types(line string) {
	g.t.Helper()
	if _, err := fmt.Fprintf(g, "%s\r\n", line); err != nil {
		g.t.Fatal(err)
	}
}

// hears reads lines, of which each has one of these parts.
func (g *client) hears(parts ...string) {
	g.t.Helper()
	for _, part := range parts {
		if line, err := g.in.ReadString('\n'); err != nil || !strings.Contains(line, part) {
			g.t.Fatalf("heard %q, want %q, %v", line, part, err)
		}
	}
}

// TestChat has guests talk, change rooms, go, and be cut off.
func TestChat(t *testing.T) {
	for _, engine := range []string{"uring", "epoll"} {
		t.Run(engine, func(t *testing.T) {
			addr := party(t, options{engine: engine, slow: "drop"})
			ann := arrive(t, addr, "Ann")
			ann.hears("1 in lobby")
			bob := arrive(t, addr, "Ann")
			bob.hears("Somebody is called Ann")
			bob.types("Bob \x1b[31m")
			bob.hears("2 in lobby")
			ann.hears("Bob [31m is here.")
			bob.types("hello")
			ann.hears("Bob [31m: hello")
			ann.types("hello you\nand again")
			bob.hears("Ann: hello you", "Ann: and again")
			cleo := arrive(t, addr, "Cleo")
			cleo.hears("3 in lobby")
			ann.hears("Cleo is here.")
			bob.hears("Cleo is here.")
			cleo.types("/join garden")
			cleo.hears("1 in garden")
			ann.hears("Cleo has gone to garden.")
			bob.hears("Cleo has gone to garden.")
			cleo.types("nobody hears this")
			cleo.types("/who")
			cleo.hears("1 in garden")
			cleo.types("/dance")
			cleo.hears("There is /join ROOM")
			cleo.types(strings.Repeat("x", 2000))
			cleo.hears("at most 1024 bytes")
			bob.types("/quit")
			bob.hears("Good-bye, Bob")
			ann.hears("Bob [31m has left.")
			dan := arrive(t, addr, "Bob [31m") // The name is free again.
			dan.hears("2 in lobby")
			ann.hears("is here")
			_ = dan.Conn.(*net.TCPConn).SetLinger(0)
			_ = dan.Close() // As by a cable that was pulled.
			ann.hears("has left.")
		})
	}
}

// TestSlowGuest has a guest who does not read: the others go on talking.
func TestSlowGuest(t *testing.T) {
	for _, slow := range []string{"drop", "close"} {
		addr := party(t, options{engine: "epoll", slow: slow})
		ann := arrive(t, addr, "Ann")
		ann.hears("1 in lobby")
		sleeper := arrive(t, addr, "Sleeper")
		_ = sleeper.Conn.(*net.TCPConn).SetReadBuffer(4096)
		ann.hears("Sleeper is here.")
		bob := arrive(t, addr, "Bob")
		ann.hears("Bob is here.")
		bob.hears("3 in lobby")
		line := strings.Repeat("z", 1000)
		left := false
		for range 8000 { // More than kernels hold for a socket.
			bob.types(line)
			heard, err := ann.in.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if left = strings.Contains(heard, "Sleeper has left."); left {
				break
			}
		}
		if left != (slow == "close") {
			t.Errorf("-slow %s: the sleeper has left: %v", slow, left)
		}
	}
}

func TestBadOption(t *testing.T) {
	if err := serve(t.Context(), options{slow: "never"}, io.Discard); err == nil {
		t.Error("-slow never was taken")
	}
	if err := serve(t.Context(), options{slow: "drop", engine: "steam"}, io.Discard); err == nil {
		t.Error("-engine steam was taken")
	}
}
