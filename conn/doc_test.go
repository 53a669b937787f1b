package conn_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/penstock-go/penstock/conn"
)

// TestDocNamesFiles holds that doc.go says of every file where it belongs, and of none that
// is not there.
func TestDocNamesFiles(t *testing.T) {
	text, err := os.ReadFile("doc.go")
	if err != nil {
		t.Fatal(err)
	}
	_, list, _ := strings.Cut(string(text), "\npackage conn\n")
	words := strings.FieldsFunc(list, func(r rune) bool { return !(r == '_' || r >= 'a' && r <= 'z') })
	files, _ := filepath.Glob("*.go")
	for _, name := range files {
		base := strings.TrimSuffix(name, ".go")
		if base == "doc" || strings.HasSuffix(base, "_test") {
			continue
		}
		base = strings.TrimSuffix(strings.TrimSuffix(base, "_linux"), "_other")
		if !slices.Contains(words, base) {
			t.Errorf("doc.go does not name %s", name)
		}
	}
	for line := range strings.Lines(list) {
		if name, ok := strings.CutPrefix(line, "//\t"); ok {
			name = strings.Fields(name)[0]
			if found, _ := filepath.Glob(name + "*.go"); len(found) == 0 {
				t.Errorf("doc.go names %s, which is not there", name)
			}
		}
	}
}

// TestOrderAtTheEnd holds the order in which a connection tells of its end.
func TestOrderAtTheEnd(t *testing.T) {
	r := newRig(t, 100, marks(10_000, 0, 10_000), nil)
	r.stuff()
	r.c.SendBytes(make([]byte, 1000), func() { r.note("done") })
	r.c.SendFrom(strings.NewReader("the rest"), -1, func(int64, error) { r.note("streamed") })
	r.c.OnRoom(0, func(*conn.Conn) { r.note("room") })
	behind := false
	r.c.Detach(func(conn.Departure, error) { behind = r.isClosed() })
	r.c.Abort()
	r.Settle("the end", r.isClosed)
	if r.wantLog("done streamed room close"); !behind {
		t.Error("Detach was told before OnClose, or not at all")
	}
	r.Finish()
}
