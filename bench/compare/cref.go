package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

//go:embed c/*.c c/*.h
var sources embed.FS

// compileLimit bounds gcc, which needs about a second for one file.
const compileLimit = time.Minute

const install = "apt-get install gcc libc6-dev liburing-dev"

// reference is a peer in C. It is compiled when it is first wanted, kept in the user's
// cache, and takes this process's place, so that what is measured is C alone.
func reference(name, source, how string, args ...string) peer {
	return peer{
		name:      name,
		how:       how,
		native:    true,
		built:     compiler,
		halfClose: answersAll,
		check: func() error {
			binary, err := compile(source)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithTimeout(context.Background(), compileLimit)
			defer cancel()
			if out, err := exec.CommandContext(ctx, binary, "--probe").CombinedOutput(); err != nil {
				return fmt.Errorf("%s: %s (%w)", source, firstLine(out), err)
			}
			return nil
		},
		serve: func(cfg config) error {
			binary, err := compile(source)
			if err != nil {
				return err
			}
			argv := []string{binary, "--name", name, "--listen", cfg.addr, "--loops", strconv.Itoa(cfg.loops)}
			if cfg.fanout {
				argv = append(argv, "--fanout")
			}
			if cfg.buffer > 0 {
				argv = append(argv, "--buffer", strconv.Itoa(cfg.buffer))
			}
			err = syscall.Exec(binary, append(argv, args...), os.Environ())
			return fmt.Errorf("exec %s: %w", binary, err)
		},
	}
}

// compiler names the one that is here.
func compiler() string {
	out, err := exec.Command("gcc", "--version").Output()
	if err != nil {
		return ""
	}
	return "built by " + firstLine(out) + " " + optimize
}

// optimize is the level of optimization: -O3 and -march=native have no loop here to work on.
const optimize = "-O2"

// compile returns the program made of a source, from the cache when it is there.
func compile(source string) (string, error) {
	gcc, err := exec.LookPath("gcc")
	if err != nil {
		return "", errors.New("no gcc: " + install)
	}
	ctx, cancel := context.WithTimeout(context.Background(), compileLimit)
	defer cancel()
	flags := []string{"-std=c11", "-D_GNU_SOURCE", optimize, "-Wall", "-Wextra", "-pthread"}
	libs := []string{}
	if source == "uring.c" {
		probe := exec.CommandContext(ctx, gcc, "-E", "-xc", "-")
		probe.Stdin = strings.NewReader("#include <liburing.h>\n")
		if probe.Run() != nil {
			return "", errors.New("no liburing.h: " + install)
		}
		libs = append(libs, "-luring")
	}
	dir, binary, err := cached(ctx, gcc, source, append(flags, libs...))
	if err != nil {
		return "", err
	}
	if _, err := os.Stat(binary); err == nil {
		return binary, nil
	}
	work, err := os.MkdirTemp(dir, "build-")
	if err != nil {
		return "", err
	}
	defer func() { _ = os.RemoveAll(work) }()
	if err := os.CopyFS(work, sources); err != nil {
		return "", err
	}
	made := filepath.Join(work, "made")
	args := append(append(flags, "-o", made, filepath.Join(work, "c", source)), libs...)
	if out, err := exec.CommandContext(ctx, gcc, args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("gcc on %s: %w: %s; needed are liburing 2.3 or newer and its headers: %s", source, err, errorLine(out), install)
	}
	// Two may compile at once: the rename is what makes one of them the program.
	return binary, os.Rename(made, binary)
}

// cached names the program after all that it is made of, so a stale one is never found.
func cached(ctx context.Context, gcc, source string, flags []string) (dir, binary string, err error) {
	user, err := os.UserCacheDir()
	if err != nil {
		return "", "", fmt.Errorf("no place for compiled programs: %w; set XDG_CACHE_HOME", err)
	}
	dir = filepath.Join(user, "penstock-bench")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", "", err
	}
	version, err := exec.CommandContext(ctx, gcc, "--version").Output()
	if err != nil {
		return "", "", fmt.Errorf("gcc --version: %w", err)
	}
	sum := sha256.New()
	fmt.Fprintf(sum, "%s\n%q\n", version, flags)
	err = fs.WalkDir(sources, ".", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := sources.ReadFile(path)
		fmt.Fprintf(sum, "%s %d\n%s", path, len(text), text)
		return err
	})
	name := strings.TrimSuffix(source, ".c") + "-" + hex.EncodeToString(sum.Sum(nil)[:8])
	return dir, filepath.Join(dir, name), err
}

func firstLine(out []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(out), []byte("\n"))
	return string(line)
}

// errorLine finds the first error among what gcc says.
func errorLine(out []byte) string {
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "error") {
			return strings.TrimSpace(line)
		}
	}
	return firstLine(out)
}
