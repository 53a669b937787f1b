package load

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/penstock-go/penstock/bench/internal/pattern"
)

// talk is what is said on the connections of one thread, or of a crowd.
type talk struct {
	out, back         int64 // bytes of a message on its way there, and of its answer
	outWords, inWords pattern.Stream
	frames            int
	answer            answer
	scripts           []*script
	audience          bool // all hear the same
}

// scripts is how many different ones there are, which connections have in turn.
const scripts = 2

// talk prepares what spec says.
func (g *generator) talk() (*talk, error) {
	t := &talk{audience: g.spec.Shape == Fanout, out: int64(g.spec.Size), back: int64(g.spec.Size), answer: g.answer}
	switch {
	case g.spec.WS == Plain:
		var out, back int
		t.outWords, t.inWords, out, back, t.frames = train(g.pattern.Stream(0), g.spec.Size)
		t.out, t.back = int64(out), int64(back)
	case g.spec.WS.packed():
		for i := range scripts {
			s, err := newScript(g.spec.Size, i, g.answer)
			if err != nil {
				return nil, err
			}
			t.scripts = append(t.scripts, s)
		}
	}
	return t, nil
}

// client prepares a connection. raw is its stream where there are no frames.
func (t *talk) client(fd, number int, raw pattern.Stream) client {
	c := client{fd: fd, number: number, stream: raw, back: raw, end: t.back}
	if t.audience {
		number = 0
	}
	switch {
	case t.scripts != nil:
		s := t.scripts[number%len(t.scripts)]
		c.packed, c.stream = &packed{script: s}, s.stream
	case t.frames > 0:
		at := int64(number % t.frames)
		c.stream, c.back = t.outWords.From(at*t.out), t.inWords.From(at*t.back)
	}
	return c
}

// next returns how long the next message on a connection is on its way there.
func (t *talk) next(c *client) int64 {
	if c.packed != nil {
		return c.packed.next()
	}
	return t.out
}

// owed is how many bytes may have come back of what was sent.
func (t *talk) owed(c *client) int64 {
	if t.out == t.back {
		return c.sent
	}
	return c.sent / t.out * t.back
}

// hear takes what has come on a connection, and returns for how many bytes of
// answers it stands: those on the wire, or of messages where they are compressed.
func (t *talk) hear(c *client, got []byte) (int64, error) {
	if c.packed != nil {
		n, err := c.packed.hear(got)
		c.received += n * t.back
		if err != nil {
			return 0, fmt.Errorf("connection %d: %w", c.number, err)
		}
		return n * t.back, nil
	}
	if bad := c.back.Check(c.received, got); bad >= 0 {
		return 0, fmt.Errorf("connection %d: the byte at %d is %#02x and not %#02x: what came back is not what was sent",
			c.number, c.received+int64(bad), got[bad], c.back.At(c.received+int64(bad), 1)[0])
	}
	c.received += int64(len(got))
	if c.received > t.owed(c) {
		return 0, fmt.Errorf("connection %d: %d bytes came back of %d that were sent", c.number, c.received, c.sent)
	}
	return int64(len(got)), nil
}

// answer is what a server has said to a handshake.
type answer struct {
	clientTakeover, serverTakeover bool
	clientBits                     int
}

const (
	wsKey    = "dGhlIHNhbXBsZSBub25jZQ==" // and its answer: RFC 6455, 1.3
	wsAccept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
	// greetWithin bounds a handshake.
	greetWithin = 10 * time.Second
)

// greet makes WebSockets of connections. All get the same answer, or it fails.
func (g *generator) greet(fds []int, kind WS) (a answer, err error) {
	if kind == Raw {
		return a, nil
	}
	request := "GET /bench HTTP/1.1\r\nHost: " + g.spec.Target + "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n" +
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " + wsKey + "\r\n"
	if offer := kind.offer(); offer != "" {
		request += "Sec-WebSocket-Extensions: " + offer + "\r\n"
	}
	request += "\r\n"
	first := true
	for some := range slices.Chunk(fds, atOnce) {
		for _, fd := range some {
			if _, err := unix.Write(fd, []byte(request)); err != nil {
				return a, fmt.Errorf("handshake: %w", os.NewSyscallError("write", err))
			}
		}
		for _, fd := range some {
			head, err := readHead(fd)
			if err != nil {
				return a, fmt.Errorf("handshake: %w", err)
			}
			b, err := parseAnswer(head, kind)
			if err == nil && !first && a != b {
				err = errors.New("another answer than to the connection before")
			}
			if err != nil {
				return a, fmt.Errorf("handshake: %w: %q", err, head)
			}
			a, first = b, false
		}
	}
	return a, nil
}

// readHead reads up to an empty line. A server says nothing behind it before it is
// spoken to.
func readHead(fd int) (head []byte, err error) {
	in := make([]byte, 4<<10)
	for at := 0; at < len(in) && !bytes.HasSuffix(in[:at], []byte("\r\n\r\n")); {
		n, err := readSoon(fd, in[at:], greetWithin)
		if err != nil {
			return in[:at], err
		}
		at += n
		head = in[:at]
	}
	return head, nil
}

// readSoon reads what comes next.
func readSoon(fd int, in []byte, within time.Duration) (int, error) {
	for deadline := time.Now().Add(within); ; {
		n, err := unix.Read(fd, in)
		switch {
		case n > 0:
			return n, nil
		case err == nil:
			return 0, errClosed
		case !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR):
			return 0, os.NewSyscallError("read", err)
		case time.Now().After(deadline):
			return 0, fmt.Errorf("no answer within %v", within)
		}
		_, _ = unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 100)
	}
}

// parseAnswer reads the head of a server's answer.
func parseAnswer(head []byte, kind WS) (a answer, err error) {
	lines := strings.Split(string(head), "\r\n")
	if !strings.HasPrefix(lines[0], "HTTP/1.1 101 ") {
		return a, errors.New("refused")
	}
	accepted, extension := false, ""
	for _, line := range lines[1:] {
		name, value, _ := strings.Cut(line, ":")
		switch strings.ToLower(name) {
		case "sec-websocket-accept":
			accepted = strings.TrimSpace(value) == wsAccept
		case "sec-websocket-extensions":
			extension = strings.TrimSpace(value)
		}
	}
	switch {
	case !accepted:
		return a, errors.New("a wrong answer to the key")
	case !kind.packed() && extension != "":
		return a, errors.New("an extension that was not asked for")
	case !kind.packed():
		return a, nil
	}
	words := strings.FieldsFunc(extension, func(r rune) bool { return r == ';' || r == ' ' })
	if len(words) == 0 || words[0] != "permessage-deflate" {
		return a, errors.New("no compression")
	}
	a = answer{clientTakeover: kind == Deflate, serverTakeover: kind == Deflate, clientBits: maxBits}
	for _, word := range words[1:] {
		name, value, _ := strings.Cut(word, "=")
		switch name {
		case "client_no_context_takeover":
			a.clientTakeover = false
		case "server_no_context_takeover":
			a.serverTakeover = false
		case "client_max_window_bits":
			if a.clientBits, err = strconv.Atoi(strings.Trim(value, `"`)); err != nil {
				return a, err
			}
		}
	}
	return a, nil
}

// publications are the frames of a publisher, in turn: a message is P and the
// payload, and what the subscribers are to hear is that.
func publications(all pattern.Stream, spec *Spec, t *talk) (says [][]byte) {
	n := docs
	if t.scripts == nil {
		n = t.frames
	}
	for i := range n {
		p, op := []byte("P"), byte(opBinary)
		if t.scripts != nil {
			p, op = append(p, t.scripts[0].doc(i)...), opText
		} else {
			p = append(p, payload(all, i, spec.Size)...)
		}
		says = append(says, appendFrame(nil, bitFin|op, keyOf(i), p))
	}
	return says
}

// join has everybody subscribe, with a message S that the server answers with the
// same once it will send what is published.
func (f *fanoutShape) join(w *worker) error {
	say := appendFrame(nil, bitFin|opText, keyOf(0), []byte("S"))
	for some := range slices.Chunk(w.clients, atOnce) {
		for i := range some {
			if _, err := unix.Write(some[i].fd, say); err != nil {
				return some[i].failed(os.NewSyscallError("write", err))
			}
		}
		for i := range some {
			if err := joined(&some[i], w.in); err != nil {
				return fmt.Errorf("subscriber %d: %w", some[i].number, err)
			}
		}
	}
	return nil
}

// joined waits for the answer to a subscription, which may be compressed.
func joined(c *client, in []byte) error {
	var f frames
	for done := false; !done; {
		n, err := readSoon(c.fd, in, subscribeWithin)
		if err == nil {
			err = f.feed(in[:n], func(first byte, p []byte) error {
				if done {
					return errors.New("it was sent more than the answer to its subscription")
				}
				if done = true; first&bitRSV1 != 0 && c.packed != nil {
					if err := c.packed.inflate(p, nil); err != nil {
						return err
					}
					p = c.packed.got
				}
				if string(p) != "S" {
					return fmt.Errorf("the answer to its subscription is %q", p)
				}
				return nil
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}
