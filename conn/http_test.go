package conn_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// site is a server of net/http over a NetListener, and a client of package net.
type site struct {
	t      *testing.T
	l      *conn.NetListener
	srv    *http.Server
	client *http.Client
	url    string
	served chan error // what Serve has returned
}

// newSite starts a server; with prepares it before.
func newSite(t *testing.T, g *reactor.Group, cfg conn.Config, h http.HandlerFunc, with func(*http.Server)) *site {
	t.Helper()
	l, err := conn.NetListen(g, "tcp", "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	tr := &http.Transport{DisableCompression: true, ForceAttemptHTTP2: true}
	s := &site{
		t: t, l: l, url: "http://" + l.Addr().String(), served: make(chan error, 1),
		srv:    &http.Server{Handler: h, ErrorLog: log.New(io.Discard, "", 0)},
		client: &http.Client{Transport: tr, Timeout: testutil.Timeout(30 * time.Second)},
	}
	if with != nil {
		with(s.srv)
	}
	if s.srv.TLSConfig != nil {
		cert := httptest.NewUnstartedServer(nil)
		cert.StartTLS()
		cert.Close()
		s.srv.TLSConfig.Certificates = cert.TLS.Certificates
		tr.TLSClientConfig = &tls.Config{RootCAs: cert.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs, ServerName: "example.com"}
		s.url = "https" + strings.TrimPrefix(s.url, "http")
		go func() { s.served <- s.srv.ServeTLS(l, "", "") }()
	} else {
		go func() { s.served <- s.srv.Serve(l) }()
	}
	return s
}

// end shuts the site down and wants that to be graceful.
func (s *site) end() {
	s.t.Helper()
	s.client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), testutil.Timeout(20*time.Second))
	defer cancel()
	if err := s.srv.Shutdown(ctx); err != nil {
		s.t.Errorf("Shutdown: %v", err)
	}
	if err := <-s.served; err != http.ErrServerClosed {
		s.t.Errorf("Serve: %v", err)
	}
	testutil.Eventually(s.t, 10*time.Second, "the end of all connections", func() bool { return s.l.Stats().Open == 0 })
}

func (s *site) do(method, path string, body io.Reader) (*http.Response, []byte) {
	s.t.Helper()
	req, err := http.NewRequest(method, s.url+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return s.send(req)
}

func (s *site) send(req *http.Request) (*http.Response, []byte) {
	s.t.Helper()
	resp, err := s.client.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	got, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return resp, got
}

// TestHTTP is an ordinary day of a server: requests one after another on one
// connection, answers of known and unknown length, large bodies in each direction
// and in both at once.
func TestHTTP(t *testing.T) {
	large := make([]byte, 5<<20+3)
	_, _ = rand.NewChaCha8([32]byte{2}).Read(large)
	handle := func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hello":
			_, _ = io.WriteString(w, "hello "+r.RemoteAddr)
		case "/chunked":
			for i := range 10 {
				_, _ = fmt.Fprintf(w, "line %d\n", i)
				w.(http.Flusher).Flush()
			}
		case "/large":
			w.Header().Set("Content-Length", fmt.Sprint(len(large)))
			_, _ = w.Write(large)
		case "/sum":
			h := sha256.New()
			_, _ = io.Copy(h, r.Body)
			_, _ = fmt.Fprintf(w, "%x", h.Sum(nil))
		case "/echo":
			_ = http.NewResponseController(w).EnableFullDuplex()
			_, _ = io.Copy(w, r.Body)
		case "/reader":
			_, _ = io.Copy(w, bytes.NewReader(large))
		}
	}
	test := func(t *testing.T, s *site, proto string) {
		defer s.end()
		reused := 0
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
			if i.Reused {
				reused++
			}
		}})
		for i := range 20 {
			req, _ := http.NewRequestWithContext(ctx, "GET", s.url+"/hello", nil)
			if resp, got := s.send(req); !strings.HasPrefix(string(got), "hello 127.0.0.1:") || resp.Proto != proto {
				t.Fatalf("request %d: %s %q", i, resp.Proto, got)
			}
		}
		if reused != 19 {
			t.Errorf("%d of 20 requests on a connection that was there", reused)
		}
		if resp, got := s.do("GET", "/chunked", nil); len(got) != 70 || proto == "HTTP/1.1" && resp.TransferEncoding == nil {
			t.Errorf("%q, encoded %q", got, resp.TransferEncoding)
		}
		want := fmt.Sprintf("%x", sha256.Sum256(large))
		for _, path := range []string{"/large", "/reader"} {
			if _, got := s.do("GET", path, nil); !bytes.Equal(got, large) {
				t.Errorf("%s: %d bytes of %d came down, or others", path, len(got), len(large))
			}
		}
		if _, got := s.do("POST", "/sum", bytes.NewReader(large)); string(got) != want {
			t.Errorf("other bytes went up: %s", got)
		}
		if _, got := s.do("POST", "/sum", io.MultiReader(bytes.NewReader(large))); string(got) != want {
			t.Errorf("other bytes went up in chunks: %s", got)
		}
		if _, got := s.do("POST", "/echo", io.MultiReader(bytes.NewReader(large))); !bytes.Equal(got, large) {
			t.Errorf("%d bytes of %d came back, or others", len(got), len(large))
		}
	}
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		t.Run("plain", func(t *testing.T) { test(t, newSite(t, g, conn.Config{}, handle, nil), "HTTP/1.1") })
		t.Run("small marks", func(t *testing.T) {
			test(t, newSite(t, g, conn.Config{HighWater: 1000, ReadAhead: 100}, handle, nil), "HTTP/1.1")
		})
		for name, version := range map[string]uint16{"TLS 1.2": tls.VersionTLS12, "TLS 1.3": tls.VersionTLS13} {
			t.Run(name, func(t *testing.T) {
				test(t, newSite(t, g, conn.Config{}, handle, func(s *http.Server) {
					s.TLSConfig = &tls.Config{MaxVersion: version, NextProtos: []string{"http/1.1"}}
					s.TLSNextProto = map[string]func(*http.Server, *tls.Conn, http.Handler){}
				}), "HTTP/1.1")
			})
		}
		t.Run("HTTP 2", func(t *testing.T) {
			test(t, newSite(t, g, conn.Config{}, handle, func(s *http.Server) { s.TLSConfig = &tls.Config{} }), "HTTP/2.0")
		})
	})
}

// TestHTTPShutdown holds that Shutdown closes who is idle, lets who is served
// finish, and takes nobody new.
func TestHTTPShutdown(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		served, finish := make(chan struct{}), make(chan struct{})
		s := newSite(t, g, conn.Config{}, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				close(served)
				<-finish
			}
			_, _ = io.WriteString(w, "done")
		}, nil)
		idle, err := net.Dial("tcp", s.l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer idle.Close()
		_, _ = io.WriteString(idle, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		if resp, err := http.ReadResponse(bufio.NewReader(idle), nil); err != nil || resp.StatusCode != 200 {
			t.Fatalf("%v, %v", resp, err)
		}
		answer := make(chan string, 1)
		go func() {
			_, got := s.do("GET", "/slow", nil)
			answer <- string(got)
		}()
		<-served
		ended := make(chan struct{})
		go func() { s.end(); close(ended) }()
		_ = idle.SetReadDeadline(time.Now().Add(testutil.Timeout(10 * time.Second)))
		if _, err := io.ReadAll(idle); err != nil {
			t.Errorf("an idle connection: %v", err)
		}
		if c, err := net.Dial("tcp", s.l.Addr().String()); err == nil {
			_ = c.SetReadDeadline(time.Now().Add(testutil.Timeout(10 * time.Second)))
			if n, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, net.ErrClosed) {
				t.Errorf("a connection behind Shutdown: %d, %v", n, err)
			}
			_ = c.Close()
		}
		select {
		case <-ended:
			t.Error("Shutdown has not waited")
		default:
		}
		close(finish)
		if got := <-answer; got != "done" {
			t.Errorf("%q", got)
		}
		<-ended
	})
}

// TestHTTPHijack takes a connection over in the middle of a pipeline.
func TestHTTPHijack(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		var wg sync.WaitGroup
		wg.Add(1)
		s := newSite(t, g, conn.Config{}, func(w http.ResponseWriter, _ *http.Request) {
			defer wg.Done()
			c, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			if _, ok := c.(*conn.NetConn); !ok {
				t.Errorf("hijacked a %T", c)
			}
			_, _ = io.WriteString(rw, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
			_ = rw.Flush()
			_, _ = io.Copy(c, rw)
		}, nil)
		c, err := net.Dial("tcp", s.l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(testutil.Timeout(10 * time.Second)))
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: y\r\n\r\nat once, ")
		_, _ = io.WriteString(c, "and later")
		_ = c.(*net.TCPConn).CloseWrite()
		got, err := io.ReadAll(c)
		if string(got) != "HTTP/1.1 101 Switching Protocols\r\n\r\nat once, and later" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		wg.Wait()
		s.end()
	})
}

// TestHTTPAttach has a handler of a loop go on with what began as HTTP, with the
// bytes that net/http had read ahead; over both kinds of listeners.
func TestHTTPAttach(t *testing.T) {
	looptest.Engines(t, reactor.Config{Loops: 2}, func(t *testing.T, g *reactor.Group) {
		plain, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		bridge, err := conn.NetListen(g, "tcp", "127.0.0.1:0", conn.Config{})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range []net.Listener{plain, bridge} {
			srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				c, rw, err := http.NewResponseController(w).Hijack()
				if err != nil {
					t.Error(err)
					return
				}
				_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
				heard, _ := rw.Reader.Peek(rw.Reader.Buffered())
				if err := conn.Attach(g.Loop(1), c, echo(), conn.Config{}, heard); err != nil {
					t.Error(err)
				}
			})}
			served := make(chan error, 1)
			go func() { served <- srv.Serve(l) }()
			c, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			_ = c.SetDeadline(time.Now().Add(testutil.Timeout(10 * time.Second)))
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: y\r\n\r\nat once, ")
			answer := make([]byte, len("HTTP/1.1 101 Switching Protocols\r\n\r\n"))
			if _, err := io.ReadFull(c, answer); err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(c, "and later")
			_ = c.(*net.TCPConn).CloseWrite()
			if got, err := io.ReadAll(c); string(got) != "at once, and later" || err != nil {
				t.Errorf("%T: %q, %v", l, got, err)
			}
			_ = c.Close()
			_ = srv.Close()
			<-served
		}
	})
}

// TestHTTPContinue holds that a client which asks before it sends is answered,
// and that a refused one sends nothing.
func TestHTTPContinue(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		s := newSite(t, g, conn.Config{}, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/refuse" {
				http.Error(w, "no", http.StatusForbidden)
				return
			}
			body, _ := io.ReadAll(r.Body)
			_, _ = w.Write(body)
		}, nil)
		defer s.end()
		s.client.Transport.(*http.Transport).ExpectContinueTimeout = time.Hour
		for path, want := range map[string]bool{"/refuse": false, "/take": true} {
			asked := false
			ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { asked = true }})
			body := &countedReader{r: strings.NewReader("the body")}
			req, _ := http.NewRequestWithContext(ctx, "POST", s.url+path, body)
			req.Header.Set("Expect", "100-continue")
			_, got := s.send(req)
			if want != (string(got) == "the body") || asked != want || (body.n > 0) != want {
				t.Errorf("%s: %q, told to go on: %v, %d bytes of the body read", path, got, asked, body.n)
			}
		}
	})
}

type countedReader struct {
	r io.Reader
	n int
}

func (c *countedReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}

// TestHTTPDisconnect holds that the context of a request ends when the client has
// gone, by a close and by a reset.
func TestHTTPDisconnect(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		served, cancelled := make(chan struct{}), make(chan error)
		s := newSite(t, g, conn.Config{}, func(_ http.ResponseWriter, r *http.Request) {
			served <- struct{}{}
			select {
			case <-r.Context().Done():
				cancelled <- r.Context().Err()
			case <-time.After(testutil.Timeout(10 * time.Second)):
				cancelled <- errors.New("the client has gone, and nobody was told")
			}
		}, nil)
		defer s.end()
		for _, linger := range []int{-1, 0} {
			c, err := net.Dial("tcp", s.l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			<-served
			_ = c.(*net.TCPConn).SetLinger(linger)
			_ = c.Close()
			if err := <-cancelled; err != context.Canceled {
				t.Errorf("linger %d: %v", linger, err)
			}
		}
	})
}
