//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package abi_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/penstock-go/penstock/internal/testutil"
)

// The third oracle: what the C compiler makes of the headers that are installed.
// It holds the tables of these tests, so it needs neither binding to be right.

const (
	kernelHeaders = "#include <stdio.h>\n#include <stddef.h>\n#include <sys/socket.h>\n#include <sys/uio.h>\n#include <linux/io_uring.h>\n"
	uringHeaders  = "#include <stdio.h>\n#include <string.h>\n#include <liburing.h>\n"
)

// reName finds what may be a name of the interface in preprocessed headers.
var reName = regexp.MustCompile(`\b(?:IO[A-Z_0-9]+|io_uring_prep_\w+)\b`)

// header is a set of headers that the compiler finds.
type header struct {
	cc      string
	include string
	text    string // preprocessed, macros kept
	names   map[string]bool
}

// openHeader skips when there is no compiler or no such header, which asks for a
// package that nobody needs to build or to use this module.
func openHeader(t *testing.T, include, pkg string) *header {
	t.Helper()
	h := &header{include: include, names: map[string]bool{}}
	for _, name := range []string{"gcc", "cc"} {
		if path, err := exec.LookPath(name); err == nil {
			h.cc = path
			break
		}
	}
	if h.cc == "" {
		t.Skip("a C compiler is a third oracle, and there is none: install gcc")
	}
	text, stderr, err := command(t, include, h.cc, "-E", "-dD", "-x", "c", "-")
	if strings.Contains(stderr, "No such file") {
		t.Skipf("the C headers are a third oracle, and are not there: install %s", pkg)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	h.text = text
	for _, name := range reName.FindAllString(text, -1) {
		h.names[name] = true
	}
	return h
}

func command(t *testing.T, stdin, name string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), testutil.Timeout(time.Minute))
	defer cancel()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	err = cmd.Run()
	return out.String(), errs.String(), err
}

// run compiles the statements, and returns the "key value" lines they print.
func (h *header) run(t *testing.T, statements string) map[string]string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "oracle")
	source := h.include + "int main(void) {\n" + statements + "return 0;\n}\n"
	if _, stderr, err := command(t, source, h.cc, "-x", "c", "-o", program, "-"); err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	stdout, stderr, err := command(t, "", program)
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr)
	}
	lines := map[string]string{}
	for line := range strings.Lines(stdout) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		lines[key] = value
	}
	return lines
}

// member returns the name that a member has in these headers.
func (h *header) member(structure, names string) string {
	list := strings.Split(names, "|")
	_, body, _ := strings.Cut(h.text, structure+" {")
	body, _, _ = strings.Cut(body, "\n};")
	for _, name := range list {
		if regexp.MustCompile(`\b` + name + `\b`).MatchString(body) {
			return name
		}
	}
	return list[0]
}

// TestHeaderNumbers holds the constants of the tables to the kernel's header.
func TestHeaderNumbers(t *testing.T) {
	h := openHeader(t, kernelHeaders, "libc6-dev and linux-libc-dev")
	want := map[string]uint32{}
	known := 0
	for _, n := range numbers {
		if n.c != "" {
			want[n.c] = n.value
		}
	}
	for _, m := range missing {
		want[m.c] = m.value
	}
	var b strings.Builder
	for name := range want {
		if h.names[name] { // an old header lacks the newest
			known++
			fmt.Fprintf(&b, "printf(\"%s=%%llu\\n\", (unsigned long long)(%s));\n", name, name)
		}
	}
	got := h.run(t, b.String())
	for name, value := range got {
		if value != fmt.Sprint(want[name]) {
			t.Errorf("%s is %s, and %d in the table", name, value, want[name])
		}
	}
	// Linux 5.6 has thirty of them.
	if known < 30 || len(got) != known {
		t.Errorf("%d of %d constants were compared, %d are in the header", len(got), len(want), known)
	}
	t.Logf("the header has %d of %d constants", known, len(want))
}

// TestHeaderLayouts holds the structures of the table to the C headers.
func TestHeaderLayouts(t *testing.T) {
	h := openHeader(t, kernelHeaders, "libc6-dev and linux-libc-dev")
	want := map[string]int64{}
	var b strings.Builder
	ask := func(key, expression string, value int64) {
		want[key] = value
		fmt.Fprintf(&b, "printf(\"%s=%%zu\\n\", %s);\n", key, expression)
	}
	for _, l := range layouts {
		if !regexp.MustCompile(l.c + `\s+\{`).MatchString(h.text) {
			t.Logf("%s is not in the header", l.c) // an old one
			continue
		}
		endless := l.c == "struct io_uring_probe" // its last member has no length in C
		if !endless {
			ask(l.c, "sizeof("+l.c+")", l.size)
		}
		for _, f := range l.fields {
			if f.c == "" {
				continue
			}
			name := h.member(l.c, f.c)
			ask(l.c+"."+name, fmt.Sprintf("offsetof(%s, %s)", l.c, name), f.off)
			if !endless || name != "ops" {
				ask(l.c+"."+name+" size", fmt.Sprintf("sizeof(((%s *)0)->%s)", l.c, name), f.size)
			}
		}
	}
	got := h.run(t, b.String())
	if len(got) < 50 { // Linux 5.6 has more
		t.Errorf("%d sizes and offsets were compared", len(got))
	}
	for key, value := range want {
		if got[key] != fmt.Sprint(value) {
			t.Errorf("%s: %q in C, %d in the table", key, got[key], value)
		}
	}
}

// TestHeaderPreps holds the bytes of each preparation to those that liburing's
// own functions make, which its header has inline.
func TestHeaderPreps(t *testing.T) {
	h := openHeader(t, uringHeaders, "liburing-dev")
	all := preps(newObjects())
	var b strings.Builder
	b.WriteString("struct io_uring_sqe entry, *sqe = &entry;\n")
	for i, p := range all {
		for _, name := range reName.FindAllString(p.c, -1) {
			if !h.names[name] {
				t.Skipf("the header of liburing has no %s: install liburing-dev 2.3 or later", name)
			}
		}
		fmt.Fprintf(&b, "memset(sqe, 0, sizeof *sqe);\n%s;\nprintf(\"%d=\");\n", p.c, i)
		b.WriteString("for (size_t i = 0; i < sizeof *sqe; i++) printf(\"%02x\", ((unsigned char *)sqe)[i]);\nputs(\"\");\n")
	}
	got := h.run(t, b.String())
	for i, p := range all {
		raw, err := hex.DecodeString(got[fmt.Sprint(i)])
		if err != nil || len(raw) != 64 {
			t.Errorf("%s: liburing printed %q", p.name, got[fmt.Sprint(i)])
			continue
		}
		if want := p.want.bytes(); [64]byte(raw) != want {
			t.Errorf("%s: liburing differs from the table in %q\ngot  %x\nwant %x", p.name, differ([64]byte(raw), want), raw, want)
		}
	}
}
