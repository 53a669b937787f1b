package lint

import (
	"fmt"
	"go/ast"
	"go/token"
	"regexp"
	"slices"
	"strings"
)

const (
	maxFileLines = 500
	maxFuncLines = 70
)

// longFuncs are the functions over the limit, "room/file.go func", each with
// the reason that it reads better whole.
var longFuncs = map[string]string{}

// quietRooms neither log nor print nor look at the environment.
var quietRooms = []string{"aio", "buf", "codec", "conn", "fallback", "ring", "ws"}

var (
	reOpenEnd  = regexp.MustCompile(`\b(TODO|FIXME|XXX|HACK)\b`)
	reHollow   = regexp.MustCompile(`^//\s*\w+\s+\.$`)
	reNameOnly = regexp.MustCompile(`^\w+\.?$`)
)

// checkComments finds comments that hide something or say nothing.
func checkComments(t *tree) []string {
	var bad []string
	for _, s := range t.goes {
		for _, group := range s.file.Comments {
			for _, c := range group.List {
				switch {
				case strings.HasPrefix(c.Text, "//go:norace"):
					bad = append(bad, s.at(c.Pos())+": the race detector is not switched off")
				case reHollow.MatchString(c.Text):
					bad = append(bad, s.at(c.Pos())+": a comment that only feeds a linter")
				case reOpenEnd.MatchString(c.Text):
					bad = append(bad, s.at(c.Pos())+": left open")
				}
			}
		}
	}
	return bad
}

// checkSizes finds files and functions that do not fit a screen or a head.
func checkSizes(t *tree) []string {
	var bad []string
	for _, s := range t.goes {
		if s.test {
			continue
		}
		if n := strings.Count(s.text, "\n"); n > maxFileLines {
			bad = append(bad, fmt.Sprintf("%s: %d lines, more than %d", s.name, n, maxFileLines))
		}
		for _, d := range s.file.Decls {
			f, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			n := s.set.Position(f.End()).Line - s.set.Position(f.Pos()).Line + 1
			if n > maxFuncLines && longFuncs[s.name+" "+f.Name.Name] == "" {
				bad = append(bad, fmt.Sprintf("%s: %s has %d lines, more than %d", s.at(f.Pos()), f.Name.Name, n, maxFuncLines))
			}
		}
	}
	return bad
}

// checkDocs finds exported names and packages of the library without a comment,
// and comments that only repeat the name.
func checkDocs(t *tree) []string {
	var bad []string
	documented := map[string]bool{}
	for _, s := range t.goes {
		if s.test || !library(s.room) || t.nested(s.room) {
			continue
		}
		documented[s.room] = documented[s.room] || s.file.Doc.Text() != ""
		for _, d := range s.file.Decls {
			for name, doc := range exported(d) {
				if text := strings.TrimSpace(doc); text == "" || reNameOnly.MatchString(text) {
					bad = append(bad, fmt.Sprintf("%s: %s has no doc comment", s.at(d.Pos()), name))
				}
			}
		}
	}
	for room, ok := range documented {
		if !ok {
			bad = append(bad, room+": no package comment")
		}
	}
	slices.Sort(bad)
	return bad
}

// exported returns the exported names that a declaration brings, each with its
// comment; in a group of constants or variables that of the group will do.
func exported(d ast.Decl) map[string]string {
	names := map[string]string{}
	add := func(id *ast.Ident, docs ...*ast.CommentGroup) {
		if !id.IsExported() {
			return
		}
		names[id.Name] = ""
		for _, doc := range docs {
			names[id.Name] += doc.Text()
		}
	}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil || receiverExported(d.Recv) {
			add(d.Name, d.Doc)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch spec := spec.(type) {
			case *ast.TypeSpec:
				add(spec.Name, d.Doc, spec.Doc, spec.Comment)
			case *ast.ValueSpec:
				for _, id := range spec.Names {
					add(id, d.Doc, spec.Doc, spec.Comment)
				}
			}
		}
	}
	return names
}

func receiverExported(recv *ast.FieldList) bool {
	name := ""
	ast.Inspect(recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && name == "" {
			name = id.Name
		}
		return true
	})
	return token.IsExported(name)
}

// checkQuiet finds logging, printing and looks at the environment in rooms that
// only do as they are told.
func checkQuiet(t *tree) []string {
	var bad []string
	for _, s := range t.goes {
		if s.test || !slices.Contains(quietRooms, s.room) {
			continue
		}
		for _, imp := range s.imports() {
			if imp == "log" || imp == "log/slog" {
				bad = append(bad, fmt.Sprintf("%s: %s may not log", s.name, s.room))
			}
		}
		ast.Inspect(s.file, func(n ast.Node) bool {
			if call, ok := n.(*ast.SelectorExpr); ok {
				if pkg, ok := call.X.(*ast.Ident); ok && loud(pkg.Name, call.Sel.Name) {
					bad = append(bad, fmt.Sprintf("%s: %s.%s in %s", s.at(n.Pos()), pkg.Name, call.Sel.Name, s.room))
				}
			}
			return true
		})
	}
	return bad
}

func loud(pkg, name string) bool {
	switch pkg {
	case "fmt":
		return strings.HasPrefix(name, "Print")
	case "os":
		return slices.Contains([]string{"Getenv", "LookupEnv", "Environ", "Setenv", "Stdout", "Stderr"}, name)
	}
	return false
}
