package main

import (
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/penstock-go/penstock/bench/internal/report"
	"github.com/penstock-go/penstock/bench/internal/scenario"
)

// TestCrew has the same servers measured round by round, a new one in the place of one
// that has died, and a new one each time where memory counts.
func TestCrew(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := &candidate{Subject: report.Subject{Name: "epoll", Own: true}, path: self, args: []string{roleSubject, "--engine", "epoll"}, protocols: []string{"echo"}}
	b := &bench{options: &options{}, candidates: []*candidate{c}, plan: plan{window: smokeWindow, warm: smokeWarm}}
	list, err := scenario.Select(scenario.All(1000), "^(echo-64-c1|idle-10k)$")
	if err != nil {
		t.Fatal(err)
	}
	echo, idle := list[0], list[1]
	if n := len(b.hire(t.Context(), idle)); n != 0 {
		t.Errorf("%d servers are kept where each measurement is to have a new process", n)
	}
	b.crew = b.hire(t.Context(), echo)
	defer func() { b.crew.end() }()
	server := b.crew[c]
	if server == nil {
		t.Fatal("nobody was hired")
	}
	once := func() report.Run { return b.once(t.Context(), echo, echo.Variants[0], c) }
	for range 2 {
		if run := once(); run.Result == nil || b.crew[c] != server {
			t.Fatalf("%+v", run)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	_ = server.cmd.Process.Signal(syscall.SIGSTOP)
	if _, _, err := b.attempt(ctx, echo, echo.Variants[0], c); err == nil || b.crew[c] != nil {
		t.Errorf("of a server that has stopped: %v", err)
	}
	b.crew = b.hire(t.Context(), echo)
	server = b.crew[c]
	_ = server.cmd.Process.Kill()
	if run := once(); run.Error == "" || b.crew[c] != nil {
		t.Errorf("of a server that is dead: %+v", run)
	}
	if run := once(); run.Result == nil || b.crew[c] != nil {
		t.Errorf("behind it: %+v", run)
	}
	b.crew = b.hire(t.Context(), echo)
	pid := b.crew[c].cmd
	if b.crew.end(); len(b.crew) != 0 || pid.ProcessState == nil {
		t.Error("the crew has not ended")
	}
}
