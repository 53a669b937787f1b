package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// service is the program, run by its test.
type service struct {
	t       *testing.T
	clients string
	inner   string
	http    *http.Client
	dialed  []net.Conn
	stop    chan os.Signal // of one place: it is read once
	ended   chan error
}

var started = regexp.MustCompile(`^clients at (\S+), HTTP at (\S+)\n$`)

// onEngines starts the service with each engine, and stops it behind fn.
func onEngines(t *testing.T, fn func(t *testing.T, s *service)) {
	for _, engine := range []string{"uring", "epoll"} {
		t.Run(engine, func(t *testing.T) {
			if engine == "uring" {
				g, err := reactor.Start(reactor.Config{Loops: 1, Engine: reactor.Uring})
				testutil.SkipIfKernelOlder(t, "6.1", "io_uring", err)
				if err := g.Close(); err != nil {
					t.Fatal(err)
				}
			}
			s := start(t, engine)
			fn(t, s)
			s.finish()
		})
	}
}

func start(t *testing.T, engine string) *service {
	t.Helper()
	s := &service{t: t, stop: make(chan os.Signal, 1), ended: make(chan error, 1), http: &http.Client{Transport: &http.Transport{}}}
	out, in := io.Pipe()
	go func() {
		s.ended <- run([]string{"-listen", "127.0.0.1:0", "-inner", "127.0.0.1:0", "-engine", engine}, in, s.stop)
		in.Close()
	}()
	line, err := bufio.NewReader(out).ReadString('\n')
	m := started.FindStringSubmatch(line)
	if m == nil {
		t.Fatalf("it began with %q, %v", line, err)
	}
	s.clients, s.inner = m[1], m[2]
	return s
}

// interrupt stops the service, as Ctrl-C does.
func (s *service) interrupt() {
	s.http.CloseIdleConnections()
	select {
	case s.stop <- syscall.SIGINT:
	default: // It has been interrupted already.
	}
}

// finish stops the service and waits for its end.
func (s *service) finish() {
	s.t.Helper()
	s.interrupt()
	for _, c := range s.dialed { // Else the service would wait for each to hear of the end.
		c.Close()
	}
	select {
	case err := <-s.ended:
		if err != nil {
			s.t.Errorf("it ended with %v", err)
		}
	case <-time.After(testutil.Timeout(20 * time.Second)):
		s.t.Fatal("it does not end")
	}
}

// user is a client of the outer port.
type user struct {
	net.Conn
	lines *bufio.Reader
	t     *testing.T
}

func (s *service) dial() *user {
	s.t.Helper()
	c, err := net.Dial("tcp", s.clients)
	if err != nil {
		s.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(testutil.Timeout(20 * time.Second)))
	s.dialed = append(s.dialed, c)
	return &user{Conn: c, lines: bufio.NewReader(c), t: s.t}
}

// enter connects as uid.
func (s *service) enter(uid string) *user {
	s.t.Helper()
	u := s.dial()
	fmt.Fprintf(u, "%s\n", uid)
	u.hears("OK " + uid)
	return u
}

// hears expects a line.
func (u *user) hears(want string) {
	u.t.Helper()
	got, err := u.lines.ReadString('\n')
	if err != nil || got != want+"\n" {
		u.t.Errorf("heard %q, %v; want %q", got, err, want)
	}
}

// ends expects the end of file.
func (u *user) ends() {
	u.t.Helper()
	if rest, err := io.ReadAll(u.lines); err != nil || len(rest) > 0 {
		u.t.Errorf("heard %q, %v; want the end", rest, err)
	}
	u.Close()
}

// post sends a message through the inner port, and returns the answer.
func (s *service) post(path, message string) (code int, r reach) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), testutil.Timeout(20*time.Second))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.inner+path, strings.NewReader(message))
	if err != nil {
		s.t.Fatal(err)
	}
	response, err := s.http.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	if err == nil && strings.HasPrefix(response.Header.Get("Content-Type"), "application/json") {
		err = json.Unmarshal(b, &r)
	}
	if err != nil {
		s.t.Errorf("POST %s: %v in %q", path, err, b)
	}
	return response.StatusCode, r
}

// here asks who is here until the answer is this one.
func (s *service) here(want string) {
	s.t.Helper()
	testutil.Eventually(s.t, 20*time.Second, want, func() bool {
		response, err := s.http.Get(s.inner + "/users")
		if err != nil {
			s.t.Fatal(err)
		}
		defer response.Body.Close()
		b, err := io.ReadAll(response.Body)
		return err == nil && string(b) == want+"\n"
	})
}

// TestPush is the service at work: to one user with several connections, to
// another, to nobody, and to all; and the map is clean when they have gone.
func TestPush(t *testing.T) {
	onEngines(t, func(t *testing.T, s *service) {
		alice, again, bob := s.enter("alice"), s.enter("alice"), s.enter("bob@example.com")
		s.here(`{"connections":3,"users":2}`)
		for i := range 20 {
			message := fmt.Sprintf("message %d", i)
			if code, r := s.post("/users/alice", message); code != 200 || r != (reach{Taken: 2}) {
				t.Errorf("to alice: %d, %+v", code, r)
			}
			alice.hears(message)
			again.hears(message)
		}
		if code, r := s.post("/users/bob%40example.com", "for bob\r\n"); code != 200 || r != (reach{Taken: 1}) {
			t.Errorf("to bob: %d, %+v", code, r)
		}
		bob.hears("for bob")
		if code, r := s.post("/users/carol", "for nobody"); code != 404 || r != (reach{}) {
			t.Errorf("to carol: %d, %+v", code, r)
		}
		fmt.Fprintf(bob, "a heartbeat\nand another\n")
		if code, r := s.post("/all", "for all"); code != 200 || r != (reach{Taken: 3}) {
			t.Errorf("to all: %d, %+v", code, r)
		}
		for _, u := range []*user{alice, again, bob} {
			u.hears("for all")
		}

		again.Close()
		bob.Close()
		s.here(`{"connections":1,"users":1}`)
		if code, r := s.post("/users/bob@example.com", "too late"); code != 404 {
			t.Errorf("to bob, who has gone: %d, %+v", code, r)
		}
		if code, r := s.post("/users/alice", "still here"); code != 200 || r != (reach{Taken: 1}) {
			t.Errorf("to alice: %d, %+v", code, r)
		}
		alice.hears("still here")
		s.interrupt()
		alice.hears("BYE")
		alice.ends()
	})
}

// TestRefused has clients and pushers that do not keep to the protocol.
func TestRefused(t *testing.T) {
	onEngines(t, func(t *testing.T, s *service) {
		for _, first := range []string{"\n", "two words\n", strings.Repeat("x", maxUID+1) + "\n", strings.Repeat("y", 5000), "\x00\n", "über\n"} {
			u := s.dial()
			fmt.Fprint(u, first)
			u.hears("ERR " + errUID.Error())
			u.ends()
		}
		longest := strings.Repeat("z", maxUID)
		u := s.dial()
		for _, b := range []byte(longest + "\r\n") { // A byte at a time.
			_, _ = u.Write([]byte{b})
			time.Sleep(50 * time.Microsecond)
		}
		u.hears("OK " + longest)
		s.here(`{"connections":1,"users":1}`)
		for message, want := range map[string]int{
			"": 400, "\n": 400, "two\nlines": 400,
			strings.Repeat("m", maxBody+1): 413, strings.Repeat("m", maxBody): 200,
		} {
			if code, _ := s.post("/users/"+longest, message); code != want {
				t.Errorf("%d bytes: %d, want %d", len(message), code, want)
			}
		}
		u.hears(strings.Repeat("m", maxBody))
		if response, err := s.http.Get(s.inner + "/all"); err != nil || response.Body.Close() != nil || response.StatusCode != 405 {
			t.Errorf("GET /all: %+v, %v", response, err)
		}
	})
}

// TestSlowUser: who does not read is refused messages, by count, while others are
// served; and is let go of.
func TestSlowUser(t *testing.T) {
	onEngines(t, func(t *testing.T, s *service) {
		slow, fast := s.enter("slow"), s.enter("fast")
		message := strings.Repeat("m", maxBody)
		refused := 0
		for range 2000 { // 128 MB: more than the sockets of any host take.
			code, r := s.post("/users/slow", message)
			if code == 503 && r == (reach{Refused: 1}) {
				refused++
				break
			}
		}
		if refused == 0 {
			t.Error("a client that does not read was never refused a message")
		}
		for range 20 {
			if code, r := s.post("/users/fast", "short"); code != 200 || r != (reach{Taken: 1}) {
				t.Errorf("to the other: %d, %+v", code, r)
			}
			fast.hears("short")
		}
		if code, r := s.post("/all", "short"); code != 200 || r.Taken < 1 || r.Taken+r.Refused != 2 {
			t.Errorf("to both: %d, %+v", code, r)
		}
		slow.Close()
		s.here(`{"connections":1,"users":1}`)
		fast.hears("short")
	})
}

// TestPortTaken: it says so, and leaves nothing.
func TestPortTaken(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, args := range [][]string{
		{"-engine", "epoll", "-listen", l.Addr().String(), "-inner", "127.0.0.1:0"},
		{"-engine", "epoll", "-listen", "127.0.0.1:0", "-inner", l.Addr().String()},
	} {
		if err := run(args, io.Discard, nil); err == nil || !strings.Contains(err.Error(), "address already in use") {
			t.Errorf("%q: %v", args, err)
		}
	}
}
