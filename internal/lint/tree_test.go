package lint

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
)

const module = "github.com/penstock-go/penstock"

// tree is the repository, read once. Reading the files here, rather than asking
// go list, lets go test's cache see what an answer depends on.
type tree struct {
	top   []string // names of the folders at the top
	goes  []*source
	texts map[string]string // every other file that is text, by path
	nests []string          // folders with a go.mod of their own
}

// source is one Go file.
type source struct {
	name string // path from the top of the repository
	room string // its folder, "." for the top
	test bool
	text string
	file *ast.File
	set  *token.FileSet
}

// maxText bounds what is read as a text. The raw figures of a report are one, of some
// megabytes.
const maxText = 16 << 20

func readTree(house fs.FS) (*tree, error) {
	t := &tree{texts: map[string]string{}}
	err := fs.WalkDir(house, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone since its folder was listed
			return nil
		case err != nil:
			return err
		case name == ".git" && !d.IsDir(): // that of a linked worktree
			return nil
		case d.IsDir() && (d.Name() == ".git" || d.Name() == "testdata"):
			return fs.SkipDir
		case d.IsDir():
			if name != "." && !strings.Contains(name, "/") {
				t.top = append(t.top, name)
			}
			return nil
		case d.Name() == ".git": // a file in a linked working tree
			return nil
		}
		return t.read(house, name)
	})
	return t, err
}

func (t *tree) read(house fs.FS, name string) error {
	text, err := fs.ReadFile(house, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case len(text) > maxText || bytes.IndexByte(text, 0) >= 0:
		return nil
	}
	if path.Ext(name) != ".go" {
		t.texts[name] = string(text)
		if path.Base(name) == "go.mod" && name != "go.mod" {
			t.nests = append(t.nests, path.Dir(name))
		}
		return nil
	}
	s := &source{
		name: name, room: path.Dir(name), test: strings.HasSuffix(name, "_test.go"),
		text: string(text), set: token.NewFileSet(),
	}
	if s.file, err = parser.ParseFile(s.set, name, text, parser.ParseComments); err != nil {
		return fmt.Errorf("parse: %w", err)
	}
	t.goes = append(t.goes, s)
	return nil
}

// has reports whether a file is there.
func (t *tree) has(name string) bool {
	_, text := t.texts[name]
	return text || slices.ContainsFunc(t.goes, func(s *source) bool { return s.name == name })
}

// nested reports whether room lies in a module of its own.
func (t *tree) nested(room string) bool {
	for _, dir := range t.nests {
		if room == dir || strings.HasPrefix(room, dir+"/") {
			return true
		}
	}
	return false
}

// imports returns the import paths of a file.
func (s *source) imports() []string {
	var list []string
	for _, spec := range s.file.Imports {
		p, _ := strconv.Unquote(spec.Path.Value)
		list = append(list, p)
	}
	return list
}

// at returns "file:line" of a position.
func (s *source) at(p token.Pos) string {
	return fmt.Sprintf("%s:%d", s.name, s.set.Position(p).Line)
}

// ours returns the room that an import path of this module names.
func ours(imp string) (room string, ok bool) {
	if imp == module {
		return ".", true
	}
	return strings.CutPrefix(imp, module+"/")
}

// street reports whether a room sees all others and is seen by none.
func street(room string) (name string, ok bool) {
	switch parts := strings.Split(room, "/"); parts[0] {
	case "bench":
		return "bench", true
	case "cmd", "examples":
		if len(parts) > 1 {
			return parts[0] + "/" + parts[1], true
		}
		return parts[0], true
	}
	return "", false
}

// library reports whether a room is one that users import.
func library(room string) bool {
	_, isStreet := street(room)
	top, _, _ := strings.Cut(room, "/")
	return !isStreet && top != "internal" && top != "tools" && top != "docs"
}
