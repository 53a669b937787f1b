//go:build amd64 || arm64 || loong64 || ppc64le || riscv64

package abi_test

import (
	"errors"
	"go/ast"
	"go/build"
	"go/constant"
	"go/parser"
	"go/token"
	"go/types"
	"path/filepath"
	"strings"
	"testing"
)

// Most of what a binding says about the kernel's ABI has no exported name, in
// ring as in giouring. So the tests read the declarations from the sources, with
// the compiler's own arithmetic: that reaches every constant and every
// structure, on every architecture, and nothing is exported for a test alone.

// arches are those that package ring is built for.
var arches = []string{"amd64", "arm64", "loong64", "ppc64le", "riscv64"}

const giouringPath = "github.com/pawelgaczynski/giouring"

// source is the declarations of one package.
type source struct {
	scope *types.Scope
	abi   map[string]bool // declared in the first of the files
}

// readRing reads the kernel's side of package ring.
func readRing(t *testing.T) *source {
	t.Helper()
	// The second file only for msghdr and iovec.
	return read(t, filepath.Join("..", ".."), "abi_linux.go", "engine_send_linux.go")
}

// readGiouring reads the same of giouring, at the version that go.mod requires
// and the tests are linked with.
func readGiouring(t *testing.T) *source {
	t.Helper()
	p, err := build.Import(giouringPath, ".", build.FindOnly)
	must(t, err)
	return read(t, p.Dir, "include.go", "const.go", "probe.go", "syscall.go")
}

// noImports makes what files import unknown; the declarations looked at need
// none of it, and those that do are found out by their invalid types.
type noImports struct{}

func (noImports) Import(string) (*types.Package, error) { return nil, errors.New("not needed") }

func read(t *testing.T, dir string, names ...string) *source {
	t.Helper()
	set := token.NewFileSet()
	s := &source{abi: map[string]bool{}}
	var files []*ast.File
	for i, name := range names {
		f, err := parser.ParseFile(set, filepath.Join(dir, name), nil, parser.SkipObjectResolution)
		must(t, err)
		files = append(files, f)
		for _, d := range f.Decls {
			if d, ok := d.(*ast.GenDecl); ok && i == 0 {
				s.add(d)
			}
		}
	}
	conf := types.Config{IgnoreFuncBodies: true, Importer: noImports{}, Error: func(error) {}}
	pkg, _ := conf.Check(names[0], set, files, nil)
	s.scope = pkg.Scope()
	return s
}

// add notes the names that a declaration of types or constants brings.
func (s *source) add(d *ast.GenDecl) {
	for _, spec := range d.Specs {
		switch spec := spec.(type) {
		case *ast.TypeSpec:
			s.abi[spec.Name.Name] = true
		case *ast.ValueSpec:
			for _, id := range spec.Names {
				if d.Tok == token.CONST && id.Name != "_" {
					s.abi[id.Name] = true
				}
			}
		}
	}
}

// constant returns the value that a constant has in the kernel's 32 bits.
func (s *source) constant(t *testing.T, name string) uint32 {
	t.Helper()
	c, ok := s.scope.Lookup(name).(*types.Const)
	if !ok {
		t.Errorf("there is no constant %s", name)
		return 0
	}
	v := constant.ToInt(c.Val())
	if u, exact := constant.Uint64Val(v); exact && u>>32 == 0 {
		return uint32(u)
	}
	i, exact := constant.Int64Val(v)
	if !exact || i != int64(int32(i)) {
		t.Errorf("%s is %s, which is no number of 32 bits", name, c.Val())
	}
	return uint32(i)
}

// structure returns a type by its name, or by "name.field" the element of a
// field that is an array; nil when there is none.
func (s *source) structure(name string) *types.Struct {
	name, field, nested := strings.Cut(name, ".")
	obj, ok := s.scope.Lookup(name).(*types.TypeName)
	if !ok {
		return nil
	}
	st, _ := obj.Type().Underlying().(*types.Struct)
	if !nested || st == nil {
		return st
	}
	for f := range st.Fields() {
		if a, ok := f.Type().Underlying().(*types.Array); ok && f.Name() == field {
			st, _ = a.Elem().Underlying().(*types.Struct)
			return st
		}
	}
	return nil
}
