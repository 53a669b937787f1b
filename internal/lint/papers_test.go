package lint

import (
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// The two commands that README gives and CI runs.
const (
	testCommand = "go test ./..."
	mainCommand = "go run ./examples/firehose"
)

// The first example, which README shows whole.
const (
	echoFile     = "examples/echo/main.go"
	echoAnchor   = "<!-- " + echoFile + " -->"
	echoMaxLines = 30
)

// rePlace finds folders of one machine, and ways up. Links are for checkLinks.
var rePlace = regexp.MustCompile(`(?:^|[^\w.])(/(?:home|root|work|tmp|farm|Users)/[\w.]*|(?:\.\./)+\w[\w-]*)`)

// checkPlaces finds texts and sources that hold on one machine only.
func checkPlaces(t *tree) []string {
	var bad []string
	look := func(name, text string) {
		for i, line := range strings.Split(text, "\n") {
			if m := rePlace.FindStringSubmatch(reLink.ReplaceAllString(line, "]()")); m != nil {
				bad = append(bad, fmt.Sprintf("%s:%d: names %s", name, i+1, m[1]))
			}
		}
	}
	for _, s := range t.goes {
		if !s.test {
			look(s.name, s.text)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.texts)) {
		look(name, t.texts[name])
	}
	return bad
}

// checkTitles finds markdown files without exactly one title.
func checkTitles(t *tree) []string {
	var bad []string
	for _, name := range slices.Sorted(maps.Keys(t.texts)) {
		if path.Ext(name) != ".md" {
			continue
		}
		titles, fenced := 0, false
		for line := range strings.Lines(t.texts[name]) {
			if strings.HasPrefix(strings.TrimSpace(line), "```") {
				fenced = !fenced
			} else if !fenced && strings.HasPrefix(line, "# ") {
				titles++
			}
		}
		if titles != 1 {
			bad = append(bad, fmt.Sprintf("%s: %d titles, not one", name, titles))
		}
	}
	return bad
}

// reLink finds links of a markdown file to other files of the repository.
var reLink = regexp.MustCompile(`\]\(([\w./-]+)(?:#[\w-]*)?\)`)

// checkLinks finds links to files that are not there.
func checkLinks(t *tree) []string {
	var bad []string
	for _, name := range slices.Sorted(maps.Keys(t.texts)) {
		if path.Ext(name) != ".md" {
			continue
		}
		for _, m := range reLink.FindAllStringSubmatch(t.texts[name], -1) {
			if to := path.Join(path.Dir(name), m[1]); !t.has(to) {
				bad = append(bad, fmt.Sprintf("%s: links to %s, which is not there", name, to))
			}
		}
	}
	return slices.Compact(bad)
}

// checkCommands holds README and .ci/run to the two commands.
func checkCommands(t *tree) []string {
	var bad []string
	for _, name := range []string{"README.md", ".ci/run"} {
		for _, command := range []string{testCommand, mainCommand} {
			if !strings.Contains(t.texts[name], command) {
				bad = append(bad, fmt.Sprintf("%s: does not have %q", name, command))
			}
		}
	}
	return bad
}

// checkEcho holds README's first example to the file that is compiled.
func checkEcho(t *tree) []string {
	var bad []string
	_, rest, found := strings.Cut(t.texts["README.md"], echoAnchor)
	if !found {
		return append(bad, "README.md: no anchor "+echoAnchor)
	}
	i := slices.IndexFunc(t.goes, func(s *source) bool { return s.name == echoFile })
	if i < 0 { // nothing to compare with
		return nil
	}
	code := t.goes[i].text
	if n := strings.Count(code, "\n"); n > echoMaxLines {
		bad = append(bad, fmt.Sprintf("%s: %d lines, more than %d", echoFile, n, echoMaxLines))
	}
	block, ok := strings.CutPrefix(strings.TrimLeft(rest, "\n"), "```go\n")
	block, _, closed := strings.Cut(block, "```")
	if !ok || !closed || block != code {
		bad = append(bad, "README.md: the code after "+echoAnchor+" is not that of the file")
	}
	return bad
}
