package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/penstock-go/penstock/bench/internal/report"
	"github.com/penstock-go/penstock/bench/internal/scenario"
)

// revision builds the subjects of another revision of the library in a folder:
// that library, measured by the tool of the working tree, so that only the library
// differs. It returns the program and the commit.
func (b *bench) revision(ctx context.Context, ref, dir string) (program, commit string, err error) {
	git := func(args ...string) ([]byte, error) {
		out, err := command(ctx, "git", append([]string{"-C", b.root}, args...)...).CombinedOutput()
		if err != nil {
			return nil, fmt.Errorf("-against %s: git: %s", ref, wrong(out, err))
		}
		return out, nil
	}
	if _, err = git("rev-parse", "--git-dir"); err != nil {
		return "", "", err
	}
	sha, err := git("rev-parse", "--verify", "--quiet", "--end-of-options", ref+"^{commit}")
	if err != nil {
		return "", "", fmt.Errorf("-against: git knows no revision %q", ref)
	}
	commit = strings.TrimSpace(string(sha))
	archive := filepath.Join(dir, "tree.tar")
	tree := filepath.Join(dir, "tree")
	if _, err = git("archive", "-o", archive, commit); err != nil {
		return "", "", err
	}
	if err = os.Mkdir(tree, 0o755); err != nil {
		return "", "", err
	}
	if out, err := command(ctx, "tar", "-xf", archive, "-C", tree).CombinedOutput(); err != nil {
		return "", "", fmt.Errorf("-against: tar: %s", wrong(out, err))
	}
	if err = b.transplant(tree); err != nil {
		return "", "", err
	}
	program = filepath.Join(dir, "bench")
	args := []string{"-buildvcs=false", "-o", program}
	if !slices.ContainsFunc(b.scenarios, scenario.Scenario.WebSocket) {
		args = append(args, "-tags=nows") // The revision may be older than ws.
	}
	if out, err := goBuild(ctx, tree, dir, append(args, "./bench")...); err != nil {
		return "", "", fmt.Errorf("-against: the library of %s does not build with the load test of the working tree: %s", ref, wrong(out, err))
	}
	return program, commit, nil
}

// transplant puts the tool of the working tree, and what it requires, into
// another tree.
func (b *bench) transplant(tree string) error {
	if err := os.RemoveAll(filepath.Join(tree, "bench")); err != nil {
		return err
	}
	from, to := filepath.Join(b.root, "bench"), filepath.Join(tree, "bench")
	if err := os.CopyFS(filepath.Join(to, "internal"), os.DirFS(filepath.Join(from, "internal"))); err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(from, "*.go"))
	if err != nil {
		return err
	}
	files = append(files, filepath.Join(b.root, "go.mod"), filepath.Join(b.root, "go.sum"))
	for _, name := range files {
		rel, err := filepath.Rel(b.root, name)
		if err != nil {
			return err
		}
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(tree, rel), text, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// withRevision puts before each subject of the working tree the same of another
// revision, which it is compared with.
func withRevision(list []*candidate, ref, commit, program string) []*candidate {
	var all []*candidate
	for _, c := range list {
		old := *c
		old.Name, old.path, old.args = c.Name+"@"+ref, program, slices.Clone(c.args)
		old.Subject = report.Subject{Name: old.Name, Base: old.Name, Own: true, How: "the library at commit " + commit + ", else as " + c.Name}
		c.Base = old.Name
		all = append(all, &old, c)
	}
	return all
}
