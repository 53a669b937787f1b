package conn_test

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/penstock-go/penstock/internal/invariants"
	"github.com/penstock-go/penstock/internal/testutil"
)

// mutant is a defect, the tests that must see it, and how.
type mutant struct {
	name    string
	tests   string // for -run
	message string // that the failure has, a regular expression
}

// edit is one place of the source that a defect changes: from occurs exactly
// once. to holds both behaviours, and asks mutant("name") which one it is to be.
type edit struct{ file, from, to string }

// damage is what a simulated peer notices of bytes that went wrong.
const damage = `they differ at|out of range|changed while they were lent|lent bytes changed`

// The first three are those of a short run.
var mutants = []mutant{
	{"free at first completion", "^TestSim(Send|Echo|Reset)$", damage},
	{"forget the short-send offset", "^TestSim(Send|Echo|Reset)$", damage},
	{"reorder the optimistic remainder", "^TestSim(Send|Echo|Reset)$", damage},
	{"drain inside Send", "^TestSim(Send|Echo|Reset)$", "OnDrain inside a Send"},
	{"lose the latch of full", "^TestSim(Send|Echo|Reset)$", "two Fulls without a Drain"},
	{"admit at the limit", "^TestAdmission$", "answered full, want rejected"},
	{"refuse a message to an empty queue", "^TestAdmission$", "answered rejected, want full"},
	{"full of our own batching", "^TestFullSpeaks", "after .* bytes: full"},
	{"drain below the mark only", "^TestLowWater$", "hooks"},
	{"deliver while paused", "^TestPauseRead$|^TestPauseInside", "delivered while paused|deliveries, want"},
	{"overtake what is parked", "^TestSim(Send|Echo|Reset)$|^TestPause|^TestSetHandler", "out of order|OnData brought|in order: false|deliveries, want"},
	{"close over the mailbox", "^TestMailBeforeClose$", "the peer has"},
	{"sit on the rest", "^TestPromptForTheRest$", "nobody waits"},
	{"budget without its threshold", "^TestBudget(Boundaries|IsShared)$", "want rejected|holds .* bytes, want about"},
	{"budget at its size", "^TestBudgetBoundaries$", "want rejected"},
	{"budget forgets the mail", "^TestBudget(Boundaries|IsHard)$", "total is|at the end"},
	{"budget pays twice", "^TestSimBudget$", "at the end|are pending"},
	{"close a connection that is not the largest", "^TestBudgetCloses", "is closed|closed with|Closed:1"},
	{"drop the newest", "^TestDrop", "the peer got|the model|dropped .* bytes, want"},
	{"drop what is begun", "^TestDrop|^TestSimBudget$", "the queue holds|have changed|may be dropped|is not whole|the peer got"},
	{"read above what may be kept", "^TestSimRecvLimit$", "bytes are kept|heard with"},
	{"no drain for want of budget", "^TestBudget(Full|Drain|Producers)", "hooks|not within"},
	{"lose the place in work", "^TestSimGo$", "out of order|dones"},
	{"wait for what has come", "^TestWriteBlock", "not in time|still wait"},
	{"overtake a stream", "^TestSendFromOrder$|^TestSimStream$", "out of order|they differ at"},
	{"close over a stream", "^TestCloseBehindStream$", "the peer has|done ran"},
	{"send the rest of a torn message", "^TestSimReconnect$|^TestReconnectKeeps$", "in the middle of a message|the peer has|told"},
	{"keep the end of the last socket", "^TestReconnectEnds$", "got"},
	{"open what is closing", "^TestDialEnds$", "arrived"},
	{"pipe without a brake", "^TestPipeFlow$", "bytes pending, .* not received"},
	{"end a pipe at its first end of file", "^TestPipe$", "behind the half-close|ended both directions"},
	{"cut a stream at CloseTimeout", "^TestCloseBehindStream$", "done ran .* write_timeout|not in time"},
}

var edits = []edit{
	{
		"outbound.go",
		"	if done.Final {\n		c.repaid(done)",
		"	if mutant(\"free at first completion\") && done.First || !mutant(\"free at first completion\") && done.Final {\n		c.repaid(done)",
	}, {
		"sendq.go",
		"p := e.bytes()[e.taken:]\n		if is",
		"p := e.bytes()[e.taken:]\n		if mutant(\"forget the short-send offset\") {\n			p = e.bytes()[:e.len()-e.taken]\n		}\n		if is",
	}, {
		"sendq.go",
		"	q.list = append(q.list, e)\n",
		"	q.list = append(q.list, e)\n	if i := len(q.list) - 2; mutant(\"reorder the optimistic remainder\") && i >= q.next && q.list[i].taken > 0 {\n		q.list[i], q.list[i+1] = q.list[i+1], q.list[i]\n	}\n",
	}, {
		"outbound.go",
		"	c.credit(n - streamed)\n	if f :=",
		"	c.credit(n - streamed)\n	if mutant(\"drain inside Send\") {\n		c.edges()\n	}\n	if f :=",
	}, {
		"water.go",
		"	if c.full || c.state > closing {",
		"	if c.full && !mutant(\"lose the latch of full\") || c.state > closing {",
	}, {
		"water.go",
		"c.pending > 0 && c.pending >= c.marks().Limit",
		"c.pending > 0 && c.pending >= c.marks().Limit && !(mutant(\"admit at the limit\") && c.pending == c.marks().Limit) || mutant(\"refuse a message to an empty queue\") && c.pending+n > c.marks().Limit",
	}, {
		"water.go",
		"	if c.Pending() >= c.marks().High && !c.full {\n		c.offer()",
		"	if c.Pending() >= c.marks().High && !c.full {\n		if !mutant(\"full of our own batching\") {\n			c.offer()\n		}",
	}, {
		"water.go",
		"c.full && pending <= c.marks().Low &&",
		"c.full && (pending < c.marks().Low || pending == c.marks().Low && !mutant(\"drain below the mark only\")) &&",
	}, {
		"inbound.go",
		"case c.ReadPaused() || c.hasParked():",
		"case c.ReadPaused() && !mutant(\"deliver while paused\") || c.hasParked() && !mutant(\"overtake what is parked\"):",
	}, {
		"close.go",
		"	return c.drained() && (o == nil",
		"	return (c.drained() || mutant(\"close over the mailbox\") && (o == nil || o.q.empty())) && (o == nil",
	}, {
		"outbound.go",
		"	if c.Pending() > o.asked || c.full",
		"	if c.Pending() > o.asked && !mutant(\"sit on the rest\") || c.full",
	}, {
		"budget.go",
		"		if t >= b.size || pending > 0 && pending >= b.size-t {",
		"		if t >= b.size && !(mutant(\"budget at its size\") && t == b.size) || pending > 0 && pending >= b.size-t && !mutant(\"budget without its threshold\") {",
	}, {
		"account.go",
		"	if p := a.pending.Add(n); a.budget != nil && p < gone {",
		"	if p := a.pending.Add(n); a.budget != nil && (p < gone || mutant(\"budget pays twice\")) {",
	}, {
		"gate.go",
		"	if g.chargeWithin(n) || g.policy == DropOldest",
		"	if b := g.budget; mutant(\"budget forgets the mail\") && b != nil {\n		g.budget = nil\n		defer func() { g.budget = b }()\n	}\n	if g.chargeWithin(n) || g.policy == DropOldest",
	}, {
		"budget.go",
		"p < gone && p > held {",
		"p < gone && (p > held || mutant(\"close a connection that is not the largest\") && p > 0) {",
	}, {
		"bounds.go",
		"	for i := b.fly; i < len(b.lens); {\n		size, keep, next := b.at(i)\n		if !keep {",
		"	for i := b.fly; i < len(b.lens); {\n		size, keep, next := b.at(i)\n		if !keep && !(mutant(\"drop the newest\") && i+next < len(b.lens)) {",
	}, {
		"bounds.go",
		"	for b.back < n {",
		"	for b.back < n && !mutant(\"drop what is begun\") {",
	}, {
		"intake.go",
		"k.kept >= c.host.cfg.RecvLimit &&",
		"(k.kept > c.host.cfg.RecvLimit+4096 || k.kept >= c.host.cfg.RecvLimit && !mutant(\"read above what may be kept\")) &&",
	}, {
		"starve.go",
		"	case c.state > open || b.yields(int64(pending)):",
		"	case mutant(\"no drain for want of budget\"):\n		return false\n	case c.state > open || b.yields(int64(pending)):",
	}, {
		"go.go",
		"	if !j.runs && len(j.queue) > 0 {",
		"	if (!j.runs || mutant(\"lose the place in work\")) && len(j.queue) > 0 {",
	}, {
		"waiter.go",
		"	g.grant() // Room that",
		"	if mutant(\"wait for what has come\") {\n		return w\n	}\n	g.grant() // Room that",
	}, {
		"pipe.go",
		"	e.c.hold(byPipe)\n",
		"	if mutant(\"pipe without a brake\") {\n		return\n	}\n	e.c.hold(byPipe)\n",
	}, {
		"pipe.go",
		"	e.c.CloseWrite()\n",
		"	e.c.CloseWrite()\n	if mutant(\"end a pipe at its first end of file\") {\n		e.c.Close()\n	}\n",
	}, {
		"stream.go",
		"	if n := len(o.streams); n > 0 {\n		return",
		"	if n := len(o.streams); n > 0 && !mutant(\"overtake a stream\") {\n		return",
	}, {
		"close.go",
		"(c.out == nil || !c.out.streaming())",
		"(c.out == nil || !c.out.streaming() || mutant(\"close over a stream\"))",
	}, {
		"reconnect.go",
		"		lost = o.bounds.torn()",
		"		if lost = o.bounds.torn(); mutant(\"send the rest of a torn message\") {\n			lost = 0\n		}",
	}, {
		"reconnect.go",
		"	c.eof, c.eofHeard, c.copies",
		"	if mutant(\"keep the end of the last socket\") {\n		return\n	}\n	c.eof, c.eofHeard, c.copies",
	}, {
		"dialing.go",
		"	if c.state < closing {\n		c.hooks.handler.OnOpen(c)",
		"	if c.state < closing || mutant(\"open what is closing\") {\n		c.hooks.handler.OnOpen(c)",
	}, {
		"close.go",
		"if c.eof || f.patient {",
		"if c.eof || f.patient && !mutant(\"cut a stream at CloseTimeout\") {",
	},
}

// switchboard is the file that the edited package gets besides.
const switchboard = `package conn

import "os"

var chosen = os.Getenv("CONN_MUTANT")

func mutant(name string) bool { return name == chosen }
`

// TestMutants holds that the simulation and the boundary tests see defects: it
// builds the tests once over a copy of the source that has them all, switches
// one on at a time, and wants the tests to fail for it.
func TestMutants(t *testing.T) {
	if invariants.Enabled {
		return // The children would be the same.
	}
	binary := buildMutants(t)
	if out, err := runMutant(t, binary, mutant{tests: "^TestAdmission$|^TestPauseRead$"}); err != nil {
		t.Fatalf("without a defect: %v\n%s", err, tail(out))
	}
	list := mutants
	if testing.Short() {
		list = list[:3]
	}
	for _, m := range list {
		t.Run(name("%s", m.name), func(t *testing.T) {
			t.Parallel()
			out, err := runMutant(t, binary, m)
			if err == nil {
				t.Fatalf("the tests passed with this defect:\n%s", tail(out))
			}
			if !regexp.MustCompile(m.message).MatchString(out) {
				t.Errorf("the tests failed otherwise than by %q:\n%s", m.message, tail(out))
			}
		})
	}
}

// buildMutants returns a test binary of the package with every edit.
func buildMutants(t *testing.T) string {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	changed := map[string]string{}
	for _, e := range edits {
		source, ok := changed[e.file]
		if !ok {
			b, err := os.ReadFile(filepath.Join(here, e.file))
			if err != nil {
				t.Fatal(err)
			}
			source = string(b)
		}
		if n := strings.Count(source, e.from); n != 1 {
			t.Fatalf("%q occurs %d times in %s", e.from, n, e.file)
		}
		changed[e.file] = strings.Replace(source, e.from, e.to, 1)
	}
	changed["switchboard.go"] = switchboard
	replace := map[string]string{}
	for file, source := range changed {
		to := filepath.Join(dir, file)
		if err := os.WriteFile(to, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		replace[filepath.Join(here, file)] = to
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(dir, "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "mutants.test")
	if out, err := command(t, nil, "go", "test", "-c", "-vet=off", "-overlay", list, "-o", binary, "."); err != nil {
		t.Fatalf("the mutants do not compile: %v\n%s", err, out)
	}
	return binary
}

func runMutant(t *testing.T, binary string, m mutant) (string, error) {
	t.Helper()
	return command(t, []string{"CONN_MUTANT=" + m.name}, binary,
		"-test.count=1", "-test.failfast", "-test.timeout=60s", "-test.run", m.tests, "-sim.seeds=300")
}

// command runs a program within a time and returns what it printed.
func command(t *testing.T, env []string, name string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Timeout(3*time.Minute))
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func tail(s string) string { return s[max(0, len(s)-2000):] }
