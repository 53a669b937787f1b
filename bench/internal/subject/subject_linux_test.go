package subject

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/penstock-go/penstock/bench/internal/load"
	"github.com/penstock-go/penstock/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// running is a subject within the test.
type running struct {
	addr string
	in   io.WriteCloser
	out  *bufio.Reader
	done chan error
}

func start(t *testing.T, args ...string) *running {
	t.Helper()
	in, w := io.Pipe()
	out, print := io.Pipe()
	r := &running{in: w, out: bufio.NewReader(out), done: make(chan error, 1)}
	go func() {
		err := Main(args, in, print, io.Discard)
		_ = print.Close()
		r.done <- err
	}()
	line, err := r.out.ReadString('\n')
	if err != nil {
		testutil.SkipIfKernelOlder(t, "6.1", "io_uring", <-r.done)
		t.Fatal(err)
	}
	words := strings.Fields(line)
	if len(words) < 3 || !strings.HasPrefix(words[2], "tcp://") {
		t.Fatalf("it said %q", line)
	}
	r.addr = strings.TrimPrefix(words[2], "tcp://")
	return r
}

func (r *running) stats(t *testing.T) (st Stats) {
	t.Helper()
	if _, err := io.WriteString(r.in, "stats\n"); err != nil {
		t.Fatal(err)
	}
	line, err := r.out.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &st)
	}
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// end closes the input and waits for the end.
func (r *running) end(t *testing.T) {
	t.Helper()
	_ = r.in.Close()
	select {
	case err := <-r.done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(testutil.Timeout(10 * time.Second)):
		t.Fatal("it does not end when its input closes")
	}
}

// TestProtocols has the generator check each protocol on both engines, with one
// loop and with two.
func TestProtocols(t *testing.T) {
	for _, engine := range []string{"uring", "epoll"} {
		for _, protocol := range Protocols() {
			for _, loops := range []int{1, 2} {
				t.Run(fmt.Sprint(engine, "/", protocol, "/", loops), func(t *testing.T) {
					s := start(t, "--engine", engine, "--protocol", protocol, "--loops", fmt.Sprint(loops))
					defer s.end(t)
					spec := load.Spec{Target: s.addr, Shape: load.Closed, Conns: 20, Size: 1000, Depth: 2, PID: os.Getpid(),
						Warm: 20 * time.Millisecond, Window: 100 * time.Millisecond}
					kinds := []load.WS{load.Raw}
					switch protocol {
					case "fanout":
						spec.Shape = load.Fanout
					case "ws":
						kinds = []load.WS{load.Plain, load.DeflateAlone}
					case "ws-deflate":
						kinds = []load.WS{load.Plain, load.Deflate, load.DeflateAlone}
					case "ws-fanout":
						spec.Shape, kinds = load.Fanout, []load.WS{load.Plain, load.DeflateAlone}
					}
					for _, spec.WS = range kinds {
						r, err := load.Run(t.Context(), spec, func() {})
						if err != nil || r.Checked == 0 {
							t.Fatalf("%s: %+v, %v", spec.WS, r, err)
						}
					}
				})
			}
		}
	}
}

// TestSlowReaders sees that what stalled peers are owed stays within the marks,
// and comes when they read after all.
func TestSlowReaders(t *testing.T) {
	for _, engine := range []string{"uring", "epoll"} {
		t.Run(engine, func(t *testing.T) { slowReaders(t, engine) })
	}
}

func slowReaders(t *testing.T, engine string) {
	s := start(t, "--engine", engine, "--high-water", "65536", "--send-buffer", "65536")
	r, err := load.Run(t.Context(), load.Spec{Target: s.addr, Shape: load.Closed, Conns: 4, Size: 64, Depth: 1,
		Beside: 20, Stalled: 1 << 20, PID: os.Getpid(), Warm: 20 * time.Millisecond, Window: 100 * time.Millisecond}, func() {})
	if err != nil {
		t.Fatal(engine, err)
	}
	if r.StallSent == 0 || r.Checked < r.StallSent || r.Messages == 0 {
		t.Errorf("%s: %+v", engine, r)
	}
	if st := s.stats(t); st.Full < 20 {
		t.Errorf("%s: %d queues of 20 stalled connections were full", engine, st.Full)
	}
	s.end(t)
}

func TestStats(t *testing.T) {
	s := start(t, "--sleeper")
	defer s.end(t)
	time.Sleep(20 * time.Millisecond)
	if st := s.stats(t); st.Turns == 0 || st.Enters == 0 || st.Late.N == 0 {
		t.Errorf("%+v", st)
	}
}

func TestWrong(t *testing.T) {
	for _, args := range [][]string{{"--engine", "kqueue"}, {"--protocol", "morse"}, {"--listen", "nowhere"}, {"--moon"}, {"word"}} {
		var errs bytes.Buffer
		if err := Main(args, strings.NewReader(""), io.Discard, &errs); err == nil {
			t.Errorf("%q was taken", args)
		}
	}
}

// TestStartsCollected holds that memory is measured from a heap that was collected.
func TestStartsCollected(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s := start(t, "--engine", "epoll", "--protocol", "echo")
	runtime.ReadMemStats(&after)
	s.end(t)
	if after.NumForcedGC == before.NumForcedGC {
		t.Error("no collection before it says where it listens")
	}
}
