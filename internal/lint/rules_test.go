package lint

import (
	"strings"
	"testing"
	"testing/fstest"
)

// lines returns a function of n lines.
func lines(n int) string {
	return "func f() {\n" + strings.Repeat("\tg()\n", n-2) + "}\n"
}

const (
	xBuf   = `import _ "github.com/penstock-go/penstock/buf"`
	xRing  = `import _ "github.com/penstock-go/penstock/ring"`
	xConn  = `import _ "github.com/penstock-go/penstock/conn"`
	xEpoll = `import _ "github.com/penstock-go/penstock/fallback"`
	readme = "go run ./examples/firehose\ngo test ./...\n" + echoAnchor + "\n"
)

// TestRules feeds each rule small bad repositories, and good ones beside them:
// want is part of the only problem, "" is none.
func TestRules(t *testing.T) {
	for _, tc := range []struct {
		rule, name string
		files      map[string]string
		want       string
	}{
		{"imports", "downward", map[string]string{"aio/a.go": "package aio\n" + xBuf}, ""},
		{"imports", "upward", map[string]string{"buf/a.go": "package buf\n" + xConn}, "buf may not import conn"},
		{"imports", "upward in a test", map[string]string{"buf/a_test.go": "package buf\n" + xConn}, "buf may not import conn"},
		{"imports", "an engine above reactor", map[string]string{"conn/a.go": "package conn\n" + xRing}, "conn may not import ring"},
		{"imports", "an engine in a test above reactor", map[string]string{"conn/a_test.go": "package conn\n" + xRing}, "conn may not import ring"},
		{"imports", "an engine by an engine", map[string]string{"fallback/a.go": "package fallback\n" + xRing}, "may not import ring"},
		{"imports", "engines in one file", map[string]string{"reactor/a.go": "package reactor\n" + xRing + "\n" + xEpoll}, ""},
		{"imports", "engines in two files", map[string]string{"reactor/a.go": "package reactor\n" + xRing, "reactor/b.go": "package reactor\n" + xEpoll}, "2 files import an engine"},
		{"imports", "suite in an engine's test", map[string]string{"ring/a_test.go": "package ring_test\n" + `import _ "github.com/penstock-go/penstock/aio/aiotest"` + "\n" + xRing}, ""},
		{"imports", "suite outside tests", map[string]string{"ring/a.go": "package ring\n" + `import _ "github.com/penstock-go/penstock/aio/aiotest"`}, "may not import aio/aiotest"},
		{"imports", "two floors down in a test", map[string]string{"ws/a_test.go": "package ws\n" + `import _ "github.com/penstock-go/penstock/reactor"`}, ""},
		{"imports", "two floors down", map[string]string{"ws/a.go": "package ws\n" + `import _ "github.com/penstock-go/penstock/aio"`}, "ws may not import aio"},
		{"imports", "unplanned room", map[string]string{"conn/util/a.go": "package util\n" + xBuf}, "without a line in the plan"},
		{"imports", "a street sees all", map[string]string{"cmd/penstock/a.go": "package main\n" + xRing + "\n" + xConn}, ""},
		{"imports", "a street is seen by none", map[string]string{"conn/a.go": "package conn\n" + `import _ "github.com/penstock-go/penstock/bench"`}, "conn may not import bench"},
		{"imports", "nor by another street", map[string]string{"examples/a/a.go": "package main\n" + `import _ "github.com/penstock-go/penstock/cmd/penstock/x"`}, "seen by none"},
		{"imports", "foreign", map[string]string{"conn/a.go": "package conn\n" + `import _ "example.com/x"`}, "outside the standard library"},
		{"imports", "foreign of another room", map[string]string{"conn/a.go": "package conn\n" + `import _ "github.com/klauspost/compress/flate"`}, "outside the standard library"},
		{"imports", "flate in ws", map[string]string{"ws/a.go": "package ws\n" + `import _ "github.com/klauspost/compress/flate"`}, ""},
		{"imports", "command line in a room", map[string]string{"reactor/a.go": "package reactor\n" + `import _ "github.com/alecthomas/kong"`}, "outside the standard library"},
		{"imports", "command line in a street", map[string]string{"cmd/penstock/a.go": "package main\n" + `import _ "github.com/alecthomas/kong"`}, ""},
		{"imports", "a name that only begins alike", map[string]string{"buf/a.go": "package buf\n" + `import _ "golang.org/x/sys/unixoid"`}, "outside the standard library"},
		{"imports", "foreign in a module of its own", map[string]string{"bench/compare/go.mod": "module x", "bench/compare/a.go": "package main\n" + `import _ "github.com/panjf2000/gnet/v2"`}, ""},
		{"imports", "cgo", map[string]string{"ring/a.go": "package ring\n" + `import "C"`}, "cgo"},
		{"imports", "unsafe", map[string]string{"conn/a.go": "package conn\n" + `import _ "unsafe"`}, "may not import unsafe"},
		{"imports", "unsafe where it belongs", map[string]string{"ring/a.go": "package ring\n" + `import _ "unsafe"`}, ""},

		{"top", "planned", map[string]string{"ws/a.go": "package ws", ".ci/run": "", "LICENSE": ""}, ""},
		{"top", "unplanned", map[string]string{"pkg/a.go": "package pkg"}, "pkg/"},

		{"comments", "norace", map[string]string{"conn/a.go": "package conn\n\n//go:norace\nfunc f() {}\n"}, "conn/a.go:3: the race detector"},
		{"comments", "norace in a string", map[string]string{"conn/a.go": "package conn\n\nvar s = \"//go:norace\"\n"}, ""},
		{"comments", "hollow", map[string]string{"conn/a.go": "package conn\n\n// Close .\nfunc Close() {}\n"}, "only feeds a linter"},
		{"comments", "open", map[string]string{"conn/a_test.go": "package conn\n\n// FIXME: later\nfunc f() {}\n"}, "left open"},
		{"comments", "a word that contains it", map[string]string{"conn/a.go": "package conn\n\n// TODOS is a name.\nvar TODOS int\n"}, ""},

		{"sizes", "function at the limit", map[string]string{"conn/a.go": "package conn\n" + lines(70)}, ""},
		{"sizes", "function over it", map[string]string{"conn/a.go": "package conn\n" + lines(71)}, "f has 71 lines"},
		{"sizes", "file at the limit", map[string]string{"conn/a.go": "package conn\n" + strings.Repeat("\n", 499)}, ""},
		{"sizes", "file over it", map[string]string{"conn/a.go": "package conn\n" + strings.Repeat("\n", 500)}, "501 lines"},
		{"sizes", "test file", map[string]string{"conn/a_test.go": "package conn\n" + strings.Repeat("\n", 900)}, ""},

		{"docs", "all there", map[string]string{"conn/a.go": "// Package conn is good.\npackage conn\n\n// F does it.\nfunc F() {}\n\n// The kinds.\nconst (\n\tA = 1\n)\n"}, ""},
		{"docs", "function", map[string]string{"conn/a.go": "// Package conn is good.\npackage conn\n\nfunc F() {}\n"}, "F has no doc"},
		{"docs", "method", map[string]string{"conn/a.go": "// Package conn is good.\npackage conn\n\n// T is a type.\ntype T[X any] struct{}\n\nfunc (t *T[X]) M() {}\n"}, "M has no doc"},
		{"docs", "method of an unexported type", map[string]string{"conn/a.go": "// Package conn is good.\npackage conn\n\ntype t struct{}\n\nfunc (t) M() {}\n"}, ""},
		{"docs", "name only", map[string]string{"conn/a.go": "// Package conn is good.\npackage conn\n\n// T.\ntype T int\n"}, "T has no doc"},
		{"docs", "constant", map[string]string{"conn/a.go": "// Package conn is good.\npackage conn\n\nconst A = 1\n"}, "A has no doc"},
		{"docs", "package", map[string]string{"conn/a.go": "package conn\n"}, "no package comment"},
		{"docs", "a program", map[string]string{"cmd/penstock/a.go": "package main\n\nfunc F() {}\n"}, ""},

		{"quiet", "log", map[string]string{"conn/a.go": "package conn\n\nimport _ \"log/slog\"\n"}, "may not log"},
		{"quiet", "log in reactor", map[string]string{"reactor/a.go": "package reactor\n\nimport _ \"log/slog\"\n"}, ""},
		{"quiet", "print", map[string]string{"buf/a.go": "package buf\n\nfunc f() { fmt.Println() }\n"}, "fmt.Println in buf"},
		{"quiet", "format", map[string]string{"buf/a.go": "package buf\n\nvar e = fmt.Errorf(\"x\")\n"}, ""},
		{"quiet", "environment", map[string]string{"ring/a.go": "package ring\n\nvar e = os.Getenv(\"X\")\n"}, "os.Getenv in ring"},

		{"places", "home", map[string]string{"docs/a.md": "see /home/me/x"}, "docs/a.md:1: names /home/me"},
		{"places", "in code", map[string]string{"conn/a.go": "package conn\n\nvar p = \"/tmp/x\"\n"}, "conn/a.go:3: names /tmp/x"},
		{"places", "in a test", map[string]string{"conn/a_test.go": "package conn\n\nvar p = \"/tmp/x\"\n"}, ""},
		{"places", "next door", map[string]string{".ci/run": "cat ../other/x"}, "names ../other"},
		{"places", "next door, in brackets", map[string]string{"docs/a.md": "(../../other)"}, "names ../../other"},
		{"places", "home, in brackets", map[string]string{"docs/a.md": "(/home/me/x)"}, "names /home/me"},
		{"places", "a link up", map[string]string{"docs/a.md": "[a](../README.md)"}, ""},
		{"places", "part of an address", map[string]string{"docs/a.md": "https://example.com/home/x and framework/tmp/y"}, ""},

		{"titles", "one", map[string]string{"docs/a.md": "# A\n\n## B\n\n```\n# not a title\n```\n"}, ""},
		{"titles", "two", map[string]string{"docs/a.md": "# A\n\n# B\n"}, "2 titles"},
		{"titles", "none", map[string]string{"docs/a.md": "## A\n"}, "0 titles"},

		{"links", "there", map[string]string{"README.md": "[a](docs/a.md#part) [b](https://example.com/b.md)", "docs/a.md": "[up](../README.md)"}, ""},
		{"links", "not there", map[string]string{"docs/a.md": "[b](b.md)"}, "docs/b.md, which is not there"},

		{"commands", "all there", map[string]string{"README.md": readme, ".ci/run": readme}, ""},
		{"commands", "not in CI", map[string]string{"README.md": readme, ".ci/run": "go run ./examples/firehose"}, `.ci/run: does not have "go test ./..."`},
		{"commands", "not in README", map[string]string{"README.md": "go test ./...", ".ci/run": readme}, "README.md: does not have"},

		{"echo", "no file yet", map[string]string{"README.md": readme + "```go\nx\n```\n"}, ""},
		{"echo", "no anchor", map[string]string{"README.md": "# A\n"}, "no anchor"},
		{"echo", "equal", map[string]string{"README.md": readme + "```go\npackage main\n```\n", echoFile: "package main\n"}, ""},
		{"echo", "not equal", map[string]string{"README.md": readme + "```go\npackage main\n\n```\n", echoFile: "package main\n"}, "is not that of the file"},
		{"echo", "no block", map[string]string{"README.md": readme, echoFile: "package main\n"}, "is not that of the file"},
		{"echo", "too long", map[string]string{"README.md": readme + "```go\npackage main\n" + lines(30) + "```\n", echoFile: "package main\n" + lines(30)}, "31 lines"},
	} {
		t.Run(tc.rule+"/"+tc.name, func(t *testing.T) {
			house := fstest.MapFS{}
			for name, text := range tc.files {
				house[name] = &fstest.MapFile{Data: []byte(text)}
			}
			read, err := readTree(house)
			if err != nil {
				t.Fatal(err)
			}
			got := rules[tc.rule](read)
			switch {
			case tc.want == "" && len(got) > 0:
				t.Errorf("good, and yet: %q", got)
			case tc.want != "" && (len(got) != 1 || !strings.Contains(got[0], tc.want)):
				t.Errorf("got %q, want one that has %q", got, tc.want)
			}
		})
	}
}
