package lint

import (
	"maps"
	"os"
	"slices"
	"testing"
)

// rules are all the rules; TestTree applies them, TestRules sees each fail.
var rules = map[string]func(*tree) []string{
	"imports":  checkImports,
	"top":      checkTop,
	"comments": checkComments,
	"sizes":    checkSizes,
	"docs":     checkDocs,
	"quiet":    checkQuiet,
	"places":   checkPlaces,
	"titles":   checkTitles,
	"links":    checkLinks,
	"commands": checkCommands,
	"echo":     checkEcho,
}

// TestTree applies every rule to this repository.
func TestTree(t *testing.T) {
	house, err := readTree(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(house.goes) < 10 || house.texts["go.mod"] == "" {
		t.Fatalf("%d Go files: this is not the repository", len(house.goes))
	}
	for name, check := range rules {
		t.Run(name, func(t *testing.T) {
			for _, problem := range check(house) {
				t.Error(problem)
			}
		})
	}
}

// TestLongFuncs keeps the list of exceptions from outliving its functions.
func TestLongFuncs(t *testing.T) {
	house, err := readTree(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	listed := longFuncs
	longFuncs = nil
	long := checkSizes(house)
	longFuncs = listed
	if len(long) != len(listed) {
		t.Errorf("%d functions and files over the limit, %d exceptions: %q", len(long), len(listed), slices.Sorted(maps.Keys(listed)))
	}
}
