package ws_test

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
	"github.com/penstock-go/penstock/ws"
)

// TestSendFrom streams readers of all kinds to peers that read slowly, with and without
// compression.
func TestSendFrom(t *testing.T) {
	data := []byte(sentence(1, 300000))
	for _, headers := range []string{"X: y", offerAll} {
		for name, reader := range map[string]func() io.Reader{
			"memory":  func() io.Reader { return bytes.NewReader(data) },
			"inline":  func() io.Reader { return conn.Inline(iotest.HalfReader(bytes.NewReader(data))) },
			"with":    func() io.Reader { return conn.Inline(iotest.DataErrReader(bytes.NewReader(data))) },
			"nothing": func() io.Reader { return strings.NewReader("") },
		} {
			r := dialed(t, options{cfg: ws.Config{Deflate: everything}, window: 3000, below: conn.Config{HighWater: 20000, LowWater: 5000}}, headers)
			r.peer.AutoRead(false)
			told := 0
			if s := r.c.SendFrom(ws.Text, reader(), func(err error) {
				if told++; err != nil {
					t.Error(err)
				}
			}); s != conn.Queued {
				t.Fatal(s)
			}
			if r.c.SendFrom(ws.Text, reader(), nil) != conn.Rejected || r.c.Send(ws.Text, nil) != conn.Rejected {
				t.Error("a message inside another was taken")
			}
			most := 0
			for told == 0 || r.c.Pending() > 0 {
				r.peer.ReadAll()
				r.turn()
				most = max(most, r.c.Pending())
			}
			r.peer.ReadAll()
			got, rest := decode(t, false, r.got())
			whole := frame{op: 1}
			for _, f := range got {
				whole.data += f.data
				whole.rsv |= f.rsv
			}
			whole = (&stretcher{bits: 15}).message(t, whole)
			if want := string(data); len(rest) > 0 || name != "nothing" && whole.data != want || name == "nothing" && len(got) != 1 {
				t.Errorf("%s: %d bytes came, %d frames", name, len(whole.data), len(got))
			}
			if most > 20000+33000 || told != 1 {
				t.Errorf("%s: %d bytes pending at the most, told %d times", name, most, told)
			}
			r.gone()
		}
	}
}

// TestSendFromEnds holds what becomes of a stream that fails, panics, or loses its peer.
func TestSendFromEnds(t *testing.T) {
	failure := errors.New("broken disk")
	engines(t, func(t *testing.T, g *reactor.Group) {
		for _, tc := range []struct {
			name   string
			reader io.Reader
			told   error
			code   ws.Code
		}{
			{"fails", io.MultiReader(strings.NewReader("half"), iotest.ErrReader(failure)), failure, ws.Internal},
			{"never ends", endless{}, conn.ErrClosed, ws.Abnormal},
			{"panics", crashes{}, conn.ErrClosed, ws.Abnormal},
			{"exits", exits{}, nil, ws.Internal},
			{"ends", io.MultiReader(strings.NewReader("one"), strings.NewReader("two")), nil, ws.Normal},
		} {
			told, closed := make(chan error, 2), make(chan *ws.CloseError, 1)
			h := &ws.Funcs{
				Open: func(c *ws.Conn) {
					c.SendFrom(ws.Binary, tc.reader, func(err error) {
						if told <- err; tc.name == "ends" {
							c.Close(ws.Normal, "")
						}
					})
				},
				Close: func(_ *ws.Conn, err *ws.CloseError) { closed <- err },
			}
			_, l, err := ws.Listen(g, "tcp", "127.0.0.1:0", h, ws.Config{}, conn.Config{HighWater: 10000, SendBuffer: 4096})
			if err != nil {
				t.Fatal(err)
			}
			c := dialTCP(t, l)
			_, _ = c.Write(handshake())
			if tc.name == "never ends" {
				_, _ = io.ReadFull(c, make([]byte, 10000))
				_ = c.SetLinger(0)
			} else if heard := untilClose(t, c); tc.code != ws.Abnormal {
				_, _ = c.Write(masked(bye(int(tc.code))))
				_, _ = io.ReadAll(c)
				if last := heard[len(heard)-1]; last.op != 8 {
					t.Errorf("%s: heard %v", tc.name, heard)
				}
			}
			_ = c.Close()
			if err = <-told; err == nil != (tc.name == "ends") || tc.told != nil && err != tc.told {
				t.Errorf("%s: told %v, want %v", tc.name, err, tc.told)
			}
			if ce := <-closed; ce.Code != tc.code {
				t.Errorf("%s: closed with %v, want %d", tc.name, ce, tc.code)
			}
			if len(told) > 0 {
				t.Errorf("%s: told twice", tc.name)
			}
			l.Close()
		}
	})
}

// untilClose reads frames up to a close frame, or to the end of the connection.
func untilClose(t *testing.T, c io.Reader) (got []frame) {
	var all []byte
	p, head := make([]byte, 4096), true
	for {
		n, err := c.Read(p)
		if all = append(all, p[:n]...); head {
			if all, head = behindHead2(all); head {
				if err != nil {
					return got
				}
				continue
			}
		}
		var more []frame
		more, all = decode(t, false, all)
		if got = append(got, more...); err != nil || len(got) > 0 && got[len(got)-1].op == 8 {
			return got
		}
	}
}

// behindHead2 is behindHead that says whether the head is still to come.
func behindHead2(p []byte) ([]byte, bool) {
	p, ok := behindHead(p)
	return p, !ok
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

type crashes struct{}

func (crashes) Read([]byte) (int, error) { panic("in Read") }

type exits struct{}

func (exits) Read([]byte) (int, error) { runtime.Goexit(); return 0, nil }
