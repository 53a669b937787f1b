package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

func TestMain(m *testing.M) {
	runtime.GOMAXPROCS(max(8, runtime.GOMAXPROCS(0)))
	testutil.Main(m)
}

// site is a server on an engine, and what it serves.
type site struct {
	t     *testing.T
	dir   string
	url   string
	group *reactor.Group
	large []byte
	http  *http.Client
}

// sites runs a test on each engine.
func sites(t *testing.T, test func(t *testing.T, s *site)) {
	large := make([]byte, 3<<20)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range large {
		large[i] = byte(rng.Uint32())
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{
		"site/large.bin": large, "site/small.txt": []byte("a small file"), "site/empty": nil,
		"site/sub/index.html": []byte("<p>index"), "site/with space+%.txt": []byte("odd"), "secret": []byte("secret"),
	} {
		name = filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for link, to := range map[string]string{"out": "../secret", "in": "small.txt", "abs": filepath.Join(dir, "secret"), "loop": "loop"} {
		if err := os.Symlink(to, filepath.Join(dir, "site", link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "site", "fifo"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []reactor.EngineKind{reactor.Uring, reactor.Epoll} {
		t.Run(kind.String(), func(t *testing.T) {
			g, err := reactor.Start(reactor.Config{Loops: 1, Engine: kind, Logger: slog.New(slog.DiscardHandler)})
			if kind == reactor.Uring {
				testutil.SkipIfKernelOlder(t, "6.1", "io_uring", err)
			}
			if err != nil {
				t.Fatal(err)
			}
			defer g.Close()
			root, err := os.OpenRoot(filepath.Join(dir, "site"))
			if err != nil {
				t.Fatal(err)
			}
			defer root.Close()
			l, err := conn.Listen(g, "tcp", "127.0.0.1:0", &server{root: root}, conn.Config{HighWater: 64 << 10, PauseOnFull: true})
			if err != nil {
				t.Fatal(err)
			}
			transport := &http.Transport{DisableCompression: true}
			defer transport.CloseIdleConnections()
			test(t, &site{t: t, dir: dir, url: "http://" + l.Addr().String(), group: g, large: large, http: &http.Client{
				Transport: transport, Timeout: testutil.Timeout(30 * time.Second),
				CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
			}})
		})
	}
}

// get asks for a path with headers, and returns the answer and its body.
func (s *site) get(method, path string, headers ...string) (*http.Response, []byte) {
	s.t.Helper()
	r, err := http.NewRequest(method, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	a, err := s.http.Do(r)
	if err != nil {
		s.t.Fatalf("%s %s: %v", method, path, err)
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		s.t.Fatalf("%s %s: %v behind %d bytes", method, path, err, len(body))
	}
	return a, body
}

// dial returns a connection for requests that no client makes.
func (s *site) dial() *net.TCPConn {
	s.t.Helper()
	c, err := net.Dial("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		s.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(testutil.Timeout(30 * time.Second)))
	s.t.Cleanup(func() { _ = c.Close() })
	return c.(*net.TCPConn)
}

// TestFiles asks for what is there and what is not with the client of net/http.
func TestFiles(t *testing.T) {
	sites(t, func(t *testing.T, s *site) {
		for _, tc := range []struct {
			path   string
			status int
			body   string
		}{
			{"/small.txt", 200, "a small file"}, {"/empty", 200, ""}, {"/large.bin", 200, string(s.large)},
			{"/sub/", 200, "<p>index"}, {"/sub", 301, ""}, {"/with%20space+%25.txt", 200, "odd"}, {"/in", 200, "a small file"},
			{"/small.txt?query", 200, "a small file"}, {"//small.txt", 200, "a small file"},
			{"/none", 404, ""}, {"/", 404, ""}, {"/small.txt/", 404, ""}, {"/small.txt/more", 404, ""},
			{"/fifo", 404, ""}, {"/loop", 404, ""}, {"/nul%00", 404, ""}, {"/" + strings.Repeat("x", 300), 404, ""},
			// Ways out of the root, of which each ends in it or nowhere.
			{"/../secret", 404, ""}, {"/..%2fsecret", 404, ""}, {"/sub/../../secret", 404, ""}, {"/%2e%2e/secret", 404, ""},
			{"/out", 404, ""}, {"/abs", 404, ""}, {"/sub/..%2f..%2f..%2fsecret", 404, ""},
		} {
			a, body := s.get("GET", tc.path)
			if a.StatusCode != tc.status || tc.status == 200 && string(body) != tc.body {
				t.Errorf("GET %s: %d with %d bytes, want %d with %d", tc.path, a.StatusCode, len(body), tc.status, len(tc.body))
			}
			h, body := s.get("HEAD", tc.path)
			if h.StatusCode != tc.status || len(body) > 0 || h.ContentLength != a.ContentLength {
				t.Errorf("HEAD %s: %d, length %d, with %d bytes", tc.path, h.StatusCode, h.ContentLength, len(body))
			}
		}
		if a, _ := s.get("GET", "/sub"); a.Header.Get("Location") != "/sub/" {
			t.Errorf("redirected to %q", a.Header.Get("Location"))
		}
		if a, _ := s.get("GET", "//evil.example/.."); strings.HasPrefix(a.Header.Get("Location"), "//") {
			t.Errorf("redirected to %q", a.Header.Get("Location"))
		}
		if a, _ := s.get("POST", "/small.txt"); a.StatusCode != 405 || a.Header.Get("Allow") == "" {
			t.Errorf("POST: %d", a.StatusCode)
		}
		if a, _ := s.get("GET", "/sub/"); !strings.HasPrefix(a.Header.Get("Content-Type"), "text/html") {
			t.Errorf("an index is %q", a.Header.Get("Content-Type"))
		}
	})
}

// TestRanges asks for parts of files, by every kind of range there is.
func TestRanges(t *testing.T) {
	sites(t, func(t *testing.T, s *site) {
		n := len(s.large)
		for _, tc := range []struct {
			path, header string
			status       int
			from, to     int
		}{
			{"/large.bin", "bytes=0-0", 206, 0, 1}, {"/large.bin", "bytes=100-199", 206, 100, 200},
			{"/large.bin", "bytes=1000-", 206, 1000, n}, {"/large.bin", "bytes=-1", 206, n - 1, n},
			{"/large.bin", "bytes=-70000", 206, n - 70000, n}, {"/large.bin", "bytes=-99999999999", 206, 0, n},
			{"/large.bin", "bytes=0-99999999999999999999", 206, 0, n}, {"/large.bin", fmt.Sprintf("bytes=%d-", n-1), 206, n - 1, n},
			{"/large.bin", fmt.Sprintf("bytes=%d-", n), 416, 0, 0}, {"/large.bin", "bytes=99999999999999999999-", 416, 0, 0},
			{"/large.bin", "bytes=-0", 416, 0, 0}, {"/empty", "bytes=0-", 416, 0, 0}, {"/empty", "bytes=-5", 416, 0, 0},
			{"/large.bin", "bytes=5-4", 200, 0, n}, {"/large.bin", "bytes=0-1,5-6", 200, 0, n}, {"/large.bin", "bytes=x-", 200, 0, n},
			{"/large.bin", "lines=0-1", 200, 0, n}, {"/large.bin", "bytes=-", 200, 0, n}, {"/large.bin", "bytes=+1-2", 200, 0, n},
		} {
			a, body := s.get("GET", tc.path, "Range", tc.header)
			want, is := s.large[tc.from:tc.to], ""
			switch tc.status {
			case 206:
				is = fmt.Sprintf("bytes %d-%d/%d", tc.from, tc.to-1, n)
			case 416:
				is = fmt.Sprintf("bytes */%d", map[string]int{"/large.bin": n}[tc.path])
			}
			if a.StatusCode != tc.status || a.Header.Get("Content-Range") != is || tc.status != 416 && !bytes.Equal(body, want) {
				t.Errorf("%s %q: %d, %q, %d bytes; want %d, %q, %d", tc.path, tc.header, a.StatusCode, a.Header.Get("Content-Range"), len(body), tc.status, is, len(want))
			}
		}
		if a, body := s.get("HEAD", "/large.bin", "Range", "bytes=0-0"); a.StatusCode != 200 || a.ContentLength != int64(n) || len(body) > 0 {
			t.Errorf("HEAD with a range: %d, length %d", a.StatusCode, a.ContentLength)
		}
	})
}

// TestConditions holds that who has a file does not get it, and that a range is
// only of the file that it was begun of.
func TestConditions(t *testing.T) {
	sites(t, func(t *testing.T, s *site) {
		a, _ := s.get("GET", "/small.txt")
		etag, date := a.Header.Get("ETag"), a.Header.Get("Last-Modified")
		at, err := http.ParseTime(date)
		if err != nil || etag == "" {
			t.Fatalf("ETag %q, Last-Modified %q", etag, date)
		}
		before, after := at.Add(-time.Second).Format(http.TimeFormat), at.Add(time.Hour).Format(http.TimeFormat)
		for _, tc := range []struct {
			status  int
			headers []string
		}{
			{304, []string{"If-None-Match", etag}}, {304, []string{"If-None-Match", `"other", W/` + etag}}, {304, []string{"If-None-Match", "*"}},
			{200, []string{"If-None-Match", `"other"`}}, {200, []string{"If-None-Match", `"other"`, "If-Modified-Since", after}},
			{304, []string{"If-Modified-Since", date}}, {304, []string{"If-Modified-Since", after}}, {200, []string{"If-Modified-Since", before}},
			{200, []string{"If-Modified-Since", "yesterday"}},
			{206, []string{"Range", "bytes=0-0", "If-Range", etag}}, {206, []string{"Range", "bytes=0-0", "If-Range", date}},
			{200, []string{"Range", "bytes=0-0", "If-Range", `"other"`}}, {200, []string{"Range", "bytes=0-0", "If-Range", before}},
			{200, []string{"Range", "bytes=0-0", "If-Range", "W/" + etag}},
		} {
			if a, body := s.get("GET", "/small.txt", tc.headers...); a.StatusCode != tc.status || tc.status == 304 && len(body) > 0 {
				t.Errorf("%q: %d with %d bytes, want %d", tc.headers, a.StatusCode, len(body), tc.status)
			}
		}
	})
}

// TestPipelined sends many requests at once, cut anywhere: the answers are those
// to the requests, in order. An earlier draft answered with another's file.
func TestPipelined(t *testing.T) {
	sites(t, func(t *testing.T, s *site) {
		for _, cut := range []int{1 << 20, 1000, 7} {
			c := s.dial()
			var requests strings.Builder
			type want struct {
				method, path, span string
			}
			var wants []want
			for i := range 120 {
				w := want{"GET", "/large.bin", fmt.Sprintf("bytes=%d-%d", i*1000, i*1000+[]int{9, 5000, 70_000, 200_000}[i%4])}
				switch {
				case i%5 == 1:
					w = want{"GET", "/small.txt", ""}
				case i%5 == 3:
					w = want{"HEAD", "/large.bin", ""}
				case i%7 == 2:
					w = want{"GET", "/none", ""}
				}
				wants = append(wants, w)
				fmt.Fprintf(&requests, "%s %s HTTP/1.1\r\nHost: x\r\nRange: %s\r\n\r\n", w.method, w.path, w.span)
				if i%9 == 0 {
					requests.WriteString("\r\n") // To be ignored.
				}
			}
			go func() {
				for p := requests.String(); len(p) > 0; p = p[min(cut, len(p)):] {
					_, _ = io.WriteString(c, p[:min(cut, len(p))])
				}
				_ = c.CloseWrite()
			}()
			r := bufio.NewReader(c)
			for i, w := range wants {
				a, err := http.ReadResponse(r, &http.Request{Method: w.method})
				if err != nil {
					t.Fatalf("answer %d: %v", i, err)
				}
				body, err := io.ReadAll(a.Body)
				if err != nil {
					t.Fatalf("answer %d: %v", i, err)
				}
				from, n, _ := span(w.span, int64(len(s.large)))
				ok := map[string]bool{
					"/large.bin": w.method == "GET" && a.StatusCode == 206 && bytes.Equal(body, s.large[from:from+n]) || w.method == "HEAD" && a.ContentLength == int64(len(s.large)),
					"/small.txt": a.StatusCode == 200 && string(body) == "a small file",
					"/none":      a.StatusCode == 404,
				}[w.path]
				if !ok {
					t.Fatalf("answer %d to %v: %d with %d bytes", i, w, a.StatusCode, len(body))
				}
			}
			if _, err := r.ReadByte(); err != io.EOF {
				t.Errorf("behind the last answer: %v", err)
			}
		}
	})
}

// TestConnections holds when a connection stays and when it ends.
func TestConnections(t *testing.T) {
	sites(t, func(t *testing.T, s *site) {
		for _, tc := range []struct {
			request string
			status  int
			stays   bool
		}{
			{"GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n", 200, true},
			{"GET /large.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 200, false},
			{"GET /large.bin HTTP/1.0\r\n\r\n", 200, false},
			{"GET /small.txt HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", 200, true},
			{"GET /small.txt HTTP/1.1\r\n\r\n", 400, false},
			{"GET /small.txt HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", 413, false},
			{"GET /small.txt HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 413, false},
			{"GET /small.txt HTTP/2.0\r\nHost: x\r\n\r\n", 400, false},
			{"DELETE /small.txt HTTP/1.1\r\nHost: x\r\n\r\n", 405, true},
			{"nonsense\r\n\r\n", 400, false},
			{"GET /" + strings.Repeat("x", headMost) + " HTTP/1.1\r\nHost: x\r\n\r\n", 431, false},
		} {
			c := s.dial()
			_, _ = io.WriteString(c, tc.request)
			r := bufio.NewReader(c)
			a, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Errorf("%.40q: %v", tc.request, err)
				continue
			}
			body, err := io.ReadAll(a.Body)
			if err != nil || a.StatusCode != tc.status || tc.status == 200 && len(body) != int(a.ContentLength) {
				t.Errorf("%.40q: %d with %d bytes of %d, %v", tc.request, a.StatusCode, len(body), a.ContentLength, err)
			}
			if a.Close == tc.stays {
				t.Errorf("%.40q: says that the connection ends: %v", tc.request, a.Close)
			}
			if !tc.stays {
				if _, err := r.ReadByte(); err != io.EOF {
					t.Errorf("%.40q: behind the answer: %v", tc.request, err)
				}
				continue
			}
			_, _ = io.WriteString(c, "GET /small.txt HTTP/1.1\r\nHost: x\r\n\r\n")
			if a, err := http.ReadResponse(r, nil); err != nil || a.StatusCode != 200 {
				t.Errorf("%.40q: the next answer: %v", tc.request, err)
			}
		}
	})
}

// TestSlowReaders has many downloads whose readers have stopped, and one that goes
// on pipelining without reading: neither costs more than its bound.
func TestSlowReaders(t *testing.T) {
	sites(t, func(t *testing.T, s *site) {
		s.get("GET", "/large.bin")
		held := func() (n int) {
			for _, st := range s.group.Stats() {
				n += st.InUse
			}
			return n
		}
		// io_uring has 64 small blocks ready, and 128 once as many requests come in one turn.
		base := held() + 64*reactor.SmallBlock
		for range 100 {
			_, _ = io.WriteString(s.dial(), "GET /large.bin HTTP/1.1\r\nHost: x\r\n\r\n")
		}
		testutil.Eventually(t, 5*time.Second, "no memory", func() bool { return held() <= base })
		flood := s.dial()
		_ = flood.SetWriteDeadline(time.Now().Add(300 * time.Millisecond))
		for err := error(nil); err == nil; {
			_, err = io.WriteString(flood, strings.Repeat("GET /none HTTP/1.1\r\nHost: x\r\n\r\n", 1000))
		}
		// Its answers up to the mark, requests that were not heard, and what an engine
		// holds ready for one who sends much, which is 1 MiB for io_uring.
		if n := held() - base; n > 2<<20 {
			t.Errorf("%d bytes in blocks beside readers that have stopped", n)
		}
		if a, body := s.get("GET", "/small.txt"); a.StatusCode != 200 || len(body) == 0 {
			t.Error("no answer beside readers that have stopped")
		}
	})
}

// TestCurl asks the way people do, where curl is installed.
func TestCurl(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Log("curl is not installed: TestRanges and TestFiles ask for the same by net/http")
		return
	}
	sites(t, func(t *testing.T, s *site) {
		run := func(args ...string) []byte {
			t.Helper()
			out, err := exec.Command(curl, append([]string{"-sS", "--max-time", "30"}, args...)...).Output()
			if err != nil {
				t.Fatalf("curl %q: %v", args, err)
			}
			return out
		}
		if got := run(s.url + "/large.bin"); !bytes.Equal(got, s.large) {
			t.Error("not the file")
		}
		if got := run("-r", "1000-1999", s.url+"/large.bin"); !bytes.Equal(got, s.large[1000:2000]) {
			t.Error("not the range")
		}
		if got := run("-r", "-500", s.url+"/large.bin"); !bytes.Equal(got, s.large[len(s.large)-500:]) {
			t.Error("not the last bytes")
		}
		if got := string(run("-I", s.url+"/small.txt")); !strings.HasPrefix(got, "HTTP/1.1 200 OK\r\n") || !strings.Contains(got, "Content-Length: 12\r\n") {
			t.Errorf("the head is %q", got)
		}
		part := filepath.Join(t.TempDir(), "part")
		if err := os.WriteFile(part, s.large[:123_456], 0o600); err != nil {
			t.Fatal(err)
		}
		run("-C", "-", "-o", part, s.url+"/large.bin")
		if got, err := os.ReadFile(part); err != nil || !bytes.Equal(got, s.large) {
			t.Errorf("resumed to %d bytes, %v", len(got), err)
		}
		if got := run("--path-as-is", "-o", "/dev/null", "-w", "%{http_code}", s.url+"/../../secret"); string(got) != "404" {
			t.Errorf("out of the root: %s", got)
		}
		both := run(s.url+"/small.txt", s.url+"/sub/", "-w", "%{num_connects}")
		if string(both) != "a small file1<p>index0" {
			t.Errorf("two files on one connection: %q", both)
		}
	})
}

// TestRun starts the program as it is and ends it.
func TestRun(t *testing.T) {
	for _, args := range [][]string{{"extra"}, {"-engine", "none"}, {"-root", "/none/such"}, {"-listen", "nowhere"}} {
		if err := run(args); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
	ended := make(chan error, 1)
	guard := make(chan os.Signal, 8) // A signal before run has asked for it must not end the test.
	signal.Notify(guard, syscall.SIGTERM)
	defer signal.Stop(guard)
	go func() { ended <- run([]string{"-listen", "127.0.0.1:0", "-loops", "1"}) }()
	for {
		select {
		case err := <-ended:
			if err != nil {
				t.Error(err)
			}
			return
		case <-time.After(20 * time.Millisecond):
			_ = syscall.Kill(os.Getpid(), syscall.SIGTERM)
		}
	}
}
