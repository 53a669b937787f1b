package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// finish keeps the report and shows it.
func (b *bench) finish(out io.Writer) error {
	failures := b.report.Failures()
	if b.smoke {
		return b.smoked(out, failures)
	}
	if len(b.report.Runs) == 0 && b.report.Partial != "" {
		return errNothing
	}
	if len(b.report.Runs) == 0 {
		return errors.New("nothing was measured")
	}
	names, err := b.keep() // First: whoever reads the text may be gone by now.
	if failed := b.report.Text(out, isTerminal(out)); failed != nil && err == nil {
		return fmt.Errorf("%w; the report is kept in %s", failed, b.out)
	}
	for _, name := range names {
		fmt.Fprintf(out, "\n%s", name)
	}
	fmt.Fprintln(out)
	if err != nil {
		return err
	}
	if len(failures) > 0 {
		return fmt.Errorf("%d kinds of measurements failed, the first: %s", len(failures), failures[0])
	}
	if b.report.Partial != "" {
		return errors.New(b.report.Partial + "; the report is partial")
	}
	return nil
}

// folder returns where the report goes, and sees that it can: a run that cannot be kept
// had better not begin.
func (b *bench) folder() (string, error) {
	dir := b.out
	if dir == "" {
		dir = outFolder(b.root)
	}
	err := os.MkdirAll(dir, 0o755)
	if err == nil {
		var probe *os.File
		if probe, err = os.CreateTemp(dir, ".probe-"); err == nil {
			err = errors.Join(probe.Close(), os.Remove(probe.Name()))
		}
	}
	if err != nil {
		return "", fmt.Errorf("the report cannot be kept: %w; -out names another folder", err)
	}
	return dir, nil
}

// keep writes the report, at the worst elsewhere: the disk may be full by now.
func (b *bench) keep() ([]string, error) {
	name := b.name
	if name == "auto" {
		name = b.report.Started.UTC().Format("2006-01-02") + "-" + b.report.Environment.Kind()
	}
	names, err := b.report.Write(b.out, name)
	if err == nil {
		return names, nil
	}
	elsewhere, failed := os.MkdirTemp("", "penstock-report-")
	if failed != nil {
		return names, err
	}
	names, failed = b.report.Write(elsewhere, name)
	if len(names) == 0 {
		_ = os.Remove(elsewhere)
	}
	if failed != nil {
		return names, err
	}
	return names, fmt.Errorf("%w; the report is kept in %s", err, elsewhere)
}

// smoked says whether everything worked. It looks at no figure.
func (b *bench) smoked(out io.Writer, failures []string) error {
	checked := int64(0)
	for _, run := range b.report.Runs {
		if run.Result != nil {
			checked += run.Result.Checked
		}
	}
	if _, err := b.report.HTML(); err != nil {
		return err
	}
	for _, s := range b.report.Subjects {
		if s.Error != "" {
			fmt.Fprintf(out, "%s is not there: %s\n", s.Name, s.Error)
		}
	}
	fmt.Fprintf(out, "%d measurements of %d scenarios in %.0f s; %d bytes came back and were right; %d kinds of failures\n",
		len(b.report.Runs), len(b.report.Scenarios), b.report.Took.Seconds(), checked, len(failures))
	if len(failures) > 0 {
		return errors.New(strings.Join(failures, "\n"))
	}
	if b.report.Partial != "" {
		return errors.New(b.report.Partial)
	}
	return nil
}
