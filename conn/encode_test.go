package conn_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/reactor"
)

// TestEncode holds that what encode makes is sent, whatever the guess of its
// length was, in order with what encode itself sends.
func TestEncode(t *testing.T) {
	r := newRig(t, 1<<20, conn.Config{}, nil)
	var want []byte
	for _, size := range []int{1, 2000, reactor.SmallBlock, 10000, reactor.BulkBlock, reactor.BulkBlock + 1} {
		for _, guess := range []int{0, 1, size - 1, size, size + 1, 2 * size} {
			data := bytes.Repeat([]byte{byte(len(want))}, size)
			if s := r.c.Encode(guess, func(dst []byte) ([]byte, error) { return append(dst, data...), nil }); s != conn.Queued {
				t.Fatalf("%d bytes, guessed at %d: %v", size, guess, s)
			}
			if want = append(want, data...); r.c.Pending() != len(want) {
				t.Fatalf("%d pending of %d", r.c.Pending(), len(want))
			}
		}
	}
	r.c.Encode(10, func(dst []byte) ([]byte, error) {
		dst = append(dst, "the message"...)
		_ = r.write(3)
		return dst, nil
	})
	want = append(want, "\x00\x00\x00the message"...)
	if s := r.c.Encode(10, func(dst []byte) ([]byte, error) { return dst, nil }); s != conn.Queued || r.c.Pending() != len(want) {
		t.Errorf("nothing to send: %v, %d pending", s, r.c.Pending())
	}
	r.gone()
	if !bytes.Equal(r.peer.Received(), want) {
		t.Errorf("the peer has %d bytes of %d, or others", len(r.peer.Received()), len(want))
	}
}

// TestEncodeOnlyWhatIsTaken holds that a refused message is never encoded: its
// compressor would be out of step with the peer for ever.
func TestEncodeOnlyWhatIsTaken(t *testing.T) {
	r := newRig(t, 64, marks(100, 0, 200), nil)
	r.stuff()
	made := 0
	send := func() conn.Status {
		return r.c.Encode(100, func(dst []byte) ([]byte, error) { made++; return append(dst, make([]byte, 100)...), nil })
	}
	for i, want := range []conn.Status{conn.Full, conn.Full, conn.Rejected, conn.Rejected} {
		if s := send(); s != want {
			t.Errorf("message %d: %v, want %v", i, s, want)
		}
	}
	if s := r.c.Stats(); s.Rejected != 2 || s.RejectedBytes != 200 || made != 2 {
		t.Errorf("%d encoded, stats %+v", made, s)
	}
	r.c.Close()
	if s := send(); s != conn.Closed || made != 2 {
		t.Errorf("after Close: %v, %d encoded", s, made)
	}
	r.gone()
}

// TestEncodeFails holds that an error or a panic of encode ends this connection
// alone, and that nothing of the message is sent. The origin sent the plain bytes
// of a message that its codec had failed on.
func TestEncodeFails(t *testing.T) {
	broken := errors.New("cannot be encoded")
	for name, tc := range map[string]struct {
		end    error
		reason conn.Reason
	}{"error": {broken, conn.ProtocolError}, "panic": {nil, conn.HandlerPanic}, "abort": {nil, conn.Aborted}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, 1000, marks(100, 0, 200), nil)
			other := r.second(marks(100, 0, 200), nil)
			r.do(func(c *conn.Conn) {
				_ = r.write(3)
				s := c.Encode(10, func(dst []byte) ([]byte, error) {
					switch name {
					case "panic":
						panic(broken)
					case "abort":
						c.Abort()
					}
					return append(dst, "plain"...), tc.end
				})
				if s != conn.Closed {
					t.Errorf("answered %v", s)
				}
			})
			r.Settle("close", func() bool { r.peer.AutoRead(true); r.peer.CloseWrite(); return r.isClosed() })
			var ce *conn.CloseError
			if !errors.As(r.err, &ce) || ce.Reason != tc.reason || name != "abort" && !errors.Is(r.err, broken) {
				t.Errorf("closed with %v", r.err)
			}
			if bytes.Contains(r.peer.Received(), []byte("plain")) {
				t.Error("plain bytes were sent")
			}
			if name == "error" && (len(r.peer.Received()) != 3 || ce.LostBytes > 0) {
				t.Errorf("the peer has %q of what was queued before; %v", r.peer.Received(), r.err)
			}
			if other.isClosed() {
				t.Error("another connection has closed")
			}
			other.gone()
		})
	}
}

// TestTryEncode holds that a producer that waits is refused without a count, and without
// an end by CloseSlow.
func TestTryEncode(t *testing.T) {
	cfg := marks(100, 0, 100)
	cfg.SlowPeer = conn.CloseSlow
	r := newRig(t, 64, cfg, nil)
	r.stuff()
	send := func() conn.Status {
		return r.c.TryEncode(100, func(dst []byte) ([]byte, error) { return append(dst, make([]byte, 100)...), nil })
	}
	if a, b := send(), send(); a != conn.Full || b != conn.Rejected {
		t.Errorf("%v, %v", a, b)
	}
	if r.Turn(); r.isClosed() || r.c.Stats().Rejected > 0 {
		t.Errorf("closed %v, stats %+v", r.isClosed(), r.c.Stats())
	}
	r.gone()
}

// TestEncodeReserved holds that a message goes past the limit, as long as what it has
// become, and not what it was guessed at, is within the reserve.
func TestEncodeReserved(t *testing.T) {
	r := newRig(t, 64, marks(100, 0, 100), nil)
	r.stuff()
	_ = r.write(100)
	send := func(guess, n int) conn.Status {
		return r.c.EncodeReserved(guess, func(dst []byte) ([]byte, error) { return append(dst, make([]byte, n)...), nil })
	}
	for i, tc := range []struct {
		guess, n int
		want     conn.Status
	}{
		{conn.Reserve, 6, conn.Full}, {conn.Reserve, 6, conn.Rejected}, {conn.Reserve - 6, 50, conn.Full},
		{conn.Reserve - 56, conn.Reserve - 56, conn.Full}, {1, 1, conn.Rejected},
	} {
		if s := send(tc.guess, tc.n); s != tc.want {
			t.Errorf("message %d: %v, want %v", i, s, tc.want)
		}
	}
	if p := r.c.Pending(); p != 100+conn.Reserve {
		t.Errorf("%d pending", p)
	}
	r.gone()
}
