package main

import (
	"bytes"
	"os"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"

	"github.com/penstock-go/penstock/internal/testutil"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" { // The smoke test starts this binary as server and as generator.
		main()
		return
	}
	testutil.Main(m)
}

// parse returns what a command line means.
func parse(t *testing.T, args ...string) (*cli, error) {
	t.Helper()
	var c cli
	parser, err := kong.New(&c)
	if err != nil {
		t.Fatal(err)
	}
	_, err = parser.Parse(args)
	return &c, err
}

func TestFlags(t *testing.T) {
	c, err := parse(t)
	if err != nil {
		t.Fatal(err)
	}
	cells, each, err := c.Run.cells(2)
	if err != nil {
		t.Fatal(err)
	}
	// One and quota have a loop and three values, 2*loops being loops+1; all has
	// two loops and three values, 2*loops being loops+2.
	if want := 3 * 2 * 3 * 5 * 3; len(cells) != want {
		t.Errorf("%d cells, want %d", len(cells), want)
	}
	if each < leastCell || time.Duration(len(cells))*(each+overhead) > c.Run.For {
		t.Errorf("%v a cell is not within %v for %d", each, c.Run.For, len(cells))
	}
	c, err = parse(t, "--for=10s", "--markdown", "--engine=epoll", "--place=all", "--procs=4", "--beside=gc", "--load=full", "--rounds=2")
	if err != nil {
		t.Fatal(err)
	}
	cells, each, err = c.Run.cells(2)
	want := []cell{{setting{"epoll", onAll, 2, 4}, besideGC, loadFull}}
	if err != nil || !slices.Equal(cells, want) || each != 2*time.Second {
		t.Errorf("%+v, %v, %v, want %+v and 2 s", cells, each, err, want)
	}
}

func TestWrongFlags(t *testing.T) {
	for _, tc := range []struct{ flag, want string }{
		{"--for=1s", "do not fit"},
		{"--engine=kqueue", "kqueue"},
		{"--place=moon", "moon"},
		{"--procs=loops-1", "loops-1"},
		{"--procs=0", "0"},
		{"--beside=noise", "noise"},
		{"--load=some", "some"},
		{"--rate=0", "--rate"},
		{"--rounds=0", "--rounds"},
	} {
		c, err := parse(t, tc.flag)
		if err == nil {
			_, _, err = c.Run.cells(2)
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", tc.flag, err, tc.want)
		}
	}
}

func TestProcs(t *testing.T) {
	for _, tc := range []struct {
		words string
		loops int
		want  []int
	}{
		{"loops,loops+1,loops+2,2*loops", 1, []int{1, 2, 3}},
		{"loops,loops+1,loops+2,2*loops", 4, []int{4, 5, 6, 8}},
		{"7,loops", 2, []int{2, 7}},
	} {
		got, err := procsOf(strings.Split(tc.words, ","), tc.loops)
		if err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%s of %d loops: %v, %v, want %v", tc.words, tc.loops, got, err, tc.want)
		}
	}
}

func TestSummaries(t *testing.T) {
	h := newHistogram()
	for i := range 1000 {
		record(h, time.Duration(i+1)*time.Millisecond)
	}
	record(h, -time.Second)
	record(h, time.Hour) // Cut, not lost.
	s := summarize(h)
	near := func(got, want time.Duration) bool { return got > want*99/100 && got < want*101/100 }
	if s.N != 1002 || !near(s.P50, 500*time.Millisecond) || !near(s.P99, 990*time.Millisecond) || !near(s.Max, 10*time.Second) {
		t.Errorf("%+v", s)
	}
}

func TestSince(t *testing.T) {
	buckets := []float64{0, 1e-3, 2e-3, 3e-3, 4e-3}
	before := &metrics.Float64Histogram{Counts: []uint64{5, 5, 5, 5}, Buckets: buckets}
	after := &metrics.Float64Histogram{Counts: []uint64{105, 5, 6, 5}, Buckets: buckets}
	want := summary{N: 101, P50: time.Millisecond, P99: time.Millisecond, P999: 3 * time.Millisecond, Max: 3 * time.Millisecond}
	if got := since(before, after); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := since(before, before); got != (summary{}) {
		t.Errorf("%+v of nothing", got)
	}
	if before.Counts[0] != 5 || after.Counts[0] != 105 {
		t.Error("the readings were changed")
	}
}

func TestMedian(t *testing.T) {
	rounds := make([]result, 3)
	for i, v := range []time.Duration{9, 1, 2} {
		rounds[i].Late.P99, rounds[i].Trip.P50, rounds[i].foreign, rounds[i].Busy = v, 2*v, float64(v), float64(v)
	}
	if m := median(rounds); m.Late.P99 != 2 || m.Trip.P50 != 4 || m.foreign != 9 || m.Busy != 2 {
		t.Errorf("%+v", m)
	}
}

func TestMilliseconds(t *testing.T) {
	for _, tc := range []struct {
		d    time.Duration
		want string
	}{
		{0, "0.00"},
		{1234 * time.Microsecond, "1.23"},
		{9960 * time.Microsecond, "10.0"},
		{23456 * time.Microsecond, "23.5"},
		{123456 * time.Microsecond, "123"},
	} {
		if got := ms(tc.d); got != tc.want {
			t.Errorf("%v: %s, want %s", tc.d, got, tc.want)
		}
	}
}

func TestTables(t *testing.T) {
	s := setting{"epoll", onOne, 1, 3}
	idle, full := cell{s, besideGC, loadIdle}, cell{s, besideGC, loadFull}
	third := summary{N: 3, P50: time.Millisecond, P99: 2 * time.Millisecond, P999: 3 * time.Millisecond, Max: 4 * time.Millisecond}
	r := results{cells: []cell{idle, full}, noise: 0.2, of: map[cell]result{
		idle: {serverReport: serverReport{Late: third}, seconds: 1, foreign: 0.5},
		full: {serverReport: serverReport{Late: third, Pauses: third, Busy: 0.5}, loadReport: loadReport{third}, seconds: 1},
	}}
	var b bytes.Buffer
	for _, tab := range r.tables() {
		if err := tab.write(&b, true); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{
		"| 3 | gc | 1.00 / 2.00 / 4.00 * | - | - | 1.00 / 2.00 / 4.00 | 1.00 / 2.00 / 3.00 | 50 % |",
		"| 3 | gc | - | - | 1.00 / 2.00 / 4.00, 3/s |",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("no line %q in\n%s", want, &b)
		}
	}
}
