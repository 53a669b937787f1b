package eventlog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/penstock-go/penstock/conn"
	"github.com/penstock-go/penstock/internal/testutil"
)

func TestMain(m *testing.M) { testutil.Main(m) }

// line is any event, with the fields that tests look at.
type line struct {
	Time                             time.Time
	Event, Remote, Local, Reason     string
	Conn, Pending, Size, Loop, Count uint64
	BytesIn                          uint64 `json:"bytes_in"`
	BytesOut                         uint64 `json:"bytes_out"`
	LostBytes                        uint64 `json:"lost_bytes"`
	Full, Drain, Rejected            uint64
	PendingMax                       uint64 `json:"pending_max"`
}

func parse(t *testing.T, text string) (all []line) {
	t.Helper()
	for text := range strings.Lines(text) {
		var l line
		d := json.NewDecoder(strings.NewReader(text))
		d.DisallowUnknownFields()
		if err := d.Decode(&l); err != nil || !strings.HasSuffix(text, "}\n") {
			t.Fatalf("not a line of JSON: %q: %v", text, err)
		}
		all = append(all, l)
	}
	return all
}

func TestLines(t *testing.T) {
	var out bytes.Buffer
	l := New(&out, 10, nil)
	l.Open(7, conn.Addr{AddrPort: netip.MustParseAddrPort("10.0.0.1:99")}, conn.Addr{AddrPort: netip.MustParseAddrPort("[::1]:80")}, 1)
	l.Open(8, conn.Addr{Net: "unix"}, conn.Addr{Net: "unix", Name: "@a\"b\x01"}, 0)
	l.Full(7, 1<<20)
	l.Drain(7, 3)
	l.Reject(7, 1<<20, 4104)
	l.EOF(7)
	l.Closed(7, Closed{"peer_reset", 1, 2, 3, 4, 5, 6, 1 << 40})
	l.Start()
	if !l.Close(testutil.Timeout(5 * time.Second)) {
		t.Fatal("not flushed")
	}
	// The order of the fields is part of the interface, so the text is compared.
	want := []string{
		`"event":"open","conn":7,"remote":"10.0.0.1:99","local":"[::1]:80","loop":1}`,
		`"event":"open","conn":8,"remote":"@","local":"@a\"b\u0001","loop":0}`,
		`"event":"full","conn":7,"pending":1048576}`,
		`"event":"drain","conn":7,"pending":3}`,
		`"event":"reject","conn":7,"pending":1048576,"size":4104}`,
		`"event":"eof","conn":7}`,
		`"event":"close","conn":7,"reason":"peer_reset","bytes_in":1,"bytes_out":2,"lost_bytes":3,` +
			`"full":4,"drain":5,"rejected":6,"pending_max":1099511627776}`,
	}
	got := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(got) != len(want) {
		t.Fatalf("%d lines, want %d:\n%s", len(got), len(want), out.String())
	}
	const stamp = `{"time":"2006-01-02T15:04:05.000000000Z",`
	for i := range want {
		if len(got[i]) < len(stamp) || got[i][len(stamp):] != want[i] {
			t.Errorf("line %d:\n got %s\nwant {time}%s", i, got[i], want[i])
		}
	}
	var before time.Time
	for _, l := range parse(t, out.String()) {
		if l.Time.Before(before) || time.Since(l.Time) > time.Hour {
			t.Errorf("time %v behind %v", l.Time, before)
		}
		before = l.Time
	}
}

// TestBlockedWriter fills the queue of a log whose reader does not read.
func TestBlockedWriter(t *testing.T) {
	r, w := io.Pipe()
	l := New(w, 100, nil)
	l.Start()
	l.EOF(1)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for id := range uint64(1000) {
				l.EOF(id)
			}
		})
	}
	wg.Wait() // Nobody has read a byte.
	if l.Close(time.Millisecond) {
		t.Error("a log that nobody reads said that it is flushed")
	}
	text := make(chan string)
	go func() { b, _ := io.ReadAll(bufio.NewReader(r)); text <- string(b) }()
	if !l.Close(testutil.Timeout(5 * time.Second)) {
		t.Error("not flushed although somebody reads")
	}
	_ = w.Close()
	lines := parse(t, <-text)
	var events, dropped uint64
	for _, l := range lines {
		if l.Event == "dropped" {
			dropped += l.Count
		} else {
			events++
		}
	}
	if events+dropped != 4001 || dropped == 0 || events > 201 {
		t.Errorf("%d events and %d dropped, want 4001 in all, at most 201 of them events", events, dropped)
	}
	if last := lines[len(lines)-1]; last.Event != "dropped" {
		t.Errorf("the last line is %v, want the one that tells what was dropped", last)
	}
}

// bad is a file that takes a random part of what is written, or nothing.
type bad struct {
	rand *rand.Rand
	out  bytes.Buffer
	mend bool
}

func (b *bad) Write(p []byte) (int, error) {
	if b.mend || b.rand.IntN(3) == 0 {
		return b.out.Write(p)
	}
	n := 0
	if b.rand.IntN(2) == 0 {
		n = b.rand.IntN(len(p))
	}
	b.out.Write(p[:n])
	return n, errors.New("no space left")
}

// TestBadFile checks that every line is whole and that lines and counts add up,
// whatever part of each write the file takes.
func TestBadFile(t *testing.T) {
	for seed := range uint64(200) {
		b := &bad{rand: rand.New(rand.NewPCG(seed, 1))}
		failures := 0
		l := New(b, 1000, func(error) { failures++ })
		const events = 600
		next := uint64(0)
		for next < events { // The writer's steps by hand, so that a seed means one run.
			var batch []event
			for range b.rand.IntN(50) {
				batch = append(batch, event{kind: full, conn: next})
				next++
			}
			l.write(batch)
		}
		b.mend = true
		l.flush(0)
		l.flush(0)
		var id, sum uint64
		for _, line := range parse(t, b.out.String()) {
			if line.Event == "dropped" {
				sum += line.Count
				continue
			}
			if line.Conn < id {
				t.Fatalf("seed %d: event %d behind %d", seed, line.Conn, id)
			}
			id = line.Conn + 1
			sum++
		}
		if sum != next || failures > 1 {
			t.Fatalf("seed %d: %d events and dropped of %d, %d failures reported", seed, sum, next, failures)
		}
	}
}

func TestPutAllocatesNothing(t *testing.T) {
	l := New(io.Discard, 1000, nil)
	l.queue = make([]event, 0, 1000)
	a := conn.Addr{AddrPort: netip.MustParseAddrPort("127.0.0.1:1"), Net: "tcp"}
	if n := testing.AllocsPerRun(100, func() {
		l.Open(1, a, a, 0)
		l.Closed(1, Closed{Reason: "local"})
	}); n != 0 {
		t.Errorf("%v allocations for two events", n)
	}
	batch := l.queue
	l.write(batch)
	if n := testing.AllocsPerRun(100, func() { l.write(batch[:2]) }); n != 0 {
		t.Errorf("%v allocations to write two events", n)
	}
}

func BenchmarkWrite(b *testing.B) {
	l := New(io.Discard, 1000, nil)
	batch := make([]event, 100)
	for i := range batch {
		batch[i] = event{kind: reject, conn: 77, n: [7]uint64{1 << 20, 65544}}
	}
	for b.Loop() {
		l.write(batch)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/100, "ns/event")
}
