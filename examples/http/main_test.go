package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
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

// example is the program while it runs.
type example struct {
	*exec.Cmd
	addr string
	out  *bufio.Reader
	errs bytes.Buffer
}

func start(t testing.TB, engine string) *example {
	t.Helper()
	if engine == "uring" {
		g, err := reactor.Start(reactor.Config{Loops: 1, Engine: reactor.Uring, Logger: slog.New(slog.DiscardHandler)})
		testutil.SkipIfKernelOlder(t, "6.1", "io_uring", err)
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
	}
	e := &example{Cmd: exec.Command(os.Args[0], "-listen", "127.0.0.1:0", "-engine", engine)}
	// The race detector would have each process wait a second before it exits.
	e.Env = append(os.Environ(), mainEnv+"=1", "GORACE="+os.Getenv("GORACE")+" atexit_sleep_ms=0")
	e.Stderr = &e.errs
	out, err := e.StdoutPipe()
	if err == nil {
		err = e.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	e.out = bufio.NewReader(out)
	line, _ := e.out.ReadString('\n')
	var on string
	if _, err := fmt.Sscanf(line, "serving http://%s on %s\n", &e.addr, &on); err != nil || on != engine {
		_ = e.Process.Kill()
		_ = e.Wait()
		t.Fatalf("%q, %s", line, &e.errs)
	}
	return e
}

// stop interrupts the program and wants it to end well.
func (e *example) stop(t testing.TB) {
	t.Helper()
	_ = e.Process.Signal(os.Interrupt)
	defer time.AfterFunc(testutil.Timeout(20*time.Second), func() { _ = e.Process.Kill() }).Stop()
	rest, _ := io.ReadAll(e.out)
	if err := e.Wait(); err != nil || e.errs.Len() > 0 || string(rest) != "stopped\n" {
		t.Errorf("%v, %q, %s", err, rest, &e.errs)
	}
}

// TestHTTP asks the program for everything, and stops it in the middle of a
// download, which is finished first.
func TestHTTP(t *testing.T) {
	for _, engine := range []string{"uring", "epoll", "net"} {
		t.Run(engine, func(t *testing.T) {
			e := start(t, engine)
			client := &http.Client{Timeout: testutil.Timeout(20 * time.Second), Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			ask := func(method, path string, body io.Reader) (int, string) {
				req, err := http.NewRequest(method, "http://"+e.addr+path, body)
				if err != nil {
					t.Fatal(err)
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				defer resp.Body.Close()
				got, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				return resp.StatusCode, string(got)
			}
			if code, got := ask("GET", "/", nil); code != 200 || !strings.HasPrefix(got, "hello 127.0.0.1:") {
				t.Errorf("%d %q", code, got)
			}
			if code, _ := ask("GET", "/bytes/-1", nil); code != http.StatusBadRequest {
				t.Errorf("a negative number of bytes: %d", code)
			}
			data := bytes.Repeat([]byte("all of it "), 100_000)
			want := fmt.Sprintf("%x  %d bytes\n", sha256.Sum256(data), len(data))
			if code, got := ask("PUT", "/sum", bytes.NewReader(data)); code != 200 || got != want {
				t.Errorf("%d %q", code, got)
			}
			const size = 64 << 20
			c, err := net.Dial("tcp", e.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			_, _ = fmt.Fprintf(c, "GET /bytes/%d HTTP/1.0\r\n\r\n", size)
			answer := bufio.NewReader(c)
			resp, err := http.ReadResponse(answer, nil)
			if err != nil {
				t.Fatal(err)
			}
			_ = e.Process.Signal(syscall.SIGTERM)
			if n, err := io.Copy(io.Discard, resp.Body); n != size || err != nil {
				t.Errorf("%d bytes of %d, %v", n, size, err)
			}
			rest, _ := io.ReadAll(e.out)
			if err := e.Wait(); err != nil || e.errs.Len() > 0 || string(rest) != "stopped\n" {
				t.Errorf("%v, %q, %s", err, rest, &e.errs)
			}
		})
	}
}

// TestCurl is what README says, where there is a curl.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Skip("no curl here")
	}
	e := start(t, "epoll")
	defer e.stop(t)
	run := func(in string, args ...string) string {
		t.Helper()
		cmd := exec.Command(curl, append([]string{"-sS", "--max-time", "20"}, args...)...)
		cmd.Stdin = strings.NewReader(in)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	url := "http://" + e.addr
	if got := run("", url+"/", url+"/"); strings.Count(got, "hello 127.0.0.1:") != 2 {
		t.Errorf("%q", got)
	}
	if got := run("", url+"/bytes/1000000"); len(got) != 1_000_000 {
		t.Errorf("%d bytes", len(got))
	}
	data := strings.Repeat("up in chunks ", 100_000)
	want := fmt.Sprintf("%x  %d bytes\n", sha256.Sum256([]byte(data)), len(data))
	if got := run(data, "-T", "-", "-H", "Expect: 100-continue", url+"/sum"); got != want {
		t.Errorf("%q", got)
	}
}

func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, engine := range []string{"epoll", "net"} {
		cmd := exec.Command(os.Args[0], "-engine", engine, "-listen", l.Addr().String())
		cmd.Env = append(os.Environ(), mainEnv+"=1")
		out, err := cmd.CombinedOutput()
		if err == nil || bytes.Count(out, []byte{'\n'}) != 1 || !bytes.Contains(out, []byte("is taken: ")) {
			t.Errorf("%v: %s", err, out)
		}
	}
}
