package lint

import (
	"fmt"
	"slices"
	"strings"
)

// plan says who may import whom inside the repository. Nothing else is allowed:
// a new room starts with a line here and a reason in ARCHITECTURE.md.
var plan = map[string][]string{
	"internal/invariants": {},
	"internal/sys":        {},
	"internal/table":      {},
	"internal/testutil":   {},
	"internal/lint":       {},
	"internal/firehose":   {"buf", "conn", "reactor"}, // a protocol that programs share
	"internal/looptest":   {"aio", "aio/aiotest", "buf", "reactor", "internal/invariants", "internal/testutil"},

	"buf":               {"internal/invariants"},
	"aio":               {"buf", "internal/invariants"},
	"aio/aiotest":       {"aio", "buf", "internal/invariants", "internal/testutil"},
	"ring":              {"aio", "buf", "internal/invariants", "internal/sys", "internal/table"},
	"ring/internal/abi": {"ring"},
	"fallback":          {"aio", "buf", "internal/invariants", "internal/sys", "internal/table"},
	"reactor":           {"aio", "buf", "fallback", "ring", "internal/invariants", "internal/sys", "internal/table"},
	"conn":              {"aio", "buf", "reactor", "internal/invariants", "internal/sys"},
	"codec":             {"buf", "conn", "internal/invariants"},
	"ws":                {"buf", "conn", "reactor", "internal/invariants"},
	".":                 {"aio", "buf", "codec", "conn", "reactor", "ws"},
}

// forTests is what the tests of every room may import besides: they open real
// engines by way of the rooms below, and share suites and deadlines.
var forTests = []string{"aio/aiotest", "internal/looptest", "internal/testutil", "internal/invariants"}

// foreign lists the packages outside the standard library that a room may
// import. "" stands for every room, a trailing "/" for all that begins so.
var foreign = map[string][]string{
	"":   {"golang.org/x/sys/unix"},
	"ws": {"github.com/klauspost/compress/flate"},
}

// foreignForTests and foreignForStreets are the same for tests, and for the
// programs: an importer of the library never downloads what is listed here.
var (
	foreignForTests   = []string{"golang.org/x/net/nettest"}
	foreignForStreets = []string{
		"golang.org/x/",
		"github.com/alecthomas/kong",
		"github.com/HdrHistogram/hdrhistogram-go",
		"github.com/klauspost/compress/flate", // ws stands on it too
		"github.com/schollz/progressbar/",
		"github.com/vbauerster/mpb/",
		"gonum.org/v1/plot",
	}
)

// unsafeRooms may import unsafe; each use says in a comment why it holds.
var unsafeRooms = []string{"buf", "fallback", "internal/sys", "ring"}

// topFolders are all the folders that the top of the repository may have.
var topFolders = []string{
	".ci", "aio", "bench", "buf", "cmd", "codec", "conn", "docs", "examples",
	"fallback", "internal", "reactor", "ring", "tools", "ws",
}

// checkImports holds every import against the plan.
func checkImports(t *tree) []string {
	var bad []string
	engines := map[string]bool{}
	for _, s := range t.goes {
		for _, imp := range s.imports() {
			if why := refuse(t, s, imp); why != "" {
				bad = append(bad, fmt.Sprintf("%s: %s", s.name, why))
			}
			if dep, _ := ours(imp); s.room == "reactor" && !s.test && (dep == "ring" || dep == "fallback") {
				engines[s.name] = true
			}
		}
	}
	if len(engines) > 1 {
		bad = append(bad, fmt.Sprintf("reactor: %d files import an engine, only one may", len(engines)))
	}
	return bad
}

// refuse returns why file s may not import imp, or "".
func refuse(t *tree, s *source, imp string) string {
	dep, isOurs := ours(imp)
	switch {
	case imp == "C":
		return "cgo is not used here"
	case imp == "unsafe":
		if !slices.ContainsFunc(unsafeRooms, func(r string) bool { return s.room == r || strings.HasPrefix(s.room, r+"/") }) {
			return s.room + " may not import unsafe"
		}
	case isOurs:
		return refuseOurs(s, dep)
	case t.nested(s.room): // its own go.mod says what it needs
	case strings.Contains(strings.Split(imp, "/")[0], ".") && !foreignAllowed(s, imp):
		return fmt.Sprintf("%s may not import %s from outside the standard library", s.room, imp)
	}
	return ""
}

func refuseOurs(s *source, dep string) string {
	if from, ok := street(s.room); ok {
		if to, isStreet := street(dep); isStreet && to != from {
			return fmt.Sprintf("%s is seen by none, not even by %s", dep, s.room)
		}
		return ""
	}
	may, planned := plan[s.room]
	switch {
	case !planned:
		return fmt.Sprintf("%s is a room without a line in the plan", s.room)
	case slices.Contains(may, dep):
		return ""
	case s.test && (dep == s.room || slices.Contains(forTests, dep) || slices.Contains(below(s.room), dep)):
		return ""
	}
	return fmt.Sprintf("%s may not import %s", s.room, dep)
}

// below returns all rooms that a room stands on, except that the engines are
// for the tests of reactor alone.
func below(room string) []string {
	var all []string
	for todo := slices.Clone(plan[room]); len(todo) > 0; todo = todo[1:] {
		if r := todo[0]; !slices.Contains(all, r) && r != "ring" && r != "fallback" {
			all = append(all, r)
			todo = append(todo, plan[r]...)
		}
	}
	return all
}

func foreignAllowed(s *source, imp string) bool {
	list := slices.Concat(foreign[""], foreign[s.room])
	if s.test {
		list = append(list, foreignForTests...)
	}
	if _, ok := street(s.room); ok {
		list = append(list, foreignForStreets...)
	}
	return slices.ContainsFunc(list, func(p string) bool {
		return imp == p || strings.HasPrefix(imp, strings.TrimSuffix(p, "/")+"/")
	})
}

// checkTop holds the folders at the top against the plan.
func checkTop(t *tree) []string {
	var bad []string
	for _, name := range t.top {
		if !slices.Contains(topFolders, name) {
			bad = append(bad, name+"/: no such folder in the plan")
		}
	}
	return bad
}
