package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/penstock-go/penstock/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// serve accepts on a free port of this host and gives each connection to fn.
func serve(t *testing.T, fn func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fn(c)
			}()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return l.Addr().String()
}

// echo sends back what change makes of it, with the offset of its first byte.
func echo(change func(at int, b []byte) []byte) func(net.Conn) {
	return func(c net.Conn) {
		b := make([]byte, 64<<10)
		for at := 0; ; {
			n, err := c.Read(b)
			if err != nil {
				return
			}
			if _, err := c.Write(change(at, b[:n])); err != nil {
				return
			}
			at += n
		}
	}
}

func same(_ int, b []byte) []byte { return b }

func quick(spec Spec) Spec {
	spec.Warm, spec.Window, spec.PID = 20*time.Millisecond, 100*time.Millisecond, os.Getpid()
	return spec
}

// TestShapes runs every shape against a server that is right.
func TestShapes(t *testing.T) {
	addr := serve(t, echo(same))
	for _, tc := range []struct {
		name string
		spec Spec
	}{
		{"one", Spec{Shape: Closed, Conns: 1, Size: 64, Depth: 1}},
		{"many", Spec{Shape: Closed, Conns: 50, Size: 1000, Depth: 1}},
		{"deep", Spec{Shape: Closed, Conns: 8, Size: 64, Depth: 16}},
		{"bulk", Spec{Shape: Closed, Conns: 4, Size: 256 << 10, Depth: 1}},
		{"threads", Spec{Shape: Closed, Conns: 9, Size: 64, Depth: 2, CPUs: []int{0, 0}}},
		{"polling", Spec{Shape: Closed, Conns: 4, Size: 64, Depth: 1, Spin: true}},
		{"open", Spec{Shape: Open, Conns: 8, Size: 64, Rate: 2000}},
		{"short", Spec{Shape: Short, Conns: 8, Size: 64}},
		{"idle", Spec{Shape: Idle, Conns: 50, Size: 64}},
		{"silent beside", Spec{Shape: Closed, Conns: 4, Size: 64, Depth: 1, Beside: 20}},
		{"stalled beside", Spec{Shape: Closed, Conns: 4, Size: 64, Depth: 1, Beside: 20, Stalled: 256 << 10}},
		{"none", Spec{Shape: None}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			opened := 0
			tc.spec.Target = addr
			r, err := Run(t.Context(), quick(tc.spec), func() { opened++ })
			if err != nil || opened != 1 {
				t.Fatalf("%v, the window opened %d times", err, opened)
			}
			if tc.spec.Shape == None {
				return
			}
			if r.Checked == 0 || r.Conns != tc.spec.Conns || r.Checked < r.Messages*int64(tc.spec.Size) {
				t.Errorf("%+v", r)
			}
			if r.Unanswered != 0 || r.Busy < 0 || r.Busy > 1 {
				t.Errorf("%d unanswered, busy %v", r.Unanswered, r.Busy)
			}
			if tc.spec.Stalled > 0 && (r.StallSent == 0 || r.Checked < r.StallSent) {
				t.Errorf("%d bytes to stalled ones, %d checked", r.StallSent, r.Checked)
			}
		})
	}
}

// TestWrongServers sees that no server gets away with anything but an echo.
func TestWrongServers(t *testing.T) {
	const at = 300 // where the wrong thing happens: behind the first messages, and soon, on a busy host too
	once := func(change func(i int, b []byte) []byte) func(net.Conn) {
		return echo(func(from int, b []byte) []byte {
			if i := at - from; i >= 0 && i < len(b) {
				return change(i, bytes.Clone(b))
			}
			return b
		})
	}
	for _, tc := range []struct {
		name string
		fn   func(net.Conn)
		want string
	}{
		{"changes a byte", once(func(i int, b []byte) []byte { b[i] ^= 0x10; return b }), fmt.Sprintf("the byte at %d", at)},
		{"loses a byte", once(func(i int, b []byte) []byte { return append(b[:i], b[i+1:]...) }), "not what was sent"},
		{"sends a byte twice", once(func(i int, b []byte) []byte { return append(b[:i:i], append([]byte{b[i]}, b[i:]...)...) }), "came back"},
		{"sends more than it got", once(func(_ int, b []byte) []byte { return append(b, 7) }), "came back"},
		{"loses what it read", once(func(int, []byte) []byte { return nil }), "not "},
		{"hangs up", func(c net.Conn) { _, _ = io.ReadFull(c, make([]byte, 200)) }, "connection "},
		{"says nothing", func(c net.Conn) { _, _ = io.Copy(io.Discard, c) }, "had not come back"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			spec := quick(Spec{Target: serve(t, tc.fn), Shape: Closed, Conns: 3, Size: 64, Depth: 4, Drain: time.Second})
			r, err := Run(t.Context(), spec, func() {})
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%+v, %v, want an error with %q", r, err, tc.want)
			}
		})
	}
}

// TestNoOmission has a server that stands still in the middle. An open loop
// must count the wait of all that were due meanwhile, not of one alone.
func TestNoOmission(t *testing.T) {
	const pause, rate = 60 * time.Millisecond, 2000
	var stalled bool
	addr := serve(t, echo(func(at int, b []byte) []byte {
		if at > 10_000 && !stalled {
			stalled = true
			time.Sleep(pause)
		}
		return b
	}))
	spec := quick(Spec{Target: addr, Shape: Open, Conns: 1, Size: 64, Rate: rate})
	spec.Window = 300 * time.Millisecond
	r, err := Run(t.Context(), spec, func() {})
	if err != nil {
		t.Fatal(err)
	}
	late := int64(0) // messages due in the pause: 120 of 600
	for i, q := range Quantiles() {
		if q == 90 {
			late = r.Latency.Curve[i]
		}
	}
	if late < int64(pause)/10 {
		t.Errorf("nine of ten messages within %v, and the server slept %v of %v", time.Duration(late), pause, spec.Window)
	}
	if r.Late == nil || r.Late.N < r.Latency.N/2 || r.Late.N > r.Latency.N { // Some were sent before it knew that the window had begun.
		t.Errorf("the generator says of %+v how late it sent them, and %d were due", r.Late, r.Latency.N)
	}
	if all, err := r.Latency.Decode(); err != nil || all.TotalCount() != r.Latency.N {
		t.Errorf("the histogram does not come back: %v", err)
	}
	if n := r.Latency.N; n < 500 || n > 700 {
		t.Errorf("%d messages in %v at %d a second", n, spec.Window, rate)
	}
}

func TestUnreachable(t *testing.T) {
	addr := testutil.Refusing(t, "127.0.0.1")
	for _, shape := range []Shape{Closed, Open, Short, Idle, Fanout} {
		_, err := Run(t.Context(), quick(Spec{Target: addr, Shape: shape, Conns: 2, Size: 64, Depth: 1, Rate: 100}), func() {})
		if err == nil || !strings.Contains(err.Error(), "cannot reach tcp://"+addr) {
			t.Errorf("%s: %v", shape, err)
		}
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	spec := quick(Spec{Target: serve(t, echo(same)), Shape: Closed, Conns: 2, Size: 64, Depth: 1})
	spec.Window = testutil.Timeout(time.Minute)
	_, err := Run(ctx, spec, cancel)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// TestMainProcess holds what the tool and the generator say to each other.
func TestMainProcess(t *testing.T) {
	spec, err := json.Marshal(quick(Spec{Target: serve(t, echo(same)), Shape: Closed, Conns: 2, Size: 64, Depth: 1}))
	if err != nil {
		t.Fatal(err)
	}
	in, w := io.Pipe()
	go func() { _, _ = w.Write(append(spec, '\n')) }()
	var out bytes.Buffer
	err = Main(in, &out)
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	dec := json.NewDecoder(&out)
	var first, second Event
	if err := errors.Join(dec.Decode(&first), dec.Decode(&second)); err != nil {
		t.Fatal(err)
	}
	if !first.Window || second.Result == nil || second.Result.Messages == 0 {
		t.Errorf("%+v, %+v", first, second)
	}
}

func TestFifo(t *testing.T) {
	var f fifo
	next := int64(0)
	for i := range int64(10_000) {
		f.push(i)
		if i%3 != 0 {
			if got := f.pop(); got != next {
				t.Fatalf("%d came out, want %d", got, next)
			}
			next++
		}
	}
	if n := len(f.waiting()); int64(n) != 10_000-next {
		t.Errorf("%d wait, want %d", n, 10_000-next)
	}
}
