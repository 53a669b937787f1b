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

// mutant is a defect of one place, the tests that must see it, and how.
type mutant struct {
	name, file string
	from, to   string // from occurs exactly once
	tests      string // for -run
	message    string // that the failure has, a regular expression
}

// damage is what a simulated peer notices of bytes that went wrong.
const damage = `they differ at|out of range|changed while they were lent|lent bytes changed`

var mutants = []mutant{
	{
		"free at first completion", "outbound.go",
		"	if done.Final {\n		c.repaid(done)", "	if done.First {\n		c.repaid(done)",
		"^TestSim", damage,
	}, {
		"forget the short-send offset", "sendq.go",
		"p := e.bytes()[e.taken:]\n		if is", "p := e.bytes()[:e.len()-e.taken]\n		if is",
		"^TestSim", damage,
	}, {
		"reorder the optimistic remainder", "sendq.go",
		"	q.list = append(q.list, e)\n",
		"	q.list = append(q.list, e)\n	if i := len(q.list) - 2; i >= q.next && q.list[i].taken > 0 {\n		q.list[i], q.list[i+1] = q.list[i+1], q.list[i]\n	}\n",
		"^TestSim", damage,
	}, {
		"drain inside Send", "outbound.go",
		"	c.credit(n)\n	if f :=", "	c.credit(n)\n	c.edges()\n	if f :=",
		"^TestSim", "OnDrain inside a Send",
	}, {
		"lose the latch of full", "water.go",
		"	if c.full || c.state > closing {", "	if c.state > closing {",
		"^TestSim", "two Fulls without a Drain",
	}, {
		"admit at the limit", "water.go",
		"c.pending > 0 && c.pending >= c.marks.Limit", "c.pending > 0 && c.pending > c.marks.Limit",
		"^TestAdmission$", "answered full, want rejected",
	}, {
		"refuse a message to an empty queue", "water.go",
		"c.pending > 0 && c.pending >= c.marks.Limit", "c.pending+n > c.marks.Limit",
		"^TestAdmission$", "answered rejected, want full",
	}, {
		"full of our own batching", "water.go",
		"	if pending >= c.marks.High && !c.full {\n		c.offer()", "	if pending >= c.marks.High && !c.full {",
		"^TestFullSpeaks", "after .* bytes: full",
	}, {
		"drain below the mark only", "water.go",
		"c.full && pending <= c.marks.Low ||", "c.full && pending < c.marks.Low ||",
		"^TestLowWater$", "hooks",
	}, {
		"deliver while paused", "inbound.go",
		"case c.ReadPaused() || len(c.parked) > 0:", "case len(c.parked) > 0:",
		"^TestPauseRead$|^TestPauseInside", "delivered while paused|deliveries, want",
	}, {
		"overtake what is parked", "inbound.go",
		"case c.ReadPaused() || len(c.parked) > 0:", "case c.ReadPaused():",
		"^TestSim|^TestPause|^TestSetHandler", "out of order|OnData brought|in order: false|deliveries, want",
	}, {
		"close over the mailbox", "close.go",
		"	return c.Pending() == 0 && (o == nil || !o.sending", "	return (o == nil || o.q.empty() && !o.sending",
		"^TestMailBeforeClose$", "the peer has",
	}, {
		"sit on the rest", "outbound.go",
		"	if c.Pending() > o.asked || c.full", "	if c.full",
		"^TestPromptForTheRest$", "nobody waits",
	},
}

// TestMutants holds that the simulation and the boundary tests see defects: it
// puts each into a copy of the source, and wants the tests to fail for it.
func TestMutants(t *testing.T) {
	if invariants.Enabled {
		return // The children would be the same.
	}
	list := mutants
	if testing.Short() {
		list = list[:3]
	}
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	two := make(chan struct{}, 2) // Each child is a compiler and a simulation.
	for _, m := range list {
		t.Run(name("%s", m.name), func(t *testing.T) {
			t.Parallel()
			two <- struct{}{}
			defer func() { <-two }()
			out, err := m.run(t, dir)
			if err == nil {
				t.Fatalf("the tests passed with this defect:\n%s", tail(out))
			}
			if !regexp.MustCompile(m.message).MatchString(out) {
				t.Errorf("the tests failed otherwise than by %q:\n%s", m.message, tail(out))
			}
		})
	}
}

// run runs the tests over the source with the defect. The children are told
// which tests to run, and this one is not among them.
func (m mutant) run(t *testing.T, dir string) (string, error) {
	path := filepath.Join(dir, m.file)
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), m.from); n != 1 {
		t.Fatalf("%q occurs %d times in %s", m.from, n, m.file)
	}
	changed := filepath.Join(t.TempDir(), m.file)
	if err := os.WriteFile(changed, []byte(strings.Replace(string(source), m.from, m.to, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	overlay, err := json.Marshal(map[string]any{"Replace": map[string]string{path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	list := filepath.Join(t.TempDir(), "overlay.json")
	if err := os.WriteFile(list, overlay, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Timeout(time.Minute))
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-vet=off", "-count=1", "-failfast", "-timeout=30s",
		"-overlay", list, "-run", m.tests, ".", "-sim.seeds=300")
	cmd.Dir = dir
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if strings.Contains(string(out), "[build failed]") {
		t.Fatalf("the mutant does not compile:\n%s", out)
	}
	return string(out), err
}

func tail(s string) string { return s[max(0, len(s)-2000):] }
