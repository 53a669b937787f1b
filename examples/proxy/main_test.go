package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// mainEnv makes this test binary be the example.
const mainEnv = "PENSTOCK_TEST_AS_EXAMPLE"

func TestMain(m *testing.M) {
	if os.Getenv(mainEnv) != "" {
		main()
		os.Exit(0)
	}
	testutil.Main(m)
}

// start runs the proxy on an engine until the end of the test and returns where
// it listens, and its process.
func start(t *testing.T, engine string, args ...string) (address string, pid int) {
	t.Helper()
	if engine == "uring" {
		g, err := reactor.Start(reactor.Config{Loops: 1, Engine: reactor.Uring, Logger: slog.New(slog.DiscardHandler)})
		testutil.SkipIfKernelOlder(t, "6.1", "io_uring", err)
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(os.Args[0], append([]string{"-listen", "127.0.0.1:0", "-engine", engine, "-v"}, args...)...)
	// The race detector would have each process wait a second before it exits.
	cmd.Env = append(os.Environ(), mainEnv+"=1", "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	out, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewReader(out)
	var found []string
	for found == nil && err == nil {
		var line string
		line, err = lines.ReadString('\n')
		found = regexp.MustCompile(`listen=(127\.0\.0\.1:\d+) target`).FindStringSubmatch(line)
	}
	rest := make(chan string, 1)
	go func() {
		all, _ := io.ReadAll(lines)
		rest <- string(all)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		kill := time.AfterFunc(testutil.Timeout(15*time.Second), func() { _ = cmd.Process.Kill() })
		defer kill.Stop()
		log := <-rest
		if err := cmd.Wait(); err != nil {
			t.Errorf("the proxy ended with %v\n%s", err, log)
		} else if t.Failed() {
			t.Log(log)
		}
	})
	if found == nil {
		t.Fatalf("the proxy does not say where it listens: %v", err)
	}
	return found[1], cmd.Process.Pid
}

// serve has handle serve every connection to a new address.
func serve(t *testing.T, handle func(c *net.TCPConn)) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go handle(c.(*net.TCPConn))
		}
	}()
	return l.Addr().String()
}

func dial(t *testing.T, address string) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(testutil.Timeout(30 * time.Second)))
	t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

func engines(t *testing.T, test func(t *testing.T, engine string)) {
	for _, engine := range []string{"uring", "epoll"} {
		t.Run(engine, func(t *testing.T) { test(t, engine) })
	}
}

// TestHalfClose has two servers of different habit: one that answers when its
// client has ended, and one that says all it has and ends first.
func TestHalfClose(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		last := serve(t, func(c *net.TCPConn) {
			all, _ := io.ReadAll(c)
			_, _ = fmt.Fprintf(c, "%d", len(all))
			_ = c.Close()
		})
		at, _ := start(t, engine, "-target", last)
		for range 3 {
			c := dial(t, at)
			_, _ = c.Write(make([]byte, 3<<20))
			_ = c.CloseWrite()
			if got, err := io.ReadAll(c); string(got) != strconv.Itoa(3<<20) || err != nil {
				t.Errorf("%q, %v", got, err)
			}
		}
		heard := make(chan int, 1)
		first := serve(t, func(c *net.TCPConn) {
			_, _ = c.Write([]byte("all I have"))
			_ = c.CloseWrite()
			all, _ := io.ReadAll(c)
			heard <- len(all)
			_ = c.Close()
		})
		at, _ = start(t, engine, "-target", first)
		c := dial(t, at)
		if got, err := io.ReadAll(c); string(got) != "all I have" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		_, _ = c.Write(make([]byte, 100_000))
		_ = c.CloseWrite()
		if n := <-heard; n != 100_000 {
			t.Errorf("the server heard %d bytes behind its end", n)
		}
	})
}

// TestFailures holds that what fails on one side is a reset on the other.
func TestFailures(t *testing.T) {
	engines(t, func(t *testing.T, engine string) {
		ended := make(chan error, 1)
		target := serve(t, func(c *net.TCPConn) {
			b := make([]byte, 1)
			if _, _ = c.Read(b); b[0] == 'r' {
				_ = c.SetLinger(0)
			} else {
				_, err := c.Read(b)
				ended <- err
			}
			_ = c.Close()
		})
		at, _ := start(t, engine, "-target", target)
		c := dial(t, at)
		_, _ = c.Write([]byte("r"))
		if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
			t.Errorf("behind a reset of the server the client reads %v", err)
		}
		c = dial(t, at)
		_, _ = c.Write([]byte("w"))
		time.Sleep(20 * time.Millisecond)
		_ = c.SetLinger(0)
		_ = c.Close()
		if err := <-ended; err == nil || err == io.EOF {
			t.Errorf("behind a reset of the client the server reads %v", err)
		}
		at, _ = start(t, engine, "-target", testutil.Refusing(t, "127.0.0.1"))
		if c, err := net.Dial("tcp", at); err == nil {
			if _, err := c.Read(make([]byte, 1)); err == nil || err == io.EOF {
				t.Errorf("without a server the client reads %v", err)
			}
			_ = c.Close()
		}
	})
}

// TestSlowSink floods servers that read nothing, and then everything: the proxy's
// memory stays within its marks, and every byte arrives.
func TestSlowSink(t *testing.T) {
	const clients, high = 20, 64 << 10
	engines(t, func(t *testing.T, engine string) {
		read := make(chan bool)
		got := make(chan int64, clients+1)
		target := serve(t, func(c *net.TCPConn) {
			<-read
			n, err := io.Copy(io.Discard, c)
			if err != nil {
				t.Error(err)
			}
			_ = c.Close()
			got <- n
		})
		at, pid := start(t, engine, "-target", target, "-high", strconv.Itoa(high))
		warm := dial(t, at)
		_ = warm.Close()
		base := rss(t, pid)
		sent := make(chan int64, clients)
		for range clients {
			c := dial(t, at)
			go func() {
				_ = c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
				n := int64(0)
				for block := make([]byte, 1<<20); ; {
					k, err := c.Write(block)
					if n += int64(k); err != nil {
						break
					}
				}
				_ = c.CloseWrite()
				sent <- n
			}()
		}
		var in int64
		for range clients {
			in += <-sent
		}
		// The marks, a block that is parked and one that is filled each, and what a
		// runtime and an engine need to go from nothing to this.
		const most = clients*(high+2*64<<10) + 24<<20
		if grown := rss(t, pid) - base; grown > most {
			t.Errorf("%d clients have sent %d bytes that nobody reads: %d bytes of memory more, at most %d", clients, in, grown, most)
		}
		close(read)
		var out int64
		for range clients + 1 { // And the one that came first.
			out += <-got
		}
		if in != out || in < clients*high {
			t.Errorf("%d bytes sent, %d arrived", in, out)
		}
	})
}

// rss returns the memory of a process, in bytes.
func rss(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kb, err := strconv.Atoi(string(bytes.Fields([]byte(rest))[0]))
			if err != nil {
				t.Fatal(err)
			}
			return kb << 10
		}
	}
	t.Fatal("no VmRSS")
	return 0
}

// TestArguments holds that what makes no sense is said.
func TestArguments(t *testing.T) {
	for _, args := range [][]string{{}, {"-target", "x", "extra"}, {"-target", "127.0.0.1:1", "-engine", "none"}, {"-target", "127.0.0.1:1", "-listen", "nowhere"}} {
		if err := run(args); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
}
