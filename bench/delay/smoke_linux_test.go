package main

import (
	"bytes"
	"context"
	"strings"
	"testing"
)

// TestSmoke measures two cells of one engine for real. Its figures are not
// looked at: they belong to the machine.
func TestSmoke(t *testing.T) {
	c, err := parse(t, "--for=4s", "--engine=epoll", "--place=one", "--procs=loops+2", "--beside=nothing",
		"--load=half,full", "--noise=100", "--markdown")
	if err != nil {
		t.Fatal(err)
	}
	var out, progress bytes.Buffer
	if err := c.Run.print(t.Context(), &out, &progress); err != nil {
		t.Fatalf("%v\n%s", err, &progress)
	}
	var row string
	for line := range strings.Lines(out.String()) {
		if strings.HasPrefix(line, "| 3 | nothing |") {
			row = line
		}
	}
	if n := strings.Count(row, " / "); n != 8 { // two delays and two round trips, of three figures each
		t.Errorf("%d figures in row %q of\n%s", n, row, &out)
	}
}

// TestInterrupted is told so, and not what of the processes failed for it.
func TestInterrupted(t *testing.T) {
	c, err := parse(t, "--engine=epoll", "--place=one", "--procs=loops+2", "--beside=nothing", "--load=full")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var out bytes.Buffer
	if err := c.Run.print(ctx, &out, &out); err == nil || err.Error() != "interrupted at 1 of 1" {
		t.Error(err)
	}
}
