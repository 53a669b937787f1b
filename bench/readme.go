package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/penstock-go/penstock/bench/internal/report"
)

// updateReadme writes the generated block of README.md from raw figures that
// are kept in the repository.
func updateReadme(root, file string) error {
	full, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	name, err := filepath.Rel(root, full)
	if err != nil || strings.HasPrefix(name, "..") {
		return fmt.Errorf("-readme: %s is not in the repository; keep it under bench/results", file)
	}
	r, err := report.Read(full)
	if err != nil {
		return err
	}
	readme := filepath.Join(root, "README.md")
	text, err := os.ReadFile(readme)
	if err != nil {
		return err
	}
	generated, err := r.Readme(string(text), filepath.ToSlash(name))
	if err != nil {
		return fmt.Errorf("README.md: %w", err)
	}
	return os.WriteFile(readme, []byte(generated), 0o644)
}
