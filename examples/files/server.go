package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/conn"
)

// headMost bounds the head of a request.
const headMost = 16 << 10

// endOfHead is where it ends.
var endOfHead = []byte("\r\n\r\n")

// server is the handler of all connections.
type server struct {
	conn.NopHandler
	root *os.Root
}

// client is what a connection has with it: the head that has begun to come.
type client struct{ head []byte }

// OnOpen implements conn.Handler.
func (s *server) OnOpen(c *conn.Conn) { c.SetUser(&client{}) }

// OnData implements conn.Handler. Requests are served one after the other: what
// comes behind one whose file is being sent waits, unheard, until it was.
func (s *server) OnData(c *conn.Conn, in *buf.Buf) {
	cl := c.User().(*client)
	for in.Len() > 0 && c.Reading() {
		if n := cl.add(in.Bytes()); n > 0 {
			in.Advance(n)
		}
		switch {
		case bytes.HasSuffix(cl.head, endOfHead):
			s.request(c, cl.head)
			cl.head = nil
		case len(cl.head) > headMost:
			refuse(c, http.StatusRequestHeaderFieldsTooLarge)
		}
	}
	if in.Len() > 0 {
		rest := in.Take()
		c.Unread(&rest)
	}
}

// add adds to the head what belongs to it of p, and returns how much that is.
// Empty lines before a request are no part of it (RFC 9112 section 2.2).
func (cl *client) add(p []byte) int {
	skipped := 0
	if len(cl.head) == 0 {
		rest := bytes.TrimLeft(p, "\r\n")
		skipped = len(p) - len(rest)
		p = rest
	}
	was := len(cl.head)
	cl.head = append(cl.head, p[:min(len(p), headMost+1-was)]...)
	if at := bytes.Index(cl.head[max(0, was-len(endOfHead)+1):], endOfHead); at >= 0 {
		cl.head = cl.head[:max(0, was-len(endOfHead)+1)+at+len(endOfHead)]
	}
	return skipped + len(cl.head) - was
}

// request answers one.
func (s *server) request(c *conn.Conn, head []byte) {
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(head)))
	switch {
	case err != nil, r.ProtoMajor != 1, r.ProtoAtLeast(1, 1) && r.Host == "":
		refuse(c, http.StatusBadRequest)
		return
	case r.ContentLength != 0: // Nothing here has a use for a body, or reads past one.
		refuse(c, http.StatusRequestEntityTooLarge)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		a := &answer{status: http.StatusMethodNotAllowed}
		a.set("Allow", "GET, HEAD")
		a.send(c, r)
		return
	}
	a := s.find(r)
	a.send(c, r)
}

// refuse answers a request that is none, or one behind which nobody knows where
// the next begins.
func refuse(c *conn.Conn, status int) {
	a := &answer{status: status}
	a.send(c, nil)
}

// answer is a status, what is said of it, and perhaps a part of a file.
type answer struct {
	status  int
	header  bytes.Buffer
	file    *os.File // the answer's, which closes it
	from, n int64    // the part of it
}

func (a *answer) set(name, value string) { fmt.Fprintf(&a.header, "%s: %s\r\n", name, value) }

// send sends a, and ends the connection behind it if the client asks for that or r
// is nil.
func (a *answer) send(c *conn.Conn, r *http.Request) {
	last := r == nil || r.Close
	text := ""
	if a.file == nil && a.status != http.StatusNotModified {
		text = http.StatusText(a.status) + "\n"
		a.n = int64(len(text))
		a.set("Content-Type", "text/plain; charset=utf-8")
	}
	if a.status != http.StatusNotModified {
		a.set("Content-Length", fmt.Sprint(a.n))
	}
	if last {
		a.set("Connection", "close")
	} else if !r.ProtoAtLeast(1, 1) {
		a.set("Connection", "keep-alive") // A client of version 1.0 that has asked for it.
	}
	if r != nil && r.Method == http.MethodHead { // The length is told, and that is all.
		text = ""
		a.close()
	}
	fmt.Fprintf(&a.header, "Date: %s\r\n\r\n%s", time.Now().UTC().Format(http.TimeFormat), text)
	head := fmt.Sprintf("HTTP/1.1 %d %s\r\n", a.status, http.StatusText(a.status))
	_, err := c.Writev([][]byte{[]byte(head), a.header.Bytes()})
	if err == nil && a.file != nil {
		err = a.sendFile(c)
	}
	switch {
	case err != nil: // Nobody may take the next answer for this one.
		a.close()
		c.Abort()
	case last:
		c.Close()
	}
}

// sendFile sends the body, and the next request is heard when that is done.
func (a *answer) sendFile(c *conn.Conn) error {
	c.PauseRead()
	return c.SendFrom(io.NewSectionReader(a.file, a.from, a.n), a.n, func(int64, error) {
		a.close()
		c.ResumeRead()
	}).Err()
}

func (a *answer) close() {
	if a.file != nil {
		_ = a.file.Close()
		a.file = nil
	}
}

// failed is the answer to a file that cannot be opened.
func failed(err error) *answer {
	switch {
	case errors.Is(err, os.ErrPermission):
		return &answer{status: http.StatusForbidden}
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.EINVAL),
		errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENAMETOOLONG), errors.Is(err, syscall.ELOOP),
		strings.Contains(err.Error(), "escapes"): // A link out of the root; it has no error to ask for.
		return &answer{status: http.StatusNotFound}
	}
	return &answer{status: http.StatusInternalServerError}
}
