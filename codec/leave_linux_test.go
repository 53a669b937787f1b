package codec_test

import (
	"io"
	"testing"
	"time"

	"github.com/penstock-go/penstock/buf"
	"github.com/penstock-go/penstock/codec"
	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/looptest"
	"github.com/penstock-go/penstock/internal/testutil"
	"github.com/penstock-go/penstock/reactor"
)

// TestNetConnOutside gives a connection to goroutines while a piece is held.
func TestNetConnOutside(t *testing.T) {
	looptest.Engines(t, reactor.Config{}, func(t *testing.T, g *reactor.Group) {
		opened, messages := make(chan conn.Ref, 1), make(chan string, 1)
		p, err := codec.New(codec.Line{}, &codec.Funcs[[]byte]{
			Open:    func(c *conn.Conn) { opened <- c.Ref() },
			Message: func(_ *conn.Conn, m []byte) { messages <- string(m) },
		}, codec.Config{})
		if err != nil {
			t.Fatal(err)
		}
		l, err := conn.Listen(g, "tcp", "127.0.0.1:0", p, conn.Config{})
		if err != nil {
			t.Fatal(err)
		}
		far := dial(t, "tcp", l.Addr().String())
		defer far.Close()
		_, _ = far.Write([]byte("one\nhalf a "))
		<-messages
		r, made := <-opened, make(chan *conn.NetConn, 1)
		r.Do(func(c *conn.Conn) { n, _ := c.NetConn(); made <- n })
		n := <-made
		defer n.Close()
		_, _ = far.Write([]byte("line\n"))
		_ = n.SetReadDeadline(time.Now().Add(testutil.Timeout(10 * time.Second)))
		p2 := make([]byte, len("half a line\n"))
		if k, err := io.ReadFull(n, p2); string(p2) != "half a line\n" {
			t.Errorf("Read brings %q, %v", p2[:k], err)
		}
	})
}

// outer is a handler in front of another one that knows nothing of it.
type outer struct{ conn.Handler }

// TestInFront puts a handler in front of a protocol: it gets each message, whole or
// in pieces, and the bytes of no turn go round.
func TestInFront(t *testing.T) {
	for _, step := range []int{1, 3, 100} {
		w := newWorld(t)
		r := &rig{world: w}
		r.serve(outer{r.protocol(codec.Line{}, codec.Config{Burst: 2})})
		r.feedBy(step, "one\ntwo\nthree\nfour\n")
		w.Turn()
		r.wantGot("one", "two", "three", "four")
		r.end()
		w.Finish()
	}
}

// leaver notes when it is left.
type leaver struct {
	everything
	gives string // by Unread
}

func (l *leaver) OnLeave(c *conn.Conn) {
	l.heard = append(l.heard, "leave")
	if l.gives != "" {
		b := c.Loop().Small().Get()
		b.Append([]byte(l.gives))
		c.Unread(&b)
	}
}

// TestLeave holds that the handler of a protocol is left when another takes its
// place, once, and not when the first piece of a message comes; what it gives back
// comes before the piece.
func TestLeave(t *testing.T) {
	for _, front := range []bool{false, true} {
		for _, piece := range []string{"", "piece"} {
			w := newWorld(t)
			l := &leaver{gives: "mine "}
			p, err := codec.New(codec.Line{}, l, codec.Config{})
			if err != nil {
				t.Fatal(err)
			}
			r := &rig{world: w}
			if r.serve(p); front {
				r.c.SetHandler(wrapper{p, p})
			}
			l.heard = nil
			r.feed("a\n" + piece)
			if len(l.heard) != 1 {
				t.Errorf("with %q behind a message it heard %q", piece, l.heard)
			}
			got := ""
			r.c.SetHandler(&conn.Funcs{Data: func(_ *conn.Conn, in *buf.Buf) { got += string(in.Bytes()) }})
			if w.Turn(); len(l.heard) != 2 || l.heard[1] != "leave" {
				t.Errorf("with %q held and another handler it heard %q", piece, l.heard)
			}
			if w.Turn(); got != "mine "+piece {
				t.Errorf("the other handler has %q", got)
			}
			r.c.Abort()
			w.Settle("close", func() bool { return w.Fake.OpenFDs() == 0 })
			w.Finish()
		}
	}
}

// wrapper is a handler in front of another one, as package conn knows them.
type wrapper struct {
	conn.Handler
	in any
}

func (w wrapper) Wrapped() any { return w.in }
