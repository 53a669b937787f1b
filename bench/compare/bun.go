package main

import (
	_ "embed"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
)

//go:embed bun.js
var bunScript []byte

const bunInstall = "npm install --global --allow-scripts=bun bun, or BUN=/path/to/bun"

// findBun looks for the program, which BUN may name.
func findBun() (string, error) {
	name := os.Getenv("BUN")
	if name == "" {
		name = "bun"
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", errors.New("no bun: " + bunInstall)
	}
	return path, nil
}

func checkBun() error {
	path, err := findBun()
	if err != nil {
		return err
	}
	if out, err := exec.Command(path, "--version").CombinedOutput(); err != nil {
		return fmt.Errorf("bun does not run: %s (%w)", firstLine(out), err)
	}
	return nil
}

// serveBun becomes bun, so that what is measured is bun alone.
func serveBun(cfg config) error {
	if cfg.loops > 1 {
		return errors.New("bun has one loop a process")
	}
	path, err := findBun()
	if err != nil {
		return err
	}
	user, err := os.UserCacheDir()
	if err != nil {
		return err
	}
	script := filepath.Join(user, "penstock-bench", "bun.js")
	if err := os.MkdirAll(filepath.Dir(script), 0o700); err != nil {
		return err
	}
	mine := fmt.Sprintf("%s.%d", script, os.Getpid()) // Another may start at the same time.
	if err := os.WriteFile(mine, bunScript, 0o600); err != nil {
		return err
	}
	if err := os.Rename(mine, script); err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(cfg.addr)
	if err != nil {
		return err
	}
	err = syscall.Exec(path, []string{path, "run", script, cfg.protocol, host, port, cfg.peer}, os.Environ())
	return fmt.Errorf("exec %s: %w", path, err)
}
