package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// isTerminal reports whether a person sees w.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// outFolder is where reports go that nobody has decided to keep.
func outFolder(root string) string {
	if root == "" {
		return "bench-out"
	}
	return filepath.Join(root, "bench", "out")
}

// progress is a bar on a terminal, and a line for each scenario elsewhere.
type progress struct {
	w     io.Writer
	bar   *progressbar.ProgressBar // nil without a terminal
	steps int
	at    int
	start time.Time
}

func newProgress(w io.Writer, steps int) *progress {
	p := &progress{w: w, steps: steps, start: time.Now()}
	if isTerminal(w) {
		p.bar = progressbar.NewOptions(steps, progressbar.OptionSetWriter(w), progressbar.OptionSetPredictTime(true),
			progressbar.OptionFullWidth(), progressbar.OptionClearOnFinish(), progressbar.OptionThrottle(100*time.Millisecond))
	}
	return p
}

// step begins one measurement.
func (p *progress) step(scenario, subject string) {
	if p.bar != nil {
		p.bar.Describe(fmt.Sprintf("%-18s %-14s", scenario, subject))
		_ = p.bar.Add(1)
	}
	p.at++
}

// skip counts measurements that are not made.
func (p *progress) skip(n int) {
	if p.bar != nil && n > 0 {
		_ = p.bar.Add(n)
	}
	p.at += n
}

// done tells that a scenario is over.
func (p *progress) done(scenario string) {
	if p.bar == nil {
		fmt.Fprintf(p.w, "%3d %%  %4.0f s  %s\n", 100*p.at/max(1, p.steps), time.Since(p.start).Seconds(), scenario)
	}
}

func (p *progress) end() {
	if p.bar != nil {
		_ = p.bar.Finish()
	}
}
