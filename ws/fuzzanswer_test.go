package ws_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/ws"
)

// acceptHere stands for the right answer to the key, which is another each time.
const acceptHere = "----the-answer-to-the-key---"

// FuzzAnswers holds that what a client takes a server's answer for does not depend on
// how it is cut: interim ones, the one that counts, the text of a refusal.
func FuzzAnswers(f *testing.F) {
	good := "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + acceptHere + "\r\n\r\n"
	for _, s := range []string{
		good, good + string(encode(false, text("hello"), bye(1000))), "HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n" + good,
		strings.Repeat("HTTP/1.1 100 \r\n\r\n", 9) + good, "HTTP/1.1 103 Early\r\nA: " + strings.Repeat("x", 300) + "\r\n\r\n" + good,
		"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\nnope, and more", "HTTP/1.0 500 Oh\r\n\r\n" + strings.Repeat("long ", 300),
		"HTTP/1.1 401 Who\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwho\r\n0\r\n\r\n", "HTTP/1.1 401 Who\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nwho\r\nx",
		good + "\x81\x6c" + good, "HTTP/1.1 204 No\r\n\r\nx", "SSH-2.0\r\n\r\n", "HTTP/1.1 200 OK\nA: b\r\n\r\n",
	} {
		f.Add([]byte(s), 3)
	}
	f.Fuzz(func(t *testing.T, p []byte, cut int) {
		if len(p) > 1<<13 {
			return
		}
		whole := takesFor(t, p, len(p)+1)
		pieces := takesFor(t, p, 1+int(uint(cut)%uint(len(p)+1)))
		if whole != pieces {
			t.Fatalf("%q\nwhole:  %s\npieces: %s", p, whole, pieces)
		}
	})
}

// takesFor has a client hear p in pieces of n bytes, and the end, and tells what came of it.
func takesFor(t *testing.T, p []byte, n int) string {
	r := newClientRig(t, options{cfg: ws.Config{MaxHead: 256}})
	_, accept, _ := strings.Cut(string(answerTo(r.request())), "Accept: ")
	accept = accept[:len(acceptHere)]
	p = withAccept(p, accept)
	for len(p) > 0 && !r.peer.WasReset() {
		k := min(n, len(p))
		r.peer.Feed(p[:k])
		p = p[k:]
		r.Turn()
	}
	r.Turns(3)
	opens := r.opens
	r.opens = 1 // For gone: of what was not open there is a close too.
	r.gone()
	he := &ws.HandshakeError{}
	if errors.As(r.closed, &he) && (len(he.Body) > 1<<10 || opens > 0) {
		t.Fatalf("opened %d times, %d bytes of text", opens, len(he.Body))
	}
	what := fmt.Sprintf("%d %q %v, %d %q %q %q", opens, r.msgs, r.closed, he.Status, he.Reason, he.Header, he.Body)
	return strings.ReplaceAll(what, accept, acceptHere)
}

// withAccept puts the right answer into the heads of p: what follows the one that counts
// may be shown in part, and then the answer could not be found again.
func withAccept(p []byte, accept string) []byte {
	head, rest, _ := bytes.Cut(p, []byte("\r\n\r\n"))
	whole := len(head) < len(p)
	interim := whole && bytes.HasPrefix(head, []byte("HTTP/1.1 1")) && !bytes.HasPrefix(head, []byte("HTTP/1.1 101"))
	head = bytes.ReplaceAll(head, []byte(acceptHere), []byte(accept))
	switch {
	case interim:
		return slices.Concat(head, []byte("\r\n\r\n"), withAccept(rest, accept))
	case whole:
		return slices.Concat(head, []byte("\r\n\r\n"), rest)
	}
	return head
}
